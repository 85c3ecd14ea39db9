"""Every directive in every scope: said, overridden and reset, as seen from outside.

One server has all of it. Its own configuration says `base` for every directive; below it, each
directive has a place of its own for each scope, which says `other`, `default` or nothing.
test/check_docs.sh sees to it that every directive has its Row here.
"""
import fcntl
import re
import select
import stat
import threading
import time
from email.utils import parsedate_to_datetime

import pytest

from testenv import spool
from testenv.faults import Faults
from testenv.hooked import verify
from testenv.hookserver import HookServer
from testenv.http import Connection
from testenv.httpd import endpoint
from testenv.modules import load
from testenv.store import Store, upload_id
from testenv.tus import EXTENSIONS, OCTETS, Tus, metadata, patch_fields
from testenv.util import wait_until

VERSION = ('Tus-Resumable', '1.0.0')
ORIGIN = 'https://a.example'
ALGORITHMS = 'sha1 sha256 sha512 md5 crc32 crc32c'.split()
ALL = set(EXTENSIONS.split(','))
METHODS = set('POST HEAD PATCH OPTIONS GET DELETE'.split())
HEADERS = set('Authorization Origin X-Requested-With X-Request-ID X-HTTP-Method-Override '
              'Content-Type Upload-Length Upload-Offset Tus-Resumable Upload-Metadata '
              'Upload-Defer-Length Upload-Concat Upload-Checksum'.split())
EXPOSED = set('Upload-Offset Location Upload-Length Tus-Version Tus-Resumable Tus-Max-Size '
              'Tus-Extension Upload-Metadata Upload-Defer-Length Upload-Concat Upload-Expires '
              'Tus-Checksum-Algorithm'.split())


# -- places ----------------------------------------------------------------------------------------

class Place:
    """One directory of htdocs, the URL that leads there, and the virtual host to ask."""

    def __init__(self, server, words, row, scope):
        self.server = server
        self.row = row
        self.name = f'{row.name}-{scope}'
        self.said = SCOPES[scope]
        self.host = f'{self.name}.example' if 'vhost' in self.said else 'localhost'
        self.path = f'/{self.name}/in/'
        self.directory = server.htdocs / self.name / 'in'
        self.words = {**words, 'name': self.name, 'path': self.path}
        self.expected = self.fill(row.seen[SEEN.get(scope, 'other')])

    def fill(self, value):
        return value.format(**self.words) if isinstance(value, str) else value

    def line(self, value):
        """The directive with that value."""
        return self.fill(f'{self.row.name} {getattr(self.row, value)}\n')

    def make(self):
        """Directories and .htaccess files; the configuration of this place."""
        self.server.make_dir(self.directory)
        lines = {scope: self.line(value) for scope, value in self.said.items()}
        above = self.directory.parent
        here = '\n'.join(map(self.fill, self.row.here))
        (above / '.htaccess').write_text(lines.get('above', ''))
        text = lines.get('htaccess', self.fill(self.row.htaccess))
        (self.directory / '.htaccess').write_text(text)
        text = f'<Directory "{self.directory}">\n{here}\n</Directory>\n'
        if 'vhost' in lines:
            text += (f'<VirtualHost *>\nServerName {self.host}\n{lines["vhost"]}</VirtualHost>\n')
        if 'directory' in lines:
            text += f'<Directory "{above}">\n{lines["directory"]}</Directory>\n'
        if 'location' in lines:
            text += f'<Location "{self.path}">\n{lines["location"]}</Location>\n'
        return text

    # -- requests ------------------------------------------------------------------------------

    def request(self, method, path='', headers=(), body=None):
        with Connection(self.server.port) as conn:
            return conn.request(method, self.path + path, [('Host', self.host), *headers], body)

    def options(self, headers=()):
        return self.request('OPTIONS', headers=headers)

    def preflight(self):
        return self.options([('Origin', ORIGIN), ('Access-Control-Request-Method', 'PATCH')])

    def create(self, length=10, headers=(), path='', body=b''):
        if body:
            headers = [('Content-Type', OCTETS), *headers]
        return self.request('POST', path, [VERSION, ('Upload-Length', length), *headers], body)

    def new(self, **how):
        """The id of an upload that was created. Its Location may start with anything."""
        answer = self.create(**how)
        assert answer.status == 201, answer
        return upload_id(answer.get('Location'))

    @property
    def store(self):
        return Store(self.server.root / 'stores' / 'base')


