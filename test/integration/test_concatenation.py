"""The extension concatenation: a final upload is made of finished parts."""
import threading

import pytest

from testenv.checksum import with_checksum
from testenv.curl import curl
from testenv.httpd import MPMS, endpoint
from testenv.store import upload_id
from testenv.tus import Tus, assert_error, metadata
from testenv.util import pattern, wait_until

DATA = pattern(100_000)
VERSION = ('Tus-Resumable', '1.0.0')


@pytest.fixture(scope='module', params=MPMS)
def tus(request, shared_httpd):
    server = shared_httpd(mpm=request.param)
    store = server.make_store()
    server.start(endpoint('Location /files', store))
    return Tus(server, store=store)


@pytest.fixture(scope='module')
def many(shared_httpd):
    """A server with many endpoints on one store, and room for long header fields."""
    server = shared_httpd(modules=['http2'])
    store = server.make_store()
    server.store = store
    server.start(
        'LimitRequestFieldSize 1000000\nProtocols h2c http/1.1\n'
        + endpoint('Location /files', store)
        + endpoint('Location /other', store)
        + endpoint('Location /none', store, 'TusExtensions -concatenation')
        + endpoint('Location /finished', store, 'TusExtensions -concatenation-unfinished')
        + endpoint('Location /small', store, 'TusMaxSize 10')
        + endpoint('Location /mapped', store, 'TusBaseURL /public/uploads/'))
    return server


@pytest.fixture
def files(many):
    return Tus(many, store=many.store)


@pytest.fixture
def parts(tus):
    return [tus.partial(5, b'hello'), tus.partial(6, b' world')]


def assert_final(tus, url, data, parts=None):
    """Finished, or about to be: the sweep may be joining it; and the bytes are these."""
    wait_until(lambda: tus.store.finished(url) or tus.head(url).status != 200, 'the join')
    head = tus.head(url)
    assert head.status == 200, head
    assert head.get('Upload-Offset') == head.get('Upload-Length') == str(len(data)), head
    if parts:
        assert head.get('Upload-Concat') == 'final;' + ' '.join(parts), head
    assert tus.store.data(url) == data
    assert tus.store.finished(url)
    download = tus.get(url)
    assert download.body == data and download.status == (200 if data else download.status)


def state(tus, *urls):
    """What of parts must stay: inode, times, and the very bytes of data and record."""
    seen = []
    for url in urls:
        for path in (tus.store.data_path(url), tus.store.info_path(url)):
            status = path.stat()
            seen.append((status.st_ino, status.st_mtime_ns, status.st_mode, path.read_bytes()))
    return seen


# -- joining ---------------------------------------------------------------------------------------

def test_it_is_offered(tus):
    extensions = tus.options().get('Tus-Extension').split(',')
    assert {'concatenation', 'concatenation-unfinished'} <= set(extensions)


def test_two_parts(tus, parts):
    before = state(tus, *parts)
    url = tus.final(parts)
    assert_final(tus, url, b'hello world', parts)
    info = tus.store.info(url)
    assert info['IsFinal'] and not info['IsPartial']
    assert info['PartialUploads'] == [upload_id(part) for part in parts]
    assert (info['Size'], info['SizeIsDeferred']) == (11, False)
    assert state(tus, *parts) == before, 'neither data nor records of the parts are written'


def test_the_order_is_that_of_the_list(tus, parts):
    assert_final(tus, tus.final(parts[::-1]), b' worldhello')


def test_the_same_part_twice(tus, parts):
    url = tus.final([parts[0], parts[1], parts[0], parts[0]])
    assert_final(tus, url, b'hello worldhellohello')


def test_one_part(tus, parts):
    assert_final(tus, tus.final(parts[:1]), b'hello')


def test_a_part_of_several_finals(tus, parts):
    finals = [tus.final(parts), tus.final(parts[::-1]), tus.final(parts[1:])]
    assert len(set(finals)) == 3
    for url, data in zip(finals, (b'hello world', b' worldhello', b' world')):
        assert_final(tus, url, data)


def test_empty_parts(tus, parts):
    empty = tus.partial(0)
    assert_final(tus, tus.final([empty, parts[0], empty]), b'hello')
    assert_final(tus, tus.final([empty]), b'')


