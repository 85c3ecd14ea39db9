"""The extension expiration, as a client sees it."""
import json
import time

import pytest

from testenv.checksum import with_checksum
from testenv.expiry import HOUR, assert_expires, backdate, expires, modified
from testenv.httpd import endpoint
from testenv.store import Store, upload_id
from testenv.tus import Tus, assert_error
from testenv.util import give_to_user

MISSING = '/files/' + '0' * 32


@pytest.fixture(scope='module')
def server(shared_httpd):
    server = shared_httpd()
    server.store = server.make_store()
    directory = server.make_dir(server.htdocs / 'up')
    server.own = Store(server.make_dir(directory / 'store'))
    return server.start(
        endpoint('Location /files', server.store, 'TusExpire 1h')
        + endpoint('Location /longer', server.store, 'TusExpire 1000h')
        + endpoint('Location /ever', server.store)
        + endpoint('Location /off', server.store, 'TusExpire 1h', 'TusExtensions -expiration')
        + f'<Directory "{directory}">\nAllowOverride FileInfo\nTusAllowExpire 2h\n'
          'TusExpire 5h\n</Directory>\n')


@pytest.fixture
def tus(server):
    return Tus(server, store=server.store)


@pytest.fixture
def ever(server):
    return Tus(server, '/ever/', server.store)


def statuses(tus, url):
    """What everybody is told of an upload."""
    return (tus.head(url).status, tus.get(url).status, tus.patch(url, 5, b'x').status,
            tus.delete(url).status)


def assert_expired(tus, url):
    assert tus.head(url).status == 410
    for answer in (tus.get(url), tus.patch(url, 5, b'x'), tus.delete(url)):
        assert_error(answer, 410, 'ERR_UPLOAD_GONE')


# -- Upload-Expires --------------------------------------------------------------------------------

def test_it_is_offered(tus, ever):
    assert 'expiration' in tus.options().get('Tus-Extension').split(',')
    assert 'expiration' not in ever.options().get('Tus-Extension').split(',')


@pytest.mark.parametrize('body', [b'', b'hello'])
def test_an_unfinished_upload_says_when(tus, body):
    created = tus.create(100, body)
    url = created.get('Location')
    assert created.status == 201
    assert_expires(tus, url, created, HOUR)
    patched = tus.patch(url, len(body), b'more')
    assert patched.status == 204
    assert_expires(tus, url, patched, HOUR)
    assert_expires(tus, url, tus.head(url), HOUR)
    assert tus.store.info(url)['ModTus']['Expire']


def test_a_deferred_upload_says_when(tus):
    created = tus.create(headers=[('Upload-Defer-Length', 1)])
    assert_expires(tus, created.get('Location'), created, HOUR)


def test_a_finished_upload_does_not(tus):
    created = tus.create(5, b'hello')
    empty = tus.create(0)
    url = tus.new(10, b'hello')
    patched = tus.patch(url, 5, b'world')
    for answer in (created, empty, patched, tus.head(url), tus.head(created.get('Location'))):
        assert answer.status < 300
        assert answer.get('Upload-Expires') is None, answer


def test_without_TusExpire_nothing_expires(ever):
    created = ever.create(10, b'hello')
    url = created.get('Location')
    backdate(ever, url, 10_000 * HOUR)
    for answer in (created, ever.head(url), ever.patch(url, 5, b'wor')):
        assert answer.status < 300
        assert answer.get('Upload-Expires') is None, answer


def test_without_the_extension_nothing_expires(server):
    off = Tus(server, '/off/', server.store)
    assert 'expiration' not in off.options().get('Tus-Extension').split(',')
    created = off.create(10, b'hello')
    url = created.get('Location')
    assert created.get('Upload-Expires') is None
    backdate(off, url, 10_000 * HOUR)
    assert off.offset(url) == 5


def test_it_slides_with_activity(tus):
    url = tus.new(100, b'hello')
    backdate(tus, url, HOUR / 2)
    before = tus.head(url)
    assert_expires(tus, url, before, HOUR)
    patched = tus.patch(url, 5, b'world')
    assert expires(patched) >= expires(before) + HOUR / 2 - 2
    assert_expires(tus, url, tus.head(url), HOUR)