# -- what each directive does, as seen from outside ------------------------------------------------

def engine(place):
    return place.options().get('Tus-Resumable') is not None


def store(place):
    """Which store has the upload, None if there is no store."""
    answer = place.create()
    if answer.status == 500:
        return None
    name = upload_id(answer.get('Location'))
    found = [path.parent.name for path in place.server.root.rglob(f'{name}.info')]
    assert len(found) == 1, found
    return found[0]


def driver(place):
    """What the registry says of the one store that no other place has."""
    place.new()
    path = f'/stores/{place.name}'
    lines = [line.split('\t') for line in
             (place.server.state_dir / 'stores').read_text().splitlines()]
    [said] = [fields[2] for fields in lines if fields[6].endswith(path)]
    return said


def max_size(place):
    size = place.options().get('Tus-Max-Size')
    return size and int(size)


def expire(place):
    return hours_left(place.create())


def hours_left(answer):
    """Hours until Upload-Expires, None without one."""
    assert answer.status == 201, answer
    if not answer.get('Upload-Expires'):
        return None
    left = (parsedate_to_datetime(answer.get('Upload-Expires'))
            - parsedate_to_datetime(answer.get('Date')))
    return round(left.total_seconds() / 3600)


def extensions(place):
    """TusExpire is what decides on this one."""
    return names(place.options().get('Tus-Extension'), ',') - {'expiration'}


def protocols(place):
    return place.options().get('Tus-Version')


def checksums(place):
    return names(place.options().get('Tus-Checksum-Algorithm'), ',')


def download(place):
    return place.request('GET', place.new(length=5, body=b'hello')).status


def location(place):
    """What Location starts with, behind a proxy."""
    answer = place.create(headers=[('Forwarded', 'proto=https;host=proxy.example')])
    assert answer.status == 201, answer
    return answer.get('Location').rpartition('/')[0] + '/'


def sync(place):
    """When the upload's file is synced: never, at its end, or at each PATCH."""
    name = place.new()
    path = str(place.store.data_path(name))
    seen = []
    for offset in (0, 5):
        answer = place.request('PATCH', name, patch_fields(offset), b'hello')
        assert answer.status == 204, answer
        seen.append(any(call.kind in ('sync', 'datasync') and call.path == path
                        for call in place.server.faults.recorded()))
    return {(False, False): 'none', (False, True): 'finish', (True, True): 'always'}[tuple(seen)]


def file_mode(place):
    name = place.new()
    modes = {stat.S_IMODE(path.stat().st_mode) for path in
             (place.store.info_path(name), place.store.data_path(name))}
    assert len(modes) == 1, modes
    return f'{modes.pop():04o}'


def dir_mode(place):
    """Of the directory that an id with a slash, as another module may give one, needs."""
    place.new(headers=[('Upload-Metadata', metadata(rename=f'{place.name}/x'))])
    return f'{stat.S_IMODE((place.store.path / place.name).stat().st_mode):04o}'


def lock_timeout(place):
    """Whether a request whose upload cannot be had gives up, or waits until it can."""
    path = place.path + (name := place.new())
    with place.store.data_path(name).open('rb') as data, Connection(place.server.port) as conn:
        fcntl.flock(data, fcntl.LOCK_EX)
        conn.send_request('PATCH', path, [('Host', place.host), *patch_fields(0)], b'hello')
        select.select([conn.sock], [], [], 15 if place.expected == 'gives up' else 0.5)
        fcntl.flock(data, fcntl.LOCK_UN)
        answer = conn.response('PATCH')
    assert answer.status in (204, 423), answer
    return 'gives up' if answer.status == 423 else 'waits'