def test_larger_parts_that_came_in_pieces(tus):
    sizes = (1, 4096, 100_000, 65_537)
    urls = []
    for number, size in enumerate(sizes):
        data = pattern(size, number)
        urls.append(tus.partial(size))
        half = size // 2
        tus.append(urls[-1], 0, data[:half])
        tus.append(urls[-1], half, data[half:], headers=with_checksum(data[half:], 'crc32'))
    url = tus.final(urls)
    assert_final(tus, url, b''.join(pattern(size, number) for number, size in enumerate(sizes)))


def test_a_hundred_parts(tus):
    urls = [tus.partial(1, bytes([number])) for number in range(100)]
    assert_final(tus, tus.final(urls), bytes(range(100)))


def test_parts_survive(tus, parts):
    """As files of their own: what becomes of the one is nothing to the other."""
    url = tus.final(parts)
    assert tus.get(parts[0]).body == b'hello'
    assert tus.delete(parts[0]).status == 204
    assert_final(tus, url, b'hello world')
    assert tus.delete(url).status == 204
    assert tus.get(parts[1]).body == b' world'
    assert tus.head(url).status == 404


# -- HEAD, GET, PATCH, DELETE ----------------------------------------------------------------------

def test_head_of_a_part(tus):
    created = tus.create(10, b'hello', [('Upload-Concat', 'partial')])
    assert (created.status, created.get('Upload-Offset')) == (201, '5')
    url = created.get('Location')
    head = tus.head(url)
    assert head.get('Upload-Concat') == 'partial'
    assert (head.get('Upload-Offset'), head.get('Upload-Length')) == ('5', '10')
    assert tus.store.info(url)['IsPartial']
    assert tus.append(url, 5, b'world') == 10
    head = tus.head(url)
    assert (head.get('Upload-Concat'), head.get('Upload-Offset')) == ('partial', '10')
    normal = tus.head(tus.upload(b'hello'))
    assert normal.get('Upload-Concat') is None


def test_a_part_whose_length_is_deferred(tus):
    part = tus.new(headers=[('Upload-Defer-Length', 1), ('Upload-Concat', 'partial')])
    assert tus.head(part).get('Upload-Defer-Length') == '1'
    tus.patch(part, 0, b'hello', [('Upload-Length', 5)])
    assert_final(tus, tus.final([part]), b'hello')


def test_metadata_is_not_inherited(tus):
    parts = [tus.partial(5, b'hello', [('Upload-Metadata', metadata(filename='part'))])]
    url = tus.final(parts)
    assert tus.head(url).get('Upload-Metadata') is None
    assert not tus.store.info(url)['MetaData']
    named = tus.final(parts, [('Upload-Metadata', metadata(filename='whole.txt'))])
    assert tus.head(named).get('Upload-Metadata') == metadata(filename='whole.txt')
    assert 'whole.txt' in tus.get(named).get('Content-Disposition')
    assert tus.head(parts[0]).get('Upload-Metadata') == metadata(filename='part')


@pytest.mark.parametrize('offset, body', [(0, b'x'), (11, b'x'), (11, b'')])
def test_a_final_takes_no_bytes(tus, parts, offset, body):
    url = tus.final(parts)
    before = state(tus, url, *parts)
    with tus.connect() as conn:
        assert_error(tus.patch(url, offset, body, conn=conn), 403, 'ERR_MODIFY_FINAL')
        assert tus.offset(url, conn=conn) == 11
    assert state(tus, url, *parts) == before


def test_a_waiting_final_takes_no_bytes(tus, parts):
    unfinished = tus.partial(5, b'hell')
    url = tus.final([*parts, unfinished])
    for body in (b'x', b''):
        assert_error(tus.patch(url, 0, body), 403, 'ERR_MODIFY_FINAL')
    assert tus.store.size(url) == 0
    tus.append(unfinished, 4, b'o')
    assert_final(tus, url, b'hello worldhello')


def test_a_final_with_a_body(tus, parts):
    before = tus.store.files()
    value = 'final;' + ' '.join(parts)
    for chunked in (False, True):
        answer = tus.create(body=[b'x'] if chunked else b'x', headers=[('Upload-Concat', value)],
                            chunked=chunked)
        assert_error(answer, 403, 'ERR_MODIFY_FINAL')
    assert tus.store.files() == before


