"""`TusHook /hook.cgi`: scripts of this very virtual host, and what an .htaccess may call."""
import hashlib
import os
import re
import socket
import ssl
import threading
import time

import pytest

from testenv import spool
from testenv.hookserver import HookServer
from testenv.http import Connection
from testenv.httpd import endpoint
from testenv.mounts import with_mount
from testenv.script import PHP, Script
from testenv.store import Store
from testenv.tus import Tus, assert_error
from testenv.util import free_port, give_to_user, wait_until

EVENTS = 'pre-create post-create pre-finish post-finish pre-terminate post-terminate'
VERSION = ('Tus-Resumable', '1.0.0')
QUICK = 'TusHookRetry 1 20ms'


def cgi_module(mpm):
    return 'cgi' if mpm == 'prefork' else 'cgid'


def cgi_config(server, directory=None):
    """CGI scripts run in htdocs, or that directory."""
    sock = '' if server.mpm == 'prefork' else f'ScriptSock {server.root}/run/cgisock\n'
    return (f'{sock}<Directory "{directory or server.htdocs}">\n'
            '    Options FollowSymLinks ExecCGI\n    AddHandler cgi-script .cgi\n'
            '    Require all granted\n</Directory>\n')


def post(port, path, headers=(), body=b'', tls=False):
    with Connection(port, tls=tls) as conn:
        return conn.request('POST', path, headers, body)


class Local:
    """A server with a CGI script, which its endpoint has as its hook."""

    def __init__(self, httpd, *lines, mpm='event', events=EVENTS, extra='', **options):
        self.server = httpd(mpm=mpm, **{'modules': [cgi_module(mpm)], **options})
        self.store = self.server.make_store()
        self.script = Script(self.server.htdocs / 'hook.cgi', self.server.root / 'calls')
        self.server.start(cgi_config(self.server) + extra + endpoint(
            'Location /files', self.store, f'TusHook /hook.cgi {events}', QUICK, *lines))
        self.tus = Tus(self.server, store=self.store)


def types(script):
    return [call.type for call in script.calls()]


# -- our own calls ---------------------------------------------------------------------------------

def test_a_script_is_asked_and_told(httpd, mpm):
    local = Local(httpd, mpm=mpm)
    local.script.answer({'HTTPResponse': {'Header': {'X-From': 'script'}}})
    answer = local.tus.create(10, b'hello')
    assert (answer.status, answer.get('X-From')) == (201, 'script')
    url = answer.get('Location')
    local.tus.append(url, 5, b'world')
    assert local.tus.delete(url).status == 204
    calls = local.script.wait(6)
    assert sorted(call.type for call in calls) == sorted(EVENTS.split())
    for call in calls:
        assert call.is_hook
        assert call.environment['REQUEST_METHOD'] == 'POST'
        assert call.environment['CONTENT_TYPE'] == 'application/json'
        assert call.environment['REMOTE_ADDR'] == '127.0.0.1'
    local.script.answer({'RejectUpload': True, 'HTTPResponse': {'StatusCode': 403, 'Body': 'no'}})
    answer = local.tus.create(10)
    assert (answer.status, answer.body) == (403, b'no')


def test_php_fpm(httpd, php):
    server = httpd(modules=['proxy', 'proxy_fcgi'])
    store = server.make_store()
    script = Script(server.htdocs / 'hook.php', server.root / 'calls', PHP)
    server.start(f'<FilesMatch "\\.php$">\nSetHandler "proxy:fcgi://127.0.0.1:{php.port}"\n'
                 '</FilesMatch>\n'
                 + endpoint('Location /files', store, f'TusHook /hook.php {EVENTS}', QUICK))
    tus = Tus(server, store=store)
    tus.upload(b'hello')
    for call in script.wait(4):
        assert call.is_hook and not token_of(call)
    post(server.port, '/hook.php', [('TUS_HOOK', '1'), ('Mod-Tus-Token', 'f' * 32)], b'{}')
    stranger = next(call for call in script.wait(5) if call.body == b'{}')
    assert 'TUS_HOOK' not in stranger.environment


# -- nobody else's ---------------------------------------------------------------------------------

def token_of(call):
    """What a script finds that could make a call look like ours."""
    return [name for name in call.environment if 'TOKEN' in name.upper()]


FORGERIES = [
    [('TUS_HOOK', '1')], [('Tus-Hook', '1')], [('Mod-Tus-Token', '1')], [('Mod-Tus-Token', '')],
    [('Mod-Tus-Token', '0' * 32)], [('mod-tus-token', 'f' * 31)], [('MOD_TUS_TOKEN', 'a' * 32)],
    [('Mod-Tus-Token', 'a' * 32), ('Mod-Tus-Token', 'b' * 32)], [('Mod-Tus-Token', 'a' * 64)],
    [('Mod-Tus-Token', 'é' * 32)], [('Connection', 'Mod-Tus-Token'), ('Mod-Tus-Token', 'a' * 32)]]