def cors(place):
    return place.options([('Origin', ORIGIN)]).get('Access-Control-Allow-Origin')


def origins(place):
    """Those that are allowed."""
    return {name for name in 'abc' if
            place.options([('Origin', f'https://{name}.example')]).status == 200}


def credentials(place):
    return place.options([('Origin', ORIGIN)]).get('Access-Control-Allow-Credentials')


def methods(place):
    return names(place.preflight().get('Access-Control-Allow-Methods'))


def headers(place):
    return names(place.preflight().get('Access-Control-Allow-Headers'))


def exposed(place):
    return names(place.options([('Origin', ORIGIN)]).get('Access-Control-Expose-Headers'))


def max_age(place):
    return int(place.preflight().get('Access-Control-Max-Age'))


def allowed_stores(place):
    """Which of three directories the store of an .htaccess may lie in."""
    stores = {'one': place.server.root / 'one', 'two': place.server.root / 'two', 'own': 'store'}
    allowed = set()
    for name, path in stores.items():
        directory = place.server.make_dir(place.directory / name)
        place.server.make_dir(directory / 'store')
        (directory / '.htaccess').write_text(f'TusEngine On\nTusStore file {path}\n')
        if place.create(path=f'{name}/').status == 201:
            allowed.add(name)
    return allowed


def asked(place, path='/base', headers=()):
    """The calls of pre-create that a creation leads to, and its status."""
    place.server.hooks.forget('pre-create')
    answer = place.create(headers=headers)
    return [call for call in place.server.hooks.of('pre-create')
            if call.path == path], answer.status


def hooks(place):
    place.server.hooks.forget('pre-create')
    assert place.create().status == 201
    return {call.path for call in place.server.hooks.of('pre-create')}


def hook_timeout(place):
    """Whether a creation whose hook does not answer gives up, or waits until it does."""
    answered = threading.Event()
    with place.server.hooks.saying({'Type': 'pre-create', 'until': answered}), \
            Connection(place.server.port) as conn:
        conn.send_request('POST', place.path, [('Host', place.host), VERSION, ('Upload-Length', 1)])
        select.select([conn.sock], [], [], 15 if place.expected == 'gives up' else 1.5)
        answered.set()
        answer = conn.response('POST')
    assert answer.status in (201, 502), answer
    return 'gives up' if answer.status == 502 else 'waits'


def hook_tries(place):
    with place.server.hooks.saying({'Type': 'pre-create', 'status': 500}):
        calls, status = asked(place)
    assert status == 502
    return len(calls)


def hook_interval(place):
    """Whether half a second of bytes that trickle is told of while they do."""
    name = place.new(length=100)
    with Connection(place.server.port) as conn:
        conn.send_head('PATCH', place.path + name,
                       [('Host', place.host), *patch_fields(0), ('Content-Length', 100)])
        for _ in range(25):
            conn.send(b'x')
            select.select([conn.sock], [], [], 0.02)
        if place.expected == 'soon':
            place.server.hooks.wait(1, 'post-receive', upload=name)
        conn.send(b'x' * 75)
        assert conn.response('PATCH').status == 204
    offsets = [call.upload['Offset'] for call in
               place.server.hooks.wait(1, 'post-receive', upload=name)]
    return 'soon' if min(offsets) < 100 else 'late'


def hook_max_age(place):
    """What becomes of an event that its endpoint refuses when it is older than a second."""
    hooks = place.server.hooks
    with hooks.saying({'Type': 'post-create', 'status': 400}):
        name = place.new()
        old = time.monotonic() + 1.1
        wait_until(lambda: time.monotonic() > old, 'it to be older')
        tried = len(hooks.of('post-create', upload=name))
        # Two more tries: what followed from the first of them has been seen to.
        wait_until(lambda: is_given_up(place, name)
                   or len(hooks.of('post-create', upload=name)) > tried + 1, 'its end', 30)
    if is_given_up(place, name):
        return 'given up'
    wait_until(lambda: not [event for event in spool.waiting(place.server) if event.id == name],
               'it to be told', 30)
    return 'kept'


