"""Limits that bite in practice: 3 GiB in one request, LimitRequestBody, RequestReadTimeout."""
import hashlib
import threading
from functools import lru_cache

import pytest

from testenv.httpd import SANITIZED, endpoint, resident
from testenv.store import Store
from testenv.tus import OCTETS, Tus, assert_error, patch_fields
from testenv.util import pattern

MIB = 1 << 20
HUGE = 3 << 30
VERSION = ('Tus-Resumable', '1.0.0')


def pieces(start, end):
    """Bytes start..end of a stream in which no MiB is like another; start lies on a MiB."""
    block = bytearray(pattern(MIB))
    for offset in range(start, end, MIB):
        block[:8] = offset.to_bytes(8, 'big')
        yield bytes(block[:min(MIB, end - offset)])


@lru_cache
def sha256_of_stream():
    digest = hashlib.sha256()
    for piece in pieces(0, HUGE):
        digest.update(piece)
    return digest.hexdigest()


def sha256_of_file(path):
    digest = hashlib.sha256()
    with path.open('rb') as file:
        while piece := file.read(MIB):
            digest.update(piece)
    return digest.hexdigest()


@pytest.fixture
def huge(httpd):
    """An endpoint on an otherwise stock configuration."""
    server = httpd(mpm='event')
    store = server.make_store()
    server.start(endpoint('Location /files', store))
    threading.Thread(target=sha256_of_stream).start()
    return Tus(server, store=store)


def test_3_gib_in_one_patch(huge):
    url = huge.new(HUGE)
    for _ in range(8):
        huge.upload(pattern(MIB))       # every child has met a body before
    before = {pid: resident(pid) for pid in huge.server.children()}
    highest = dict(before)

    def watched():
        for number, piece in enumerate(pieces(0, HUGE)):
            if number % 64 == 0:
                for pid in highest:
                    highest[pid] = max(highest[pid], resident(pid))
            yield piece

    assert huge.append(url, 0, watched(), headers=[('Content-Length', HUGE)]) == HUGE
    growth = max(highest[pid] - before[pid] for pid in before)
    print(f'a child grew by at most {growth >> 10} KiB')
    assert SANITIZED or growth < 8 * MIB
    assert huge.offset(url) == HUGE
    assert sha256_of_file(huge.store.data_path(url)) == sha256_of_stream()
    assert huge.delete(url).status == 204


def test_3_gib_after_three_cuts(huge):
    url = huge.new(HUGE)
    offset = 0
    for cut in (700 * MIB, 1500 * MIB, 2600 * MIB):
        with huge.connect() as conn:
            conn.send_head('PATCH', url, [*patch_fields(offset), ('Content-Length', HUGE - offset)])
            for piece in pieces(offset, cut):
                conn.send(piece)
            conn.half_close()
            conn.at_end()
        offset = huge.offset(url)
        assert offset == cut
    assert huge.append(url, offset, pieces(offset, HUGE),
                       headers=[('Content-Length', HUGE - offset)]) == HUGE
    assert sha256_of_file(huge.store.data_path(url)) == sha256_of_stream()
    assert huge.delete(url).status == 204


# -- LimitRequestBody ------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def limited(shared_httpd):
    server = shared_httpd(modules=['reflector'])
    server.store = server.make_store()
    directory = server.make_dir(server.htdocs / 'up')
    store = server.make_dir(directory / 'store')
    store.chmod(0o770)
    (directory / '.htaccess').write_text(
        'TusEngine On\nTusStore file store\nLimitRequestBody 1000\n')
    return server.start(
        f'<Directory "{server.htdocs}">\nAllowOverride All\n</Directory>\n'
        + endpoint('Location /thousand', server.store, 'LimitRequestBody 1000')
        + endpoint('Location /gib', server.store, f'LimitRequestBody {1 << 30}')
        + endpoint('Location /none', server.store, 'LimitRequestBody 0')
        + endpoint('Location /stock', server.store)
        + '<Location /echo>\nSetHandler reflector\n</Location>\n')


@pytest.mark.parametrize('base', ['thousand', 'up'])
@pytest.mark.parametrize('chunked', [False, True])
def test_a_limit_that_somebody_set(limited, base, chunked):
    tus = Tus(limited, f'/{base}/')
    limited.allow_log('AH01588|AH01589|AH01591')
    url = tus.new(5000)
    assert tus.append(url, 0, bytes(1000), chunked=chunked) == 1000
    answer = tus.patch(url, 1000, bytes(1001), chunked=chunked)
    assert answer.status == 413
    offset = tus.offset(url)
    assert offset == 1000 if not chunked else 1000 <= offset <= 2000
    assert tus.append(url, offset, bytes(1000), chunked=chunked) == offset + 1000


@pytest.mark.parametrize('base', ['thousand', 'up'])
def test_the_refusal_names_the_directive(limited, base):
    tus = Tus(limited, f'/{base}/')
    url = tus.new(5000)
    for answer in (tus.patch(url, 0, bytes(1001)), tus.create(5000, bytes(1001))):
        assert answer.status == 413
        assert b'LimitRequestBody' in answer.body, answer


