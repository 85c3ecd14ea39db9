"""Events are told by the settings that hold where the upload's endpoint is, as pre-* are asked."""
import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from testenv import spool
from testenv.faults import DIE_AFTER, Faults
from testenv.hooked import EVENTS, TOLD, Hooked, verify
from testenv.hookserver import HookServer
from testenv.http import Disconnected
from testenv.httpd import endpoint
from testenv.store import Store, upload_id
from testenv.util import wait_until

DOWN = r'not told, to be tried again'
NOT_ALLOWED = 'TusAllowHook does not let an .htaccess call it'
RETRY = 'TusHookRetry 1 20ms\n'
HOST = '<VirtualHost *>\nServerName localhost\n'

# {endpoint} is what makes one, {hook} a TusHook, {one} and {two} are a TusHookSecret each. What is
# said elsewhere, {two} in most cases, must not matter.
ELSEWHERE = '<Location /other>\n{two}</Location>\n<If "false">\n{two}</If>\n'
SIGNED = {
    'beside it': '<Location /files>\n{endpoint}{hook}{one}</Location>\n',
    'for all': '{one}<Location /files>\n{endpoint}{hook}</Location>\n',
    'Location around it': '<Location />\n{one}</Location>\n'
                          '<Location /files>\n{endpoint}{hook}</Location>\n',
    'Location around it, said again': '<Location />\n{two}</Location>\n'
                                      '<Location /files>\n{endpoint}{hook}{one}</Location>\n',
    'the hook is for all': '{hook}<Location /files>\n{endpoint}</Location>\n'
                           '<Location /files>\n{one}</Location>\n',
    'the hook is for all, said again': '{hook}{two}<Location /files>\n{endpoint}{one}</Location>\n',
    'beside the hook, said again': '<Location />\n{hook}{two}</Location>\n'
                                   '<Location /files>\n{endpoint}{one}</Location>\n',
    'twice for the same': '<Location /files>\n{endpoint}{hook}{two}</Location>\n'
                          '<Location /files>\n{one}</Location>\n',
    'LocationMatch': '<Location /files>\n{endpoint}{hook}</Location>\n'
                     '<LocationMatch "^/fi">\n{one}</LocationMatch>\n',
    'If': '<Location /files>\n{endpoint}{hook}</Location>\n<If "true">\n{one}</If>\n',
    'If in a Location': '<Location /files>\n{endpoint}{hook}{two}\n'
                        '<If "%{{HTTP:X-App}} == \'one\'">\n{one}</If>\n</Location>\n',
    'Else in a Location': '<Location /files>\n{endpoint}{hook}\n<If "false">\n{two}</If>\n'
                          '<Else>\n{one}</Else>\n</Location>\n',
    'Directory around it': '<Directory "{htdocs}">\n{one}</Directory>\n'
                           '<Directory "{htdocs}/files">\n{endpoint}{hook}</Directory>\n',
    'Files in a Directory': '<Directory "{htdocs}/files">\n{endpoint}{hook}{two}\n'
                            '<Files "*">\n{one}</Files>\n</Directory>\n',
    'Files': '<Directory "{htdocs}/files">\n{endpoint}{hook}</Directory>\n'
             '<FilesMatch ".*">\n{one}</FilesMatch>\n',
    'virtual host': HOST + '{one}<Location /files>\n{endpoint}{hook}</Location>\n</VirtualHost>\n',
    'virtual host, the hook is for all': '{hook}' + HOST + '{one}<Location /files>\n{endpoint}'
                                         '</Location>\n</VirtualHost>\n',
    'virtual host, the hook is not in it': '<Directory "{htdocs}/files">\n{endpoint}{hook}'
                                           '</Directory>\n{two}' + HOST + '{one}</VirtualHost>\n',
    'Location in a virtual host': '{hook}' + HOST + '{two}<Location /files>\n{endpoint}{one}'
                                  '</Location>\n</VirtualHost>\n',
    'not in the virtual host': '<Location /files>\n{one}</Location>\n' + HOST + '{hook}'
                               '<Location /files>\n{endpoint}</Location>\n</VirtualHost>\n',
}
UNSIGNED = {
    'nothing': '<Location /files>\n{endpoint}{hook}</Location>\n',
    'default': '<Location />\n{one}</Location>\n'
               '<Location /files>\n{endpoint}{hook}TusHookSecret default\n</Location>\n',
    'none': '{hook}{one}<Location /files>\n{endpoint}TusHookSecret none\n</Location>\n',
    'none in an If': '<Location /files>\n{endpoint}{hook}{one}</Location>\n'
                     '<If "true">\nTusHookSecret none\n</If>\n',
    'another virtual host': '{hook}' + HOST + '<Location /files>\n{endpoint}</Location>\n'
                            '</VirtualHost>\n<VirtualHost *>\nServerName other.example\n{one}'
                            '</VirtualHost>\n',
}