def is_given_up(place, name):
    said = f'hook post-create of upload {name} .* is moved aside'
    return re.search(said, place.server.error_log.text())


def forwarded(place):
    [call], status = asked(place, headers=[('X-One', 'a'), ('X-Two', 'b')])
    assert status == 201
    return {name for name in ('X-One', 'X-Two') if call.get(name)}


def https_hook(place):
    """Of an endpoint whose certificate nobody signed."""
    return place.create().status


def secret(place):
    [call], status = asked(place)
    assert status == 201
    if not call.get('webhook-signature'):
        return None
    [found] = [each for each in ('one', 'two') if verify(call, each)]
    return found


def allowed_hook(place):
    """Whether the hook of an .htaccess is called."""
    calls, status = asked(place, '/htaccess')
    return len(calls), status


def metrics(place):
    return place.request('GET').status


def names(value, separator=', '):
    """The names of a header field, each once."""
    found = value.split(separator) if value else []
    assert len(found) == len(set(found)), value
    return set(found)


# -- the table -------------------------------------------------------------------------------------

# What is said where. `above` and `directory` are for the directory above.
SCOPES = {
    'server': {},
    'vhost-other': {'vhost': 'other'}, 'vhost-default': {'vhost': 'default'},
    'directory-other': {'directory': 'other'}, 'directory-default': {'directory': 'default'},
    'location-other': {'location': 'other'}, 'location-default': {'location': 'default'},
    'htaccess-other': {'htaccess': 'other'}, 'htaccess-default': {'htaccess': 'default'},
    'htaccess-above-other': {'above': 'other'},
    'htaccess-above-other-default': {'above': 'other', 'htaccess': 'default'},
    'htaccess-above-base-default': {'directory': 'other', 'above': 'base', 'htaccess': 'default'},
}

# What is seen there, if not the other value. In an .htaccess, `default` is what the server says.
SEEN = {'server': 'base', 'htaccess-default': 'base', 'htaccess-above-other-default': 'base',
        'vhost-default': 'default', 'directory-default': 'default', 'location-default': 'default'}


class Row:
    """A directive: what the server's own configuration says, what a scope says instead, and what is
    seen then: by the one, by the other, and by default.

    here: lines of the <Directory> of each of its places; htaccess: of an .htaccess there, where
    the directive itself cannot be. What an .htaccess does not replace is tested elsewhere:
    test_hooks_settings.py.
    """

    default = 'default'     # what a scope says that resets it

    def __init__(self, name, base, other, observe, seen, in_htaccess=True, here=('TusEngine On',),
                 htaccess='', log=None, replaced_in_htaccess=True):
        self.name = name
        self.base = base
        self.other = other
        self.observe = observe
        self.seen = dict(zip(('base', 'other', 'default'), seen))
        self.in_htaccess = in_htaccess
        self.replaced_in_htaccess = in_htaccess and replaced_in_htaccess
        self.here = here
        self.htaccess = htaccess
        self.log = log