def test_strangers(httpd):
    local = Local(httpd)
    local.tus.upload(b'hello')
    real = local.script.wait(4)
    for number, fields in enumerate(FORGERIES):
        body = b'forged %d' % number
        assert post(local.server.port, '/hook.cgi', fields, body).status == 200
        call = next(call for call in local.script.calls() if call.body == body)
        assert 'TUS_HOOK' not in call.environment, fields
    # A real event, with all that the script could see of its call.
    for call in real:
        fields = [(name[5:].replace('_', '-').title(), value)
                  for name, value in call.environment.items()
                  if name.startswith('HTTP_') and name != 'HTTP_CONNECTION']
        before = len(local.script.calls())
        post(local.server.port, '/hook.cgi', fields, call.body)
        replayed = [each for each in local.script.wait(before + 1) if each.body == call.body]
        assert [each.is_hook for each in replayed] == [True, False]


def test_the_token_goes_no_further(httpd, php):
    """Neither scripts, nor what lies behind, nor the logs get to know it."""
    with HookServer() as behind:
        server = httpd(modules=['cgid', 'proxy', 'proxy_http', 'rewrite', 'log_forensic',
                                'headers'])
        store = server.make_store()
        script = Script(server.htdocs / 'hook.cgi', server.root / 'calls')
        server.start(
            cgi_config(server)
            + f'ForensicLog "{server.root}/forensic.log"\n'
            + 'LogFormat "%{Mod-Tus-Token}i" token\n'
            + f'CustomLog "{server.root}/token.log" token\n'
            + f'ProxyPass /behind {behind.url}\n'
            + endpoint('Location /files', store, f'TusHook /hook.cgi {EVENTS}',
                       f'TusHook /behind {EVENTS}', QUICK))
        tus = Tus(server, store=store)
        tus.upload(b'hello')
        calls = script.wait(4)
        behind.wait(4)
        assert not [token_of(call) for call in calls if token_of(call)]
        assert not [call for call in behind.of() if call.get('Mod-Tus-Token')]
        post(server.port, '/hook.cgi', [('Mod-Tus-Token', 'forged')], b'')
        script.wait(5)
        logs = ''.join((server.root / name).read_text() for name in
                       ('forensic.log', 'token.log', 'access.log', 'error.log'))
        assert not re.search(r'(?i)mod-tus-token[:=]\s*[0-9a-f]{32}|^[0-9a-f]{32}$', logs, re.M)
        assert len(logs.split('\n')) > 10


def test_of_a_call_only_the_script_itself(httpd):
    """Not what the call leads to behind an internal redirect that another client makes."""
    local = Local(httpd, extra='ErrorDocument 404 /hook.cgi\n')
    post(local.server.port, '/nowhere', [('Mod-Tus-Token', '0' * 32)], b'')
    assert not local.script.wait(1)[0].is_hook


# Each makes TUS_HOOK of some word of a configuration, for all requests.
SETTINGS = {
    'SetEnv': 'SetEnv TUS_HOOK 1\n', 'SetEnvIf': 'SetEnvIf X-Hook (.+) TUS_HOOK=$1\n',
    'SetEnvIfNoCase': 'SetEnvIfNoCase Request_Method . TUS_HOOK\n',
    'BrowserMatch': 'BrowserMatch . TUS_HOOK=1\n', 'PassEnv': 'PassEnv TUS_HOOK\n',
    'RewriteRule': 'RewriteEngine On\nRewriteRule . - [E=TUS_HOOK:1]\n',
    'RewriteRule that leads there':
        'RewriteEngine On\nRewriteRule .*elsewhere$ /hook.cgi [E=TUS_HOOK:%{HTTP:X-Hook}]\n'}
CLAIM = [('X-Hook', '1'), ('TUS_HOOK', '1'), ('User-Agent', 'x')]