@pytest.mark.parametrize('field', [('Upload-Length', 11), ('Upload-Length', 5),
                                   ('Upload-Length', 'x')])
def test_a_final_with_a_length(tus, parts, field):
    """"The Client MUST NOT include the Upload-Length header in the final upload creation"."""
    before = tus.store.files()
    assert_error(tus.concat(parts, [field]), 400, 'ERR_INVALID_CONCAT')
    assert tus.store.files() == before


# -- what the list may hold ------------------------------------------------------------------------

FORMS = {'absolute': 'http://127.0.0.1:{port}/files/{id}', 'https': 'https://127.0.0.1/files/{id}',
         'another host': 'http://uploads.example:8080/files/{id}', 'the id': '{id}',
         'below here': './{id}', 'network path': '//uploads.example/files/{id}',
         'upper case': 'HTTP://UPLOADS.EXAMPLE/files/{id}', 'encoded': '/files/{encoded}',
         'encoded base': '/%66iles/{id}'}


@pytest.mark.parametrize('form', FORMS.values(), ids=FORMS.keys())
def test_forms_of_urls(tus, form):
    """Of a URL the path counts, decoded."""
    part = tus.partial(5, b'hello')
    uid = upload_id(part)
    encoded = ''.join(f'%{ord(char):02x}' for char in uid[:3]) + uid[3:]
    url = form.format(id=uid, encoded=encoded, port=tus.server.port)
    final = tus.final([part, url])
    assert_final(tus, final, b'hellohello', [part, url])


REFUSED = {
    'nothing': 'final;', 'no list': 'final', 'a space': 'final; ', 'upper case': 'Final;{part}',
    'upper-case partial': 'Partial', 'partial with a list': 'partial;{part}', 'empty': '',
    'a word': 'whole', 'two words': 'partial partial', 'a comma': 'final;{part},{part}',
    'two spaces': 'final;{part}  {part}', 'a tab': 'final;{part}\t{part}',
    'elsewhere': 'final;/elsewhere/{id}', 'the root': 'final;/{id}', 'itself': 'final;/files/',
    'the base': 'final;/files', 'a prefix': 'final;/filesx/{id}',
    'another case': 'final;/FILES/{id}', 'a longer path': 'final;/files/{id}/x',
    'a longer id': 'final;{part}0', 'half an id': 'final;/files/abc',
    'up': 'final;/files/../{id}', 'up and elsewhere': 'final;/files/../secret/{id}',
    'up, encoded': 'final;/files/%2e%2e/{id}', 'up, half encoded': 'final;/files/.%2E/{id}',
    'up by an encoded slash': 'final;/files/..%2f{id}', 'relative up': 'final;../{id}',
    'down by an encoded slash': 'final;/files/x%2F{id}',
    'encoded twice': 'final;/files/%252e%252e/{id}',
    'a file': 'final;/etc/passwd', 'a file, up': 'final;/files/../../../../etc/passwd',
    'a file by scheme': 'final;file:///etc/passwd', 'no host': 'final;http:///files/{id}',
    'another scheme': 'final;ftp://127.0.0.1/files/{id}', 'NUL': 'final;/files/{id}%00',
    'a bad escape': 'final;/files/%zz', 'half an escape': 'final;/files/{id}%2',
    'a record': 'final;/files/{id}.info', 'a backslash': 'final;/files\\{id}',
    'not ASCII': 'final;/files/é', 'a host alone': 'final;http://127.0.0.1',
    'a long one': 'final;/files/' + 'a' * 7000, 'missing': 'final;/files/' + '0' * 32}


@pytest.mark.parametrize('value', REFUSED.values(), ids=REFUSED.keys())
def test_what_is_no_concatenation(tus, value):
    part = tus.partial(5, b'hello')
    before = tus.store.snapshot()
    value = value.replace('{part}', part).replace('{id}', upload_id(part))
    length = [] if value.startswith('final') else [('Upload-Length', 5)]
    answer = tus.create(headers=[('Upload-Concat', value), *length])
    assert_error(answer, 400, 'ERR_INVALID_CONCAT')
    assert answer.get('Location') is None
    assert tus.store.snapshot() == before