TABLE = [
    Row('TusEngine', 'On', 'Off', engine, (True, False, False), here=()),
    Row('TusStore', 'file {root}/stores/base', 'file {root}/one', store, ('base', 'one', None),
        log='TusStore'),
    Row('TusMetadata', 'dbm:{gdbm}', 'dbm:{db}', driver, ('{gdbm}', '{db}', '-'), in_htaccess=False,
        here=('TusEngine On', 'TusStore file {root}/stores/{name}')),
    Row('TusMaxSize', '1000', '500', max_size, (1000, 500, None)),
    Row('TusAllowMaxSize', '700', '600', max_size, (700, 600, 2 ** 40), in_htaccess=False,
        htaccess='TusMaxSize 1T'),
    Row('TusExpire', '2h', '1h', expire, (2, 1, None)),
    Row('TusAllowExpire', '3h', '240mi', expire, (3, 4, 168), in_htaccess=False,
        htaccess='TusExpire 1w'),
    Row('TusExtensions', '-concatenation', '-termination', extensions,
        (ALL - {'concatenation', 'concatenation-unfinished'},
         ALL - {'concatenation', 'concatenation-unfinished', 'termination'}, ALL)),
    Row('TusProtocols', 'tus', 'tus', protocols, ('1.0.0', '1.0.0', '1.0.0')),
    Row('TusChecksums', 'sha1 crc32c', 'sha256', checksums,
        ({'sha1', 'crc32c'}, {'sha256'}, set(ALGORITHMS))),
    Row('TusDownload', 'Off', 'On', download, (405, 200, 200)),
    Row('TusBaseURL', '/one', 'https://x.example/y/', location,
        ('https://proxy.example/one/', 'https://x.example/y/', 'https://proxy.example{path}')),
    Row('TusForwarded', 'On', 'Off', location,
        ('https://proxy.example/one/', '/one/', '/one/'), in_htaccess=False),
    Row('TusSync', 'none', 'always', sync, ('none', 'always', 'finish')),
    Row('TusFileMode', '0640', '600', file_mode, ('0640', '0600', '0660')),
    Row('TusDirMode', '0750', '700', dir_mode, ('0750', '0700', '0770')),
    Row('TusLockTimeout', '300ms', '1mi', lock_timeout, ('gives up', 'waits', 'waits'),
        in_htaccess=False),
    Row('TusCORS', 'On', 'Off', cors, (ORIGIN, None, ORIGIN)),
    Row('TusCORSAllowOrigin', r'^https://a\.example$', r'^https://b\.example$', origins,
        ({'a'}, {'b'}, {'a', 'b', 'c'})),
    Row('TusCORSAllowCredentials', 'On', 'Off', credentials, ('true', None, None)),
    Row('TusCORSAllowMethods', '+PUT', '+LOCK +PUT', methods,
        (METHODS | {'PUT'}, METHODS | {'PUT', 'LOCK'}, METHODS)),
    Row('TusCORSAllowHeaders', '+X-One', '+X-Two', headers,
        (HEADERS | {'X-One'}, HEADERS | {'X-One', 'X-Two'}, HEADERS)),
    Row('TusCORSExposeHeaders', 'Location X-One', '+X-Two', exposed,
        ({'Location', 'X-One'}, {'Location', 'X-One', 'X-Two'}, EXPOSED)),
    Row('TusCORSMaxAge', '60', '2mi', max_age, (60, 120, 86400)),
    Row('TusAllowStore', '{root}/one', '{root}/two', allowed_stores,
        ({'one'}, {'two'}, {'own'}), in_htaccess=False, here=(), log='TusAllowStore'),
    # All of them are asked by the base of this one, too.
    Row('TusHook', '{hook}/base pre-create', '{hook}/other pre-create', hooks,
        ({'/base'}, {'/base', '/other'}, set())),
    Row('TusHookTimeout', '1s', '1mi', hook_timeout, ('gives up', 'waits', 'waits'),
        log='hook pre-create'),
    Row('TusHookRetry', '1 10ms', '2 10ms', hook_tries, (1, 2, 3), log='hook pre-create'),
    Row('TusHookProgressInterval', '50ms', '1h', hook_interval, ('soon', 'late', 'late'),
        here=('TusEngine On', 'TusHook {hook}/progress post-receive')),
    Row('TusHookMaxAge', '1s', '1d', hook_max_age, ('given up', 'kept', 'kept'),
        here=('TusEngine On', 'TusHook {hook}/age post-create'), in_htaccess=False,
        log='hook post-create'),
    Row('TusHookForwardHeader', 'X-One', 'X-Two', forwarded, ({'X-One'}, {'X-Two'}, set()),
        in_htaccess=False),
    Row('TusHookVerify', 'Off', 'On', https_hook, (201, 502, 502), in_htaccess=False,
        here=('TusEngine On', 'TusHook {tls}/ pre-create'), log='hook pre-create'),
    Row('TusHookSecret', 'one', 'two', secret, ('one', 'two', None), replaced_in_htaccess=False),
    Row('TusAllowHook', '{hook}/', 'Off', allowed_hook, ((1, 201), (0, 502), (0, 502)),
        in_htaccess=False, htaccess='TusHook {hook}/htaccess pre-create', log='hook pre-create'),
    Row('TusStatus', 'On', 'Off', metrics, (200, 404, 404), in_htaccess=False,
        here=('TusEngine Off', 'SetHandler tus-metrics')),
]