class Place:
    """A server with an endpoint at /files/, of which `hooks` is told."""

    def __init__(self, server, hooks):
        self.server = server
        self.hooks = hooks
        self.store = server.make_store()
        server.make_dir(server.htdocs / 'files')
        self.tus = Hooked(server, hooks, store=self.store, headers=[('X-App', 'one')])

    def fill(self, text, events=EVENTS):
        return RETRY + text.format(
            endpoint=f'TusEngine On\nTusStore file "{self.store}"\n',
            hook=f'TusHook {self.hooks.url} {events}\n', one='TusHookSecret one\n',
            two='TusHookSecret two\n', htdocs=self.server.htdocs, url=self.hooks.url)

    def start(self, text, **how):
        self.server.start(self.fill(text, **how))

    def change(self, text, **how):
        self.server.graceful(self.fill(text, **how))

    def live(self):
        """A whole life, in which each event comes; the id."""
        url = self.tus.new(10)
        self.tus.append(url, 0, b'helloworld')
        assert self.tus.delete(url).status == 204
        return upload_id(url)

    def wait_down(self):
        self.server.wait_log(DOWN)
        self.server.expect_log(DOWN)

    def assert_told(self, uid, secret, *types):
        """Of these, all in all, by calls that are signed with that secret."""
        self.tus.told(uid, *types)
        assert_signed(self.hooks.of(*types, upload=uid), secret)


@pytest.fixture
def place(hook_server, httpd):
    def make(**options):
        return Place(httpd(**options), hook_server())
    return make


def assert_signed(calls, secret):
    """By it, and by no other; without one, not at all."""
    assert calls
    for call in calls:
        if secret:
            assert verify(call, secret), call.type
        else:
            assert call.get('webhook-signature') is None, call.type


CASES = [(text, 'one') for text in SIGNED.values()] + [(text, None) for text in UNSIGNED.values()]


@pytest.mark.parametrize('text, secret', CASES, ids=[*SIGNED, *UNSIGNED])
def test_all_are_signed_alike(place, text, secret):
    one = place()
    one.start(text + (ELSEWHERE if secret else ''))
    uid = one.live()
    one.tus.told(uid, *TOLD)
    one.hooks.wait(1, 'post-receive', upload=uid)
    assert {call.type for call in one.hooks.of()} == set(EVENTS.split())
    assert_signed(one.hooks.of(), secret)


def test_endpoints_with_one_hook(place):
    """What is said for one of them holds for one of them."""
    one = place()
    (one.server.htdocs / 'plain').mkdir()
    one.start('{hook}<Location /files>\n{endpoint}{one}</Location>\n'
              '<Location /plain>\n{endpoint}</Location>\n'
              '<Location /more>\n{endpoint}{two}</Location>\n')
    for base, secret in (('/files/', 'one'), ('/plain/', None), ('/more/', 'two')):
        one.hooks.forget()
        one.tus.base = base
        uid = one.live()
        one.tus.told(uid, *TOLD)
        assert_signed(one.hooks.of(upload=uid), secret)


def test_a_condition_is_that_of_its_request(place):
    """post-create and post-finish of an upload may have other settings."""
    one = place()
    one.start('<Location /files>\n{endpoint}{hook}\n'
              '<If "%{{REQUEST_METHOD}} == \'PATCH\'">\n{one}</If>\n<Else>\n{two}</Else>\n'
              '</Location>\n', events='post-create post-finish pre-finish')
    url = one.tus.new(5)
    one.tus.append(url, 0, b'hello')
    one.tus.told(upload_id(url), 'post-create', 'post-finish')
    assert_signed(one.hooks.of('post-create'), 'two')
    assert_signed(one.hooks.of('pre-finish', 'post-finish'), 'one')


