"""The same promises under every MPM, and across graceful restarts."""
import os
import signal
import threading
import time
from pathlib import Path

import pytest

from testenv.faults import EVER, SWEEP, WAIT, Faults
from testenv.httpd import SANITIZED, alive, endpoint, resident
from testenv.store import upload_id
from testenv.tus import Tus, assert_error, roundtrip
from testenv.util import pattern, wait_until


@pytest.fixture
def tus(httpd, mpm):
    server = httpd(mpm=mpm)
    store = server.make_store()
    server.start(endpoint('Location /files', store))
    return Tus(server, store=store)


def test_the_whole_protocol(tus):
    for _ in range(20):
        roundtrip(tus, pattern(100_000))
    tus.store.assert_only()


def test_a_graceful_restart_lets_an_upload_finish(tus):
    """Or interrupts it: then its bytes are kept and the client is told to come again."""
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello') as holder:
        tus.server.graceful()
        try:
            answer = holder.finish(b'world')
        except OSError:
            answer = holder.response()
        if answer.status == 204:
            assert answer.closes, 'the old generation keeps no connection'
        else:
            assert answer.status == 503, answer
    offset = tus.offset(url)
    assert offset == (10 if answer.status == 204 else 5)
    assert tus.append(url, offset, b'helloworld'[offset:]) == 10
    assert tus.store.data(url) == b'helloworld'
    assert tus.store.finished(url)


@pytest.mark.parametrize('mpm', ['prefork'], indirect=True)
def test_no_thread_of_ours_takes_a_signal(tus):
    """Prefork's handler ends the child, and in two threads at a time crashes it."""
    for _ in range(20):
        url = tus.new(5)
        assert tus.patch(url, 0, b'hello', chunked=True).status == 204    # begins tus_nudge.c's
    assert sum(len(os.listdir(f'/proc/{pid}/task')) for pid in tus.server.children()) > 2
    assert not tus.server.threads_that_take_signals()