CASES = [(row, scope) for row in TABLE for scope in SCOPES
         if row.replaced_in_htaccess or not scope.startswith('htaccess')]


def driver_or_sdbm(server, name):
    """APR-util need not have more than sdbm."""
    code, _ = server.configtest(f'TusMetadata dbm:{name}\n')
    return name if code == 0 else 'sdbm'


@pytest.fixture(scope='module')
def endpoints():
    """Of hooks: one, and one with TLS."""
    with HookServer() as plain, HookServer(tls=True) as tls:
        yield plain, tls


@pytest.fixture(scope='module')
def places(endpoints, shared_httpd):
    """All places of one server, by directive and scope."""
    server = shared_httpd()
    server.hooks, tls = endpoints
    words = {'root': server.root, 'hook': server.hooks.url.removesuffix('/hook'),
             'tls': tls.url.removesuffix('/hook'),
             **{name: driver_or_sdbm(server, name) for name in ('gdbm', 'db')}}
    server.faults = Faults(server.root, [server.root])
    server.environment.update(server.faults.environment)
    server.make_store('base')
    for name in ('one', 'two'):
        server.make_dir(server.root / name)
    made = {(row.name, scope): Place(server, words, row, scope) for row, scope in CASES}
    for scope in SCOPES:
        server.make_store(f'TusMetadata-{scope}')
    # The first virtual host is asked where none fits: it has nothing but what the server says.
    server.start(load('tus_observer') + ''.join(
        made[row.name, 'server'].line('base') for row in TABLE)
        + f'<Directory "{server.htdocs}">\nAllowOverride All\n</Directory>\n'
        '<VirtualHost *>\nServerName localhost\n</VirtualHost>\n'
        + ''.join(place.make() for place in made.values()))
    server.faults.record()
    return made


@pytest.mark.parametrize('row, scope', CASES, ids=[f'{row.name}-{scope}' for row, scope in CASES])
def test_merge(places, row, scope):
    place = places[row.name, scope]
    if row.log:
        place.server.allow_log(row.log)
    assert row.observe(place) == place.expected


# -- values that are added to what is inherited ----------------------------------------------------

UNFINISHED, TRAILER = {'concatenation-unfinished'}, {'checksum-trailer'}
CHECKSUM = {'checksum', *TRAILER}
SERVER = ALL - UNFINISHED    # by a line of the server's own