@pytest.mark.parametrize('name', SETTINGS)
@pytest.mark.parametrize('place', ['server', 'htaccess'])
def test_no_configuration_makes_a_stranger_a_hook(httpd, name, place):
    """Nor does one take it from our own calls."""
    line, htaccess = SETTINGS[name], place == 'htaccess'
    local = Local(httpd, modules=['rewrite', 'cgid'], environment={'TUS_HOOK': '1'},
                  extra='' if htaccess else line.replace('- [', '- [PT,'))
    if htaccess:
        local.server.stop()
        local.server.start(local.server._text + f'<Directory "{local.server.htdocs}">\n'
                           'AllowOverride FileInfo\n</Directory>\n')
        (local.server.htdocs / '.htaccess').write_text(line)
    paths = ['/elsewhere'] if 'leads' in name else ['/hook.cgi', '/hook.cgi/more?TUS_HOOK=1']
    for number, path in enumerate(paths):
        body = b'{"Type": "stranger %d"}' % number
        assert post(local.server.port, path, CLAIM, body).status == 200
        [call] = local.script.wait(1, f'stranger {number}')
        assert 'TUS_HOOK' not in call.environment
    local.tus.upload(b'hello')
    ours = [call for call in local.script.wait(4 + len(paths)) if not call.type.startswith('stra')]
    assert len(ours) == 4 and all(call.is_hook for call in ours)


@pytest.mark.parametrize('name', ['SetEnv TUS_HOOK 0', 'UnsetEnv TUS_HOOK'])
def test_no_configuration_denies_our_own_calls(httpd, name):
    local = Local(httpd, extra=f'{name}\n')
    local.tus.upload(b'hello')
    assert all(call.is_hook for call in local.script.wait(4))


def test_what_leads_there_makes_no_hook(httpd):
    """Internal redirects and subrequests take their environment along."""
    local = Local(httpd, modules=['cgid', 'include', 'actions'],
                  extra='SetEnv TUS_HOOK 1\nErrorDocument 404 /hook.cgi\n'
                        'DirectoryIndex hook.cgi\nAction by-hook /hook.cgi virtual\n'
                        '<Location /acted>\nSetHandler by-hook\n</Location>\n'
                        'AddOutputFilter INCLUDES .shtml\n')
    server = local.server
    server.stop()
    server.start(server._text + f'<Directory "{server.htdocs}">\nOptions +Includes\n'
                 '</Directory>\n')
    (server.htdocs / 'page.shtml').write_text(
        '<!--#set var="TUS_HOOK" value="1" --><!--#include virtual="/hook.cgi" -->')
    for count, path in enumerate(('/nowhere', '/', '/acted', '/page.shtml'), 1):
        with Connection(server.port) as conn:
            assert conn.request('GET', path, CLAIM).status in (200, 404), path
        assert not [call for call in local.script.wait(count) if 'TUS_HOOK' in call.environment]


# -- which virtual host ----------------------------------------------------------------------------

class Hosts:
    """Virtual hosts, each with a script of its own and the store of all."""

    def __init__(self, server, names):
        self.server = server
        self.store = server.make_store()
        self.scripts = {}
        for name in names:
            root = server.make_dir(server.root / f'www-{name}')
            self.scripts[name] = Script(root / 'hook.cgi', server.root / f'calls-{name}')

    def vhost(self, address, name, *lines, named=True):
        return '\n'.join([
            f'<VirtualHost {address}>', f'ServerName {name}' if named else '',
            f'DocumentRoot "{self.server.root}/www-{name}"', *lines,
            cgi_config(self.server, f'{self.server.root}/www-{name}').replace('ScriptSock', '#'),
            endpoint('Location /files', self.store, f'TusHook /hook.cgi {EVENTS}', QUICK),
            '</VirtualHost>', ''])

    def sock(self):
        return f'ScriptSock {self.server.root}/run/cgisock\n'

    def check(self, name, host, **how):
        """A life under that Host is told to that virtual host's script, and to no other."""
        before = {each: len(script.calls()) for each, script in self.scripts.items()}
        tus = Tus(self.server, store=self.store, headers=[('Host', host)] if host else (), **how)
        url = tus.new(5, b'hello')
        assert tus.delete(url).status == 204
        calls = self.scripts[name].wait(before[name] + 6)[before[name]:]
        assert sorted(call.type for call in calls) == sorted(EVENTS.split())
        assert all(call.is_hook for call in calls)
        for each, script in self.scripts.items():
            assert len(script.calls()) == before[each] + 6 * (each == name), each
        return calls


def test_hosts_by_name(httpd):
    """Names that no DNS knows."""
    server = httpd(modules=['cgid'])
    hosts = Hosts(server, ['a.invalid', 'b.invalid', 'c.invalid'])
    address = '127.0.0.1:*'
    server.start(hosts.sock() + ''.join(hosts.vhost(address, name) for name in hosts.scripts))
    for name in hosts.scripts:
        for host in (name, f'{name}:{server.port}', name.upper()):
            for call in hosts.check(name, host):
                assert call.environment['SERVER_NAME'].lower() == name
                assert call.environment['HTTP_HOST'].lower().split(':')[0] == name
                assert call.environment['SERVER_PORT'] == str(server.port)


