"""The extension checksum: a chunk that is not what its client says leaves no byte behind."""
import base64
import threading

import pytest

from testenv.checksum import ALGORITHMS, checksum, with_checksum
from testenv.httpd import MPMS, SANITIZED, endpoint, resident
from testenv.index import OF_THE_INDEX, state_of_store
from testenv.tus import OCTETS, Tus, assert_error, patch_fields
from testenv.util import pattern, wait_until

DATA = pattern(100_000)
WRONG = with_checksum(b'other bytes')
MIB = 1 << 20


@pytest.fixture(scope='module', params=MPMS)
def tus(request, shared_httpd):
    server = shared_httpd(mpm=request.param)
    store = server.make_store()
    server.start(endpoint('Location /files', store))
    return Tus(server, store=store)


@pytest.fixture(scope='module')
def configured(shared_httpd):
    """Endpoints that differ in what they offer."""
    server = shared_httpd()
    store = server.make_store()
    return server.start(
        endpoint('Location /subset', store, 'TusChecksums sha1 crc32c')
        + endpoint('Location /none', store, 'TusExtensions -checksum')
        + endpoint('Location /no-trailer', store, 'TusExtensions -checksum-trailer')
        + endpoint('Location /small', store, 'TusMaxSize 10'))


def assert_mismatch(answer):
    assert_error(answer, 460, 'ERR_CHECKSUM_MISMATCH')
    assert answer.reason == 'Checksum Mismatch', answer


def assert_unchanged(tus, url, data):
    """Offset and bytes are these, as client and disk see it, and the upload goes on from there."""
    assert tus.offset(url) == len(data)
    assert tus.store.data(url) == data
    assert not tus.store.finished(url)


# -- PATCH -----------------------------------------------------------------------------------------

def test_it_is_offered(tus):
    options = tus.options()
    assert {'checksum', 'checksum-trailer'} <= set(options.get('Tus-Extension').split(','))
    assert options.get('Tus-Checksum-Algorithm') == ','.join(ALGORITHMS)


@pytest.mark.parametrize('algorithm', ALGORITHMS)
@pytest.mark.parametrize('size', [0, 1, 8000, len(DATA)])
def test_chunks_that_are_right(tus, algorithm, size):
    url = tus.new(2 * size + 1)
    for offset in (0, size):
        assert tus.append(url, offset, DATA[:size],
                          headers=with_checksum(DATA[:size], algorithm)) == offset + size
        assert tus.offset(url) == offset + size
    assert tus.store.data(url) == 2 * DATA[:size]


@pytest.mark.parametrize('algorithm', ALGORITHMS)
@pytest.mark.parametrize('chunked', [False, True])
def test_a_chunk_that_is_wrong(tus, algorithm, chunked):
    """One bit is enough."""
    url = tus.new(len(DATA) + 5, b'hello')
    damaged = DATA[:-1] + bytes([DATA[-1] ^ 1])
    body = [damaged[:70_000], damaged[70_000:]] if chunked else damaged
    with tus.connect() as conn:
        assert_mismatch(tus.patch(url, 5, body, with_checksum(DATA, algorithm), conn=conn,
                                  chunked=chunked))
        assert tus.offset(url, conn=conn) == 5, 'the connection goes on'
    assert_unchanged(tus, url, b'hello')
    assert tus.append(url, 5, DATA, headers=with_checksum(DATA, algorithm)) == len(DATA) + 5
    assert tus.store.data(url) == b'hello' + DATA


def test_a_chunk_that_is_wrong_at_the_start(tus):
    url = tus.new(100)
    assert_mismatch(tus.patch(url, 0, b'hello', WRONG))
    assert_unchanged(tus, url, b'')
    assert tus.get(url).status == 204


def test_a_wrong_chunk_of_no_bytes(tus):
    url = tus.new(100, b'hello')
    assert_mismatch(tus.patch(url, 5, b'', WRONG))
    assert_unchanged(tus, url, b'hello')