# -- no request ------------------------------------------------------------------------------------

AROUND = '<Location />\n{one}</Location>\n<Location /files>\n{endpoint}{hook}</Location>\n'


@pytest.fixture
def full(place):
    """A place that has an upload whose last bytes were stored, and then its process died."""
    one = place(mpm='prefork')
    faults = Faults(one.server.root, [])
    one.server.environment.update(faults.environment)
    one.start(AROUND, events='post-create post-finish')
    faults.watch(one.store.path)
    one.server.allow_log('.')
    url = one.tus.new(10, b'hello')
    one.uid = upload_id(url)
    one.assert_told(one.uid, 'one', 'post-create')
    spool.wait_empty(one.server)    # who dies before that is done tells it again
    with faults.armed(DIE_AFTER, kinds=('write',), suffix=one.uid):
        with pytest.raises((Disconnected, OSError)):
            one.tus.patch(url, 5, b'world')
    return one


def test_finished_by_the_sweep(full):
    full.server.restart()
    full.assert_told(full.uid, 'one', 'post-create', 'post-finish')


def test_finished_by_the_sweep_after_a_change(full):
    full.server.stop()
    full.start(AROUND.replace('{one}', '{two}'), events='post-create post-finish')
    full.tus.told(full.uid, 'post-create', 'post-finish')
    assert_signed(full.hooks.of('post-finish'), 'two')


# -- the configuration changes while events wait ---------------------------------------------------

NARROW = ('<Location />\n{one}</Location>\n<Location /files>\n{endpoint}{hook}</Location>\n'
          '<LocationMatch "/files/">\n{two}</LocationMatch>\n')
CHANGES = {
    'another secret': (AROUND, AROUND.replace('{one}', '{two}'), 'two'),
    'an If has another': (SIGNED['If'], SIGNED['If'].replace('{one}', '{two}'), 'two'),
    'the section is gone': (AROUND, UNSIGNED['nothing'], None),
    'its line is gone': (AROUND, AROUND.replace('{one}', ''), None),
    'the narrower section is gone': (NARROW, AROUND, 'one'),
    'none': (AROUND, AROUND.replace('{one}', 'TusHookSecret none\n'), None),
    'others come before it': (AROUND, '<Location /a>\n{two}</Location>\n<Directory "/x">\n{two}'
                              '</Directory>\n<IfModule tus_module>\n' + AROUND + '</IfModule>\n',
                              'one'),
    'the order of two': ('<Location /a>\n{two}</Location>\n' + AROUND,
                         AROUND + '<Location /a>\n{two}</Location>\n', 'one'),
}


@pytest.mark.parametrize('before, after, secret', CHANGES.values(), ids=CHANGES)
def test_what_is_said_now_counts(place, before, after, secret):
    one = place()
    one.start(before, events=' '.join(TOLD))
    one.hooks.stop()
    uid = one.live()
    one.wait_down()
    one.change(after, events=' '.join(TOLD))
    one.hooks.start()
    one.assert_told(uid, secret, *TOLD)


def test_a_new_url_is_followed_with_its_settings(place, hook_server):
    one = place()
    one.start(AROUND, events=' '.join(TOLD))
    one.hooks.stop()
    uid = one.live()
    one.wait_down()
    one.hooks = one.tus.hooks = hook_server()
    one.change(AROUND, events=' '.join(TOLD))
    one.assert_told(uid, 'one', *TOLD)


# -- the other settings ----------------------------------------------------------------------------

def test_verify_and_a_change_of_it(httpd):
    """An event that waits for an endpoint whose certificate nobody signed is told when it need not
    be."""
    with HookServer(tls=True) as hooks:
        one = Place(httpd(), hooks)
        around = AROUND.replace('{one}', 'TusHookVerify {verify}\n')
        one.start(around.replace('{verify}', 'On'), events='post-create')
        uid = upload_id(one.tus.new(5))
        one.wait_down()
        one.change(around.replace('{verify}', 'Off'), events='post-create')
        one.tus.told(uid, 'post-create')


def test_timeout(place):
    one = place()
    one.start(AROUND.replace('{one}', 'TusHookTimeout 100ms\n'), events='post-create')
    one.hooks.script = [{'times': 1, 'delay': 10}]
    one.tus.new(5)
    one.hooks.wait(2, 'post-create', timeout=8)
    one.wait_down()