def test_hosts_by_address(httpd):
    server = httpd(modules=['cgid'])
    hosts = Hosts(server, ['one.invalid', 'two.invalid'])
    server.start(hosts.sock() + f'Listen 127.0.0.2:{server.port}\n'
                 + hosts.vhost(f'127.0.0.1:{server.port}', 'one.invalid')
                 + hosts.vhost(f'127.0.0.2:{server.port}', 'two.invalid'))
    hosts.check('one.invalid', None)

    class Two(Tus):
        def connect(self, **options):
            conn = Connection(server.port)
            conn.sock.close()
            conn.sock = socket.create_connection(('127.0.0.2', server.port), timeout=30)
            return conn

    tus = Two(server, store=hosts.store)
    tus.upload(b'hello')
    hosts.scripts['two.invalid'].wait(4)


def test_one_host_of_many_names(httpd):
    """As with mod_vhost_alias: what is told later goes to where its request came to."""
    server = httpd(modules=['cgid', 'vhost_alias'])
    hosts = Hosts(server, ['a.invalid', 'b.invalid'])
    server.start(hosts.sock() + 'UseCanonicalName Off\n'
                 f'VirtualDocumentRoot "{server.root}/www-%0"\n'
                 + ''.join(cgi_config(server, f'{server.root}/www-{name}').split('\n', 1)[1]
                           for name in hosts.scripts)
                 + endpoint('Location /files', hosts.store, f'TusHook /hook.cgi {EVENTS}', QUICK))
    for name in hosts.scripts:
        hosts.check(name, name)


@pytest.mark.parametrize('listen', ['https', ''])
def test_tls_with_sni(httpd, listen):
    """Both by the same port: which certificate, and which host, the name decides."""
    server = httpd(modules=['cgid'], tls=True)
    hosts = Hosts(server, ['a.invalid', 'b.invalid'])
    port = free_port()
    server.allow_log('AH01909')     # the certificate's name
    server.start(hosts.sock() + f'Listen 127.0.0.1:{port} {listen}\nSSLStrictSNIVHostCheck On\n'
                 + ''.join(hosts.vhost(f'127.0.0.1:{port}', name, 'SSLEngine On')
                           for name in hosts.scripts))

    class Named(Tus):
        def connect(self, **options):
            conn = Connection(port)
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            conn.sock = context.wrap_socket(conn.sock, server_hostname=dict(self.headers)['Host'])
            return conn

    for name in hosts.scripts:
        before = len(hosts.scripts[name].calls())
        tus = Named(server, store=hosts.store, headers=[('Host', name)])
        tus.upload(b'hello')
        calls = hosts.scripts[name].wait(before + 4)[before:]
        for call in calls:
            assert call.is_hook
            assert call.environment['HTTPS'] == 'on'
            assert call.environment['SERVER_NAME'] == name
    spool.wait_empty(server)
    assert {len(script.calls()) for script in hosts.scripts.values()} == {4}


def test_ipv6(httpd):
    server = httpd(modules=['cgid'])
    hosts = Hosts(server, ['six.invalid'])
    port = free_port()
    server.start(hosts.sock() + f'Listen [::1]:{port}\n'
                 + hosts.vhost(f'[::1]:{port}', 'six.invalid'))

    class Six(Tus):
        def connect(self, **options):
            conn = Connection(server.port)
            conn.sock.close()
            conn.sock = socket.create_connection(('::1', port), timeout=30)
            return conn

    for host in ('six.invalid', f'[::1]:{port}'):
        before = len(hosts.scripts['six.invalid'].calls())
        Six(server, store=hosts.store, headers=[('Host', host)]).upload(b'hello')
        for call in hosts.scripts['six.invalid'].wait(before + 4)[before:]:
            assert call.is_hook
            assert call.environment['SERVER_ADDR'] == '::1'


@pytest.mark.parametrize('host', ['evil.example', '127.0.0.2', '[::1]', 'localhost:1', 'x' * 200,
                                  '169.254.169.254', '127.0.0.1:22'])
def test_no_host_leads_the_call_away(httpd, host):
    local = Local(httpd)
    tus = Tus(local.server, store=local.store, headers=[('Host', host)])
    tus.upload(b'hello')
    assert all(call.is_hook for call in local.script.wait(4))


@pytest.mark.parametrize('host', ['a?b', 'a#b', 'a@b', 'a%2fb'])
def test_no_host_bends_the_call(httpd, host):
    """httpd takes any, if it is told to."""
    local = Local(httpd, extra='HttpProtocolOptions Unsafe\n')
    local.server.allow_log('Client sent')
    Tus(local.server, store=local.store, headers=[('Host', host)]).upload(b'hello')
    assert {call.environment['REQUEST_URI'] for call in local.script.wait(4)} == {'/hook.cgi'}