def test_the_generations_exclude_each_other(tus):
    """A request to the new generation takes over from a holder in the old one."""
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello') as old:
        tus.server.graceful()
        assert tus.offset(url) == 5
        assert_error(old.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
        with tus.hold(url, 5, 5, b'wor') as new:
            tus.server.graceful()
            tus.server.graceful()
            assert tus.append(url, 8, b'l') == 9
            assert_error(new.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
    assert tus.append(url, 9, b'd') == 10
    assert tus.store.data(url) == b'helloworld'


def test_graceful_restarts_under_load(tus):
    """Clients that retry as tus clients do finish every upload, whatever generation they meet."""
    problems = []

    def client(seed):
        data = pattern(150_000, seed)
        try:
            url = None
            offset = 0
            while offset < len(data):
                try:
                    if url is None:
                        url = tus.new(len(data))
                    offset = tus.offset(url)
                    answer = tus.patch(url, offset, data[offset:offset + 5000])
                    assert answer.status in (204, 503), answer
                except OSError:
                    continue
                offset = tus.offset(url)
            assert tus.store.data(url) == data
        except Exception as problem:    # a thread cannot fail a test by itself
            problems.append(problem)

    threads = [threading.Thread(target=client, args=[seed]) for seed in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(3):
        tus.server.graceful()
    for thread in threads:
        thread.join()
    assert not problems


@pytest.mark.parametrize('how', ['restart', 'stop'])
def test_a_hard_stop_keeps_the_bytes(tus, how):
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello'):
        # Children that are slow to go, and the event MPM under a connection at its stop.
        tus.server.allow_log('AH00045|AH00046|AH00047|AH0309')
        if how == 'restart':
            tus.server.restart()
        else:
            tus.server.stop()
            tus.server.start(endpoint('Location /files', tus.store))
    assert tus.offset(url) == 5
    assert tus.append(url, 5, b'world') == 10
    assert tus.store.data(url) == b'helloworld'


@pytest.mark.parametrize('graceful', [False, True], ids=['TERM', 'USR1 and TERM'])
def test_the_parent_ends_with_status_0(tus, graceful):
    """No log tells how the parent died: only who waits for it knows."""
    roundtrip(tus)
    if graceful:
        tus.server.graceful()
        roundtrip(tus)
    parent = tus.server.process
    tus.server.stop()
    assert parent.returncode == 0


@pytest.mark.parametrize('mechanism', ['fcntl:{run}', 'flock:{run}', 'sysvsem'])
def test_mutex_mechanisms(httpd, mpm, mechanism):
    """Whatever `Mutex` says: it excludes, and is free again when its holder was killed."""
    server = httpd(mpm=mpm)
    store = server.make_store()
    server.start(f'Mutex {mechanism.format(run=server.root / "run")} default\n'
                 + endpoint('Location /files', store))
    tus = Tus(server, store=store)
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello'):
        old = server.children()
        for pid in old:
            os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in old), 'the children to be gone')
        assert tus.append(url, 5, b'world') == 10
    roundtrip(tus)


def test_a_changed_configuration_holds_after_graceful(tus):
    url = tus.new(100)
    tus.server.graceful(endpoint('Location /files', tus.store, 'TusMaxSize 50'))
    assert tus.options().get('Tus-Max-Size') == '50'
    assert_error(tus.create(51), 413, 'ERR_MAX_SIZE_EXCEEDED')
    assert tus.append(url, 0, bytes(100)) == 100, 'what was created stays possible'


def test_memory_does_not_grow_with_the_number_of_requests(tus):
    """Twenty times the same work on one connection leaves no child bigger than once."""
    def work():
        with tus.connect() as conn:
            url = tus.new(60_000, conn=conn)
            for offset in range(0, 60_000, 1000):
                tus.append(url, offset, bytes(1000), conn=conn)
            tus.delete(url, conn=conn)

    for _ in range(8):
        work()
    before = {pid: resident(pid) for pid in tus.server.children()}
    for _ in range(20):
        work()
    growth = max(resident(pid) - before[pid] for pid in tus.server.children() if pid in before)
    assert SANITIZED or growth < 4 << 20


def test_a_stalled_upload_leaves_the_others_alone(tus):
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello') as holder:
        for _ in range(10):
            roundtrip(tus)
        assert holder.finish(b'world').status == 204
    wait_until(lambda: tus.store.files() == {upload_id(url), upload_id(url) + '.info'},
               'the store to hold just this upload')


def test_the_end_waits_for_the_sweep(httpd):
    """A signal ends a child of prefork, but what it works with does not go before it is done."""
    server = httpd(mpm='prefork')
    faults = Faults(server.root, [])
    server.environment.update(faults.environment)
    store = server.make_store()
    server.start(endpoint('Location /files', store, 'TusExpire 1s'))
    tus = Tus(server, store=store)
    tus.new(10)
    faults.watch(server.state_dir)
    children = server.children()
    with faults.armed(WAIT, last=EVER, who=SWEEP):
        tus.new(10)
        wait_until(lambda: faults.hit, 'the sweep to be at work', 30)
        for pid in children:
            os.kill(pid, signal.SIGTERM)
        wait_until(lambda: sum(alive(pid) for pid in children) <= 1, 'the others to end')
        time.sleep(0.5)     # it would be gone in some ms
        left = [pid for pid in children if alive(pid)]
        assert len(left) == 1, 'the one that sweeps is there'
    wait_until(lambda: not alive(left[0]), 'it to end, now that it can')
    assert 'exit signal' not in server.error_log.text()


def test_more_processes_than_descriptors(httpd):
    """A big ServerLimit starts under the usual `ulimit -n`, and an upload is still taken over."""
    server = httpd(mpm='prefork', prefix=['prlimit', '--nofile=1024:1024', '--'],
                   mpm_settings='StartServers 4\nServerLimit 1100\nMaxRequestWorkers 1100')
    store = server.make_store()
    server.start(endpoint('Location /files', store))
    tus = Tus(server, store=store)
    for _ in range(2):
        url = tus.new(10)
        with tus.hold(url, 0, 10, b'hello') as old:
            assert tus.append(url, 5, b'wor') == 8
            assert_error(old.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
        assert tus.append(url, 8, b'ld') == 10
        assert tus.store.data(url) == b'helloworld'
        server.graceful()
