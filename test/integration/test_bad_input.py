"""Bad input: each is refused with its code, and everything is afterwards as it was before."""
import gzip

import pytest

from testenv.http import Connection, Disconnected, chunk, request_head
from testenv.httpd import endpoint
from testenv.store import upload_id
from testenv.tus import OCTETS, Tus, assert_error, assert_of_endpoint, b64, patch_fields
from testenv.util import pattern, wait_until

VERSION = ('Tus-Resumable', '1.0.0')
NUMBERS = {
    'empty': '', 'word': 'abc', 'negative': '-1', 'minus zero': '-0', 'plus': '+5', 'hex': '0x10',
    'exponent': '1e3', 'fraction': '5.0', 'inner space': '5 5', 'list': '5,5', 'tail': '5x',
    'parameter': '5;q=1', 'quoted': '"5"', '2^63': str(2**63), '2^64': str(2**64),
    '2^64+5': str(2**64 + 5), '10^30': str(10**30), '4 KB of digits': '1' * 4096,
    'arabic-indic': '\u0665'.encode().decode('latin-1'), 'NaN': 'NaN', 'infinity': 'Infinity'}
numbers = pytest.mark.parametrize('number', NUMBERS.values(), ids=NUMBERS.keys())


@pytest.fixture(scope='module')
def tus(shared_httpd):
    server = shared_httpd()
    store = server.make_store()
    server.start(endpoint('Location /files', store)
                 + endpoint('Location /gzip', store, 'SetInputFilter DEFLATE'))
    return Tus(server, store=store)


@pytest.fixture
def upload(tus):
    """An upload of 10 bytes that has 3."""
    url = tus.new(10, b'abc', [('Upload-Metadata', 'filename YQ==')])
    yield url
    assert tus.delete(url).status == 204


class Unchanged:
    """Sends one bad request; the store stays as it was, and the client can go on."""

    def __init__(self, tus, upload):
        self.tus = tus
        self.upload = upload

    def __call__(self, method, url, headers=(), body=None, **how):
        before = self.tus.store.snapshot()
        with self.tus.connect() as conn:
            answer = conn.request(method, url, headers, body, **how)
            assert answer.status >= 400, answer
            if not answer.closes:
                assert self.tus.offset(self.upload, conn=conn) == 3
        assert self.tus.offset(self.upload) == 3
        assert self.tus.store.snapshot() == before
        return answer


@pytest.fixture
def bad(tus, upload):
    return Unchanged(tus, upload)


# -- Upload-Length, Upload-Defer-Length ------------------------------------------------------------

@numbers
def test_upload_length(bad, number):
    assert_error(bad('POST', '/files/', [VERSION, ('Upload-Length', number)]),
                 400, 'ERR_INVALID_UPLOAD_LENGTH')


@pytest.mark.parametrize('first, second', [(5, 5), (5, 6), (5, '')])
def test_upload_length_twice(bad, first, second):
    fields = [VERSION, ('Upload-Length', first), ('Upload-Length', second)]
    assert_error(bad('POST', '/files/', fields), 400, 'ERR_INVALID_UPLOAD_LENGTH')


def test_neither_length_nor_deferral(bad):
    assert_error(bad('POST', '/files/', [VERSION]), 400, 'ERR_INVALID_UPLOAD_LENGTH')


@pytest.mark.parametrize('length', ['5', '0', 'x'])
def test_both_length_and_deferral(bad, length):
    fields = [VERSION, ('Upload-Length', length), ('Upload-Defer-Length', '1')]
    answer = bad('POST', '/files/', fields)
    assert_error(answer, 400, 'ERR_AMBIGUOUS_UPLOAD_LENGTH')


@pytest.mark.parametrize('value', ['0', 'true', '2', '01', '-1', '', '1,1', '1 1'])
def test_deferral(bad, value):
    assert_error(bad('POST', '/files/', [VERSION, ('Upload-Defer-Length', value)]),
                 400, 'ERR_INVALID_UPLOAD_LENGTH_DEFER')