@pytest.mark.parametrize('base', ['thousand', 'up'])
@pytest.mark.parametrize('body', [[bytes(1001)], [bytes(600)] * 2, [bytes(1)] * 1001],
                         ids=['at once', 'in two', 'by bytes'])
def test_a_creation_beyond_the_limit_leaves_nothing(limited, base, body):
    """Chunked, so that its size is known only when a part of it is stored already."""
    limited.allow_log('AH01588|AH01589|AH01591')
    store = limited.store if base == 'thousand' else Store(limited.htdocs / 'up' / 'store')
    before = store.files()
    answer = Tus(limited, f'/{base}/', store).create(5000, body, chunked=True)
    assert answer.status == 413, answer
    assert answer.get('Location') is None
    assert store.files() == before


def announce(tus, url, length):
    """The first answer to a PATCH of `length` bytes that waits for permission."""
    with tus.connect() as conn:
        conn.send_head('PATCH', url, [*patch_fields(0), ('Content-Length', length),
                                      ('Expect', '100-continue')])
        return conn.head().status


@pytest.mark.parametrize('base, length, status', [
    ('stock', (1 << 30) + 1, 100), ('stock', 1 << 42, 100), ('none', 1 << 42, 100),
    ('gib', 1 << 30, 100), ('gib', (1 << 30) + 1, 413), ('thousand', 1001, 413)])
def test_only_the_built_in_limit_is_lifted(limited, base, length, status):
    tus = Tus(limited, f'/{base}/')
    url = tus.new(1 << 43)
    assert announce(tus, url, length) == status


def test_other_urls_keep_the_built_in_limit(limited):
    with Tus(limited).connect() as conn:
        conn.send_head('POST', '/echo', [('Content-Length', (1 << 30) + 1)])
        answer = conn.response()
    assert answer.status == 413
    assert answer.get('Tus-Resumable') is None


# -- RequestReadTimeout ----------------------------------------------------------------------------

@pytest.fixture(scope='module')
def impatient(shared_httpd):
    server = shared_httpd()
    store = server.make_store()
    server.start('RequestReadTimeout body=2\n' + endpoint('Location /files', store))
    return Tus(server, store=store)


@pytest.mark.parametrize('chunked', [False, True])
def test_a_client_that_stalls(impatient, chunked):
    """503, which clients retry, with its bytes kept: 408 would end the upload for good."""
    url = impatient.new(10)
    with impatient.hold(url, 0, 10, b'hello', chunked=chunked) as patch:
        answer = patch.response()
    assert_error(answer, 503, 'ERR_READ_TIMEOUT')
    assert int(answer.get('Retry-After')) >= 0
    assert impatient.offset(url) == 5
    assert impatient.append(url, 5, b'world') == 10
    assert impatient.get(url).body == b'helloworld'


def test_a_client_that_stalls_in_its_creation(impatient):
    """201 for what came: only so can the client know where to go on."""
    with impatient.connect() as conn:
        conn.send_head('POST', '/files/', [VERSION, ('Upload-Length', 10), ('Content-Type', OCTETS),
                                           ('Content-Length', 10)])
        conn.send(b'hello')
        answer = conn.response('POST')
    assert (answer.status, answer.get('Upload-Offset')) == (201, '5')
    url = answer.get('Location')
    assert impatient.offset(url) == 5
    assert impatient.append(url, 5, b'world') == 10


def test_a_client_that_stalls_at_once(impatient):
    url = impatient.new(10)
    with impatient.hold(url, 0, 10, b'') as patch:
        assert_error(patch.response(), 503, 'ERR_READ_TIMEOUT')
    assert impatient.offset(url) == 0


def test_a_client_that_is_too_slow(httpd):
    """MinRate: bytes come, but not enough of them."""
    server = httpd()
    store = server.make_store()
    server.start('RequestReadTimeout body=1,minrate=100000\n' + endpoint('Location /files', store))
    tus = Tus(server, store=store)
    url = tus.new(1 << 30)
    sent = 0
    stop = threading.Event()
    with tus.hold(url, 0, 1 << 30, b'x') as patch:
        def dribble():
            nonlocal sent
            while not stop.wait(0.05):
                try:
                    patch.send(b'y')
                except OSError:
                    return
                sent += 1
        thread = threading.Thread(target=dribble)
        thread.start()
        answer = patch.response()
        stop.set()
        thread.join()
    assert_error(answer, 503, 'ERR_READ_TIMEOUT')
    assert 1 <= tus.offset(url) <= 1 + sent
    assert set(tus.store.data(url)) <= set(b'xy')


def test_the_servers_own_timeout(httpd):
    """Without mod_reqtimeout's limit it is Timeout that ends a silent upload."""
    server = httpd()
    store = server.make_store()
    server.start('RequestReadTimeout body=0\nTimeout 2\n' + endpoint('Location /files', store))
    tus = Tus(server, store=store)
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello') as patch:
        assert_error(patch.response(), 503, 'ERR_READ_TIMEOUT')
    assert tus.offset(url) == 5