def test_a_repeated_header(tus, parts):
    before = tus.store.files()
    answer = tus.create(headers=[('Upload-Concat', 'final;' + part) for part in parts])
    assert_error(answer, 400, 'ERR_INVALID_CONCAT')
    answer = tus.create(5, headers=2 * [('Upload-Concat', 'partial')])
    assert_error(answer, 400, 'ERR_INVALID_CONCAT')
    assert tus.store.files() == before


def test_what_can_be_no_part(tus, parts):
    """In the middle of parts that are: nothing is made."""
    terminated = tus.partial(5, b'hello')
    tus.delete(terminated)
    for url in (tus.upload(b'hello'), tus.new(5), tus.final(parts), terminated,
                '/files/' + '0' * 32):
        before = tus.store.snapshot()
        answer = tus.concat([parts[0], url, parts[1]])
        assert_error(answer, 400, 'ERR_INVALID_CONCAT')
        assert tus.store.snapshot() == before


def test_a_waiting_final_can_be_no_part(tus, parts):
    waiting = tus.final([tus.partial(5)])
    assert_error(tus.concat([parts[0], waiting]), 400, 'ERR_INVALID_CONCAT')


def test_a_part_whose_file_was_taken_away(tus, parts):
    """The record says finished, but there are no bytes to join."""
    tus.store.data_path(parts[1]).unlink()
    tus.server.allow_log(r'\[tus:(warn|error)\]')
    before = tus.store.uploads()
    answer = tus.concat(parts)
    assert answer.status in (400, 500), answer
    assert tus.store.uploads() == before


def test_a_part_that_was_cut_short(tus, parts):
    """Somebody else has been at it: what is joined would not be what was uploaded."""
    with tus.store.data_path(parts[1]).open('r+b') as data:
        data.truncate(3)
    tus.server.allow_log(r'\[tus:(warn|error)\]')
    before = tus.store.uploads()
    assert tus.concat(parts).status >= 400
    assert tus.store.uploads() == before


# -- owners ----------------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def users(shared_httpd):
    """(alice, bob): the same endpoint, asked by two users."""
    server = shared_httpd()
    store = server.make_store()
    (server.root / 'users').write_text('alice:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n'
                                       'bob:{SHA}W6ph5Mm5Pz8GgiULbPgzG37mj9g=\n')
    server.start(endpoint('Location /files', store, 'AuthType Basic', 'AuthName uploads',
                          f'AuthUserFile "{server.root}/users"', 'Require valid-user'))
    return [Tus(server, store=store, headers=[('Authorization', f'Basic {credentials}')])
            for credentials in ('YWxpY2U6cGFzc3dvcmQ=', 'Ym9iOnBhc3N3b3Jk')]


def test_the_parts_of_another_owner(users):
    alice, bob = users
    hers, his = alice.partial(5, b'hello'), bob.partial(5, b'world')
    before = alice.store.snapshot()
    for parts in ([hers], [hers, his], [his, hers]):
        assert_error(bob.concat(parts), 400, 'ERR_INVALID_CONCAT')
    unfinished = alice.partial(5)
    assert_error(bob.concat([his, unfinished]), 400, 'ERR_INVALID_CONCAT')
    assert alice.delete(unfinished).status == 204
    assert alice.store.snapshot() == before
    assert_final(alice, alice.final([hers]), b'hello')


# -- limits ----------------------------------------------------------------------------------------

def test_ten_thousand_parts(files):
    """The same part each time; the next one is one too many."""
    part = upload_id(files.partial(3, b'abc'))
    url = files.final(10_000 * [part])
    assert files.offset(url) == 30_000
    assert files.store.data(url) == 10_000 * b'abc'
    before = files.store.files()
    assert_error(files.concat(10_001 * [part]), 400, 'ERR_INVALID_CONCAT')
    assert files.store.files() == before


def test_ten_thousand_parts_by_their_paths(files):
    """Joined, or refused because the record would be too large; never half done."""
    part = files.partial(3, b'abc')
    before = files.store.files()
    answer = files.concat(10_000 * [part])
    if answer.status == 201:
        assert files.store.data(answer.get('Location')) == 10_000 * b'abc'
        assert files.head(answer.get('Location')).status == 200
    else:
        assert_error(answer, 400, 'ERR_INVALID_CONCAT')
        assert files.store.files() == before