def test_deferral_twice(bad):
    fields = [VERSION, ('Upload-Defer-Length', '1'), ('Upload-Defer-Length', '1')]
    assert_error(bad('POST', '/files/', fields), 400, 'ERR_INVALID_UPLOAD_LENGTH_DEFER')


@numbers
def test_upload_length_in_patch(tus, number):
    url = tus.new(body=b'abc', headers=[('Upload-Defer-Length', '1')])
    fields = [*patch_fields(3), ('Upload-Length', number)]
    assert_error(Unchanged(tus, url)('PATCH', url, fields, b'defg'),
                 400, 'ERR_INVALID_UPLOAD_LENGTH')
    assert tus.head(url).get('Upload-Defer-Length') == '1'


# -- Upload-Offset ---------------------------------------------------------------------------------

@numbers
def test_upload_offset(bad, upload, number):
    answer = bad('PATCH', upload, patch_fields(number), b'defg')
    assert_error(answer, 400, 'ERR_INVALID_OFFSET')


def test_upload_offset_missing(bad, upload):
    fields = [field for field in patch_fields(3) if field[0] != 'Upload-Offset']
    assert_error(bad('PATCH', upload, fields, b'defg'), 400, 'ERR_INVALID_OFFSET')


@pytest.mark.parametrize('second', [3, 4])
def test_upload_offset_twice(bad, upload, second):
    fields = [*patch_fields(3), ('Upload-Offset', second)]
    assert_error(bad('PATCH', upload, fields, b'defg'), 400, 'ERR_INVALID_OFFSET')


@pytest.mark.parametrize('offset', [2**63 - 1, 10, 11, 4, 0])
def test_upload_offset_elsewhere(bad, upload, offset):
    answer = bad('PATCH', upload, patch_fields(offset), b'defg')
    assert_error(answer, 409, 'ERR_MISMATCHED_OFFSET')


# -- Tus-Resumable, Content-Type -------------------------------------------------------------------

VERSIONS = [[], ['0.2.2'], ['1.0.1'], ['1'], ['1.0'], [''], ['1.0.0,0.2.2'], ['v1.0.0'],
            ['1.0.0', '1.0.0'], ['0.2.2', '1.0.0']]


@pytest.mark.parametrize('versions', VERSIONS, ids=str)
@pytest.mark.parametrize('method', ['POST', 'HEAD', 'PATCH', 'DELETE'])
def test_version(bad, upload, method, versions):
    url = '/files/' if method == 'POST' else upload
    fields = {'POST': [('Upload-Length', 5)], 'PATCH': patch_fields(3)[1:]}.get(method, [])
    fields = [*[('Tus-Resumable', version) for version in versions], *fields]
    answer = bad(method, url, fields, b'defg' if method == 'PATCH' else None)
    if method != 'HEAD':
        assert_error(answer, 412, 'ERR_UNSUPPORTED_VERSION')
        return
    assert_of_endpoint(answer)
    assert (answer.status, answer.get('Tus-Version')) == (412, '1.0.0')
    assert answer.get('Upload-Offset') is None


def test_the_version_comes_first(bad):
    """A client of another version learns that, whatever else is wrong with its request."""
    answer = bad('PATCH', '/files/0123456789abcdef0123456789abcdef', [('Upload-Offset', 'x')], b'x')
    assert_error(answer, 412, 'ERR_UNSUPPORTED_VERSION')


@pytest.mark.parametrize('types', [
    [], [''], ['text/plain'], ['application/octet-stream'], ['application/offset+octet-streams'],
    ['application/offset'], ['multipart/form-data; boundary=x'],
    ['application/x-www-form-urlencoded'], [OCTETS, 'text/plain'], ['text/plain', OCTETS],
    [f'{OCTETS}, text/plain']], ids=str)
@pytest.mark.parametrize('method', ['PATCH', 'POST'])
def test_content_type(bad, upload, method, types):
    fields = [VERSION, *[('Content-Type', value) for value in types]]
    if method == 'POST':
        answer = bad(method, '/files/', [*fields, ('Upload-Length', 10)], b'defg')
    else:
        answer = bad(method, upload, [*fields, ('Upload-Offset', 3)], b'defg')
    assert_error(answer, 415, 'ERR_INVALID_CONTENT_TYPE')