# Lines of TusExtensions: in <Directory>, the .htaccess above, the .htaccess, and <Location>.
EXTENSIONS_SAID = {
    'two lines': (['-checksum', '-termination'], [], [], [], SERVER - CHECKSUM - {'termination'}),
    'a list and a sign': (['creation', '+termination'], [], [], [], {'creation', 'termination'}),
    'the last sign holds': (['+termination -termination'], [], [], [], SERVER - {'termination'}),
    'a list after a sign': (['-termination', 'creation'], [], [], [], {'creation'}),
    'default, then a sign': (['none', 'default', '-checksum'], [], [], [], ALL - CHECKSUM),
    'nothing without creation': (['-creation'], [], [], [], CHECKSUM | {'termination'}),
    'any case': (['CREATION Termination'], [], [], [], {'creation', 'termination'}),
    'all': (['none', 'all'], [], [], [], ALL),
    'added to none': (['none'], [], ['+creation'], [], {'creation'}),
    'one after the other': (['-checksum'], ['-termination'], ['+checksum'], [],
                            SERVER - {'termination'}),
    'taken and given': ([], ['-termination'], ['+termination'], [], SERVER),
    'Location has the last word': (['-checksum'], [], ['+checksum +termination'],
                                   ['-termination'], SERVER - {'termination'}),
    'default in an .htaccess': (['-termination'], ['none'], ['default'], [],
                                SERVER - {'termination'}),
    'default in an .htaccess, two lines above': (
        ['-termination', '-checksum'], ['none'], ['default'], [],
        SERVER - CHECKSUM - {'termination'}),
    'default in an .htaccess, alone': ([], ['none'], ['default'], [], SERVER),
    'a list, then default, in an .htaccess': ([], [], ['none', 'default'], [], SERVER),
    'default, then a sign, in an .htaccess': (
        ['-termination'], ['none'], ['none', 'default', '-checksum-trailer'], [],
        SERVER - TRAILER - {'termination'}),
    'default, then a sign, in an .htaccess alone': (
        [], ['-termination'], ['default', '-checksum-trailer'], [], SERVER - TRAILER),
    'default in an .htaccess, a sign below': (
        ['creation termination'], ['default'], ['-termination'], [], {'creation'}),
    'default in an .htaccess, then Location': (
        ['creation'], ['+termination'], ['default'], ['+checksum'], {'creation', 'checksum'}),
    'default and a list in an .htaccess, then Location': (
        ['none'], ['default'], ['creation'], ['+checksum'], {'creation', 'checksum'}),
}


def say(server, path, *lines):
    directory = server.make_dir(server.htdocs / path)
    (directory / '.htaccess').write_text('\n'.join([*lines, '']))
    return Tus(server, f'/{path}/')


@pytest.fixture(scope='module')
def adding(shared_httpd):
    """A server with a directory for each of them."""
    server = shared_httpd()
    text = (f'TusStore file "{server.make_store()}"\nTusExtensions -concatenation-unfinished\n'
            f'<Directory "{server.htdocs}">\nAllowOverride All\n</Directory>\n')
    for number, said in enumerate(EXTENSIONS_SAID.values()):
        directory = server.make_dir(server.htdocs / str(number) / 'in')
        own, above, htaccess, location = (
            ''.join(f'TusExtensions {line}\n' for line in lines) for lines in said[:4])
        (directory.parent / '.htaccess').write_text(above)
        (directory / '.htaccess').write_text(htaccess)
        text += (f'<Directory "{directory.parent}">\nTusEngine On\n{own}</Directory>\n'
                 f'<Location "/{number}/in">\n{location}</Location>\n')
    return server.start(text)


@pytest.mark.parametrize('name', EXTENSIONS_SAID)
def test_added_to_what_is_inherited(adding, name):
    number = list(EXTENSIONS_SAID).index(name)
    answer = Tus(adding, f'/{number}/in/').options()
    assert names(answer.get('Tus-Extension'), ',') == EXTENSIONS_SAID[name][4]


def test_default_in_a_section_of_an_htaccess(adding):
    """httpd merges the sections with each other before it merges them onto what is around them."""
    tus = say(adding, 'sections', 'TusEngine On', 'TusExtensions none',
              '<If "true">', 'TusMaxSize 5', '</If>',
              '<If "true">', 'TusExtensions default', '</If>')
    answer = tus.options()
    assert answer.get('Tus-Max-Size') == '5'
    assert names(answer.get('Tus-Extension'), ',') == SERVER


def test_lists_are_added_in_order_and_once(httpd):
    server = httpd()
    up = server.make_dir(server.htdocs / 'up')
    (up / '.htaccess').write_text('TusCORSExposeHeaders +X-Three +X-One\n'
                                  'TusCORSExposeHeaders +X-Four\n')
    server.start(endpoint(f'Directory "{up}"', server.make_store(), 'AllowOverride FileInfo',
                          'TusCORSExposeHeaders X-One', 'TusCORSExposeHeaders +X-Two'))
    answer = Tus(server, '/up/').options(headers=[('Origin', ORIGIN)])
    assert answer.get('Access-Control-Expose-Headers') == 'X-One, X-Two, X-Three, X-Four'