# -- loops -----------------------------------------------------------------------------------------

@pytest.mark.parametrize('path', ['/files/', '/files', '/again', '/files//'])
def test_a_hook_that_leads_to_its_endpoint(httpd, path):
    server = httpd(modules=['rewrite'])
    store = server.make_store()
    server.start('RewriteEngine On\nRewriteRule ^/again$ /files/ [PT]\n'
                 + endpoint('Location /files', store, f'TusHook {path} {EVENTS}', QUICK))
    server.expect_log('a TusHook leads to this endpoint')
    server.expect_log('hook pre-create .* failed: status 508')
    tus = Tus(server, store=store)
    assert_error(tus.create(5), 502, 'ERR_HOOK_FAILED')
    assert not store.files()


def test_a_ring_of_two(httpd):
    server = httpd()
    one, two = server.make_store('one'), server.make_store('two')
    server.start(endpoint('Location /one', one, f'TusHook /two/ {EVENTS}', QUICK)
                 + endpoint('Location /two', two, f'TusHook /one/ {EVENTS}', QUICK))
    server.expect_log('a TusHook leads to this endpoint')
    server.expect_log('hook pre-create .* failed: status 508')
    assert_error(Tus(server, '/one/', one).create(5), 502, 'ERR_HOOK_FAILED')
    assert not one.files() and not two.files()


# -- a small server --------------------------------------------------------------------------------

SMALL = {'event': 'StartServers 1\nServerLimit 1\nThreadsPerChild 4\nMinSpareThreads 1\n'
                  'MaxSpareThreads 4\nMaxRequestWorkers 4',
         'worker': 'StartServers 1\nServerLimit 1\nThreadsPerChild 4\nMinSpareThreads 1\n'
                   'MaxSpareThreads 4\nMaxRequestWorkers 4',
         'prefork': 'StartServers 4\nServerLimit 4\nMinSpareServers 1\nMaxSpareServers 4\n'
                    'MaxRequestWorkers 4'}


