"""The extension checksum-trailer: the digest comes behind the bytes, HTTP/1.1 and HTTP/2."""
import base64

import pytest

from testenv.checksum import ALGORITHMS, checksum, with_checksum
from testenv.curl import nghttp, nghttp_with_body
from testenv.http import chunk, request_head
from testenv.httpd import MPMS, endpoint
from testenv.tus import OCTETS, Tus, assert_error, assert_of_endpoint, patch_fields
from testenv.util import pattern, wait_until

DATA = pattern(100_000)
ANNOUNCED = [('Trailer', 'Upload-Checksum')]
WRONG = checksum(b'other bytes')
DIGEST = checksum(b'world').split()[1]


@pytest.fixture(scope='module', params=MPMS)
def tus(request, shared_httpd):
    server = shared_httpd(mpm=request.param)
    store = server.make_store()
    server.start(endpoint('Location /files', store)
                 + endpoint('Location /without', store, 'TusExtensions -checksum-trailer'))
    return Tus(server, store=store)


@pytest.fixture(scope='module')
def merging(shared_httpd):
    """Where httpd adds trailers to the header fields of a request."""
    server = shared_httpd()
    store = server.make_store()
    return Tus(server.start('MergeTrailers On\n' + endpoint('Location /files', store)), store=store)


@pytest.fixture(scope='module')
def h2(shared_httpd):
    """HTTP/2 without TLS; and with, on another port."""
    server = shared_httpd(modules=['http2'], tls=True)
    store = server.make_store()
    server.start('Protocols h2 h2c http/1.1\n' + endpoint('Location /files', store)
                 + server.tls_vhost())
    return Tus(server, store=store)


def message(body, trailers):
    """A chunked body of two chunks, and its trailer section."""
    half = len(body) // 2
    pieces = [chunk(piece) for piece in (body[:half], body[half:]) if piece]
    fields = [b'%s: %s\r\n' % (name.encode(), value if isinstance(value, bytes) else value.encode())
              for name, value in trailers]
    return b''.join([*pieces, b'0\r\n', *fields, b'\r\n'])


def patch(tus, url, offset, body, trailers, fields=ANNOUNCED, conn=None):
    """A chunked PATCH with these fields and, behind the body, these trailers."""
    def exchange(conn):
        conn.send_head('PATCH', url, [*patch_fields(offset), *fields,
                                      ('Transfer-Encoding', 'chunked')])
        conn.send(message(body, trailers))
        return conn.response('PATCH')
    if conn:
        answer = exchange(conn)
    else:
        with tus.connect() as own:
            answer = exchange(own)
    assert_of_endpoint(answer)
    return answer


def trailer(value):
    return [('Upload-Checksum', value)]


def assert_unchanged(tus, url):
    assert tus.offset(url) == 5
    assert tus.store.data(url) == b'hello'
    assert not tus.store.finished(url)


def assert_discarded(tus, url, answer, status, code):
    assert_error(answer, status, code)
    if status == 460:
        assert answer.reason == 'Checksum Mismatch'
    assert_unchanged(tus, url)
    assert patch(tus, url, 5, b'world', trailer(checksum(b'world'))).status == 204
    assert tus.store.data(url) == b'helloworld'
    assert tus.store.finished(url)


# -- HTTP/1.1 --------------------------------------------------------------------------------------

@pytest.mark.parametrize('algorithm', ALGORITHMS)
@pytest.mark.parametrize('size', [0, 5, len(DATA)])
def test_a_trailer_that_is_right(tus, algorithm, size):
    url = tus.new(size)
    answer = patch(tus, url, 0, DATA[:size], trailer(checksum(DATA[:size], algorithm)))
    assert (answer.status, answer.get('Upload-Offset')) == (204, str(size))
    assert tus.store.data(url) == DATA[:size]
    assert tus.store.finished(url)


@pytest.mark.parametrize('algorithm', ALGORITHMS)
@pytest.mark.parametrize('body', [b'WORLD', b''])
def test_a_trailer_that_is_wrong(tus, algorithm, body):
    url = tus.new(10, b'hello')
    answer = patch(tus, url, 5, body, trailer(checksum(b'world', algorithm)))
    assert_discarded(tus, url, answer, 460, 'ERR_CHECKSUM_MISMATCH')


