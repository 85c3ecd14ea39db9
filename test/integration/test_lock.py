"""One writer per upload: the newer request takes over, and nothing is lost or doubled by it."""
import fcntl
import random
import threading
import time
from contextlib import contextmanager

import pytest

from testenv.http import Disconnected
from testenv.httpd import MPMS, endpoint
from testenv.killer import children_killed
from testenv.tus import Tus, assert_error
from testenv.util import pattern, wait_until

DATA = pattern(1 << 20)


@pytest.fixture(scope='module', params=MPMS)
def tus(request, shared_httpd):
    server = shared_httpd(mpm=request.param)
    store = server.make_store()
    server.start(endpoint('Location /files', store) + endpoint('Location /other', store)
                 + endpoint('Location /hasty', store, 'TusLockTimeout 1s'))
    return Tus(server, store=store)


@contextmanager
def flocked(path):
    """Hold the upload as another server on the same store does."""
    with path.open('rb') as data:
        fcntl.flock(data, fcntl.LOCK_EX)
        yield


# -- take-over -------------------------------------------------------------------------------------

@pytest.mark.parametrize('chunked', [False, True])
@pytest.mark.parametrize('held', [0, 5, 70_000])
def test_a_newer_patch_takes_over(tus, held, chunked):
    url = tus.new(len(DATA))
    with tus.hold(url, 0, len(DATA), DATA[:held], chunked=chunked) as old:
        assert tus.append(url, held, DATA[held:held + 1000]) == held + 1000
        assert_error(old.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
    assert tus.append(url, held + 1000, DATA[held + 1000:]) == len(DATA)
    assert tus.store.data(url) == DATA
    tus.delete(url)


@pytest.mark.parametrize('chunked', [False, True])
def test_head_asks_the_holder_to_stop(tus, chunked):
    """The offset that HEAD answers is final: nothing that the old client sends moves it."""
    url = tus.new(100)
    with tus.hold(url, 0, 100, b'hello', chunked=chunked) as old:
        assert tus.offset(url) == 5
        try:
            old.send(b'too late')
        except OSError:
            pass
        assert_error(old.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
    assert tus.offset(url) == 5
    assert tus.store.data(url) == b'hello'


def test_delete_asks_the_holder_to_stop(tus):
    url = tus.new(100)
    with tus.hold(url, 0, 100, b'hello') as old:
        assert tus.delete(url).status == 204
        assert_error(old.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
    assert not tus.store.data_path(url).exists()
    assert not tus.store.info_path(url).exists()
    assert tus.head(url).status == 404


def test_a_creation_with_data_is_not_disturbed(tus):
    """Its URL is not known to anybody yet, and there is no record of it: 404."""
    before = tus.store.uploads()
    with tus.connect() as conn:
        conn.send_head('POST', '/files/', [
            ('Tus-Resumable', '1.0.0'), ('Upload-Length', 10), ('Content-Length', 10),
            ('Content-Type', 'application/offset+octet-stream')])
        conn.send(b'hello')
        url = '/files/' + tus.store.wait_new(before)
        wait_until(lambda: tus.store.size(url) == 5, 'the first bytes')
        assert tus.head(url).status == 404
        assert tus.delete(url).status == 404
        assert tus.patch(url, 5, b'WORLD').status == 404
        conn.send(b'world')
        answer = conn.response('POST')
    assert (answer.status, answer.get('Location')) == (201, url)
    assert tus.store.data(url) == b'helloworld'


def test_a_holder_that_sends_no_trailer(tus):
    """httpd reads what follows the last chunk blocking, and hears of nothing: it is nudged."""
    url = tus.new(10)
    with tus.hold(url, 0, 5, b'hello', chunked=True) as holder:
        holder.send(b'\r\n0\r\n')
        assert tus.offset(url) == 5
        assert_error(holder.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
    assert tus.append(url, 5, b'world') == 10
    assert tus.store.data(url) == b'helloworld'


def test_a_taken_over_client_may_come_back(tus):
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'he') as one:
        with tus.hold(url, 2, 8, b'l') as two:
            assert_error(one.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
            with tus.hold(url, 3, 7, b'lo') as three:
                assert_error(two.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
                assert three.finish(b'world').status == 204
    assert tus.store.data(url) == b'helloworld'
    assert tus.store.finished(url)


def test_what_is_refused_does_not_interrupt(tus):
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello') as holder:
        assert_error(tus.patch(url, 4, b'x'), 409, 'ERR_MISMATCHED_OFFSET')
        assert_error(tus.patch(url, 6, b'x'), 409, 'ERR_MISMATCHED_OFFSET')
        assert tus.request('HEAD', url).status == 412
        assert tus.request('DELETE', url).status == 412
        assert tus.request('PATCH', url, [('Tus-Resumable', '1.0.0'), ('Upload-Offset', 5)],
                           b'x').status == 415
        assert tus.create(5, url=url).status in (404, 405)
        assert tus.get(url).body == b'hello'
        assert tus.options(url).status == 200
        assert tus.head('/files/' + '0' * 32).status == 404
        assert holder.finish(b'world').status == 204
    assert tus.store.data(url) == b'helloworld'


def test_take_over_from_another_process(tus):
    """The newcomer is often served by another child than the holder: until that happened twice."""
    crossed = 0
    for _ in range(60):
        url = tus.new(10)
        with tus.hold(url, 0, 10, b'hello') as holder:
            pid = tus.holder(url)
            assert tus.append(url, 5, b'world') == 10
            assert_error(holder.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
        newcomer = tus.server.wait_access(rf' (\d+) "PATCH {url} HTTP/1.1" 204 ')[1]
        assert tus.store.data(url) == b'helloworld'
        crossed += int(newcomer) != pid
        if crossed == 2:
            return
    raise AssertionError('always the same process')


def test_other_uploads_are_not_concerned(tus):
    held, free = tus.new(10), tus.new(10)
    with tus.hold(held, 0, 10, b'hello') as holder:
        assert tus.append(free, 0, b'0123456789') == 10
        assert tus.delete(free).status == 204
        assert holder.finish(b'world').status == 204


def test_the_two_endpoints_of_one_store_exclude_each_other(tus):
    other = Tus(tus.server, '/other/', tus.store)
    url = tus.new(10)
    theirs = url.replace('/files/', '/other/')
    with tus.hold(url, 0, 10, b'hello') as holder:
        assert other.append(theirs, 5, b'world') == 10
        assert_error(holder.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
    assert tus.store.data(url) == b'helloworld'


def test_a_storm_of_take_overs(tus):
    """Ten impatient clients, one upload: the bytes are those of one client that never broke."""
    url = tus.new(len(DATA))
    problems, statuses = [], set()

    def client(seed):
        dice = random.Random(seed)
        try:
            while True:
                offset = tus.offset(url)
                if offset == len(DATA):
                    return
                end = min(len(DATA), offset + dice.randrange(1, 60_000))
                with tus.connect(timeout=60) as conn:
                    statuses.add(tus.patch(url, offset, DATA[offset:end], conn=conn).status)
        except Exception as problem:    # a thread cannot fail a test by itself
            problems.append(problem)

    threads = [threading.Thread(target=client, args=[seed]) for seed in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert statuses <= {204, 409, 503, 413}, statuses
    assert tus.store.data(url) == DATA
    assert tus.store.finished(url)
    tus.delete(url)


def test_many_uploads_at_once(tus):
    """As many writers as there are workers, each with its own upload."""
    done = []

    def client(seed):
        data = pattern(200_000, seed)
        url = tus.new(len(data))
        offset = 0
        while offset < len(data):
            offset = tus.append(url, offset, data[offset:offset + 9000])
        if tus.store.data(url) == data and tus.store.finished(url):
            done.append(url)

    threads = [threading.Thread(target=client, args=[seed]) for seed in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(done) == 12


# -- the fence -------------------------------------------------------------------------------------

def test_a_foreign_lock_is_waited_for_and_then_423(tus):
    """Somebody who holds the kernel's lock and cannot be asked: TusLockTimeout, then 423."""
    tus = Tus(tus.server, '/hasty/', tus.store)
    url = tus.new(10, b'hello')
    before = tus.store.snapshot()
    with flocked(tus.store.data_path(url)):
        begun = time.monotonic()
        assert_error(tus.patch(url, 5, b'world'), 423, 'ERR_UPLOAD_LOCKED')
        assert time.monotonic() - begun >= 0.9, 'it was waited for'
        assert tus.head(url).status == 423
        assert_error(tus.delete(url), 423, 'ERR_UPLOAD_LOCKED')
        assert tus.get(url).body == b'hello', 'GET takes nothing'
    assert tus.store.snapshot() == before
    assert tus.append(url, 5, b'world') == 10


def test_a_foreign_lock_that_is_given_up_in_time(tus):
    url = tus.new(10, b'hello')
    answers = []
    with flocked(tus.store.data_path(url)):
        thread = threading.Thread(target=lambda: answers.append(tus.patch(url, 5, b'world')))
        thread.start()
        thread.join(0.3)
        assert not answers, 'nobody writes while the lock is held'
        assert tus.store.data(url) == b'hello'
    thread.join()
    assert answers[0].status == 204
    assert tus.store.data(url) == b'helloworld'


def test_a_writer_holds_the_kernels_lock(tus):
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello') as holder:
        with tus.store.data_path(url).open('rb') as data:
            with pytest.raises(BlockingIOError):
                fcntl.flock(data, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert holder.finish(b'world').status == 204
        with tus.store.data_path(url).open('rb') as data:
            fcntl.flock(data, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_two_servers_on_one_store(httpd):
    """Each has its own state directory and table; only the flock stands between them."""
    one, two = httpd(), httpd()
    store = one.make_store()
    for server in (one, two):
        server.start('TusLockTimeout 1s\n' + endpoint('Location /files', store))
    first, second = Tus(one, store=store), Tus(two, store=store)
    url = first.new(10)
    with first.hold(url, 0, 10, b'hello') as holder:
        assert_error(second.patch(url, 5, b'WORLD'), 423, 'ERR_UPLOAD_LOCKED')
        assert second.head(url).status == 423
        assert holder.finish(b'world').status == 204
    assert second.offset(url) == 10
    assert store.data(url) == b'helloworld'


# -- holders that die ------------------------------------------------------------------------------

def test_kill_9_of_the_holder(tus):
    """The bytes are kept, no lock is left, and the next request goes on."""
    url = tus.new(len(DATA))
    with tus.hold(url, 0, len(DATA), DATA[:70_000]):
        tus.kill_holder(url)
        assert tus.offset(url) == 70_000
        assert tus.append(url, 70_000, DATA[70_000:]) == len(DATA)
    assert tus.store.data(url) == DATA


def test_kill_9_again_and_again(tus):
    """Whatever instruction it hits: what was acknowledged is there, and nothing else."""
    url = tus.new(len(DATA))
    with children_killed(tus.server, seed=1):
        acknowledged = 0
        while acknowledged < len(DATA):
            try:
                offset = tus.offset(url)
                assert offset >= acknowledged
                acknowledged = tus.append(url, offset, DATA[offset:offset + 3000])
            except (OSError, Disconnected):
                pass    # its child was hit
    assert tus.store.data(url) == DATA
    assert tus.head(url).get('Upload-Offset') == str(len(DATA))
    assert tus.store.finished(url)
    assert not {name for name in tus.store.files() if name.startswith('.')}


def test_kill_9_of_the_whole_server(httpd, mpm):
    server = httpd(mpm=mpm)
    store = server.make_store()
    config = endpoint('Location /files', store)
    tus = Tus(server.start(config), store=store)
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello'):
        server.kill()
    server.allow_log('AH00098')     # httpd finds the pid file of the server that was killed
    server.start(config)
    assert tus.offset(url) == 5
    assert tus.append(url, 5, b'world') == 10
    assert store.data(url) == b'helloworld'
