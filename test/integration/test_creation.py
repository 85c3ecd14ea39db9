"""Discovery and creation: OPTIONS, POST, what is on disk afterwards, metadata."""
import re
import stat
from datetime import datetime, timezone

import pytest

from testenv.httpd import endpoint
from testenv.store import upload_id
from testenv.tus import EXTENSIONS, OCTETS, Tus, assert_error, b64, metadata
from testenv.util import pattern, run_user

KIB = 1024


@pytest.fixture(scope='module')
def tus(shared_httpd):
    server = shared_httpd(umask=0o077)
    store = server.make_store()
    small = server.make_store('small')
    server.start(endpoint('Location /files', store)
                 + endpoint('Location /small', small, 'TusMaxSize 1K'))
    return Tus(server, store=store)


@pytest.fixture
def small(tus):
    return Tus(tus.server, base='/small/', store=type(tus.store)(tus.store.path.parent / 'small'))


# -- OPTIONS ---------------------------------------------------------------------------------------

@pytest.mark.parametrize('path', ['/files', '/files/', '/files/0123456789abcdef0123456789abcdef'])
def test_options(tus, path):
    answer = tus.options(path)
    assert answer.status == 200
    assert answer.get('Content-Length') == '0'
    assert answer.get('Tus-Version') == '1.0.0'
    assert answer.get('Tus-Extension') == EXTENSIONS
    assert answer.get('Tus-Max-Size') is None


@pytest.mark.parametrize('version', ['0.2.2', '9', 'garbage'])
def test_options_ignores_the_requests_version(tus, version):
    answer = tus.options(headers=[('Tus-Resumable', version)])
    assert (answer.status, answer.get('Tus-Version')) == (200, '1.0.0')


def test_options_names_the_maximum(small):
    assert small.options().get('Tus-Max-Size') == '1024'


# -- POST ------------------------------------------------------------------------------------------

@pytest.mark.parametrize('path', ['/files', '/files/'])
def test_create(tus, path):
    answer = tus.create(11, url=path)
    assert answer.status == 201
    assert re.fullmatch(r'/files/[0-9a-f]{32}', answer.get('Location'))
    assert answer.body == b''
    head = tus.head(answer.get('Location'))
    assert (head.get('Upload-Offset'), head.get('Upload-Length')) == ('0', '11')
    assert head.get('Upload-Defer-Length') is None
    assert head.get('Upload-Metadata') is None


def test_ids_are_not_repeated(tus):
    assert len({tus.new(0) for _ in range(100)}) == 100


def test_create_makes_a_data_file_and_its_record(tus):
    before = tus.store.files()
    fields = metadata(empty='', filename='naïve "x".txt', filetype='text/plain')
    url = tus.new(11, headers=[('Upload-Metadata', fields)])
    uid = upload_id(url)
    assert tus.store.files() - before == {uid, uid + '.info'}
    assert tus.store.data(url) == b''

    info = tus.store.info(url)
    ours = info.pop('ModTus')
    assert info == {
        'ID': uid, 'Size': 11, 'SizeIsDeferred': False, 'Offset': 0,
        'MetaData': {'filename': 'naïve "x".txt', 'filetype': 'text/plain', 'empty': ''},
        'IsPartial': False, 'IsFinal': False, 'PartialUploads': None,
        'Storage': {'Type': 'filestore', 'Path': str(tus.store.data_path(url)),
                    'InfoPath': str(tus.store.info_path(url))}}
    assert ours['UploadMetadata'] == fields
    assert 'Finished' not in ours
    created = datetime.fromisoformat(ours['Created'].replace('Z', '+00:00'))
    assert created.utcoffset().total_seconds() == 0
    assert abs((datetime.now(timezone.utc) - created).total_seconds()) < 60


def test_files_belong_to_the_user_with_the_mode_of_the_directive(tus):
    url = tus.new(11)
    for path in (tus.store.data_path(url), tus.store.info_path(url)):
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == 0o660, 'httpd runs with umask 077 here'
        assert status.st_uid == run_user().pw_uid


def test_an_empty_upload_is_complete_at_once(tus):
    url = tus.new(0)
    head = tus.head(url)
    assert (head.get('Upload-Offset'), head.get('Upload-Length')) == ('0', '0')
    assert tus.store.finished(url)
    download = tus.get(url)
    assert (download.status, download.body) == (200, b'')


def test_an_empty_store_takes_many(tus):
    urls = [tus.new(3, b'abc') for _ in range(50)]
    assert all(tus.store.data(url) == b'abc' for url in urls)


@pytest.mark.parametrize('size, status', [(1024, 201), (1025, 413)])
def test_the_maximum_is_a_hard_limit(small, size, status):
    answer = small.create(size)
    assert answer.status == status
    if status == 413:
        assert_error(answer, 413, 'ERR_MAX_SIZE_EXCEEDED')
        assert b'TusMaxSize' in answer.body


