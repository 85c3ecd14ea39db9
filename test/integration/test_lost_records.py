"""ID.info that never reached the disk, as a loss of power leaves it: empty, or all zero bytes.

Nothing was promised of such an upload. It is not found, so that its client begins anew, and the log
names it; its files prove nothing of who made them, and stay.
"""
import pytest

from testenv.httpd import MPM_SETTINGS, endpoint
from testenv.index import dump, is_noted, state_of_store, wait_indexed
from testenv.store import upload_id
from testenv.tus import Tus, assert_error
from testenv.util import wait_until

TEXTS = {'empty': b'', 'a byte': bytes(1), 'zeros': bytes(531), 'blocks of zeros': bytes(8192)}


@pytest.fixture
def tus(httpd):
    server = httpd()
    store = server.make_store()
    server.start(endpoint('Location /files', store))
    return Tus(server, store=store)


def lose(tus, url, text):
    """When no sweep is about to meet it and to say so as well."""
    wait_indexed(state_of_store(tus.server), url)
    tus.store.info_path(url).write_bytes(text)


def warnings(tus, url):
    return tus.server.error_log.text().count(f'UploadLost id={upload_id(url)}')


@pytest.mark.parametrize('text', TEXTS.values(), ids=TEXTS)
def test_no_request_finds_it(tus, text):
    url = tus.new(10, b'hello')
    lose(tus, url, text)
    before = tus.store.snapshot()
    for count, request in enumerate((lambda: tus.head(url), lambda: tus.get(url),
                                     lambda: tus.patch(url, 5, b'world'), lambda: tus.delete(url)),
                                    1):
        tus.server.expect_log(rf'\[tus:warn\].*UploadLost id={upload_id(url)}: its ID.info is empty')
        answer = request()
        assert answer.status == 404, answer
        assert warnings(tus, url) == count, 'one line for each request'
    assert tus.store.snapshot() == before
    assert tus.append(tus.new(10, b'hello'), 5, b'world') == 10, 'the client begins anew'


@pytest.mark.parametrize('text', TEXTS.values(), ids=TEXTS)
def test_it_is_no_part(tus, text):
    good, lost = tus.partial(5, b'hello'), tus.partial(5, b'wor')
    waiting = tus.final([good, lost])
    wait_indexed(state_of_store(tus.server), waiting)
    lose(tus, lost, text)
    tus.server.expect_log(rf'\[tus:warn\].*UploadLost id={upload_id(lost)}')
    assert_error(tus.concat([good, lost]), 400, 'ERR_INVALID_CONCAT')
    assert warnings(tus, lost) == 1
    head = tus.head(waiting)
    assert head.status == 200
    assert head.get('Upload-Offset') is None, 'it goes on waiting'
    assert tus.store.data(lost) == b'wor'


@pytest.mark.parametrize('text', TEXTS.values(), ids=TEXTS)
def test_a_rebuild_leaves_it_and_goes_on(tus, text):
    """As after a restart of the system: the index is made anew."""
    kept, lost = tus.new(10, b'hello'), tus.new(10, b'hello')
    state = state_of_store(tus.server)
    lose(tus, lost, text)
    tus.server.stop()
    before = tus.store.snapshot()
    (state / 'clean').unlink()
    tus.server.expect_log(rf'\[tus:warn\].*UploadLost id={upload_id(lost)}')
    tus.server.start(endpoint('Location /files', tus.store))
    other = tus.new(10, b'hello')
    wait_until(lambda: dump(state).keys() == {upload_id(kept), upload_id(other)}, 'the index')
    wait_until(lambda: not is_noted(state, lost), 'the journal')
    assert warnings(tus, lost) == 1, 'one line for a rebuild'
    assert {name: tus.store.snapshot()[name] for name in before} == before
    assert tus.append(kept, 5, b'world') == 10


@pytest.mark.parametrize('text', [b'{', b' ', b'\n', bytes(8) + b'{}', b'null'])
def test_other_damage_stays_an_error(tus, text):
    url = tus.new(10, b'hello')
    lose(tus, url, text)
    tus.server.expect_log(r'\[tus:error\].*cannot use the record.*it is damaged')
    assert tus.head(url).status == 500
    assert tus.store.data(url) == b'hello'


NESTED = {'arrays': b'[' * (1 << 20), 'objects': b'{"a":' * 200_000,
          'in a record': b'{"ID":"a","Size":1,"x":' + b'[' * 1_000_000}


@pytest.mark.parametrize('text', NESTED.values(), ids=NESTED)
def test_deep_nesting_is_damage(httpd, text):
    """Also for threads that have a small stack; and for what makes the index anew."""
    server = httpd(mpm_settings=MPM_SETTINGS['event'] + '\nThreadStackSize 131072')
    store = server.make_store()
    server.start(endpoint('Location /files', store))
    tus = Tus(server, store=store)
    deep, kept = tus.new(10, b'hello'), tus.new(10, b'hello')
    state = state_of_store(server)
    lose(tus, deep, text)
    for request in (lambda: tus.head(deep), lambda: tus.get(deep), lambda: tus.delete(deep),
                    lambda: tus.patch(deep, 5, b'world')):
        server.expect_log(r'\[tus:error\].*cannot use the record.*it is damaged')
        assert request().status == 500
    server.stop()
    (state / 'clean').unlink()
    server.allow_log('it is damaged')
    server.start(endpoint('Location /files', store))
    other = tus.new(10, b'hello')
    wait_until(lambda: {upload_id(kept), upload_id(other)} <= dump(state).keys(), 'the index')
    assert tus.append(kept, 5, b'world') == 10
    assert store.data(deep) == b'hello'