# -- Upload-Metadata -------------------------------------------------------------------------------

@pytest.mark.parametrize('value', [
    'a !!!!', 'a Y', 'a YQ', 'a YQ=', 'a YQ===', 'a =', 'a YQ==YQ==', 'a Y Q==', 'a YQ== x',
    'a  YQ==', ',a YQ==', 'a YQ==,', 'a YQ==,,b YQ==', ',', 'a YQ==,a Yg==', 'a,a', 'a YQ==,a',
    'a\tb YQ==', 'a\tYQ==', 'a -_==', 'a YQ%3D%3D', 'a "YQ=="'], ids=repr)
def test_metadata(bad, value):
    answer = bad('POST', '/files/', [VERSION, ('Upload-Length', 5), ('Upload-Metadata', value)])
    assert_error(answer, 400, 'ERR_INVALID_METADATA')


def test_a_key_in_two_metadata_fields(bad):
    """The value is a list, so HTTP makes one field of two; a key may still be there only once."""
    fields = [VERSION, ('Upload-Length', 5), ('Upload-Metadata', 'a YQ=='),
              ('Upload-Metadata', 'a YQ==')]
    assert_error(bad('POST', '/files/', fields), 400, 'ERR_INVALID_METADATA')


@pytest.mark.parametrize('key', ['\x01', 'a\x01b', 'a\x1b', 'a\x7f', 'a\x00b'], ids=repr)
def test_metadata_key_with_control_bytes(bad, key):
    """httpd itself refuses what no header field may contain."""
    fields = [VERSION, ('Upload-Length', 5), ('Upload-Metadata', f'{key} YQ==')]
    answer = bad('POST', '/files/', fields)
    assert answer.status == 400


@pytest.mark.parametrize('value', ['a\r\nX: y', 'a\nb', 'a\0b', '\x1b[0m'], ids=repr)
def test_metadata_values_may_hold_anything(tus, value):
    """They are base64 everywhere but in the record, whose JSON escapes them."""
    fields = f'note {b64(value)}'
    url = tus.new(5, headers=[('Upload-Metadata', fields)])
    assert tus.head(url).get('Upload-Metadata') == fields
    assert tus.store.info(url)['ModTus']['UploadMetadata'] == fields


# -- ids -------------------------------------------------------------------------------------------

EVIL_PATHS = {     # <id> is the id of an upload that exists
    'parent': '/files/..', 'parent slash': '/files/../', 'two up': '/files/../../etc/passwd',
    'encoded parent': '/files/%2e%2e%2f', 'encoded passwd': '/files/%2e%2e%2f%2e%2e%2fetc/passwd',
    'half encoded': '/files/.%2e/%2e./etc/passwd', 'twice encoded': '/files/%252e%252e%252fx',
    'backslash': '/files/..%5c..%5cx', 'dot': '/files/.', 'encoded dot': '/files/%2e',
    'NUL': '/files/%00', 'NUL behind': '/files/<id>%00', 'NUL and more': '/files/<id>%00.info',
    'newline': '/files/<id>%0a', 'space': '/files/<id>%20', 'high bytes': '/files/%ff%fe',
    '4 KB': '/files/' + 'a' * 4096, '4 KB of directories': '/files/' + 'a/' * 2048,
    '255': '/files/' + 'a' * 255, '256': '/files/' + 'a' * 256,
    'info': '/files/<id>.info', 'just info': '/files/.info', 'INFO': '/files/<id>.INFO',
    'encoded info': '/files/<id>%2einfo', 'info.tmp': '/files/.<id>.info.tmp',
    'tus': '/files/.tus', 'inside tus': '/files/.tus/lock', 'hidden': '/files/.<id>',
    'below an id': '/files/<id>/x', 'below and back': '/files/<id>/../<id>.info',
    'encoded slash': '/files/x%2f<id>', 'trailing slash': '/files/<id>/',
    'stream': '/files/<id>::$DATA', 'star': '/files/*'}


