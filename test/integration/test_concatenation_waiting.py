"""Finals that are asked for before their parts are complete, and joins that are cut short."""
import hashlib
import json
import os
import signal
import threading

import pytest

from testenv.http import Disconnected
from testenv.httpd import MPMS, alive, endpoint
from testenv.index import OF_THE_INDEX, dump, state_of_store
from testenv.store import Store, upload_id
from testenv.tus import Tus, assert_error
from testenv.util import pattern, wait_until

KIB = 1024
MIB = 1 << 20
PATIENCE = 30   # seconds that the watchdog may take, on a machine with other work


@pytest.fixture(scope='module', params=MPMS)
def tus(request, shared_httpd):
    server = shared_httpd(mpm=request.param)
    store = server.make_store()
    server.start(endpoint('Location /files', store))
    return Tus(server, store=store)


@pytest.fixture
def fresh(httpd):
    """A server of one's own, to be stopped and killed."""
    server = httpd()
    store = server.make_store()
    server.configuration = endpoint('Location /files', store)
    return Tus(server.start(server.configuration), store=store)


def start_again(tus):
    tus.server.start(tus.server.configuration)


def assert_waits(tus, url, length):
    """A HEAD of a final that waits has no offset; its length where that can be known."""
    head = tus.head(url)
    assert (head.status, head.get('Upload-Offset')) == (200, None), head
    assert head.get('Upload-Length') == (None if length is None else str(length)), head
    assert head.get('Upload-Concat').startswith('final;'), head
    assert head.get('Cache-Control') == 'no-store', head
    assert tus.store.size(url) == 0
    assert not tus.store.finished(url)


def assert_joined(tus, url, data):
    """Or about to be: the sweep may be at it, and a HEAD waits for nobody."""
    head = wait_until(lambda: (answer := tus.head(url)).get('Upload-Offset') and answer, 'the join')
    assert head.get('Upload-Offset') == head.get('Upload-Length') == str(len(data)), head
    assert tus.store.data(url) == data
    assert tus.store.finished(url)
    assert tus.get(url).body == data


def wait_joined(tus, url):
    """By the server itself: nothing is asked of it."""
    wait_until(lambda: tus.store.finished(url), 'the final to be joined', PATIENCE)


def state(tus, *urls):
    """Inode, times and bytes of data and record."""
    return [(path.stat().st_ino, path.stat().st_mtime_ns, path.read_bytes())
            for url in urls for path in (tus.store.data_path(url), tus.store.info_path(url))]


# -- waiting ---------------------------------------------------------------------------------------

def test_the_last_part_finishes_it(tus):
    parts = [tus.partial(5, b'hel'), tus.partial(6)]
    before = state(tus, *parts)
    url = tus.final(parts)
    assert_waits(tus, url, 11)
    assert state(tus, *parts) == before, 'no part is written for it'
    assert tus.append(parts[1], 0, b' world') == 6
    assert_waits(tus, url, 11)
    assert tus.append(parts[0], 3, b'lo') == 5
    assert_joined(tus, url, b'hello world')


def test_a_get_of_it(tus):
    url = tus.final([tus.partial(5, b'hel')])
    answer = tus.get(url)
    assert (answer.status, answer.body) == (204, b'')


@pytest.mark.parametrize('chunked', [False, True])
def test_a_part_in_one_patch_by_bytes(tus, chunked):
    part = tus.partial(5)
    url = tus.final([part, part])
    assert_waits(tus, url, 10)
    tus.append(part, 0, [b'he', b'llo'] if chunked else b'hello', chunked=chunked)
    assert_joined(tus, url, b'hellohello')


def test_a_length_that_is_known_later(tus):
    """Upload-Length "MUST be included if the length of the final resource can be calculated"."""
    parts = [tus.partial(5, b'hello'),
             tus.new(headers=[('Upload-Defer-Length', 1), ('Upload-Concat', 'partial')])]
    url = tus.final(parts)
    assert_waits(tus, url, None)
    tus.append(parts[1], 0, b' wo')
    assert_waits(tus, url, None)
    assert tus.patch(parts[1], 3, b'rl', [('Upload-Length', 6)]).status == 204
    assert_waits(tus, url, 11)
    tus.append(parts[1], 5, b'd')
    assert_joined(tus, url, b'hello world')


