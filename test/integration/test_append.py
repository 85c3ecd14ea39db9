"""The core protocol: HEAD, PATCH, DELETE, and connections that carry several of them."""
import fcntl
import hashlib
import json
import struct
import termios

import pytest

from testenv.http import chunk, request_head
from testenv.httpd import endpoint
from testenv.store import upload_id
from testenv.tus import OCTETS, Tus, assert_error, patch_fields
from testenv.util import give_to_user, pattern, wait_until

MISSING = '/files/0123456789abcdef0123456789abcdef'


@pytest.fixture(scope='module')
def tus(shared_httpd):
    server = shared_httpd()
    store = server.make_store()
    return Tus(server.start(endpoint('Location /files', store)), store=store)


# -- PATCH -----------------------------------------------------------------------------------------

def test_pieces_become_the_whole(tus):
    data = pattern(100_000)
    url = tus.new(len(data))
    offset = 0
    for size in (1, 7, 8000, 8001, 0, 40_000, len(data)):
        piece = data[offset:offset + size]
        answer = tus.patch(url, offset, piece)
        assert answer.status == 204
        assert answer.body == b''
        offset += len(piece)
        assert answer.get('Upload-Offset') == str(offset) == str(tus.offset(url))
        assert tus.store.data(url) == data[:offset]
        assert bool(tus.store.finished(url)) == (offset == len(data))
    assert offset == len(data)


def test_a_large_patch(tus):
    data = pattern(32 << 20)
    url = tus.new(len(data))
    assert tus.append(url, 0, data) == len(data)
    assert hashlib.sha256(tus.store.data(url)).digest() == hashlib.sha256(data).digest()
    assert tus.delete(url).status == 204