def test_it_is_the_chunk_that_is_verified_not_the_upload(tus):
    url = tus.new(10, b'hello')
    assert tus.append(url, 5, b'wor', headers=with_checksum(b'wor', 'md5')) == 8
    assert_mismatch(tus.patch(url, 8, b'ld', with_checksum(b'helloworld')))
    assert tus.append(url, 8, b'ld') == 10
    assert tus.store.data(url) == b'helloworld'


def test_the_chunk_that_finishes_an_upload(tus):
    url = tus.new(10, b'hello')
    assert_mismatch(tus.patch(url, 5, b'WORLD', with_checksum(b'world')))
    assert_unchanged(tus, url, b'hello')
    assert tus.append(url, 5, b'world', headers=with_checksum(b'world', 'sha512')) == 10
    assert tus.store.finished(url)
    assert tus.get(url).body == b'helloworld'


def test_a_length_that_a_wrong_chunk_declares(tus):
    """"The upload and its offset MUST NOT be updated": the length neither."""
    url = tus.new(headers=[('Upload-Defer-Length', 1)])
    assert_mismatch(tus.patch(url, 0, b'hello', [('Upload-Length', 5), *WRONG]))
    head = tus.head(url)
    assert (head.get('Upload-Defer-Length'), head.get('Upload-Length')) == ('1', None)
    answer = tus.patch(url, 0, b'hell', [('Upload-Length', 4), *with_checksum(b'hell')])
    assert (answer.status, answer.get('Upload-Offset')) == (204, '4')


def test_more_bytes_than_there_is_room_for(tus):
    """Chunked, so that it shows only when some of them are stored."""
    url = tus.new(10, b'hello')
    body = b'world and more'
    answer = tus.patch(url, 5, [body[:5], body[5:]], with_checksum(body), chunked=True)
    assert_error(answer, 413, 'ERR_UPLOAD_SIZE_EXCEEDED')
    assert_unchanged(tus, url, b'hello')


def test_nothing_is_left_in_the_state_directory(tus):
    """The mark of a chunk goes with its verdict."""
    tus.upload(b'hello')

    def files():
        return {path.name for path in state_of_store(tus.server).rglob('*')
                if not path.name.startswith(OF_THE_INDEX)}

    before = files()
    url = tus.new(10)
    tus.append(url, 0, b'hello', headers=with_checksum(b'hello'))
    assert tus.patch(url, 5, b'WORLD', WRONG).status == 460
    with tus.hold(url, 5, 5, b'wor', headers=WRONG):
        assert tus.offset(url) == 5
    assert files() == before


# -- headers that cannot be meant ------------------------------------------------------------------

SHA1 = checksum(b'hello')
DIGEST = SHA1.split()[1]
MALFORMED = {
    'empty': '', 'no digest': 'sha1', 'two spaces': f'sha1  {DIGEST}', 'a tab': f'sha1\t{DIGEST}',
    'no Base64': 'sha1 !!!!', 'hex': 'sha1 ' + base64.b64decode(DIGEST).hex(),
    'no padding': SHA1.rstrip('='), 'too much padding': SHA1 + '=', 'more behind': SHA1 + ' x',
    'a list': f'{SHA1}, {SHA1}', 'Base64 for URLs': 'sha1 -_-_-_-_-_-_-_-_-_-_-_-_-_8=',
    'a short digest': 'sha1 ' + base64.b64encode(bytes(19)).decode(),
    'a long digest': 'sha1 ' + base64.b64encode(bytes(21)).decode(),
    "another's digest": 'sha256 ' + DIGEST, 'a short crc': 'crc32 AAAA',
    'a very long one': 'sha1 ' + 'A' * 8000, 'an equals sign': f'sha1={DIGEST}',
    'bytes': b'sha1 \xff\xfe\x80'}
UNKNOWN = ['SHA1', 'Sha1', 'sha-1', 'sha3', 'adler32', 'none', 'sha11', 'sha']