@pytest.mark.parametrize('announcement', [
    [('Trailer', 'upload-checksum')], [('TRAILER', 'UPLOAD-CHECKSUM')],
    [('Trailer', 'X-Other, Upload-Checksum')], [('Trailer', 'Upload-Checksum ,X-Other')],
    [('Trailer', 'X-Other'), ('Trailer', 'Upload-Checksum')]])
def test_announcements(tus, announcement):
    url = tus.new(10, b'hello')
    answer = patch(tus, url, 5, b'WORLD', trailer(checksum(b'world')), announcement)
    assert_discarded(tus, url, answer, 460, 'ERR_CHECKSUM_MISMATCH')


@pytest.mark.parametrize('name', ['upload-checksum', 'UPLOAD-CHECKSUM'])
def test_the_case_of_the_trailer(tus, name):
    url = tus.new(10, b'hello')
    assert patch(tus, url, 5, b'world', [(name, checksum(b'world'))]).status == 204
    assert tus.store.data(url) == b'helloworld'


def test_other_trailers_beside_it(tus):
    url = tus.new(10, b'hello')
    trailers = [('X-One', '1'), *trailer(checksum(b'world')), ('Upload-Offset', '7')]
    assert patch(tus, url, 5, b'world', trailers).status == 204
    assert tus.offset(url) == 10


MALFORMED = {'empty': '', 'no digest': 'sha1', 'no Base64': 'sha1 !!!!',
             'two spaces': f'sha1  {DIGEST}', "another's digest": f'sha256 {DIGEST}',
             'a short digest': 'sha1 ' + base64.b64encode(bytes(19)).decode()}