@pytest.mark.parametrize('size', [0, 1, 8000, 8001, 300_000])
def test_a_chunked_patch(tus, size):
    data = pattern(size)
    url = tus.new(size + 1)
    assert tus.append(url, 0, [data[:size // 2], data[size // 2:]], chunked=True) == size
    assert tus.store.data(url) == data


def test_a_chunked_patch_with_extensions_and_trailers(tus):
    url = tus.new(5)
    with tus.connect() as conn:
        conn.send_head('PATCH', url, [*patch_fields(0), ('Transfer-Encoding', 'chunked')])
        conn.send(b'3;a=b\r\nhel\r\n2\r\nlo\r\n0\r\nX-Trailer: x\r\n\r\n')
        answer = conn.response('PATCH')
        assert (answer.status, answer.get('Upload-Offset')) == (204, '5')
        assert tus.offset(url, conn=conn) == 5
    assert tus.store.data(url) == b'hello'


def test_a_patch_that_dribbles_in(tus):
    """Every byte is stored when it comes, not when the request ends."""
    data = b'hello world'
    url = tus.new(len(data))
    with tus.hold(url, 0, len(data), b'h') as patch:
        for end in range(2, len(data)):
            patch.send(data[end - 1:end])
            wait_until(lambda: tus.store.data(url) == data[:end], 'the byte to be stored')
        answer = patch.finish(data[-1:])
    assert (answer.status, answer.get('Upload-Offset')) == (204, str(len(data)))


def test_a_patch_with_expect(tus):
    url = tus.new(5)
    with tus.connect() as conn:
        conn.send_head('PATCH', url, [*patch_fields(0), ('Content-Length', 5),
                                      ('Expect', '100-continue')])
        assert conn.interim().status == 100
        conn.send(b'hello')
        assert conn.response('PATCH').status == 204
    assert tus.store.data(url) == b'hello'


def test_an_empty_patch_says_the_offset(tus):
    url = tus.new(5, b'abc')
    assert tus.append(url, 3, b'') == 3
    finished = tus.upload(b'abc')
    assert tus.append(finished, 3, b'') == 3


@pytest.mark.parametrize('offset', [0, 2, 4, 100])
def test_a_wrong_offset_is_a_conflict(tus, offset):
    url = tus.new(10, b'abc')
    with tus.connect() as conn:
        assert_error(tus.patch(url, offset, b'xyz', conn=conn), 409, 'ERR_MISMATCHED_OFFSET')
        assert tus.offset(url, conn=conn) == 3, 'the connection goes on'
    assert tus.store.data(url) == b'abc'


def test_a_finished_upload_takes_no_more(tus):
    url = tus.upload(b'abc')
    finished = tus.store.finished(url)
    assert_error(tus.patch(url, 3, b'd'), 413, 'ERR_UPLOAD_SIZE_EXCEEDED')
    assert_error(tus.patch(url, 0, b'abc'), 409, 'ERR_MISMATCHED_OFFSET')
    assert tus.store.data(url) == b'abc'
    assert tus.store.finished(url) == finished


# -- HEAD, DELETE, and what is not there -----------------------------------------------------------

def test_head_has_no_body_and_is_not_cached(tus):
    url = tus.new(10, b'abc')
    head = tus.head(url)
    assert (head.status, head.get('Cache-Control')) == (200, 'no-store')
    assert (head.get('Upload-Offset'), head.get('Upload-Length')) == ('3', '10')


@pytest.mark.parametrize('size', [0, 3, 10])
def test_delete_removes_both_files(tus, size):
    url = tus.new(10, b'0123456789'[:size])
    answer = tus.delete(url)
    assert (answer.status, answer.body) == (204, b'')
    assert not {name for name in tus.store.files() if upload_id(url) in name}
    assert tus.head(url).status == 404
    assert_error(tus.delete(url), 404, 'ERR_UPLOAD_NOT_FOUND')
    assert_error(tus.patch(url, size, b'x'), 404, 'ERR_UPLOAD_NOT_FOUND')


def test_what_was_never_there(tus):
    head = tus.head(MISSING)
    assert (head.status, head.get('Upload-Offset')) == (404, None)
    assert_error(tus.patch(MISSING, 0, b'x'), 404, 'ERR_UPLOAD_NOT_FOUND')
    assert_error(tus.delete(MISSING), 404, 'ERR_UPLOAD_NOT_FOUND')
    assert_error(tus.get(MISSING), 404, 'ERR_UPLOAD_NOT_FOUND')


def test_methods_in_the_wrong_place(tus):
    url = tus.new(10, b'abc')
    before = tus.store.snapshot()
    assert_error(tus.delete('/files/'), 405, 'ERR_METHOD_NOT_ALLOWED')
    for answer in (tus.create(5, url=url), tus.patch('/files/', 0, b'x'),
                   tus.request('PUT', url, [('Tus-Resumable', '1.0.0')], b'x'),
                   tus.request('PROPFIND', url, [('Tus-Resumable', '1.0.0')])):
        assert answer.status in (404, 405), answer
        if answer.status == 405:
            assert_error(answer, 405, 'ERR_METHOD_NOT_ALLOWED')
    for answer in (tus.get('/files/'), tus.get('/files')):
        assert answer.status in (404, 405), answer
    assert tus.store.snapshot() == before


def test_allow_lists_what_the_place_offers(tus):
    allowed = {method.strip() for method in tus.delete('/files/').get('Allow').split(',')}
    assert {'OPTIONS', 'POST'} <= allowed
    assert 'DELETE' not in allowed


# -- connections -----------------------------------------------------------------------------------

def test_one_connection_for_a_whole_upload(tus):
    data = pattern(50_000)
    with tus.connect() as conn:
        url = tus.new(len(data), conn=conn)
        for offset in range(0, len(data), 2000):
            assert tus.append(url, offset, data[offset:offset + 2000], conn=conn) == offset + 2000
            assert tus.offset(url, conn=conn) == offset + 2000
        assert tus.get(url, conn=conn).body == data
        assert tus.delete(url, conn=conn).status == 204
        assert tus.head(url, conn=conn).status == 404


@pytest.mark.parametrize('size', [0, 1, 7999, 70_000])
def test_requests_pipelined_behind_a_patch(tus, size):
    """Not a byte of the next request becomes a byte of the upload, nor the other way round."""
    data = pattern(2 * size)
    url = tus.new(2 * size + 1)
    batch = b''
    for offset in (0, size):
        batch += request_head('PATCH', url, [*patch_fields(offset), ('Content-Length', size)])
        batch += data[offset:offset + size]
        batch += request_head('HEAD', url, [('Tus-Resumable', '1.0.0')])
    with tus.connect() as conn:
        conn.send(batch)
        for offset in (size, 2 * size):
            assert conn.response('PATCH').get('Upload-Offset') == str(offset)
            assert conn.response('HEAD').get('Upload-Offset') == str(offset)
    assert tus.store.data(url) == data


def test_a_request_pipelined_behind_a_chunked_patch(tus):
    url = tus.new(10)
    with tus.connect() as conn:
        conn.send(request_head('PATCH', url, [*patch_fields(0), ('Transfer-Encoding', 'chunked')])
                  + chunk(b'hello') + chunk(b'')
                  + request_head('HEAD', url, [('Tus-Resumable', '1.0.0')]))
        assert conn.response('PATCH').get('Upload-Offset') == '5'
        assert conn.response('HEAD').get('Upload-Offset') == '5'
    assert tus.store.data(url) == b'hello'


def test_a_refused_body_is_not_the_next_request(tus):
    """409 leaves the body unread; what follows it is answered as what it is."""
    url = tus.new(100, b'abc')
    body = request_head('DELETE', url, [('Tus-Resumable', '1.0.0')])
    with tus.connect() as conn:
        conn.send(request_head('PATCH', url, [*patch_fields(0), ('Content-Length', len(body))])
                  + body + request_head('HEAD', url, [('Tus-Resumable', '1.0.0')]))
        assert_error(conn.response('PATCH'), 409, 'ERR_MISMATCHED_OFFSET')
        assert conn.response('HEAD').get('Upload-Offset') == '3'


# -- clients that go away --------------------------------------------------------------------------

CUTS = [0, 1, 7000, 8000, 8001, 100_000, (1 << 20) + 1]


@pytest.mark.parametrize('cut', CUTS)
@pytest.mark.parametrize('how', ['half-close', 'reset'])
@pytest.mark.parametrize('chunked', [False, True])
def test_exactly_what_was_sent_is_kept(tus, cut, how, chunked):
    data = pattern(2 << 20)
    url = tus.new(len(data))
    conn = tus.connect()
    framing = ('Transfer-Encoding', 'chunked') if chunked else ('Content-Length', len(data))
    conn.send_head('PATCH', url, [*patch_fields(0), framing])
    conn.send(b'%x\r\n' % len(data) + data[:cut] if chunked else data[:cut])
    if how == 'half-close':
        conn.half_close()
        conn.at_end()
        conn.close()
    else:
        wait_until(lambda: unsent(conn.sock) == 0, 'the bytes to leave this side')
        conn.reset()
    wait_until(lambda: tus.store.size(url) == cut, f'{cut} bytes to be stored')
    assert tus.offset(url) == cut
    assert tus.store.data(url) == data[:cut]
    assert tus.append(url, cut, data[cut:]) == len(data)
    assert tus.store.data(url) == data
    tus.delete(url)


def unsent(sock):
    """What a reset would throw away: Linux's SIOCOUTQ."""
    return struct.unpack('i', fcntl.ioctl(sock, termios.TIOCOUTQ, bytes(4)))[0]


def test_a_creation_that_is_cut_keeps_what_came(tus):
    before = tus.store.uploads()
    with tus.connect() as conn:
        conn.send_head('POST', '/files/', [('Tus-Resumable', '1.0.0'), ('Upload-Length', 100),
                                           ('Content-Type', OCTETS), ('Content-Length', 100)])
        conn.send(b'hello')
        conn.half_close()
        conn.at_end()
    uid = tus.store.wait_new(before)
    wait_until(lambda: tus.store.info_path(uid).exists(), 'its record')
    assert tus.store.data(uid) == b'hello'
    assert tus.offset('/files/' + uid) == 5
    assert tus.append('/files/' + uid, 5, bytes(95)) == 100


def test_a_patch_that_is_cut_is_told_so_when_it_still_listens(tus):
    url = tus.new(100)
    with tus.hold(url, 0, 100, b'hello') as patch:
        patch.conn.half_close()
        answer = patch.conn.response('PATCH')
    assert_error(answer, 503, 'ERR_UPLOAD_INTERRUPTED')
    assert b'ended before its body' in answer.body, 'nobody took it over'
    assert tus.offset(url) == 5


# -- records that tusd made ------------------------------------------------------------------------

def tusd_record(store, uid, size, data, meta=None, deferred=False, path=None):
    """An upload as tusd's file store leaves it."""
    record = {'ID': uid, 'Size': size, 'SizeIsDeferred': deferred, 'Offset': 0,
              'MetaData': meta or {}, 'IsPartial': False, 'IsFinal': False, 'PartialUploads': None,
              'Storage': {'InfoPath': f'/srv/elsewhere/{uid}.info',
                          'Path': path or f'/srv/elsewhere/{uid}', 'Type': 'filestore'}}
    store.info_path(uid).write_text(json.dumps(record))
    store.data_path(uid).write_bytes(data)
    for file in (store.info_path(uid), store.data_path(uid)):
        give_to_user(file)
    return '/files/' + uid


def test_a_tusd_upload_is_continued(tus):
    url = tusd_record(tus.store, 'b63f0d9da5422902698fb31f464848e6', 10, b'hello',
                      {'filename': 'half.bin'})
    head = tus.head(url)
    assert (head.get('Upload-Offset'), head.get('Upload-Length')) == ('5', '10')
    assert head.get('Upload-Metadata') == 'filename aGFsZi5iaW4='
    assert tus.append(url, 5, b'world') == 10
    assert tus.get(url).body == b'helloworld'


def test_a_tusd_upload_with_all_its_bytes_is_finished(tus):
    url = tusd_record(tus.store, 'ce7859083b913ec8ab3c3e5463d16046', 5, b'hello')
    head = tus.head(url)
    assert head.get('Upload-Offset') == head.get('Upload-Length') == '5'
    assert tus.get(url).body == b'hello'


def test_a_deferred_tusd_upload(tus):
    url = tusd_record(tus.store, 'eb60e1131120daa699892c0a54077da0', 0, b'hello', deferred=True)
    head = tus.head(url)
    assert (head.get('Upload-Offset'), head.get('Upload-Defer-Length')) == ('5', '1')
    assert tus.append(url, 5, b'!', headers=[('Upload-Length', 6)]) == 6
    assert tus.store.info(url)['Size'] == 6


def test_an_upload_that_is_all_there_is_finished_by_who_meets_it(tus):
    """The server died between the last byte and the record: HEAD finishes it first."""
    url = tus.new(5, b'hell')
    assert not tus.store.finished(url)
    with tus.store.data_path(url).open('ab') as data:
        data.write(b'o')
    head = tus.head(url)
    assert (head.get('Upload-Offset'), head.get('Upload-Length')) == ('5', '5')
    assert tus.store.finished(url)


def test_a_data_file_that_is_too_long_is_no_upload(tus):
    """Bytes behind the end cannot have come through the server; nothing of them is served."""
    url = tus.new(5, b'abc')
    with tus.store.data_path(url).open('ab') as data:
        data.write(b'defgh')
    tus.server.allow_log(r'\[tus:(warn|error)\]')
    head = tus.head(url)
    assert head.get('Upload-Offset') is None or int(head.get('Upload-Offset')) <= 5, head
    assert len(tus.get(url).body) <= 5 or tus.get(url).status >= 400