@pytest.mark.parametrize('method', ['HEAD', 'PATCH', 'DELETE', 'GET', 'POST'])
@pytest.mark.parametrize('path', EVIL_PATHS.values(), ids=EVIL_PATHS.keys())
def test_id(tus, bad, upload, method, path):
    """No path but the upload's own leads to it, or to anything else."""
    # httpd's own opinion: of names too long for a file system, of %2f, of a path above the root,
    # of a directory without an index
    tus.server.allow_log('AH00036|AH00127|AH00026|AH10244|AH01276')
    path = path.replace('<id>', upload_id(upload))
    fields = {'PATCH': patch_fields(3), 'GET': [], 'POST': [VERSION, ('Upload-Length', 'x')]}
    answer = bad(method, path, fields.get(method, [VERSION]), b'x' if method == 'PATCH' else None)
    assert answer.status in (400, 403, 404, 405, 414), answer
    assert b'root:' not in answer.body


# -- bodies ----------------------------------------------------------------------------------------

@pytest.mark.parametrize('extra', [1, 8000, 1 << 20])
def test_more_bytes_than_the_length(bad, upload, extra):
    answer = bad('PATCH', upload, patch_fields(3), bytes(7 + extra))
    assert_error(answer, 413, 'ERR_UPLOAD_SIZE_EXCEEDED')


@pytest.mark.parametrize('extra', [1, 8000, 1 << 20])
def test_more_chunked_bytes_than_the_length(tus, upload, extra):
    """Known only when they come; nothing beyond the length is stored."""
    answer = tus.patch(upload, 3, b'defghij' + bytes(extra), chunked=True)
    assert_error(answer, 413, 'ERR_UPLOAD_SIZE_EXCEEDED')
    offset = tus.offset(upload)
    assert tus.store.data(upload) == b'abcdefghij'[:offset]
    assert tus.append(upload, offset, b'abcdefghij'[offset:]) == 10
    assert tus.get(upload).body == b'abcdefghij'


def test_more_bytes_than_the_length_behind_an_input_filter(tus):
    """Content-Length counts what is sent; the limit holds for what a filter makes of it."""
    url = tus.new(20_000).replace('/files/', '/gzip/')
    bomb = gzip.compress(pattern(2000) * 100)
    assert len(bomb) < 20_000
    answer = tus.patch(url, 0, bomb, headers=[('Content-Encoding', 'gzip')])
    assert_error(answer, 413, 'ERR_UPLOAD_SIZE_EXCEEDED')
    assert tus.offset(url) == tus.store.size(url) <= 20_000
    fine = gzip.compress(b'hello')
    url = tus.new(100).replace('/files/', '/gzip/')
    assert tus.append(url, 0, fine, headers=[('Content-Encoding', 'gzip')]) == 5
    assert tus.store.data(url) == b'hello'


@pytest.mark.parametrize('sent', [0, 1, 4])
@pytest.mark.parametrize('method', ['half-close', 'reset'])
def test_a_body_that_is_cut(tus, upload, sent, method):
    with tus.hold(upload, 3, 7, b'defg'[:sent]) as patch:
        patch.conn.half_close() if method == 'half-close' else patch.conn.reset()
        if method == 'half-close':
            assert_of_endpoint(patch.conn.response('PATCH'))
    wait_until(lambda: tus.offset(upload) == 3 + sent, 'the offset')
    assert tus.store.data(upload) == b'abcdefg'[:3 + sent]


@pytest.mark.parametrize('broken', [
    b'x\r\nhello\r\n', b'-5\r\nhello\r\n', b'ffffffffffffffffff\r\nhello\r\n', b'5 5\r\nhello\r\n',
    b'\r\nhello\r\n', b'2\r\nhello\r\n', b'0x2\r\nhi\r\n'], ids=repr)
def test_broken_chunks(tus, upload, broken):
    """What came before the broken chunk stays; nothing of or behind it is taken for data."""
    with tus.connect() as conn:
        conn.send_head('PATCH', upload, [*patch_fields(3), ('Transfer-Encoding', 'chunked')])
        conn.send(chunk(b'de') + broken + chunk(b''))
        answer = conn.response('PATCH')
        assert_of_endpoint(answer)
        assert 400 <= answer.status < 600
        assert answer.closes
    offset = tus.offset(upload)
    assert offset in (3, 5, 7)
    assert tus.store.data(upload) in (b'abc', b'abcde', b'abcdehe')