@pytest.mark.parametrize('value', MALFORMED.values(), ids=MALFORMED.keys())
def test_a_malformed_header(tus, value):
    """Refused on arrival: whoever uploads at this moment is not disturbed."""
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello') as holder:
        answer = tus.patch(url, 5, b'world', [('Upload-Checksum', value)])
        assert answer.status == 400, answer
        assert answer.body.split(b':')[0] in (b'ERR_INVALID_CHECKSUM', b'ERR_UNSUPPORTED_CHECKSUM')
        if value and value[:5] in ('sha1 ', 'crc32'):
            assert_error(answer, 400, 'ERR_INVALID_CHECKSUM')
        assert tus.store.data(url) == b'hello'
        assert holder.finish(b'world').status == 204


@pytest.mark.parametrize('name', UNKNOWN)
def test_an_unknown_algorithm(tus, name):
    """Names are in lower case, so that SHA1 is none."""
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello') as holder:
        answer = tus.patch(url, 5, b'world', [('Upload-Checksum', f'{name} {DIGEST}')])
        assert_error(answer, 400, 'ERR_UNSUPPORTED_CHECKSUM')
        assert tus.store.data(url) == b'hello'
        assert holder.finish(b'world').status == 204


def test_a_repeated_header(tus):
    url = tus.new(10, b'hello')
    assert_error(tus.patch(url, 5, b'world', 2 * with_checksum(b'world')), 400,
                 'ERR_INVALID_CHECKSUM')
    assert_unchanged(tus, url, b'hello')


def test_an_offset_that_is_wrong_as_well(tus):
    """What is refused for its offset is not interrupted for either."""
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello') as holder:
        assert_error(tus.patch(url, 4, b'x', WRONG), 409, 'ERR_MISMATCHED_OFFSET')
        assert holder.finish(b'world').status == 204


# -- creation with data ----------------------------------------------------------------------------

@pytest.mark.parametrize('algorithm', ALGORITHMS)
@pytest.mark.parametrize('size', [5, 10])
def test_a_creation_that_is_right(tus, algorithm, size):
    data = b'helloworld'[:size]
    url = tus.new(10, data, with_checksum(data, algorithm))
    assert tus.offset(url) == size
    assert tus.store.data(url) == data
    assert bool(tus.store.finished(url)) == (size == 10)


@pytest.mark.parametrize('length', [5, 10])
@pytest.mark.parametrize('chunked', [False, True])
def test_a_creation_that_is_wrong(tus, length, chunked):
    """There is nobody to tell of an upload without a byte: none is made."""
    before = tus.store.files()
    body = [b'he', b'llo'] if chunked else b'hello'
    answer = tus.create(length, body, WRONG, chunked=chunked)
    assert_mismatch(answer)
    assert answer.get('Location') is None
    assert tus.store.files() == before


@pytest.mark.parametrize('value, code', [('sha1', 'ERR_INVALID_CHECKSUM'),
                                         (f'sha0 {DIGEST}', 'ERR_UNSUPPORTED_CHECKSUM')])
def test_a_creation_whose_header_is_malformed(tus, value, code):
    before = tus.store.files()
    assert_error(tus.create(5, b'hello', [('Upload-Checksum', value)]), 400, code)
    assert tus.store.files() == before


def test_a_creation_that_is_cut(tus):
    """What came cannot be verified: the client goes on from the start, or creates anew."""
    before = tus.store.uploads()
    with tus.connect() as conn:
        conn.send_head('POST', '/files/', [
            ('Tus-Resumable', '1.0.0'), ('Upload-Length', 10), ('Content-Type', OCTETS),
            ('Content-Length', 10), *with_checksum(b'helloworld')])
        conn.send(b'hello')
        wait_until(lambda: tus.store.uploads() - before, 'the upload')
        conn.half_close()
        answer = conn.response('POST')
    if answer.status == 201:
        assert answer.get('Upload-Offset') == '0'
        assert_unchanged(tus, answer.get('Location'), b'')
    else:
        assert answer.status == 503, answer
        assert tus.store.uploads() == before


# -- a chunk that runs -----------------------------------------------------------------------------