def test_the_sum_is_limited_by_TusMaxSize(many):
    small = Tus(many, '/small/', many.store)
    parts = [small.partial(5, b'hello'), small.partial(5, b'world'), small.partial(1, b'!')]
    assert_final(small, small.final(parts[:2]), b'helloworld')
    before = small.store.files()
    assert_error(small.concat(parts), 413, 'ERR_MAX_SIZE_EXCEEDED')
    assert_error(small.concat([parts[0], parts[0], parts[0]]), 413, 'ERR_MAX_SIZE_EXCEEDED')
    assert small.store.files() == before
    unfinished = [small.partial(10), small.partial(1)]
    before = small.store.files()
    assert_error(small.concat(unfinished), 413, 'ERR_MAX_SIZE_EXCEEDED')
    assert small.store.files() == before


def test_a_sum_that_no_file_has(files):
    parts = [files.partial((1 << 63) - 1) for _ in range(3)]
    before = files.store.files()
    answer = files.concat(parts)
    assert answer.status in (400, 413), answer
    assert files.store.files() == before


# -- configuration ---------------------------------------------------------------------------------

def test_without_unfinished_parts(many):
    tus = Tus(many, '/finished/', many.store)
    extensions = tus.options().get('Tus-Extension').split(',')
    assert 'concatenation' in extensions and 'concatenation-unfinished' not in extensions
    parts = [tus.partial(5, b'hello'), tus.partial(5, b'worl')]
    before = tus.store.snapshot()
    assert_error(tus.concat(parts), 400, 'ERR_UPLOAD_NOT_FINISHED')
    assert tus.store.snapshot() == before
    tus.append(parts[1], 4, b'd')
    assert_final(tus, tus.final(parts), b'helloworld')


def test_without_concatenation(many, files):
    tus = Tus(many, '/none/', many.store)
    extensions = tus.options().get('Tus-Extension').split(',')
    assert not {'concatenation', 'concatenation-unfinished'} & set(extensions)
    part = files.partial(5, b'hello')
    before = tus.store.snapshot()
    answer = tus.create(5, headers=[('Upload-Concat', 'partial')])
    assert_error(answer, 400, 'ERR_CONCATENATION_UNSUPPORTED')
    answer = tus.concat([part.replace('/files/', '/none/')])
    assert_error(answer, 400, 'ERR_CONCATENATION_UNSUPPORTED')
    assert tus.store.snapshot() == before


def test_two_endpoints_of_one_store(many, files):
    """They share its uploads, each under its own URLs."""
    other = Tus(many, '/other/', many.store)
    parts = [files.partial(5, b'hello'), other.partial(6, b' world')]
    assert_error(other.concat(parts), 400, 'ERR_INVALID_CONCAT')
    url = other.final(['/other/' + upload_id(part) for part in parts])
    assert_final(other, url, b'hello world')
    waiting = files.final([files.partial(2, b'x')])
    part = '/other/' + files.store.info(waiting)['PartialUploads'][0]
    assert other.append(part, 1, b'y') == 2
    assert_final(files, waiting, b'xy')


def test_urls_as_TusBaseURL_says(many):
    """The client knows the endpoint by another path than this server does."""
    tus = Tus(many, '/mapped/', many.store)
    part = tus.partial(5, b'hello')
    assert part == '/public/uploads/' + upload_id(part)
    answer = tus.concat([part, 'https://proxy.example' + part, '/mapped/' + upload_id(part)])
    assert answer.status == 201, answer
    uid = upload_id(answer.get('Location'))
    assert answer.get('Location') == '/public/uploads/' + uid
    assert_final(tus, '/mapped/' + uid, 3 * b'hello')