def test_retry(place):
    """Its pause is that before the next try."""
    one = place()
    one.start('TusHookRetry 1 1h\n' + AROUND.replace('{one}', 'TusHookRetry 1 10ms\n'), events='post-create')
    one.hooks.script = [{'times': 3, 'status': 500}]
    uid = upload_id(one.tus.new(5))
    one.hooks.wait(4, 'post-create', upload=uid)
    one.wait_down()


# -- .htaccess -------------------------------------------------------------------------------------

class Site(Place):
    """The endpoint and its hook are of an .htaccess."""

    def begin(self, text, *lines, events=EVENTS):
        directory = self.server.htdocs / 'files'
        self.store = self.tus.store = Store(self.server.make_dir(directory / 'store'))
        (directory / '.htaccess').write_text('\n'.join([
            'TusEngine On', 'TusStore file store', f'TusHook {self.hooks.url} {events}',
            'TusHookRetry 1 20ms', *lines, '']))
        self.start('<Directory "{htdocs}">\nAllowOverride All\n</Directory>\n' + text)


ALLOWED = '<Directory "{htdocs}">\nTusAllowHook http:// https://localhost/\n</Directory>\n'


@pytest.fixture
def site(hook_server, httpd):
    return Site(httpd(), hook_server())


# The hook of an .htaccess, which {two} must not sign, and what does.
HTACCESS = {
    'the directory says one': ('<Directory "{htdocs}">\nTusAllowHook {url}\n{two}</Directory>\n',
                               [], None),
    'a Location says one': ('<Directory "{htdocs}">\nTusAllowHook {url}\n</Directory>\n'
                            '<Location /files>\n{two}</Location>\n', [], None),
    'its own': ('{two}<Directory "{htdocs}">\nTusAllowHook {url}\n{two}</Directory>\n',
                ['TusHookSecret one'], 'one'),
    'its own, and a Location says one': (
        '<Directory "{htdocs}">\nTusAllowHook {url}\n{two}</Directory>\n'
        '<Location /files>\n{two}</Location>\n', ['TusHookSecret one'], 'one'),
    'its own, taken back': ('<Directory "{htdocs}">\nTusAllowHook {url}\n{two}</Directory>\n',
                            ['TusHookSecret one', 'TusHookSecret default'], None),
    'none': ('<Directory "{htdocs}">\nTusAllowHook {url}\n</Directory>\n',
             ['TusHookSecret one', 'TusHookSecret none'], None),
}


@pytest.mark.parametrize('text, lines, secret', HTACCESS.values(), ids=HTACCESS)
def test_of_an_htaccess(site, text, lines, secret):
    """The server's secret would let its owner speak as the server to the server's endpoints."""
    site.begin(text, *lines)
    uid = site.live()
    site.tus.told(uid, *TOLD)
    site.hooks.wait(1, 'post-receive', upload=uid)
    assert {call.type for call in site.hooks.of()} == set(EVENTS.split())
    assert_signed(site.hooks.of(), secret)


def test_many_first_uploads_of_an_htaccess(site):
    """All of them note the hook for later, at the same time; and again when it was changed."""
    site.begin('<Directory "{htdocs}">\nTusAllowHook {url}\n</Directory>\n', events='post-create')
    with ThreadPoolExecutor(16) as pool:
        for seconds in range(1, 9):
            with (site.server.htdocs / 'files' / '.htaccess').open('a') as htaccess:
                htaccess.write(f'TusHookTimeout {seconds}s\n')
            answers = list(pool.map(lambda _: site.tus.create(10), range(16)))
            assert {answer.status for answer in answers} == {201}
    site.hooks.wait(8 * 16, 'post-create')


@pytest.mark.parametrize('lines', [['TusHookSecret two'], ['TusHookSecret none'],
                                   ['TusHookSecret default']], ids=lambda lines: lines[0])
def test_no_htaccess_signs_for_the_server(place, lines):
    one = place()
    text = ('{hook}<Directory "{htdocs}">\n{one}AllowOverride All\n</Directory>\n'
            '<Location /files>\n{endpoint}</Location>\n')
    (one.server.htdocs / 'files' / '.htaccess').write_text('\n'.join([*lines, '']))
    one.start(text)
    uid = one.live()
    one.tus.told(uid, *TOLD)
    assert_signed(one.hooks.of(), 'one')