def test_a_part_that_is_running_is_not_interrupted(tus):
    """Neither by the final's creation, nor by HEADs and refused PATCHes of it, nor its end."""
    part = tus.partial(10)
    with tus.hold(part, 0, 10, b'hello') as holder:
        before = tus.store.data_path(part).stat().st_ino
        url = tus.final([part])
        for _ in range(3):
            assert_waits(tus, url, 10)
            assert_error(tus.patch(url, 0, b'x'), 403, 'ERR_MODIFY_FINAL')
            assert tus.get(url).status == 204
        holder.send(b'wor')
        wait_until(lambda: tus.store.size(part) == 8, 'the bytes to go on')
        other = tus.final([part, part])
        assert tus.delete(other).status == 204
        assert holder.finish(b'ld').status == 204
    assert tus.store.data_path(part).stat().st_ino == before
    wait_joined(tus, url)
    assert_joined(tus, url, b'helloworld')


def test_several_finals_of_one_part(tus):
    parts = [tus.partial(5, b'hello'), tus.partial(5)]
    finals = [tus.final(parts), tus.final(parts[::-1]), tus.final([parts[1]])]
    tus.append(parts[1], 0, b'world')
    for url, data in zip(finals, (b'helloworld', b'worldhello', b'world')):
        assert_joined(tus, url, data)


def test_a_final_whose_part_comes_with_its_creation(tus):
    """A final can name no part that does not exist yet; one that is created whole joins nothing."""
    url = tus.final([tus.partial(5)])
    tus.partial(5, b'hello')
    assert_waits(tus, url, 5)