def test_what_is_refused_leaves_nothing(small):
    before = small.store.files()
    assert small.create(1025).status == 413
    assert small.create(1025, b'abc').status == 413
    assert small.store.files() == before


# -- creation-with-upload --------------------------------------------------------------------------

@pytest.mark.parametrize('chunked', [False, True])
@pytest.mark.parametrize('length, size', [(5, 5), (100, 5), (5, 0), (300 * KIB, 300 * KIB),
                                          (300 * KIB, 300 * KIB - 1)])
def test_create_with_data(tus, length, size, chunked):
    data = pattern(size)
    answer = tus.create(length, data, headers=[('Content-Type', OCTETS)] if not data else [],
                        chunked=chunked)
    assert answer.status == 201
    url = answer.get('Location')
    if data:
        assert answer.get('Upload-Offset') == str(size)
    assert tus.offset(url) == size
    assert tus.store.data(url) == data
    assert bool(tus.store.finished(url)) == (size == length)


def test_create_with_data_and_expect(tus):
    """The client hears 100 before it sends a byte, then 201."""
    with tus.connect() as conn:
        conn.send_head('POST', '/files/', [
            ('Tus-Resumable', '1.0.0'), ('Upload-Length', 5), ('Content-Type', OCTETS),
            ('Content-Length', 5), ('Expect', '100-continue')])
        interim = conn.interim()
        assert interim.status == 100
        conn.send(b'hello')
        answer = conn.response('POST')
    assert (answer.status, answer.get('Upload-Offset')) == (201, '5')
    assert tus.store.data(answer.get('Location')) == b'hello'


def test_a_refused_creation_saves_the_client_its_body(tus):
    """With Expect the refusal comes instead of 100."""
    with tus.connect() as conn:
        conn.send_head('POST', '/files/', [
            ('Tus-Resumable', '1.0.0'), ('Upload-Length', 'x'), ('Content-Type', OCTETS),
            ('Content-Length', 5), ('Expect', '100-continue')])
        answer = conn.response('POST')
    assert_error(answer, 400, 'ERR_INVALID_UPLOAD_LENGTH')
    assert not answer.interim


def test_creation_needs_the_content_type_only_with_a_body(tus):
    assert tus.create(5).status == 201
    for content_type in ([], [('Content-Type', 'text/plain')]):
        before = tus.store.files()
        answer = tus.request('POST', '/files/', [('Tus-Resumable', '1.0.0'), ('Upload-Length', 5),
                                                 *content_type], b'hello')
        assert_error(answer, 415, 'ERR_INVALID_CONTENT_TYPE')
        assert tus.store.files() == before


def test_creation_with_more_data_than_the_length(tus):
    before = tus.store.files()
    assert_error(tus.create(3, b'hello'), 413, 'ERR_UPLOAD_SIZE_EXCEEDED')
    assert tus.store.files() == before


def test_creation_with_more_chunked_data_than_the_length(tus):
    before = tus.store.uploads()
    assert_error(tus.create(3, b'hello', chunked=True), 413, 'ERR_UPLOAD_SIZE_EXCEEDED')
    for uid in tus.store.uploads() - before:
        assert b'hel'.startswith(tus.store.data(uid))


# -- creation-defer-length -------------------------------------------------------------------------

def test_deferred_length(tus):
    url = tus.new(headers=[('Upload-Defer-Length', '1')])
    head = tus.head(url)
    assert head.status == 200
    assert head.get('Upload-Defer-Length') == '1'
    assert head.get('Upload-Length') is None
    assert head.get('Upload-Offset') == '0'
    assert tus.store.info(url)['SizeIsDeferred'] is True

    assert tus.append(url, 0, b'hello ') == 6
    assert tus.head(url).get('Upload-Defer-Length') == '1'
    assert tus.append(url, 6, b'wor', headers=[('Upload-Length', 11)]) == 9
    head = tus.head(url)
    assert head.get('Upload-Defer-Length') is None
    assert (head.get('Upload-Offset'), head.get('Upload-Length')) == ('9', '11')
    info = tus.store.info(url)
    assert (info['Size'], info['SizeIsDeferred']) == (11, False)

    assert tus.append(url, 9, b'ld') == 11
    assert tus.get(url).body == b'hello world'
    assert tus.store.finished(url)


def test_deferred_length_with_data(tus):
    url = tus.new(body=b'hello', headers=[('Upload-Defer-Length', '1')])
    assert tus.offset(url) == 5
    assert not tus.store.finished(url)
    assert tus.append(url, 5, b'', headers=[('Upload-Length', 5)]) == 5
    assert tus.head(url).get('Upload-Length') == '5'
    assert tus.store.finished(url)


