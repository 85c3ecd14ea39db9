"""Other modules, built against the installed header alone: a data store, hooks, functions."""
import re
from pathlib import Path

import pytest

from testenv.http import Connection
from testenv.httpd import HERE, MODULE, endpoint, one_child
from testenv.index import state_of_store
from testenv.modules import build, compile_module, load
from testenv.store import upload_id
from testenv.tus import Tus, assert_error, b64, metadata
from testenv.util import give_to_user, pattern, wait_until

OBSERVER = '<Location /observer>\n    SetHandler tus-observer\n</Location>\n'
CREATION = 'creation,creation-with-upload,creation-defer-length'


def get(server, url, headers=()):
    with Connection(server.port) as conn:
        answer = conn.request('GET', url, headers)
        return answer.status, answer.body


# -- a data store ----------------------------------------------------------------------------------

class MemStore:
    """What Tus asks of a store, of one in another process's memory."""

    def __init__(self, server, path):
        self.server = server
        self.path = path

    def data(self, url):
        status, body = get(self.server, f'/mem/{upload_id(url)}?{self.path}')
        assert status == 200
        return body

    def size(self, url):
        return len(self.data(url))

    def is_held(self, url):
        return True    # there is nothing to see; its size tells


def mem_endpoint(path, *lines):
    return endpoint('Location /files', path, *lines).replace('TusStore file', 'TusStore mem')


def mem_config(path, *lines):
    return (load('tus_store_mem') + '<Location /mem>\n    SetHandler tus-store-mem\n</Location>\n'
            + mem_endpoint(path, *lines))


@pytest.fixture(scope='module')
def mem(shared_httpd):
    server = shared_httpd(mpm_settings=one_child(8))
    path = '/there/is/no/such/directory'
    server.start('LogLevel warn tus:info\n'
                 + mem_config(path, 'TusExpire 1h', 'TusMaxSize 1M', 'TusLockTimeout 2s'))
    return Tus(server, store=MemStore(server, path))


def test_the_extensions_shrink(mem):
    options = mem.options()
    assert options.status == 200
    assert options.get('Tus-Extension') == CREATION
    assert options.get('Tus-Checksum-Algorithm') is None
    assert options.get('Tus-Max-Size') == str(1024 * 1024)


def test_an_upload(mem):
    data = pattern(200_000)
    fields = [('Upload-Metadata', metadata(filename='a b.bin', empty=None))]
    url = mem.new(len(data), headers=fields)
    assert mem.offset(url) == 0
    assert mem.append(url, 0, data[:70_000]) == 70_000
    assert mem.offset(url) == 70_000
    assert mem.append(url, 70_000, data[70_000:]) == len(data)
    head = mem.head(url)
    assert head.get('Upload-Offset') == head.get('Upload-Length') == str(len(data))
    assert head.get('Upload-Metadata') == fields[0][1]
    assert head.get('Upload-Expires') is None
    assert mem.store.data(url) == data


def test_other_ways_to_create(mem):
    url = mem.upload(b'hello')
    assert mem.store.data(url) == b'hello'
    url = mem.new(headers=[('Upload-Defer-Length', '1')])
    assert mem.append(url, 0, b'hel') == 3
    assert mem.head(url).get('Upload-Defer-Length') == '1'
    assert mem.append(url, 3, b'lo', headers=[('Upload-Length', '5')]) == 5
    assert mem.store.data(url) == b'hello'
    assert mem.head(mem.new(0)).get('Upload-Length') == '0'


def test_what_the_store_cannot_do(mem):
    url = mem.upload(b'hello')
    for method in ('GET', 'DELETE'):
        answer = mem.request(method, url, [('Tus-Resumable', '1.0.0')])
        assert_error(answer, 405, 'ERR_METHOD_NOT_ALLOWED')
        allowed = {name.strip() for name in answer.get('Allow').split(',')}
        assert allowed == {'OPTIONS', 'HEAD', 'PATCH'}, answer
    allowed = mem.request('PUT', '/files/').get('Allow')
    assert {name.strip() for name in allowed.split(',')} == {'OPTIONS', 'POST'}
    for concat in ('partial', f'final;{url}'):
        length = 1 if concat == 'partial' else None
        answer = mem.create(length, headers=[('Upload-Concat', concat)])
        assert 400 <= answer.status < 500, answer
    assert mem.store.data(url) == b'hello'