def test_a_chunk_that_was_wrong_says_when_too(tus):
    """"This header MUST be included in every PATCH response if the upload is going to expire"."""
    url = tus.new(100, b'hello')
    answer = tus.patch(url, 5, b'WORLD', with_checksum(b'world'))
    assert answer.status == 460
    assert_expires(tus, url, answer, HOUR)


def test_a_conflict_says_when_too(tus):
    url = tus.new(100, b'hello')
    answer = tus.patch(url, 4, b'x')
    assert answer.status == 409
    assert_expires(tus, url, answer, HOUR)


# -- expired ---------------------------------------------------------------------------------------

def test_from_that_moment_it_is_gone(tus):
    """Swept or not."""
    url = tus.new(100, b'hello')
    backdate(tus, url, HOUR - 60)
    assert tus.offset(url) == 5
    backdate(tus, url, HOUR + 60)
    assert_expired(tus, url)


def test_a_refused_request_does_not_revive_it(tus):
    url = tus.new(100, b'hello')
    backdate(tus, url, HOUR + 60)
    when = modified(tus, url)
    assert_expired(tus, url)
    assert modified(tus, url) == when


def test_after_as_long_again_it_was_never_there(tus):
    url = tus.new(100, b'hello')
    backdate(tus, url, 2 * HOUR + 60)
    assert statuses(tus, url) == (404, 404, 404, 404)
    assert_error(tus.patch(url, 5, b'x'), 404, 'ERR_UPLOAD_NOT_FOUND')


def test_an_expired_upload_can_be_seen_through_no_endpoint(tus, ever):
    url = tus.new(100, b'hello')
    backdate(tus, url, HOUR + 60)
    assert_expired(ever, url.replace('/files/', '/ever/'))


def test_a_finished_upload_never_expires(tus):
    url = tus.upload(b'hello')
    backdate(tus, url, 10_000 * HOUR)
    assert tus.offset(url) == 5
    assert tus.get(url).body == b'hello'


def test_all_bytes_but_no_record_of_it(tus):
    """The server died before it could write it down: finished by who meets it, not gone."""
    url = tus.new(10, b'hello')
    with tus.store.data_path(url).open('ab') as data:
        data.write(b'world')
    backdate(tus, url, HOUR + 60)
    assert tus.offset(url) == 10
    assert tus.store.finished(url)
    assert tus.get(url).body == b'helloworld'


# -- whose TusExpire -------------------------------------------------------------------------------

def test_an_upload_keeps_the_time_it_was_created_under(server, tus, ever):
    """Whatever the endpoint says that it is asked through."""
    longer = Tus(server, '/longer/', server.store)
    for creator, expected in ((tus, HOUR), (longer, 1000 * HOUR), (ever, None)):
        url = creator.new(100, b'hello')
        for asked in (tus, longer, ever):
            theirs = asked.base + upload_id(url)
            for answer in (asked.head(theirs), asked.patch(theirs, 5, b'')):
                assert answer.status < 300, answer
                if expected:
                    assert_expires(tus, theirs, answer, expected)
                else:
                    assert answer.get('Upload-Expires') is None


def test_a_configuration_that_changes(httpd):
    server = httpd()
    store = server.make_store()
    tus = Tus(server.start(endpoint('Location /files', store, 'TusExpire 1h')), store=store)
    hour = tus.new(100, b'hello')
    server.graceful(endpoint('Location /files', store))
    ever = tus.new(100, b'hello')
    server.graceful(endpoint('Location /files', store, 'TusExpire 1000h'))
    for url in (hour, ever):
        backdate(tus, url, HOUR + 60)
    assert_expired(tus, hour)
    assert tus.offset(ever) == 5