def test_http2(many, files):
    """Parts, the final and its HEAD; the parts' data with their creation and by PATCH."""
    def request(method, path, *fields, body=None):
        headers = [part for field in ('Tus-Resumable: 1.0.0', *fields) for part in ('-H', field)]
        data = [] if body is None else ['--data-binary', '@-']
        verb = ['--head'] if method == 'HEAD' else ['-X', method]
        return curl('--http2-prior-knowledge', *verb, *headers, *data,
                    f'http://127.0.0.1:{many.port}{path}', data=body or b'')

    octets = 'Content-Type: application/offset+octet-stream'
    first = request('POST', '/files/', 'Upload-Concat: partial', 'Upload-Length: 5', octets,
                    body=b'hello').get('location')
    second = request('POST', '/files/', 'Upload-Concat: partial',
                     'Upload-Length: 6').get('location')
    created = request('POST', '/files/', f'Upload-Concat: final;{first} {second}')
    assert created.status == 201, created
    final = created.get('location')
    assert request('HEAD', final).get('upload-offset') is None
    assert request('PATCH', second, octets, 'Upload-Offset: 0', body=b' world').status == 204
    head = request('HEAD', final)
    assert (head.get('upload-offset'), head.get('upload-length')) == ('11', '11')
    assert request('GET', final).body == b'hello world'
    assert_error(request('POST', '/files/', f'Upload-Concat: final;{final}'), 400,
                 'ERR_INVALID_CONCAT')


# -- the same final again --------------------------------------------------------------------------

def test_the_same_final_twice(tus, parts):
    """The client missed the first answer: it gets the same upload, not a second file."""
    fields = [('Upload-Metadata', metadata(filename='whole'))]
    url = tus.final(parts, fields)
    before = tus.store.files()
    when = tus.store.finished(url)
    assert tus.final(parts, fields) == url
    assert tus.store.files() == before
    assert tus.store.finished(url) == when
    assert_final(tus, url, b'hello world')


def test_a_final_that_differs(tus, parts):
    """In order, parts or metadata."""
    fields = [('Upload-Metadata', metadata(filename='whole'))]
    finals = [tus.final(parts, fields), tus.final(parts[::-1], fields), tus.final(parts),
              tus.final(parts, [('Upload-Metadata', metadata(filename='other'))]),
              tus.final([*parts, parts[0]], fields), tus.final(parts[:1], fields)]
    assert len(set(finals)) == len(finals)


def test_the_same_final_of_another_owner(users):
    """Nobody is told of what somebody else has made."""
    alice, bob = users
    part = alice.partial(5, b'hello')
    url = alice.final([part])
    assert_error(bob.concat([part]), 400, 'ERR_INVALID_CONCAT')
    assert alice.final([part]) == url


def test_a_final_that_was_terminated_is_made_anew(tus, parts):
    url = tus.final(parts)
    tus.delete(url)
    again = tus.final(parts)
    assert again != url
    assert_final(tus, again, b'hello world')


def test_the_same_waiting_final_twice(tus, parts):
    unfinished = tus.partial(1)
    url = tus.final([*parts, unfinished])
    assert tus.final([*parts, unfinished]) == url
    tus.append(unfinished, 0, b'!')
    assert_final(tus, url, b'hello world!')


@pytest.mark.parametrize('finished', [True, False])
def test_the_same_final_eight_times_at_once(tus, finished):
    data = DATA if finished else DATA[:-1]
    parts = [tus.partial(len(DATA), DATA), tus.partial(len(DATA), data)]
    before = tus.store.uploads()
    answers, problems = [], []
    start = threading.Barrier(8)

    def client():
        try:
            start.wait()
            answers.append(tus.concat(parts))
        except Exception as problem:    # a thread cannot fail a test by itself
            problems.append(problem)

    threads = [threading.Thread(target=client) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert [answer.status for answer in answers] == 8 * [201]
    url, = {answer.get('Location') for answer in answers}
    assert tus.store.uploads() - before == {upload_id(url)}
    if not finished:
        tus.append(parts[1], len(DATA) - 1, DATA[-1:])
    assert_final(tus, url, 2 * DATA)


def test_after_TusLockTimeout_it_is_another_one(httpd):
    """Who asks for it later means a second file."""
    server = httpd()
    store = server.make_store()
    server.start('TusLockTimeout 1s\n' + endpoint('Location /files', store))
    tus = Tus(server, store=store)
    parts = [tus.partial(5, b'hello')]
    url = tus.final(parts)
    finals = [url]

    def another():
        finals.append(tus.final(parts))
        return finals[-1] != url

    wait_until(another, 'another final')
    assert_final(tus, finals[-1], b'hello')
    assert_final(tus, url, b'hello')