@pytest.mark.parametrize('sent', [b'', b'wor', b'world and mor'])
def test_others_see_verified_bytes_only(tus, sent):
    url = tus.new(100, b'hello')
    body = b'world and more'
    with tus.hold(url, 5, len(body), sent, headers=with_checksum(body)) as holder:
        download = tus.get(url)
        assert (download.status, download.body) == (200, b'hello')
        if sent:
            answer = tus.patch(url, 5 + len(sent), b'x')
            assert_error(answer, 409, 'ERR_MISMATCHED_OFFSET')
            assert b'offset 5' in answer.body, answer
        assert holder.finish(body[len(sent):]).status == 204
    assert tus.get(url).body == b'hello' + body


def test_others_see_nothing_of_the_first_chunk(tus):
    url = tus.new(100)
    with tus.hold(url, 0, 5, b'hell', headers=with_checksum(b'hello')) as holder:
        assert tus.get(url).status == 204
        assert holder.finish(b'o').status == 204
    assert tus.get(url).body == b'hello'


@pytest.mark.parametrize('chunked', [False, True])
@pytest.mark.parametrize('sent', [1, 70_000, len(DATA) - 1])
@pytest.mark.parametrize('how', ['half-close', 'reset'])
def test_a_client_that_goes_away(tus, how, sent, chunked):
    """Nothing of the chunk counts, however much of it came."""
    url = tus.new(len(DATA) + 5, b'hello')
    with tus.hold(url, 5, len(DATA), DATA[:sent], chunked=chunked,
                  headers=with_checksum(DATA)) as holder:
        if how == 'reset':
            holder.conn.reset()
        else:
            holder.conn.half_close()
            assert_error(holder.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
    wait_until(lambda: tus.store.size(url) == 5, 'the bytes to be gone')
    assert_unchanged(tus, url, b'hello')
    assert tus.append(url, 5, DATA, headers=with_checksum(DATA)) == len(DATA) + 5
    assert tus.store.data(url) == b'hello' + DATA


@pytest.mark.parametrize('chunked', [False, True])
def test_a_head_that_takes_over(tus, chunked):
    url = tus.new(len(DATA) + 5, b'hello')
    with tus.hold(url, 5, len(DATA), DATA[:70_000], chunked=chunked,
                  headers=with_checksum(DATA)) as holder:
        assert_unchanged(tus, url, b'hello')
        assert_error(holder.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
    assert_unchanged(tus, url, b'hello')


@pytest.mark.parametrize('chunked', [False, True])
def test_a_patch_that_takes_over(tus, chunked):
    """It goes on where the verified bytes end."""
    url = tus.new(len(DATA) + 5, b'hello')
    with tus.hold(url, 5, len(DATA), DATA[:70_000], chunked=chunked,
                  headers=with_checksum(DATA)) as holder:
        assert tus.append(url, 5, DATA, headers=with_checksum(DATA, 'crc32')) == len(DATA) + 5
        assert_error(holder.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
    assert tus.store.data(url) == b'hello' + DATA
    assert tus.store.finished(url)


def test_a_delete_that_takes_over(tus):
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello', headers=with_checksum(b'helloworld')) as holder:
        assert tus.delete(url).status == 204
        assert_error(holder.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
    assert tus.head(url).status == 404
    assert not tus.store.data_path(url).exists()


def test_a_storm_of_take_overs(tus):
    """Eight impatient clients, half of whose chunks are damaged."""
    url = tus.new(len(DATA))
    problems, statuses = [], set()

    def client(number):
        try:
            while True:
                offset = tus.offset(url)
                if offset == len(DATA):
                    return
                piece = DATA[offset:offset + 9000]
                fields = with_checksum(piece) if number % 2 else WRONG
                with tus.connect(timeout=60) as conn:
                    statuses.add(tus.patch(url, offset, piece, fields, conn=conn).status)
        except Exception as problem:    # a thread cannot fail a test by itself
            problems.append(problem)

    threads = [threading.Thread(target=client, args=[number]) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert statuses <= {204, 409, 413, 460, 503}, statuses
    assert tus.store.data(url) == DATA
    assert tus.store.finished(url)


def test_a_client_that_stalls(httpd):
    server = httpd()
    store = server.make_store()
    server.start('RequestReadTimeout body=3\n' + endpoint('Location /files', store))
    tus = Tus(server, store=store)
    url = tus.new(15, b'hello')
    with tus.hold(url, 5, 10, b'world', headers=with_checksum(b'worldworld')) as holder:
        assert_error(holder.response(), 503, 'ERR_READ_TIMEOUT')
    assert_unchanged(tus, url, b'hello')


# -- configuration ---------------------------------------------------------------------------------

def test_a_subset_of_the_algorithms(configured):
    tus = Tus(configured, '/subset/')
    assert tus.options().get('Tus-Checksum-Algorithm') == 'sha1,crc32c'
    url = tus.new(10)
    assert tus.append(url, 0, b'hello', headers=with_checksum(b'hello', 'crc32c')) == 5
    for algorithm in ('sha256', 'crc32', 'md5'):
        answer = tus.patch(url, 5, b'world', with_checksum(b'world', algorithm))
        assert_error(answer, 400, 'ERR_UNSUPPORTED_CHECKSUM')
    assert tus.offset(url) == 5


def test_without_the_extension(configured):
    """A checksum that nobody would look at is not taken."""
    tus = Tus(configured, '/none/')
    options = tus.options()
    assert not {'checksum', 'checksum-trailer'} & set(options.get('Tus-Extension').split(','))
    assert options.get('Tus-Checksum-Algorithm') is None
    url = tus.new(10)
    answer = tus.patch(url, 0, b'hello', with_checksum(b'hello'))
    assert_error(answer, 400, 'ERR_UNSUPPORTED_CHECKSUM')
    assert tus.append(url, 0, b'hello') == 5


def test_without_the_trailer(configured):
    tus = Tus(configured, '/no-trailer/')
    extensions = tus.options().get('Tus-Extension').split(',')
    assert 'checksum' in extensions and 'checksum-trailer' not in extensions
    url = tus.new(10)
    assert tus.append(url, 0, b'hello', headers=with_checksum(b'hello')) == 5
    assert_mismatch(tus.patch(url, 5, b'world', WRONG))


@pytest.mark.parametrize('sync', ['none', 'finish', 'always'])
def test_whatever_is_synced(httpd, sync):
    server = httpd()
    store = server.make_store()
    tus = Tus(server.start(endpoint('Location /files', store, f'TusSync {sync}')), store=store)
    url = tus.new(10)
    assert tus.append(url, 0, b'hello', headers=with_checksum(b'hello')) == 5
    assert_mismatch(tus.patch(url, 5, b'WORLD', with_checksum(b'world')))
    assert_unchanged(tus, url, b'hello')
    with tus.hold(url, 5, 5, b'worl', headers=with_checksum(b'world')):
        tus.kill_holder(url)
        assert_unchanged(tus, url, b'hello')
    assert tus.append(url, 5, b'world', headers=with_checksum(b'world')) == 10
    assert store.data(url) == b'helloworld'


# -- size ------------------------------------------------------------------------------------------

def test_200_mib_grow_no_child(httpd):
    """Verified while they stream by: nothing is kept in memory, nor read a second time."""
    server = httpd()
    store = server.make_store()
    tus = Tus(server.start(endpoint('Location /files', store)), store=store)
    block = pattern(MIB)
    data = 200 * block
    url = tus.new(len(data) + 1)
    for _ in range(8):
        tus.append(tus.new(MIB), 0, block, headers=with_checksum(block, 'sha256'))
    before = {pid: resident(pid) for pid in server.children()}
    highest = dict(before)

    def watched():
        for number in range(200):
            if number % 16 == 0:
                for pid in highest:
                    highest[pid] = max(highest[pid], resident(pid))
            yield block

    fields = [('Content-Length', len(data)), *with_checksum(data, 'sha256')]
    assert tus.append(url, 0, watched(), headers=fields) == len(data)
    growth = max(highest[pid] - before[pid] for pid in before)
    print(f'a child grew by at most {growth >> 10} KiB')
    assert SANITIZED or growth < 8 * MIB
    assert tus.patch(url, len(data), b'x', WRONG).status == 460
    assert store.size(url) == len(data)