def tusd_upload(store, uid, size, data):
    """As tusd's file store leaves it."""
    record = {'ID': uid, 'Size': size, 'SizeIsDeferred': False, 'Offset': 0, 'MetaData': {},
              'IsPartial': False, 'IsFinal': False, 'PartialUploads': None,
              'Storage': {'InfoPath': f'{store}/{uid}.info', 'Path': f'{store}/{uid}',
                          'Type': 'filestore'}}
    store.info_path(uid).write_text(json.dumps(record))
    store.data_path(uid).write_bytes(data)
    for path in (store.info_path(uid), store.data_path(uid)):
        give_to_user(path)
    return '/files/' + uid


def test_a_record_of_tusd_expires_once_we_have_written_to_it(tus):
    url = tusd_upload(tus.store, '5f0a1d9da5422902698fb31f464848e6', 100, b'hello')
    backdate(tus, url, 10_000 * HOUR)
    head = tus.head(url)
    assert (head.get('Upload-Offset'), head.get('Upload-Expires')) == ('5', None)
    assert 'ModTus' not in tus.store.info(url)
    assert_expires(tus, url, tus.patch(url, 5, b'world'), HOUR)
    assert_expires(tus, url, tus.head(url), HOUR)
    backdate(tus, url, HOUR + 60)
    assert_expired(tus, url)


@pytest.mark.parametrize('line, hours', [
    ('TusExpire 1h', 1), ('TusExpire 10h', 2), ('TusExpire 2h', 2), ('TusExpire off', 2),
    ('TusExpire default', 5), ('', 5)])
def test_the_ceiling_of_what_an_htaccess_may_say(server, line, hours):
    """TusAllowExpire 2h bounds what the .htaccess says; the server's own word counts as it is."""
    (server.htdocs / 'up' / '.htaccess').write_text(
        f'TusEngine On\nTusStore file store\n{line}\n')
    tus = Tus(server, '/up/', server.own)
    created = tus.create(100, b'hello')
    assert created.status == 201, created
    assert_expires(tus, created.get('Location'), created, hours * HOUR)


# -- finished files that were taken away -----------------------------------------------------------

def finished_ago(tus, url, seconds):
    """As if the upload had been finished so long ago, and its file been moved since."""
    info = tus.store.info(url)
    when = time.gmtime(time.time() - seconds)
    info['ModTus']['Finished'] = time.strftime('%Y-%m-%dT%H:%M:%S.000000Z', when)
    tus.store.info_path(url).write_text(json.dumps(info))
    tus.store.data_path(url).unlink()


@pytest.mark.parametrize('base, remembered', [('/files/', HOUR), ('/ever/', 24 * HOUR)])
def test_a_finished_file_that_was_taken_away(server, base, remembered):
    """A client that missed the last answer still hears that all has arrived."""
    tus = Tus(server, base, server.store)
    url = tus.upload(b'hello')
    finished_ago(tus, url, remembered - 60)
    head = tus.head(url)
    assert (head.status, head.get('Upload-Offset'), head.get('Upload-Length')) == (200, '5', '5')
    assert head.get('Upload-Expires') is None
    assert_error(tus.get(url), 410, 'ERR_UPLOAD_GONE')
    assert not tus.store.data_path(url).exists(), 'it is never made again'

    url = tus.upload(b'hello')
    finished_ago(tus, url, remembered + 60)
    assert tus.head(url).status == 404
    for answer in (tus.get(url), tus.patch(url, 5, b'')):
        assert_error(answer, 404, 'ERR_UPLOAD_NOT_FOUND')


def test_a_final_that_expired_is_not_joined(tus):
    """Who was told that it is gone has begun anew."""
    parts = [tus.partial(5, b'hello'), tus.partial(5, b'wor')]
    final = tus.final(parts)
    assert_expires(tus, parts[1], tus.head(parts[1]), HOUR)
    assert_expires(tus, final, tus.head(final), HOUR)
    backdate(tus, final, HOUR + 60)
    assert tus.head(final).status == 200    # it lives as long as the part that it waits for
    backdate(tus, parts[1], HOUR + 60)
    assert tus.head(final).status == 410
    assert tus.patch(parts[1], 3, b'ld').status == 410
    assert tus.head(final).status == 410
    assert tus.offset(parts[0]) == 5