def test_a_declared_length_cannot_be_changed(tus):
    url = tus.new(headers=[('Upload-Defer-Length', '1')])
    tus.append(url, 0, b'abc', headers=[('Upload-Length', 10)])
    assert_error(tus.patch(url, 3, b'def', headers=[('Upload-Length', 12)]),
                 400, 'ERR_INVALID_UPLOAD_LENGTH')
    head = tus.head(url)
    assert (head.get('Upload-Offset'), head.get('Upload-Length')) == ('3', '10')


def test_a_length_given_at_creation_cannot_be_changed(tus):
    url = tus.new(10)
    assert_error(tus.patch(url, 0, b'abc', headers=[('Upload-Length', 12)]),
                 400, 'ERR_INVALID_UPLOAD_LENGTH')
    assert tus.head(url).get('Upload-Length') == '10'
    assert tus.store.data(url) == b''


def test_a_length_below_the_offset_cannot_be_declared(tus):
    url = tus.new(body=b'hello', headers=[('Upload-Defer-Length', '1')])
    assert_error(tus.patch(url, 5, b'', headers=[('Upload-Length', 4)]),
                 400, 'ERR_INVALID_UPLOAD_LENGTH')
    assert tus.head(url).get('Upload-Defer-Length') == '1'
    assert tus.store.data(url) == b'hello'


def test_the_maximum_holds_for_a_deferred_length(small):
    url = small.new(headers=[('Upload-Defer-Length', '1')])
    assert_error(small.patch(url, 0, b'', headers=[('Upload-Length', 1025)]),
                 413, 'ERR_MAX_SIZE_EXCEEDED')
    assert small.patch(url, 0, bytes(1025)).status == 413
    assert small.patch(url, small.offset(url), bytes(1025), chunked=True).status == 413
    offset = small.offset(url)
    assert offset == small.store.size(url) <= 1024
    rest = bytes(1024 - offset)
    assert small.append(url, offset, rest, headers=[('Upload-Length', 1024)]) == 1024


# -- Upload-Metadata -------------------------------------------------------------------------------

@pytest.mark.parametrize('value', [
    'filename d29ybGQucGRm,is_confidential',
    'is_confidential',
    'empty ,a YQ==',
    'z eg==,a YQ==,m bQ==',
    metadata(filename='Grüße 你好 \U0001f600.txt'),
    'gr\u00fc\u00dfe'.encode().decode('latin-1') + ' YQ==',
    'binary ' + b64(bytes(range(256))),
    "!#$%&'*+-.^_`|~{}[]()<>@:;/?=\\\" YQ==",
], ids=['plain', 'bare', 'empty value', 'order', 'UTF-8 value', 'UTF-8 key', 'binary',
        'punctuation'])
def test_metadata_comes_back_byte_for_byte(tus, value):
    url = tus.new(5, headers=[('Upload-Metadata', value)])
    assert tus.head(url).get('Upload-Metadata') == value
    tus.append(url, 0, b'hello')
    assert tus.head(url).get('Upload-Metadata') == value
    assert tus.store.info(url)['ID'] == upload_id(url), 'the record is valid JSON'


def test_metadata_in_two_fields(tus):
    """RFC 9110, 5.3: fields of one name are one list."""
    url = tus.new(5, headers=[('Upload-Metadata', 'a YQ=='), ('Upload-Metadata', 'b Yg==')])
    assert tus.head(url).get('Upload-Metadata') == 'a YQ==, b Yg=='


def test_metadata_of_the_longest_field_that_httpd_takes(tus):
    """LimitRequestFieldSize is 8190 for the whole line by default."""
    value = ','.join(f'key{number} {b64(pattern(57, number))}' for number in range(96))
    value += ',' + 'k' * (8190 - len('Upload-Metadata: ') - len(value) - 1)
    url = tus.new(5, headers=[('Upload-Metadata', value)])
    assert tus.head(url).get('Upload-Metadata') == value
    assert len(tus.store.info(url)['MetaData']) == 97


def test_metadata_of_8_kib(httpd):
    server = httpd()
    store = server.make_store()
    server.start('LimitRequestFieldSize 20000\n' + endpoint('Location /files', store))
    tus = Tus(server, store=store)
    value = 'blob ' + b64(pattern(3 * 8 * KIB // 4))
    assert len(value) > 8 * KIB
    url = tus.new(5, headers=[('Upload-Metadata', value)])
    assert tus.head(url).get('Upload-Metadata') == value


def test_many_keys(tus):
    value = ','.join(f'k{number}' for number in range(1200))
    url = tus.new(5, headers=[('Upload-Metadata', value)])
    assert tus.head(url).get('Upload-Metadata') == value
    assert len(tus.store.info(url)['MetaData']) == 1200