@pytest.mark.parametrize('value', MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_trailer(tus, value):
    url = tus.new(10, b'hello')
    answer = patch(tus, url, 5, b'world', trailer(value))
    assert_discarded(tus, url, answer, 400, 'ERR_INVALID_CHECKSUM')


@pytest.mark.parametrize('name', ['SHA1', 'adler32'])
def test_an_unknown_algorithm(tus, name):
    url = tus.new(10, b'hello')
    answer = patch(tus, url, 5, b'world', trailer(f'{name} {DIGEST}'))
    assert_discarded(tus, url, answer, 400, 'ERR_UNSUPPORTED_CHECKSUM')


def test_a_repeated_trailer(tus):
    url = tus.new(10, b'hello')
    answer = patch(tus, url, 5, b'world', 2 * trailer(checksum(b'world')))
    assert_discarded(tus, url, answer, 400, 'ERR_INVALID_CHECKSUM')


@pytest.mark.parametrize('trailers', [[], [('X-Other', '1')]])
def test_announced_but_missing(tus, trailers):
    url = tus.new(10, b'hello')
    answer = patch(tus, url, 5, b'world', trailers)
    assert_discarded(tus, url, answer, 400, 'ERR_INVALID_CHECKSUM')


def test_announced_for_a_body_that_can_have_none(tus):
    """With Content-Length nothing follows the body."""
    url = tus.new(10, b'hello')
    answer = tus.patch(url, 5, b'world', ANNOUNCED)
    assert_discarded(tus, url, answer, 400, 'ERR_INVALID_CHECKSUM')


def test_header_and_trailer(tus):
    """Refused on arrival: nobody is disturbed for it."""
    url = tus.new(10)
    fields = [*ANNOUNCED, *with_checksum(b'world')]
    with tus.hold(url, 0, 10, b'hello') as holder:
        answer = patch(tus, url, 5, b'world', trailer(checksum(b'world')), fields)
        assert_error(answer, 400, 'ERR_INVALID_CHECKSUM')
        assert tus.store.data(url) == b'hello'
        assert holder.finish(b'world').status == 204


@pytest.mark.parametrize('value', [checksum(b'world'), WRONG, 'sha1'])
@pytest.mark.parametrize('fields', [[], [('Trailer', 'X-Other')]])
def test_a_trailer_that_nobody_announced(tus, value, fields):
    """It cannot be verified any more, and what is not verified must not count."""
    url = tus.new(10, b'hello')
    answer = patch(tus, url, 5, b'world', trailer(value), fields)
    assert_discarded(tus, url, answer, 400, 'ERR_INVALID_CHECKSUM')


def test_a_trailer_that_nobody_announced_beside_a_header(tus):
    """It is the header that counts: the bytes are verified, and the trailer is nobody's."""
    url = tus.new(10, b'hello')
    for value in (checksum(b'world'), WRONG):
        answer = patch(tus, url, 5, b'world', trailer(value), [('Upload-Checksum', WRONG)])
        assert_error(answer, 460, 'ERR_CHECKSUM_MISMATCH')
        assert_unchanged(tus, url)
    assert patch(tus, url, 5, b'world', trailer(WRONG), with_checksum(b'world')).status == 204
    assert tus.store.data(url) == b'helloworld'


def test_a_request_pipelined_behind_it(tus):
    url = tus.new(15, b'hello')
    head = request_head('HEAD', url, [('Tus-Resumable', '1.0.0')])
    with tus.connect() as conn:
        for body, value, status, offset in ((b'WORLD', checksum(b'world'), 460, '5'),
                                            (b'world', checksum(b'world'), 204, '10')):
            fields = [*patch_fields(5), *ANNOUNCED, ('Transfer-Encoding', 'chunked')]
            conn.send(request_head('PATCH', url, fields) + message(body, trailer(value)) + head)
            assert conn.response('PATCH').status == status
            assert conn.response('HEAD').get('Upload-Offset') == offset


def test_a_creation(tus):
    """With the whole of it, a part, and what is damaged; chunked, as only so a trailer comes."""
    for length, body, value, status in ((5, b'world', checksum(b'world'), 201),
                                        (10, b'world', checksum(b'world', 'crc32c'), 201),
                                        (5, b'WORLD', checksum(b'world'), 460),
                                        (10, b'WORLD', checksum(b'world'), 460),
                                        (10, b'world', 'sha1', 400), (5, b'world', None, 400)):
        before = tus.store.files()
        with tus.connect() as conn:
            conn.send_head('POST', '/files/', [
                ('Tus-Resumable', '1.0.0'), ('Upload-Length', length), ('Content-Type', OCTETS),
                *ANNOUNCED, ('Transfer-Encoding', 'chunked')])
            conn.send(message(body, trailer(value) if value is not None else []))
            answer = conn.response('POST')
        assert answer.status == status, answer
        assert_of_endpoint(answer)
        if status == 201:
            assert answer.get('Upload-Offset') == '5'
            assert tus.offset(answer.get('Location')) == 5
            assert tus.store.data(answer.get('Location')) == b'world'
        else:
            assert tus.store.files() == before


def test_a_chunk_that_waits_for_its_trailer(tus):
    """Not a byte counts before it: not for GET, a newer PATCH, or after the holder's death."""
    url = tus.new(10, b'hello')
    with tus.hold(url, 5, 5, b'world', chunked=True, headers=ANNOUNCED) as holder:
        assert tus.get(url).body == b'hello'
        assert tus.store.size(url) == 10
        assert_unchanged(tus, url)
        assert_error(holder.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
    with tus.hold(url, 5, 5, b'WORLD', chunked=True, headers=ANNOUNCED):
        tus.kill_holder(url)
    assert tus.get(url).body == b'hello'
    assert_unchanged(tus, url)
    with tus.hold(url, 5, 5, b'world', chunked=True, headers=ANNOUNCED) as holder:
        holder.send(b'\r\n0\r\nUpload-Checksum: ' + checksum(b'world').encode() + b'\r\n\r\n')
        assert holder.response().status == 204
    assert tus.store.finished(url)


def test_a_client_that_goes_away_before_its_trailer(tus):
    url = tus.new(10, b'hello')
    with tus.hold(url, 5, 5, b'world', chunked=True, headers=ANNOUNCED) as holder:
        holder.send(b'\r\n0\r\nUpload-Chec')
        holder.conn.half_close()
        holder.conn.at_end()
    wait_until(lambda: not tus.store.is_held(url), 'the upload to be released')
    assert_unchanged(tus, url)


def test_without_the_extension(tus):
    """Nothing counts that its client wants verified and that is not."""
    other = Tus(tus.server, '/without/', tus.store)
    url = other.new(10, b'hello')
    answer = patch(other, url, 5, b'WORLD', trailer(checksum(b'world')))
    assert answer.status == 400, answer
    assert_unchanged(other, url)
    assert other.append(url, 5, b'world', headers=with_checksum(b'world')) == 10


# -- MergeTrailers ---------------------------------------------------------------------------------

@pytest.mark.parametrize('value, status, code', [
    (checksum(b'WORLD'), 460, 'ERR_CHECKSUM_MISMATCH'), ('sha1', 400, 'ERR_INVALID_CHECKSUM'),
    (f'sha0 {DIGEST}', 400, 'ERR_UNSUPPORTED_CHECKSUM')])
def test_merged_trailers(merging, value, status, code):
    """httpd puts them among the header fields, behind the body; the verdict is the same."""
    url = merging.new(10, b'hello')
    assert_discarded(merging, url, patch(merging, url, 5, b'world', trailer(value)), status, code)


def test_merged_trailers_that_are_missing(merging):
    url = merging.new(10, b'hello')
    assert_discarded(merging, url, patch(merging, url, 5, b'world', []), 400,
                     'ERR_INVALID_CHECKSUM')


def test_merged_trailers_that_nobody_announced(merging):
    url = merging.new(10, b'hello')
    answer = patch(merging, url, 5, b'world', trailer(WRONG), [])
    assert_error(answer, 400, 'ERR_INVALID_CHECKSUM')
    assert_unchanged(merging, url)


def test_merged_trailers_beside_a_header(merging):
    url = merging.new(10, b'hello')
    answer = patch(merging, url, 5, b'world', trailer(checksum(b'world')),
                   [('Upload-Checksum', WRONG)])
    assert_error(answer, 460, 'ERR_CHECKSUM_MISMATCH')
    assert_unchanged(merging, url)
    assert patch(merging, url, 5, b'world', trailer(WRONG), with_checksum(b'world')).status == 204


def test_a_merged_trailer_changes_no_other_field(merging):
    url = merging.new(10, b'hello')
    trailers = [('Upload-Offset', '7'), ('Upload-Length', '3'), *trailer(checksum(b'world'))]
    assert patch(merging, url, 5, b'world', trailers).status == 204
    assert merging.store.data(url) == b'helloworld'


# -- HTTP/2 ----------------------------------------------------------------------------------------

def nghttp_patch(tus, tmp_path, scheme, url, body, *arguments):
    (tmp_path / 'body').write_bytes(body)
    port = tus.server.tls_port if scheme == 'https' else tus.server.port
    fields = [f'-H{name}: {value}' for name, value in [(':method', 'PATCH'), *patch_fields(5)]]
    return ['-d', tmp_path / 'body', *fields, *arguments, f'{scheme}://127.0.0.1:{port}{url}']


@pytest.mark.parametrize('scheme', ['http', 'https'])
@pytest.mark.parametrize('algorithm', ALGORITHMS)
def test_http2(h2, tmp_path, scheme, algorithm):
    url = h2.new(10, b'hello')
    for body, status in ((b'WORLD', 460), (b'world', 204)):
        command = nghttp_patch(h2, tmp_path, scheme, url, body, '--trailer',
                               f'upload-checksum: {checksum(b"world", algorithm)}')
        answer, = nghttp(*command)
        assert answer.status == status, answer
        assert_of_endpoint(answer)
        assert h2.offset(url) == (5 if status == 460 else 10)
    assert h2.store.data(url) == b'helloworld'


@pytest.mark.parametrize('scheme', ['http', 'https'])
@pytest.mark.parametrize('arguments, status, code', [
    (['--trailer', 'upload-checksum: sha1 !!!!'], 400, 'ERR_INVALID_CHECKSUM'),
    (['--trailer', f'upload-checksum: sha0 {DIGEST}'], 400, 'ERR_UNSUPPORTED_CHECKSUM'),
    (['-Htrailer: upload-checksum'], 400, 'ERR_INVALID_CHECKSUM'),
    (['--trailer', f'upload-checksum: {WRONG}'], 460, 'ERR_CHECKSUM_MISMATCH')])
def test_http2_refusals(h2, tmp_path, scheme, arguments, status, code):
    url = h2.new(10, b'hello')
    command = nghttp_patch(h2, tmp_path, scheme, url, b'world', *arguments)
    assert_error(nghttp_with_body(*command), status, code)
    assert_unchanged(h2, url)


@pytest.mark.parametrize('scheme', ['http', 'https'])
def test_http2_with_a_header(h2, tmp_path, scheme):
    url = h2.new(10, b'hello')
    command = nghttp_patch(h2, tmp_path, scheme, url, b'world', f'-Hupload-checksum: {WRONG}')
    assert_error(nghttp_with_body(*command), 460, 'ERR_CHECKSUM_MISMATCH')
    assert_unchanged(h2, url)