@pytest.mark.parametrize('length', [0, 2, 5, 20, 1000])
def test_content_length_beside_chunked(tus, upload, length):
    """RFC 9112, 6.3: chunked rules and the connection ends, or the request is refused."""
    smuggled = request_head('DELETE', upload, [VERSION])
    with tus.connect() as conn:
        conn.send_head('PATCH', upload, [*patch_fields(3), ('Content-Length', length),
                                         ('Transfer-Encoding', 'chunked')])
        conn.send(chunk(b'defg') + chunk(b'') + smuggled)
        answer = conn.response('PATCH')
        assert answer.closes
        assert conn.at_end(), 'what follows is no request'
    assert answer.status in (204, 400), answer
    stored = b'abcdefg' if answer.status == 204 else b'abc'
    assert tus.offset(upload) == len(stored)
    assert tus.store.data(upload) == stored


@pytest.mark.parametrize('fields', [
    [('Content-Length', 4), ('Content-Length', 5)], [('Content-Length', '4, 5')],
    [('Content-Length', '-4')], [('Content-Length', '+4')], [('Content-Length', '4x')],
    [('Content-Length', '0x4')], [('Content-Length', str(2**64 + 4))], [('Content-Length', '')],
    [('Transfer-Encoding', 'gzip')], [('Transfer-Encoding', 'chunked, gzip')],
    [('Transfer-Encoding', 'identity')], [('Transfer-Encoding', 'xchunked')],
    [('Transfer-Encoding', 'chunked'), ('Transfer-Encoding', 'gzip')]], ids=str)
def test_framing(tus, upload, fields):
    """Whoever refuses it, httpd or mod_tus: the connection ends and nothing is stored."""
    with tus.connect() as conn:
        conn.send_head('PATCH', upload, [*patch_fields(3), *fields])
        conn.send(b'defg' + request_head('DELETE', upload, [VERSION]))
        answer = conn.response('PATCH')
        assert answer.status in (400, 411, 413, 501), answer
        assert answer.closes
    assert tus.offset(upload) == 3
    assert tus.store.data(upload) == b'abc'


def test_a_body_where_none_belongs(tus, upload):
    """HEAD, DELETE and GET with a body, and a request behind it."""
    other = tus.new(5)
    with tus.connect() as conn:
        for method, url in (('HEAD', upload), ('GET', upload), ('DELETE', other)):
            answer = conn.request(method, url, [VERSION], b'GET / HTTP/1.1\r\n\r\n')
            assert_of_endpoint(answer)
            if answer.closes:
                break
        else:
            assert tus.offset(upload, conn=conn) == 3
    assert tus.store.data(upload) == b'abc'


@pytest.mark.parametrize('junk', [
    b'PATCH\r\n\r\n', b'\x16\x03\x01\x02\x00\x01', b'PATCH /files/ HTTP/9.9\r\n\r\n',
    b'PATCH /files/x HTTP/1.1\r\n\r\n',
    b'PATCH /files/x HTTP/1.1\r\nHost: a\r\nUpload-Offset\r\n\r\n',
    b'PATCH /files/x HTTP/1.1\r\nHost: a\r\n Upload-Offset: 1\r\n\r\n', b'\0' * 100], ids=repr)
def test_no_http_at_all(tus, upload, junk):
    before = tus.store.snapshot()
    with Connection(tus.server.port) as conn:
        conn.send(junk)
        conn.half_close()
        try:
            answer = conn.response()
            assert answer.status >= 400
        except Disconnected:
            pass
    assert tus.offset(upload) == 3
    assert tus.store.snapshot() == before


def test_http_1_0(tus, upload):
    """An old proxy's request is served like any other."""
    with Connection(tus.server.port) as conn:
        conn.send(request_head('PATCH', upload, [*patch_fields(3), ('Content-Length', 4)])
                  .replace(b'HTTP/1.1', b'HTTP/1.0') + b'defg')
        answer = conn.response('PATCH')
        assert_of_endpoint(answer)
        assert (answer.status, answer.get('Upload-Offset')) == (204, '7')