def test_verify_of_an_htaccess(httpd):
    """What only the server's own files can say is said by its sections, too."""
    with HookServer(tls=True) as hooks:
        site = Site(httpd(), hooks)
        site.begin('<Directory "{htdocs}">\nTusAllowHook {url}\n</Directory>\n'
                   '<Location /files>\nTusHookVerify Off\n</Location>\n')
        uid = site.live()
        site.tus.told(uid, *TOLD)


def test_allow_hook_of_a_location_is_not_for_later(site):
    """It holds for a request; a section that an event names cannot widen it."""
    site.begin('<Location /files>\nTusAllowHook {url}\nTusHookTimeout 5s\n</Location>\n',
               events='pre-create post-create')
    site.server.expect_log(NOT_ALLOWED)
    site.tus.new(5)
    site.server.wait_log(NOT_ALLOWED)
    assert site.hooks.types() == ['pre-create']


# -- what others write -----------------------------------------------------------------------------

def test_no_section_of_another_virtual_host(place):
    """Whoever can write a store can name any section in its records."""
    one = place()
    host = ('<VirtualHost *>\nServerName {name}\n<Location />\n{secret}</Location>\n'
            '<Location /files>\n{{endpoint}}{{hook}}</Location>\n</VirtualHost>\n')
    one.start(host.format(name='localhost', secret='{one}')
              + host.format(name='other.example', secret='{two}'), events='post-create')
    one.hooks.stop()
    mine = upload_id(one.tus.new(5))
    theirs = upload_id(one.tus.new(5, headers=[('Host', 'other.example')]))
    one.wait_down()
    one.server.stop()
    waits = {event.id: event for event in spool.waiting(one.server)}
    hook, section = (waits[uid].fields['hook'] for uid in (mine, theirs))
    hook += section[section.index(','):]
    spool.edit(waits[mine].path, hook=f'{hook},00000000')
    one.hooks.start()
    one.start(host.format(name='localhost', secret='{one}')
              + host.format(name='other.example', secret='{two}'), events='post-create')
    one.assert_told(mine, 'one', 'post-create')
    one.assert_told(theirs, 'two', 'post-create')


def forge(one, uid, change):
    """As the owner of the store can, for an upload that a sweep is to finish."""
    path = one.store.info_path(uid)
    record = json.loads(path.read_text('utf-8'))
    change(record, record['ModTus'])
    path.write_text(json.dumps(record), 'utf-8')


FORGED = {
    'another hook': lambda ours: ours['Hooks'].append(ours['Hooks'][0] + ',00000000'),
    'no seal': lambda ours: ours.pop('Seal'),
    'another seal': lambda ours: ours.update(Seal='0' * 64),
    'another upload': lambda ours: ours.update(Created='2026-01-01T00:00:00.000001Z'),
}


@pytest.mark.parametrize('change', FORGED.values(), ids=FORGED)
def test_no_record_names_a_hook_that_its_endpoint_did_not_have(full, change):
    full.server.stop()
    path = full.store.info_path(full.uid)
    record = json.loads(path.read_text('utf-8'))
    change(record['ModTus'])
    path.write_text(json.dumps(record), 'utf-8')
    full.start(AROUND, events='post-create post-finish')
    full.server.wait_log(f'hooks in the record of upload {full.uid} are not those that this server')
    full.tus.told(full.live(), 'post-create', 'post-finish')
    assert not full.store.finished(full.uid)
    assert not full.hooks.of('post-finish', upload=full.uid)
    assert full.tus.offset(full.tus.base + full.uid) == 10
    full.assert_told(full.uid, 'one', 'post-create', 'post-finish')


def test_a_record_of_a_hook_that_is_none(place):
    """It is damaged, and nobody is told."""
    one = place()
    one.start(AROUND, events='post-create')
    url = one.tus.new(5)
    path = one.store.info_path(url)
    text = path.read_text('utf-8')
    path.write_text(text.replace('"Hooks":["', '"Hooks":["http://127.0.0.1","'), 'utf-8')
    assert path.read_text('utf-8') != text
    one.server.expect_log(upload_id(url))
    assert one.tus.head(url).status == 500