def test_an_empty_list(httpd):
    server = httpd().start()
    server.graceful(endpoint('Location /files', server.make_store(), 'TusCORSExposeHeaders none'))
    answer = Tus(server).options(headers=[('Origin', ORIGIN)])
    assert answer.get('Access-Control-Expose-Headers') is None


# -- what an .htaccess may say ---------------------------------------------------------------------

@pytest.fixture(scope='module')
def hosting(shared_httpd):
    """Its .htaccess files may say what AllowOverride and AllowOverrideList let them."""
    server = shared_httpd()
    for name in ('all', 'list'):
        server.make_dir(server.htdocs / name)
    words = ' '.join(row.name for row in TABLE)
    return server.start(
        f'TusStore file "{server.make_store()}"\nTusAllowExpire 3h\nTusAllowMaxSize 1K\n'
        f'<Directory "{server.htdocs}/all">\nAllowOverride All\n</Directory>\n'
        f'<Directory "{server.htdocs}/list">\nAllowOverride None\nAllowOverrideList {words}\n'
        '</Directory>\n'
        f'<Directory "{server.htdocs}/all/server">\nTusEngine On\nTusExpire 1w\n</Directory>\n')


@pytest.mark.parametrize('parent', ['all', 'list'])
@pytest.mark.parametrize('name', [row.name for row in TABLE if not row.in_htaccess]
                         + ['TusStateDir'])
def test_refused_in_an_htaccess(hosting, parent, name):
    hosting.expect_log(rf'\.htaccess: .*{name}')
    tus = say(hosting, f'{parent}/{name}', f'{name} default')
    with tus.connect() as conn:
        assert conn.request('GET', tus.base).status == 500


@pytest.mark.parametrize('line, said', [
    ('TusCORSAllowOrigin (', 'regular expression'), ('TusExtensions +nosuch', 'concatenation'),
    ('TusChecksums sha3', 'crc32c'), ('TusCORSAllowHeaders "X A"', 'token'),
    ('TusExpire 0', 'off'), ('TusDirMode 0077', 'owner')])
def test_a_mistake_in_an_htaccess(hosting, line, said):
    hosting.expect_log(rf'\.htaccess: {line.split()[0]}: .*{said}')
    tus = say(hosting, 'all/mistake', 'TusEngine On', line)
    with tus.connect() as conn:
        assert conn.request('GET', tus.base).status == 500


@pytest.mark.parametrize('lines, hours', [
    (['TusEngine On', 'TusExpire 2h'], 2), (['TusEngine On', 'TusExpire 4h'], 3),
    (['TusEngine On', 'TusExpire off'], 3), (['TusEngine On'], 3),
    (['TusEngine On', 'TusExtensions -expiration'], 3),
    (['TusEngine On', 'TusExpire 2h', 'TusExtensions creation'], 2)])
def test_allow_expire_bounds_an_htaccess(hosting, lines, hours):
    assert hours_left(say(hosting, 'all/expire', *lines).create(10)) == hours


def test_location_beside_an_htaccess_without_expiration(httpd):
    """What a Location adds does not make the .htaccess's word the server's."""
    server = httpd()
    tus = say(server, 'up', 'TusEngine On', 'TusExtensions -expiration')
    server.start(f'TusStore file "{server.make_store()}"\nTusAllowExpire 3h\n'
                 f'<Directory "{server.htdocs}">\nAllowOverride All\n</Directory>\n'
                 '<Location /up>\nTusExtensions -checksum\n</Location>\n')
    assert hours_left(tus.create(10)) == 3


def test_the_server_can_take_expiration_away(httpd):
    server = httpd()
    server.start('TusExtensions -expiration\nTusExpire 2h\nTusAllowExpire 3h\n'
                 + endpoint('Location /files', server.make_store()))
    assert hours_left(Tus(server).create(10)) is None


def test_allow_expire_leaves_the_server_alone(hosting):
    """Neither what it says, nor what `default` in an .htaccess goes back to."""
    for lines in ([], ['TusExpire default']):
        assert hours_left(say(hosting, 'all/server', *lines).create(10)) == 168