def test_checksums_are_not_passed_over(mem):
    """Who sends one must not be told that the bytes are right."""
    url = mem.new(5)
    answer = mem.patch(url, 0, b'hello', [('Upload-Checksum', 'sha1 ' + b64(b'x' * 20))])
    assert 400 <= answer.status < 500, answer
    assert mem.offset(url) == 0


def test_refusals(mem):
    url = mem.new(10, b'hello')
    assert_error(mem.patch(url, 4, b'x'), 409, 'ERR_MISMATCHED_OFFSET')
    assert_error(mem.patch(url, 5, b'x' * 6), 413, 'ERR_UPLOAD_SIZE_EXCEEDED')
    assert mem.head('/files/' + '0' * 32).status == 404
    assert mem.offset(url) == 5


def test_the_lock_table_alone_excludes(mem):
    url = mem.new(10)
    with mem.hold(url, 0, 10, b'hello') as older:
        assert mem.append(url, 5, b'wor') == 8
        assert_error(older.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
    with mem.hold(url, 8, 2, b'l') as older:
        assert mem.offset(url) == 9
        assert_error(older.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
    assert mem.append(url, 9, b'd') == 10
    assert mem.store.data(url) == b'helloworld'


def is_noted(journal, url):
    try:
        return upload_id(url) in journal.read_text()
    except FileNotFoundError:
        return False    # it is being worked off


def test_the_sweep_leaves_it_alone(mem):
    url = mem.new(10, b'hello')
    journal = state_of_store(mem.server) / 'journal'
    wait_until(lambda: not is_noted(journal, url), 'the sweep')
    assert mem.append(url, 5, b'world') == 10


def test_its_capabilities_are_logged(httpd):
    server = httpd(mpm_settings=one_child(8))
    server.start('LogLevel warn tus:info\n' + mem_config('/no/such/directory'))
    server.wait_log(rf'TusStore mem /no/such/directory .* {CREATION}\n')


def test_its_path_is_only_a_name(httpd):
    """It may be that of a directory, and of another store; what lies there is served."""
    server = httpd(mpm_settings=one_child(8))
    path = server.make_dir(server.htdocs / 'public')
    (path / 'page.txt').write_text('hello')
    server.start(mem_config(path))
    assert get(server, '/public/page.txt') == (200, b'hello')
    url = Tus(server).upload(b'hello')
    assert get(server, f'/mem/{upload_id(url)}?{path}') == (200, b'hello')
    assert [name.name for name in path.iterdir()] == ['page.txt']


def test_a_failure_does_not_speak_of_a_directory(httpd):
    server = httpd(mpm_settings=one_child(8))
    server.start(load('tus_observer') + mem_config('/no/such/directory'))
    server.expect_log('ERR_INTERNAL_SERVER_ERROR')
    wish = metadata(storage='elsewhere')
    answer = Tus(server).create(5, headers=[('Upload-Metadata', wish)])
    assert_error(answer, 500, 'ERR_INTERNAL_SERVER_ERROR')
    assert 'install -d' not in server.error_log.text()


@pytest.mark.parametrize('first', [True, False])
def test_the_order_of_loading_does_not_matter(httpd, first):
    server = httpd(mpm_settings=one_child(8))
    server.configure(mem_endpoint('/any/path'))
    config = server.root / 'httpd.conf'
    ours, theirs = f'LoadModule tus_module "{MODULE}"\n', load('tus_store_mem')
    text = config.read_text()
    assert ours in text
    config.write_text(text.replace(ours, theirs + ours if first else ours + theirs))
    assert server.configtest()[0] == 0


def test_a_store_that_nobody_brought(httpd):
    code, said = httpd().configtest(mem_endpoint('/any/path'))
    assert code != 0
    assert "there is no store 'mem'; known are: file" in said


# -- hooks -----------------------------------------------------------------------------------------

class Observed(Tus):
    """An endpoint that another module watches."""

    def events(self, uid=None):
        """[(name, {key: value})] of one upload, or of all."""
        log = self.server.root / 'observed'
        events = []
        for line in log.read_text().splitlines() if log.exists() else []:
            name, *values = line.split(' ', 6)
            values = dict(value.split('=', 1) for value in values)
            if uid in (None, values['id']):
                events.append((name, values))
        return events

    def names(self, uid):
        return [name for name, _ in self.events(uid)]

    def snapshot(self):
        """Every file of the store, and what is in it."""
        return {str(path): path.read_bytes() for path in self.store.path.rglob('*')
                if path.is_file()}

    def wish(self, length=5, body=b'', **wishes):
        return self.create(length, body, [('Upload-Metadata', metadata(**wishes))])

    def stop(self, uid):
        status, body = get(self.server, f'/observer/stop/{uid}?{self.store}')
        assert status == 200
        return body.decode().strip()


def observe(httpd, mpm='event'):
    server = httpd(mpm=mpm)
    store = server.make_store()
    (server.root / 'observed').touch()
    give_to_user(server.root / 'observed')
    server.start(observer_config(server, store))
    return Observed(server, store=store)


def observer_config(server, store):
    return ('LogLevel warn tus:info\n' + load('tus_observer')
            + f'TusObserverLog "{server.root}/observed"\n' + OBSERVER
            + endpoint('Location /files', store))


@pytest.fixture(scope='module')
def tus(shared_httpd):
    return observe(shared_httpd)


def test_the_events_of_an_upload(tus):
    url = tus.new(10, headers=[('Upload-Metadata', metadata(name='x'))])
    tus.append(url, 0, b'hello')
    tus.append(url, 5, b'world')
    assert tus.delete(url).status == 204
    uid = upload_id(url)
    events = tus.events(uid)
    names = [name for name, _ in events]
    assert names == ['post_create', 'receive', 'receive', 'pre_finish', 'post_finish',
                     'pre_terminate', 'post_terminate']
    assert [values['offset'] for _, values in events] == ['0', '5', '10', '10', '10', '10', '10']
    assert [values['method'] for _, values in events] == [
        'POST', 'PATCH', 'PATCH', 'PATCH', 'PATCH', 'DELETE', 'DELETE']
    assert [values['finished'] for _, values in events] == ['0', '0', '0', '0', '1', '1', '1']
    assert {values['size'] for _, values in events} == {'10'}
    assert {values['metadata'] for _, values in events} == {metadata(name='x')}
    assert tus.events()[-8][0] == 'pre_create', 'before there is an id'


def test_the_events_of_an_upload_in_one_request(tus):
    url = tus.upload(b'hello')
    names = tus.names(upload_id(url))
    assert sorted(set(names), key=names.index) in (
        ['receive', 'pre_finish', 'post_create', 'post_finish'],
        ['post_create', 'receive', 'pre_finish', 'post_finish'])
    assert len(names) == len(set(names))
    empty = tus.new(0)
    assert set(tus.names(upload_id(empty))) == {'post_create', 'pre_finish', 'post_finish'}


def test_what_a_module_notes_lives_as_long_as_the_request(httpd):
    """Also of a final upload that is joined in the request that finished its last part."""
    server = httpd()
    store = server.make_store()
    noted = server.root / 'noted'
    server.start(load('tus_observer') + f'CustomLog "{noted}" "%m %{{tus-observed}}n"\n'
                 + endpoint('Location /files', store))
    tus = Tus(server, store=store)
    part = tus.partial(10, b'hello')
    final = tus.final([part])
    assert tus.append(part, 5, b'world') == 10
    assert tus.get(final).body == b'helloworld'
    wait_until(lambda: 'GET' in noted.read_text(), 'the log')
    assert f'PATCH post_finish {upload_id(final)}\n' in noted.read_text()


def test_a_module_that_takes_the_headers_away(tus):
    """From one call it has nothing to do with the next."""
    answer = tus.wish(10, b'hello', headers='none')
    assert answer.status == 201
    url = answer.get('Location')
    assert tus.append(url, 5, b'world') == 10
    assert tus.delete(url).status == 204
    answer = tus.wish(10, b'hello', headers='none', refuse='post_create', how='default')
    assert answer.status == 201, 'it has happened'


def test_hooks_come_and_go_with_the_configuration(httpd):
    tus = observe(httpd)
    tus.server.graceful()
    url = tus.new(10)
    assert tus.names(upload_id(url)) == ['post_create'], 'once'
    tus.server.graceful(endpoint('Location /files', tus.store))
    assert tus.append(url, 0, b'helloworld') == 10
    tus.server.graceful(observer_config(tus.server, tus.store))
    assert tus.delete(url).status == 204
    assert tus.names(upload_id(url)) == ['post_create', 'pre_terminate', 'post_terminate']


def test_a_renamed_final(tus):
    parts = [tus.new(5, text, [('Upload-Concat', 'partial')]) for text in (b'hello', b'world')]
    answer = tus.create(headers=[('Upload-Concat', 'final;' + ' '.join(parts)),
                                 ('Upload-Metadata', metadata(rename='joined/whole'))])
    assert (answer.status, answer.get('Location')) == (201, '/files/joined/whole')
    assert tus.get('/files/joined/whole').body == b'helloworld'
    assert tus.names('joined/whole') == ['pre_create', 'post_create', 'pre_finish', 'post_finish']


def test_a_refused_creation(tus):
    before = tus.snapshot()
    assert_error(tus.wish(refuse='pre_create'), 400, 'ERR_UPLOAD_REJECTED')
    assert_error(tus.wish(refuse='pre_create', status='403'), 403, 'ERR_UPLOAD_REJECTED')
    assert_error(tus.wish(5, b'hello', refuse='pre_create', how='error'), 429, 'ERR_QUOTA')
    assert tus.snapshot() == before


def test_the_reply_of_another_module(tus):
    answer = tus.wish(refuse='pre_create', how='full')
    assert (answer.status, answer.body) == (422, b'{"quota":0}')
    assert answer.get('Content-Type') == 'application/json'
    assert answer.get('X-Quota') == '0'
    assert answer.get('Retry-After') == '3600'
    assert answer.get('Tus-Resumable') == '1.0.0'
    assert answer.get('Content-Length') == '11'
    assert answer.get('Transfer-Encoding') is None
    assert answer.get('X-Injected') is None


@pytest.mark.parametrize('status', ['200', '399', '600', '-1'])
def test_a_status_that_is_no_error(tus, status):
    tus.server.expect_log(f'refused with the status {status}; it must be 400 to 599')
    answer = tus.wish(refuse='pre_create', status=status)
    assert_error(answer, 500, 'ERR_INTERNAL_SERVER_ERROR')


def test_a_refused_finish(tus):
    url = tus.wish(10, refuse='pre_finish', how='full').get('Location')
    answer = tus.patch(url, 0, b'helloworld')
    assert (answer.status, answer.get('X-Quota')) == (422, '0')
    assert not tus.store.finished(url)
    assert 'post_finish' not in tus.names(upload_id(url))


def test_a_refused_termination(tus):
    url = tus.wish(10, refuse='pre_terminate').get('Location')
    assert_error(tus.delete(url), 400, 'ERR_UPLOAD_TERMINATION_REJECTED')
    assert tus.append(url, 0, b'hello') == 5
    assert 'post_terminate' not in tus.names(upload_id(url))


def test_post_hooks_change_nothing(tus):
    url = tus.wish(5, refuse='post_create').get('Location')
    assert tus.append(url, 0, b'hello') == 5
    url = tus.wish(5, refuse='post_finish', how='error').get('Location')
    assert tus.append(url, 0, b'hello') == 5
    url = tus.wish(5, refuse='post_terminate').get('Location')
    assert tus.delete(url).status == 204
    assert tus.head(url).status == 404


# -- what pre_create changes -----------------------------------------------------------------------

@pytest.mark.parametrize('uid', ['named', 'user-7/2024/report.pdf'])
def test_a_renamed_upload(tus, uid):
    answer = tus.wish(10, b'hello', rename=uid)
    assert (answer.status, answer.get('Location')) == (201, f'/files/{uid}')
    url = f'/files/{uid}'
    assert tus.offset(url) == 5
    assert tus.append(url, 5, b'world') == 10
    assert (tus.store.path / uid).read_bytes() == b'helloworld'
    assert (tus.store.path / f'{uid}.info').exists()
    assert tus.get(url).body == b'helloworld'
    assert tus.delete(url).status == 204
    assert not (tus.store.path / uid).exists()


@pytest.mark.parametrize('uid', ['../up', '.hidden', 'a//b', 'a/../b', 'x.info', 'a b', 'x' * 201,
                                 None, '/abs', 'ä'])
def test_an_id_that_cannot_be(tus, uid):
    before = tus.snapshot()
    tus.server.expect_log('a pre_create function set the id .*: no upload can have that name')
    assert_error(tus.wish(rename=uid), 500, 'ERR_INTERNAL_SERVER_ERROR')
    assert tus.snapshot() == before


def test_an_id_that_exists(tus):
    assert tus.wish(10, b'hello', rename='taken').status == 201
    tus.server.expect_log('taken')
    assert_error(tus.wish(10, b'other', rename='taken'), 500, 'ERR_INTERNAL_SERVER_ERROR')
    assert tus.append('/files/taken', 5, b'world') == 10


@pytest.mark.parametrize('word, wanted', [('replace', metadata(by='observer')),
                                          ('append', metadata(metadata='append', by='observer')),
                                          ('none', None)])
def test_changed_metadata(tus, word, wanted):
    url = tus.wish(metadata=word).get('Location')
    assert tus.head(url).get('Upload-Metadata') == wanted
    pairs = dict(pair.split(' ') for pair in wanted.split(',')) if wanted else {}
    assert {key: b64(value) for key, value in (tus.store.info(url)['MetaData'] or {}).items()
            } == pairs
    assert tus.append(url, 0, b'hello') == 5
    assert tus.head(url).get('Upload-Metadata') == wanted


def test_metadata_that_nobody_changed_stays_as_it_came(tus):
    sent = 'b ,a ' + b64('x')
    url = tus.new(5, headers=[('Upload-Metadata', sent)])
    assert tus.head(url).get('Upload-Metadata') == sent


def test_what_is_not_its_to_change_stays(tus):
    """The observer sets size and owner too."""
    url = tus.wish(5).get('Location')
    assert tus.store.info(url)['Size'] == 5
    assert 'Owner' not in tus.store.info(url)['ModTus']


@pytest.mark.parametrize('word', ['null', 'space', 'twice'])
def test_metadata_that_cannot_be(tus, word):
    before = tus.snapshot()
    tus.server.expect_log('a pre_create function set metadata')
    assert_error(tus.wish(metadata=word), 500, 'ERR_INTERNAL_SERVER_ERROR')
    assert tus.snapshot() == before


def test_another_place_in_the_store(tus):
    answer = tus.wish(5, storage='by-day/monday/report')
    assert answer.status == 201, answer
    url = answer.get('Location')
    assert tus.append(url, 0, b'hello') == 5
    assert (tus.store.path / 'by-day/monday/report').read_bytes() == b'hello'
    assert tus.get(url).body == b'hello'
    assert tus.delete(url).status == 204
    assert not (tus.store.path / 'by-day/monday/report').exists()


@pytest.mark.parametrize('path', ['../up', '/etc/passwd', 'a/../../b', '.hidden', 'x.info', 'a//b'])
def test_a_place_that_cannot_be(tus, path):
    before = tus.snapshot()
    tus.server.expect_log('a pre_create function set the storage_path')
    assert_error(tus.wish(storage=path), 500, 'ERR_INTERNAL_SERVER_ERROR')
    assert tus.snapshot() == before


# -- stopping --------------------------------------------------------------------------------------

def test_stopped_while_it_receives(tus):
    url = tus.wish(100_000, **{'stop-at': '10'}).get('Location')
    assert tus.append(url, 0, b'hello') == 5
    answer = tus.patch(url, 5, bytes(50_000))
    assert_error(answer, 400, 'ERR_OBSERVER')
    assert tus.head(url).status in (404, 410)
    assert not {name for name in tus.store.files() if upload_id(url) in name}


def test_stopped_while_it_is_created(tus):
    before = tus.snapshot()
    answer = tus.wish(100, bytes(50), **{'stop-at': '10'})
    assert_error(answer, 400, 'ERR_OBSERVER')
    assert tus.snapshot() == before


def test_refused_while_it_receives(tus):
    url = tus.wish(10, refuse='receive').get('Location')
    assert_error(tus.patch(url, 0, b'hello'), 400, 'ERR_UPLOAD_STOPPED')
    assert tus.head(url).status in (404, 410)


def test_stopped_by_another_request(httpd, mpm):
    tus = observe(httpd, mpm)
    url = tus.new(10)
    uid = upload_id(url)
    assert tus.stop(uid) == 'not running'
    with tus.hold(url, 0, 10, b'hello') as running:
        assert tus.stop(uid) == 'stopped'
        assert_error(running.response(), 400, 'ERR_UPLOAD_STOPPED')
    assert tus.head(url).status in (404, 410)
    assert tus.stop(uid) == 'not running'
    assert not {name for name in tus.store.files() if uid in name}


# -- functions -------------------------------------------------------------------------------------

@pytest.mark.parametrize('header, told', [
    (metadata(a='x', b=None, c='ä ö'), f'a=x\nb=\nc=ä ö\nagain: a {b64("x")},b,c {b64("ä ö")}\n'),
    ('', 'again: (none)\n')])
def test_metadata_parsed_and_formatted(tus, header, told):
    assert get(tus.server, '/observer/metadata', [('Metadata', header)]) == (200, told.encode())


def test_metadata_that_cannot_be_parsed(tus):
    status, body = get(tus.server, '/observer/metadata', [('Metadata', 'key !!!')])
    assert status == 200
    assert re.fullmatch(rb'wrong: [^\n]*key[^\n]*\n', body), body


# -- the documentation -----------------------------------------------------------------------------

def examples():
    """{file name: text} of the listings in docs/modules.md that are whole modules."""
    text = (HERE.parents[2] / 'docs' / 'modules.md').read_text()
    listings = re.findall(r'```c\n(.*?)```', text, re.S)
    return {re.search(r'(mod_\w+\.c)', listing)[1]: listing for listing in listings}


def test_the_examples_of_the_documentation(httpd, tmp_path):
    """They compile as they stand, and httpd loads them."""
    loads = ''
    assert len(examples()) >= 1
    for name, listing in examples().items():
        directory = tmp_path / Path(name).stem
        directory.mkdir()
        (directory / name).write_text(listing)
        module = re.search(r'(\w+_module) =', listing)[1]
        loads += f'LoadModule {module} "{compile_module(directory, name)}"\n'
    server = httpd()
    store = server.make_store()
    server.start(loads + endpoint('Location /files', store))
    tus = Tus(server, store=store)
    refused = tus.create(5, headers=[('Upload-Metadata', metadata(filename='x.exe'))])
    assert (refused.status, refused.body) == (415, b'ERR_TYPE: no programs, please\n')
    assert tus.create(5, headers=[('Upload-Metadata', metadata(filename='x.pdf'))]).status == 201


def test_the_header_is_all_that_they_need():
    """Built in directories that have no other file of ours."""
    for name in ('tus_store_mem', 'tus_observer'):
        include = build(name).parent.parent / 'include'
        assert [path.name for path in include.iterdir()] == ['mod_tus.h']
