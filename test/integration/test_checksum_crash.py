"""A process that dies between a chunk's last byte and its verdict: the chunk never was."""

import pytest

from testenv.checksum import with_checksum
from testenv.http import Disconnected
from testenv.httpd import MPMS, endpoint
from testenv.index import dump, state_of_store
from testenv.killer import children_killed
from testenv.store import upload_id
from testenv.tus import Tus, assert_error
from testenv.util import pattern, wait_until

DATA = pattern(100_000)


@pytest.fixture(scope='module', params=MPMS)
def tus(request, shared_httpd):
    server = shared_httpd(mpm=request.param)
    store = server.make_store()
    server.start(endpoint('Location /files', store))
    return Tus(server, store=store)


def dead_chunk(tus, length, chunk=DATA, chunked=True, before=b'hello'):
    """An upload that starts with `before`, and behind it a chunk whose holder was killed.

    A chunked body is all there but for its end; else its last byte is missing.
    """
    url = tus.new(length, before)
    sent = chunk if chunked else chunk[:-1]
    with tus.hold(url, len(before), len(chunk), sent, chunked=chunked,
                  headers=with_checksum(chunk)):
        tus.kill_holder(url)
    return url


def assert_offset_5(tus, url):
    assert tus.offset(url) == 5
    assert tus.store.data(url) == b'hello', 'the bytes are gone from the file'
    assert not tus.store.finished(url)


@pytest.mark.parametrize('chunked', [False, True])
def test_head_knows_the_old_offset(tus, chunked):
    url = dead_chunk(tus, 200_000, chunked=chunked)
    assert_offset_5(tus, url)
    assert tus.append(url, 5, DATA, headers=with_checksum(DATA)) == len(DATA) + 5
    assert tus.store.data(url) == b'hello' + DATA


def test_a_patch_goes_on_at_the_old_offset(tus):
    url = dead_chunk(tus, 200_000)
    assert tus.append(url, 5, b' world') == 11
    assert tus.offset(url) == 11
    assert tus.store.data(url) == b'hello world'


def test_the_offset_that_died_is_a_conflict(tus):
    url = dead_chunk(tus, 200_000)
    assert_error(tus.patch(url, 5 + len(DATA), b'x'), 409, 'ERR_MISMATCHED_OFFSET')
    assert_offset_5(tus, url)


def test_get_shows_nothing_of_it(tus):
    url = dead_chunk(tus, 200_000)
    assert tus.get(url).body == b'hello'
    assert_offset_5(tus, url)
    empty = dead_chunk(tus, 200_000, before=b'')
    assert tus.get(empty).status == 204


def test_delete_removes_it(tus):
    url = dead_chunk(tus, 200_000)
    assert tus.delete(url).status == 204
    assert tus.head(url).status == 404
    assert not {name for name in tus.store.files() if upload_id(url) in name}


@pytest.mark.parametrize('meet', ['head', 'get', 'patch'])
def test_a_chunk_with_the_last_byte_does_not_finish_the_upload(tus, meet):
    """The file had as many bytes as Upload-Length says: they count for nothing."""
    url = dead_chunk(tus, len(DATA) + 5)
    if meet == 'get':
        assert tus.get(url).body == b'hello'
    if meet == 'patch':
        assert_error(tus.patch(url, len(DATA) + 5, b''), 409, 'ERR_MISMATCHED_OFFSET')
    assert_offset_5(tus, url)
    assert tus.append(url, 5, DATA, headers=with_checksum(DATA)) == len(DATA) + 5
    assert tus.store.finished(url)


def test_the_sweep_does_not_finish_it_either(tus):
    """The index is brought up to date, with nobody asking for the upload."""
    url = dead_chunk(tus, len(DATA) + 5)
    for _ in range(2):
        other = upload_id(tus.upload(b'x'))
        wait_until(lambda: other in dump(state_of_store(tus.server)), 'a fold')
    assert not tus.store.finished(url)
    assert_offset_5(tus, url)


def test_another_dead_chunk_behind_it(tus):
    url = dead_chunk(tus, 200_000)
    with tus.hold(url, 5, 10, b' worl', headers=with_checksum(b' world wid')):
        tus.kill_holder(url)
    assert_offset_5(tus, url)


def test_a_chunk_without_checksum_that_dies_is_kept(tus):
    """The mark of an earlier chunk is not its business."""
    url = dead_chunk(tus, 200_000)
    with tus.hold(url, 5, 10, b' worl'):
        tus.kill_holder(url)
    assert tus.offset(url) == 10
    assert tus.store.data(url) == b'hello worl'


@pytest.mark.parametrize('sync', ['none', 'finish', 'always'])
def test_the_whole_server_is_killed(httpd, sync):
    server = httpd()
    store = server.make_store()
    config = endpoint('Location /files', store, f'TusSync {sync}')
    tus = Tus(server.start(config), store=store)
    urls = [tus.new(200_000, b'hello'), tus.new(len(DATA) + 5, b'hello')]
    fields = with_checksum(DATA)
    with tus.hold(urls[0], 5, len(DATA), DATA, chunked=True, headers=fields), \
            tus.hold(urls[1], 5, len(DATA), DATA, chunked=True, headers=fields):
        server.kill()
    server.allow_log('AH00098')     # httpd finds the pid file of the server that was killed
    server.start(config)
    other = upload_id(tus.upload(b'x'))
    wait_until(lambda: other in dump(state_of_store(server)), 'a sweep')
    for url in urls:
        assert_offset_5(tus, url)
        assert tus.append(url, 5, DATA, headers=fields) == len(DATA) + 5
        assert store.data(url) == b'hello' + DATA


def test_kill_9_again_and_again(tus):
    """Half of the chunks are damaged; whatever instruction is hit, none of those bytes counts."""
    url = tus.new(len(DATA))
    with children_killed(tus.server, seed=2):
        acknowledged = 0
        for number in range(10_000):
            try:
                offset = tus.offset(url)
                assert offset >= acknowledged
                if offset == len(DATA):
                    break
                assert tus.get(url).body == DATA[:offset]
                piece = DATA[offset:offset + 1000]
                if number % 2:
                    damaged = piece[:-1] + bytes([piece[-1] ^ 1])
                    assert tus.patch(url, offset, damaged, with_checksum(piece)).status == 460
                else:
                    acknowledged = tus.append(url, offset, piece, headers=with_checksum(piece))
            except (OSError, Disconnected):
                pass    # its child was hit
    assert tus.store.data(url) == DATA
    assert tus.store.finished(url)