@pytest.mark.parametrize('round_', range(5))
def test_the_last_two_parts_at_once(tus, round_):
    """Whichever process sees the other's part finished, one of them joins."""
    sizes = [40_000 + round_, 50_000]
    data = [pattern(size, number) for number, size in enumerate(sizes)]
    parts = [tus.partial(size) for size in sizes]
    url = tus.final(parts)
    problems = []
    start = threading.Barrier(2)

    def client(number):
        try:
            start.wait()
            assert tus.append(parts[number], 0, data[number]) == sizes[number]
        except Exception as problem:    # a thread cannot fail a test by itself
            problems.append(problem)

    threads = [threading.Thread(target=client, args=[number]) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert_joined(tus, url, b''.join(data))


def test_the_final_and_its_last_part_at_once(tus):
    """Created between the last byte and the record of the part: it must not be forgotten."""
    for number in range(20):
        part = tus.partial(10_000)
        data = pattern(10_000, number)
        finals, problems = [], []
        start = threading.Barrier(2)

        def create(part=part, finals=finals, start=start, problems=problems):
            try:
                start.wait()
                finals.append(tus.final([part]))
            except Exception as problem:
                problems.append(problem)

        thread = threading.Thread(target=create)
        thread.start()
        start.wait()
        tus.append(part, 0, data)
        thread.join()
        assert not problems
        wait_joined(tus, finals[0])
        assert_joined(tus, finals[0], data)


def test_many_parts_at_once(tus):
    """Eight clients as Uppy's parallelUploads has them, and a final that waits for all."""
    pieces = [pattern(60_000, number) for number in range(8)]
    parts = [tus.partial(len(piece)) for piece in pieces]
    url = tus.final(parts)
    problems = []

    def client(number):
        try:
            for offset in range(0, 60_000, 20_000):
                tus.append(parts[number], offset, pieces[number][offset:offset + 20_000])
        except Exception as problem:
            problems.append(problem)

    threads = [threading.Thread(target=client, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert_joined(tus, url, b''.join(pieces))


# -- DELETE ----------------------------------------------------------------------------------------

def test_delete_of_a_waiting_final(tus):
    part = tus.partial(5, b'hel')
    url = tus.final([part])
    assert tus.delete(url).status == 204
    assert tus.head(url).status == 404
    before = tus.store.files()
    assert tus.append(part, 3, b'lo') == 5
    assert tus.store.files() == before, 'it is not made again'
    assert tus.head(url).status == 404
    assert tus.get(part).body == b'hello'


def test_delete_of_a_part_while_a_final_waits(tus):
    """It waits until it expires or is deleted, and never becomes something else."""
    parts = [tus.partial(5, b'hel'), tus.partial(5, b'wor')]
    url = tus.final(parts)
    assert tus.delete(parts[0]).status == 204
    assert tus.append(parts[1], 3, b'ld') == 5
    head = tus.head(url)
    assert head.get('Upload-Offset') is None, head
    assert head.status in (200, 404, 410), head
    assert not tus.store.data_path(url).exists() or tus.store.size(url) == 0
    assert tus.delete(url).status in (204, 404, 410)
    assert tus.head(url).status in (404, 410)


# -- a server that dies ----------------------------------------------------------------------------

@pytest.mark.parametrize('how', ['graceful', 'restart', 'stop', 'kill'])
def test_a_restart_between(fresh, how):
    """Which final waits for which part is written down."""
    parts = [fresh.partial(5, b'hello'), fresh.partial(6, b' wor')]
    url = fresh.final(parts)
    getattr(fresh.server, how)()
    if how in ('stop', 'kill'):
        fresh.server.allow_log('AH00098')   # the pid file of the server that was killed
        start_again(fresh)
    assert_waits(fresh, url, 11)
    assert fresh.append(parts[1], 4, b'ld') == 6
    assert_joined(fresh, url, b'hello world')


@pytest.mark.parametrize('how', ['head', 'sweep', 'part'])
def test_a_death_between_the_last_byte_and_the_join(fresh, how):
    """All bytes of the last part are there; that it is finished stands nowhere."""
    parts = [fresh.partial(5, b'hello'), fresh.partial(6, b' wor')]
    url = fresh.final(parts)
    fresh.server.kill()
    with fresh.store.data_path(parts[1]).open('ab') as data:
        data.write(b'ld')
    fresh.server.allow_log('AH00098')
    start_again(fresh)
    if how == 'part':
        assert fresh.offset(parts[1]) == 6
    elif how == 'head':
        fresh.head(url)
        fresh.head(parts[1])
    else:
        wait_joined(fresh, url)
    assert_joined(fresh, url, b'hello world')


@pytest.mark.parametrize('how', ['head', 'sweep'])
def test_a_death_between_the_last_part_and_the_join(fresh, how):
    """The part is finished, and the final still waits: as a kill -9 leaves it."""
    parts = [fresh.partial(5, b'hello'), fresh.partial(6, b' world')]
    url = fresh.final(parts)
    info = fresh.store.info(url)
    fresh.server.kill()
    unjoin(fresh.store, url, info)
    fresh.server.allow_log('AH00098')
    start_again(fresh)
    if how == 'sweep':
        wait_joined(fresh, url)
    assert_joined(fresh, url, b'hello world')


def unjoin(store, url, info):
    """Take back what the join of a final wrote."""
    del info['ModTus']['Finished']
    with store.info_path(url).open('r+') as file:
        file.write(json.dumps(info))
        file.truncate()
    os.truncate(store.data_path(url), 0)


def sha256(path):
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while piece := file.read(MIB):
            digest.update(piece)
    return digest.hexdigest()


@pytest.mark.parametrize('how', ['head', 'sweep'])
def test_kill_9_during_a_big_join(fresh, how):
    """1 GiB, joined to its end by whoever comes next; nothing is doubled and nothing missing."""
    piece = pattern(32 * MIB)
    part = fresh.partial(len(piece), piece)
    wanted = hashlib.sha256()
    for _ in range(32):
        wanted.update(piece)
    before = fresh.store.uploads()
    answers = []

    def ask():
        try:
            answers.append(fresh.concat(32 * [part]))
        except (Disconnected, OSError):
            pass    # its child was killed

    thread = threading.Thread(target=ask)
    thread.start()
    uid = fresh.store.wait_new(before)
    wait_until(lambda: fresh.store.size(uid) > 0, 'the join to begin')
    old = fresh.server.children()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    thread.join()
    wait_until(lambda: not any(alive(pid) for pid in old), 'the children to be gone')
    print('the join was', 'over already' if answers else 'cut short')
    wait_until(fresh.server.answers, 'new children')
    url = '/files/' + uid
    if how == 'head':
        with fresh.connect(timeout=60) as conn:
            head = fresh.head(url, conn=conn)
        assert head.status == 200
    wait_until(lambda: fresh.store.info(url)['ModTus'].get('Finished'), 'the join', PATIENCE)
    head = fresh.head(url)
    assert head.get('Upload-Offset') == head.get('Upload-Length') == str(1 << 30), head
    assert sha256(fresh.store.data_path(url)) == wanted.hexdigest()
    assert fresh.store.data(part) == piece


def test_head_of_a_final_that_joins(fresh):
    """It answers at once, without an offset, and waits for nobody."""
    piece = pattern(32 * MIB)
    part = fresh.partial(len(piece), piece)
    before = fresh.store.uploads()
    thread = threading.Thread(target=fresh.concat, args=[32 * [part]])
    thread.start()
    uid = fresh.store.wait_new(before)
    wait_until(lambda: fresh.store.size(uid) > 0, 'the join to begin')
    url = '/files/' + uid
    while True:
        head = fresh.head(url)
        assert head.status == 200, head
        if head.get('Upload-Offset'):
            break
        download = fresh.get(url)
        assert download.status in (200, 204)
        assert download.status == 200 or not download.body
    thread.join()
    assert head.get('Upload-Offset') == str(1 << 30)
    assert fresh.store.finished(url)


def test_nothing_of_it_is_left(fresh):
    """Links of finals that were joined or deleted are forgotten with them, or with their parts."""
    def names():
        return {path.relative_to(state_of_store(fresh.server)).as_posix()
                for path in state_of_store(fresh.server).rglob('*') if path.is_file()
                and not path.name.startswith(OF_THE_INDEX)}

    fresh.upload(b'hello')
    before = names()
    parts = [fresh.partial(5, b'hel'), fresh.partial(5, b'wor')]
    finals = [fresh.final(parts), fresh.final(parts[::-1])]
    fresh.delete(finals[1])
    fresh.append(parts[0], 3, b'lo')
    fresh.append(parts[1], 3, b'ld')
    assert_joined(fresh, finals[0], b'helloworld')
    for url in (*parts, finals[0]):
        assert fresh.delete(url).status == 204
    gone = {upload_id(url) for url in (*parts, *finals)}
    wait_until(lambda: not gone & set(dump(state_of_store(fresh.server))), 'the index to forget')
    wait_until(lambda: names() <= before, 'the links to be gone')


# -- a full disk -----------------------------------------------------------------------------------

@pytest.fixture
def tiny(full_disk, httpd):
    """An endpoint whose store is a disk of 2 MiB of its own."""
    server = httpd(prefix=full_disk.command)
    server.start(endpoint('Location /files', full_disk.path))
    full_disk.attach(server)
    tus = Tus(server, store=Store(full_disk.inside))
    tus.disk = full_disk
    return tus


def test_a_join_that_fills_the_disk(tiny):
    data = pattern(300 * KIB)
    parts = [tiny.partial(len(data), data), tiny.partial(len(data), data)]
    tiny.disk.fill(leave=400 * KIB)
    before = tiny.store.uploads()
    tiny.server.allow_log(r'\[tus:(warn|error)\]')
    answer = tiny.concat(parts)
    assert_error(answer, 507, 'ERR_INSUFFICIENT_STORAGE')
    for uid in tiny.store.uploads() - before:
        assert tiny.store.size(uid) == 0, 'room for others until it is tried again'
    tiny.disk.make_room()
    url = tiny.final(parts)
    assert_joined(tiny, url, 2 * data)


def test_a_waiting_final_that_fills_the_disk(tiny):
    """The part is complete, and says so; the final waits for room."""
    data = pattern(300 * KIB)
    parts = [tiny.partial(len(data), data), tiny.partial(len(data), data[:-1])]
    url = tiny.final(parts)
    tiny.disk.fill(leave=400 * KIB)
    tiny.server.allow_log(r'\[tus:(warn|error)\]')
    tiny.patch(parts[1], len(data) - 1, data[-1:])
    assert tiny.offset(parts[1]) == len(data)
    assert tiny.store.finished(parts[1])
    assert not tiny.store.finished(url)
    head = tiny.head(url)
    assert head.get('Upload-Offset') is None
    wait_until(lambda: tiny.store.size(url) == 0, 'room for others until it is tried again')
    tiny.disk.make_room()
    wait_until(lambda: tiny.head(url).get('Upload-Offset'), 'the join')
    assert_joined(tiny, url, 2 * data)