def create_at_once(tus, count):
    """The answers of that many simultaneous creations."""
    answers, barrier = [], threading.Barrier(count)

    def create():
        barrier.wait()
        answers.append(tus.create(5))

    threads = [threading.Thread(target=create) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers


@pytest.mark.parametrize('count', [4, 16])
def test_no_deadlock(httpd, mpm, count):
    local = Local(httpd, mpm=mpm, mpm_settings=SMALL[mpm])
    local.server.allow_log('too many requests wait for hooks of this server itself')
    local.server.allow_log('MaxRequestWorkers')
    for _ in range(3):
        answers = create_at_once(local.tus, count)
        assert len(answers) == count
        for answer in answers:
            if answer.status != 201:
                assert_error(answer, 503, 'ERR_TOO_BUSY')
                assert answer.get('Retry-After')
        assert [answer for answer in answers if answer.status == 201]
    made = [call for call in local.script.calls('pre-create')]
    assert len(local.store.uploads()) == len(made)
    local.script.wait(len(made), 'post-create', timeout=60)
    spool.wait_empty(local.server)


def test_some_are_told_to_come_again(httpd, mpm):
    """While the script thinks, only so many wait for it; the server answers all others."""
    local = Local(httpd, mpm=mpm, mpm_settings=SMALL[mpm], events='pre-create')
    local.script.hold()
    held = threading.Thread(target=lambda: local.tus.create(5))
    held.start()
    local.script.wait(1)
    local.server.expect_log('too many requests wait for hooks of this server itself')
    for _ in range(3):
        answer = local.tus.create(5)
        assert_error(answer, 503, 'ERR_TOO_BUSY')
        assert int(answer.get('Retry-After')) > 0
    local.script.let_go()
    held.join()
    assert local.tus.create(5).status == 201


# -- .htaccess -------------------------------------------------------------------------------------

class Site:
    """A customer's directory, in which his .htaccess makes an endpoint with a hook."""

    def __init__(self, httpd, *server_lines, **options):
        self.server = httpd(**{'modules': ['cgid'], **options})
        self.path = self.server.make_dir(self.server.htdocs / 'site' / 'up')
        self.store = Store(self.server.make_dir(self.path / 'store'))
        self.script = Script(self.server.htdocs / 'site' / 'hook.cgi', self.server.root / 'calls')
        self.server.start(cgi_config(self.server) + f'<Directory "{self.server.htdocs}">\n'
                          'AllowOverride FileInfo\n' + '\n'.join(server_lines)
                          + '\n</Directory>\n')
        self.tus = Tus(self.server, '/site/up/', self.store)

    def hook(self, url, *lines, events=EVENTS):
        (self.path / '.htaccess').write_text('\n'.join([
            'TusEngine On', 'TusStore file store', f'TusHook "{url}" {events}', QUICK, *lines, '']))

    def refuses(self, url, why, events='pre-create'):
        """The hook is not called, and what would have to be asked is refused."""
        self.server.expect_log(why)
        self.hook(url, events=events)
        assert_error(self.tus.create(5), 502, 'ERR_HOOK_FAILED')


NOT_ALLOWED = 'TusAllowHook does not let an .htaccess call it'


def test_a_path_by_default(httpd, mpm):
    site = Site(httpd, mpm=mpm, modules=[cgi_module(mpm)])
    site.hook('/site/hook.cgi')
    url = site.tus.new(5, b'hello')
    assert site.tus.delete(url).status == 204
    calls = site.script.wait(6)
    assert sorted(call.type for call in calls) == sorted(EVENTS.split())
    assert all(call.is_hook for call in calls)


def test_nothing_else_by_default(httpd, hook_server):
    hooks = hook_server()
    site = Site(httpd)
    with HookServer(unix=site.server.root / 'run' / 'app.sock') as unix:
        for url in (hooks.url, unix.url, 'http://127.0.0.1:1/', 'https://www.example/hook'):
            site.refuses(url, NOT_ALLOWED)
        assert not hooks.of() and not unix.of()


def test_off(httpd):
    site = Site(httpd, 'TusAllowHook Off')
    site.refuses('/site/hook.cgi', NOT_ALLOWED)
    assert not site.script.calls()


def test_told_later_it_is_refused_too(httpd, hook_server):
    """post-* of a hook that is not allowed are never sent, and wait."""
    hooks = hook_server()
    site = Site(httpd)
    site.server.expect_log(rf'{NOT_ALLOWED}')
    site.hook(hooks.url, events='post-create post-finish post-terminate')
    url = site.tus.new(5, b'hello')
    assert site.tus.delete(url).status == 204
    site.server.wait_log(NOT_ALLOWED)
    assert len(spool.files(site.server)) == 3
    assert not hooks.of()


def test_no_longer_allowed(httpd, hook_server):
    """What the administrator says when an event is told counts, not when it happened."""
    hooks = hook_server()
    site = Site(httpd, f'TusAllowHook http://127.0.0.1:{hooks.port}/')
    hooks.stop()
    site.hook(hooks.url, events='post-create')
    site.tus.new(5)
    site.server.wait_log('not told')
    site.server.expect_log('not told')
    site.server.stop()
    hooks.start()
    for path in spool.files(site.server):
        spool.make_due(path)
    site.server.start(cgi_config(site.server) + f'<Directory "{site.server.htdocs}">\n'
                      'AllowOverride FileInfo\n</Directory>\n')
    site.server.wait_log(NOT_ALLOWED)
    assert not hooks.of()
    assert len(spool.files(site.server)) == 1


@pytest.mark.parametrize('section, ok', [
    ('Directory "{htdocs}/site"', True), ('Directory "{htdocs}/site/up"', True),
    ('Directory "{htdocs}/*/up"', True), ('Directory "{htdocs}/s?te"', True),
    ('DirectoryMatch "^{htdocs}/[a-z]+/up"', True), ('Directory ~ "/site/up/?$"', True),
    ('Directory "/"', True), ('Directory "{htdocs}/site/u"', False),
    ('Directory "{htdocs}/site/up/store"', False), ('Directory "{htdocs}/*/up/*"', False)])
def test_sections_that_allow(httpd, hook_server, section, ok):
    """Asked within a request, and told when there is none, by the same rule."""
    hooks = hook_server()
    site = Site(httpd)
    site.server.stop()
    site.server.start(site.server._text + f'<{section.format(htdocs=site.server.htdocs)}>\n'
                      f'TusAllowHook http://127.0.0.1:{hooks.port}\n</{section.split()[0]}>\n')
    site.hook(hooks.url, events='pre-create post-create')
    if ok:
        site.tus.new(5)
        hooks.wait(2)
        spool.wait_empty(site.server)
        return
    site.refuses(hooks.url, NOT_ALLOWED)
    site.hook(hooks.url, events='post-create')
    site.tus.new(5)
    site.server.wait_log(f'post-create .*{NOT_ALLOWED}')
    assert not hooks.of()


@pytest.mark.parametrize('prefix, ok', [
    ('http://127.0.0.1:{port}/', True), ('http://127.0.0.1:{port}/hook', True),
    ('http://127.0.0.1:{port}/hook/', False), ('http://127.0.0.1:{port}/other', False),
    ('http://127.0.0.1:1/', False), ('https://127.0.0.1:{port}/', False),
    ('http://127.0.0.2:{port}/', False)])
def test_a_prefix(httpd, hook_server, prefix, ok):
    hooks = hook_server()
    site = Site(httpd, 'TusAllowHook ' + prefix.format(port=hooks.port))
    if not ok:
        site.refuses(hooks.url, NOT_ALLOWED)
        assert not hooks.of()
        return
    site.hook(hooks.url)
    url = site.tus.new(5, b'hello')
    assert site.tus.delete(url).status == 204
    hooks.wait(6)
    site.refuses('/site/hook.cgi', NOT_ALLOWED)


@pytest.mark.parametrize('trick', [
    'http://127.0.0.1:{port}@evil.invalid/hook', 'http://127.0.0.1:{port}.evil.invalid/hook',
    'http://127.0.0.1:{port}/../secret', 'http://127.0.0.1:{port}/hook/../secret',
    'http://127.0.0.1:{port}/hook/%2e%2e/secret', 'http://127.0.0.1:{port}/hook/..;/secret',
    'http://127.0.0.1:{port}\\\\hook', 'HTTP://127.0.0.1:{port}/HOOK',
    'http://127.1:{port}/hook', 'http://2130706433:{port}/hook', 'http://0x7f000001:{port}/hook',
    'unix:/tmp/x|http://127.0.0.1:{port}/hook', '//127.0.0.1:{port}/hook'])
def test_tricks_with_a_prefix(httpd, hook_server, trick):
    """At configuration (500) or at the call (502), refused it is; and nobody was called."""
    hooks = hook_server(path='/hook/')
    site = Site(httpd, f'TusAllowHook http://127.0.0.1:{hooks.port}/hook/')
    site.server.allow_log('.')
    site.hook(trick.format(port=hooks.port), events='pre-create')
    with Connection(site.server.port) as conn:
        answer = conn.request('POST', '/site/up/', [VERSION, ('Upload-Length', 5)])
    assert answer.status in (500, 502), answer
    assert not hooks.of()


# -- addresses that are not public -----------------------------------------------------------------

PRIVATE = ['127.0.0.1', '127.8.9.10', '0.0.0.0', '10.0.0.1', '172.16.0.1', '172.31.255.254',
           '192.168.1.1', '169.254.169.254', '100.64.0.1', '[::1]', '[::]', '[fe80::1]',
           '[fc00::1]', '[fd12::1]', '[::ffff:127.0.0.1]', '[::ffff:10.0.0.1]',
           '[::ffff:a9fe:a9fe]', '[64:ff9b::7f00:1]', '[2002:7f00:1::]', '224.0.0.1', '255.255.255.255']


@pytest.fixture(scope='module')
def names():
    """A hosts file in which names lead to addresses that are not public."""
    lines = [f'{address.strip("[]")} n{number}.test' for number, address in enumerate(PRIVATE)]
    return '127.0.0.1 localhost\n' + '\n'.join(lines) + '\n'


@pytest.fixture(scope='module')
def anywhere(shared_httpd, names, tmp_path_factory):
    """Hooks may be anywhere: that is, anywhere that is public."""
    hosts = tmp_path_factory.mktemp('hosts') / 'hosts'
    hosts.write_text(names)
    for directory in (hosts.parent, hosts.parent.parent):
        directory.chmod(0o755)
    return Site(shared_httpd, 'TusAllowHook http:// https://',
                prefix=with_mount(f'mount --bind {hosts} /etc/hosts'))


@pytest.mark.parametrize('number', range(len(PRIVATE)), ids=PRIVATE)
def test_not_public(anywhere, hook_server, number):
    """By address and by name, whatever the DNS said when it was configured."""
    hooks = hook_server()
    for host in (PRIVATE[number], f'n{number}.test'):
        anywhere.refuses(f'http://{host}:{hooks.port}/hook',
                         'hook pre-create .* failed: .*(public|TusAllowHook)')
    assert not hooks.connections


def test_names_are_found(anywhere, hook_server):
    """Else the test above shows nothing: the administrator's own prefix leads there."""
    hooks = hook_server()
    site = anywhere
    site.server.stop()
    text = site.server._text.replace('TusAllowHook http:// https://',
                                     f'TusAllowHook http://n0.test:{hooks.port}/')
    site.server.start(text)
    site.hook(f'http://n0.test:{hooks.port}/hook', events='pre-create')
    site.tus.new(5)
    assert hooks.wait(1)[0].get('Host') == f'n0.test:{hooks.port}'


# -- what lies in TusStateDir ----------------------------------------------------------------------

def test_planted_events_go_nowhere_else(httpd, hook_server):
    """An event goes where its hook's configuration says; none of its fields says where."""
    hooks, victim = hook_server(), hook_server()
    server = httpd()
    store = server.make_store()
    config = endpoint('Location /files', store,
                      f'TusHook {hooks.url} post-create post-finish post-terminate', QUICK)
    server.start(config)
    tus = Tus(server, store=store)
    hooks.stop()
    tus.upload(b'hello')
    server.wait_log('not told')
    server.expect_log('not told')
    server.stop()
    event = next(path for path in spool.files(server) if spool.read(path).type == 'post-create')
    text = event.read_bytes()
    evil = victim.url.encode()
    variants = [
        text.replace(b'\nhook: ', b'\nurl: ' + evil + b'\nhook: '),
        re.sub(rb'(?m)^hook: .*$', b'hook: ' + evil, text),
        text.replace(b'\nlength: ', b'\nheader: Host: evil\nlength: ', 1),
        text.replace(b'tus-event 1\n', b'tus-event 1\nto: ' + evil + b'\n'),
        b'', b'tus-event 1\n', text[:-1], text + b'x', os.urandom(4096)]
    shard = event.parent
    for number, variant in enumerate(variants):
        name = re.sub(r'^(..).{6}', rf'\g<1>{number:06x}', event.name)
        plant(shard / name, variant)
    plant(shard / f'{event.name}.bak', text)
    plant(shard / 'hello', b'hello')
    (shard / f'{shard.name}{"0" * 38}.{"0" * 16}.1.{"0" * 16}').symlink_to('/etc/passwd')
    os.mkfifo(shard / f'{shard.name}{"1" * 38}.{"0" * 16}.1.{"0" * 16}')
    hooks.start()
    for path in spool.files(server):
        if path.is_file() and not path.is_symlink():
            spool.make_due(path)
    server.allow_log(r'spool')
    server.start(config)
    wait_until(lambda: {call.type for call in hooks.of()} == {'post-create', 'post-finish'},
               'what is real to be told')
    spool.wait_empty(server)
    assert len(hooks.of()) == 2
    assert not victim.connections
    assert len(spool.files(server, failed=True)) >= len(variants)


def plant(path, content):
    path.write_bytes(content)
    give_to_user(path)


def test_planted_notes_go_nowhere_else(httpd, hook_server):
    """A note of an .htaccess's hook is not believed beyond what TusAllowHook says."""
    hooks, victim = hook_server(), hook_server()
    site = Site(httpd, f'TusAllowHook http://127.0.0.1:{hooks.port}/')
    site.hook(hooks.url, events='post-create')
    hooks.stop()
    site.tus.new(5)
    site.server.wait_log('not told')
    site.server.expect_log('not told')
    site.server.stop()
    note, = site.server.state_dir.glob('**/hooks/*')
    event, = spool.files(site.server)
    text, original = note.read_bytes(), event.read_bytes()

    def orphans(key):
        return site.server.error_log.unread().count(f'no TusHook takes the events of hook {key}')

    def start_with(content, key=None):
        """With that note, as that of the event's hook."""
        name = key or note.name
        for path in site.server.state_dir.glob('**/hooks/*'):
            path.unlink()
        for path in spool.files(site.server):
            path.unlink()
        plant(note.with_name(name), content)
        planted = event.with_name(event.name[:-16] + name)
        plant(planted, original.replace(note.name.encode(), name.encode()))
        before = orphans(name)
        site.server.start(site.server._text)
        wait_until(lambda: hooks.of() or due_later(planted) or orphans(name) > before,
                   'it to be looked at')
        site.server.stop()

    hooks.start()
    evil = text.replace(hooks.url.encode(), victim.url.encode())
    site.server.allow_log(f'{NOT_ALLOWED}|not told')
    start_with(evil)
    key = key_of(evil)
    start_with(evil, key)
    elsewhere = re.sub(rb'(?m)^dir .*$', b'dir /', evil)
    start_with(elsewhere, key_of(elsewhere))
    for broken in (b'', b'mod_tus hook 1\n', text[:-20], text * 2, os.urandom(300), bytes(9000)):
        start_with(broken)
    assert not victim.connections and not hooks.of()
    start_with(text)
    hooks.wait(1)
    assert not victim.connections


def due_later(path):
    """It was looked at, and is to be looked at again."""
    return path.exists() and path.stat().st_mtime > time.time() + 0.01


def key_of(note):
    """As src/tus_hook.c makes it of a note that is whole."""
    fields = dict(line.split(' ', 1) for line in note.decode().splitlines()[1:])
    where = hashlib.sha1(b''.join(fields[name].encode() + b'\0' for name in ('server', 'dir')))
    to = hashlib.sha1(fields['url'].encode() + b'\0')
    return where.hexdigest()[:8] + to.hexdigest()[:8]
