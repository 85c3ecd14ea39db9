"""The directives: where they may stand, how they merge, what a mistake in them says."""
import re
import stat

import pytest

from testenv.httpd import HttpdError, endpoint
from testenv.tus import Tus, assert_error

# name: (a valid value, contexts): s server, v virtual host, d Directory and Location, h .htaccess
DIRECTIVES = {
    'TusEngine': ('Off', 'svdh'), 'TusStore': ('file store', 'svdh'), 'TusMetadata': ('dbm', 'svd'),
    'TusMaxSize': ('1G', 'svdh'), 'TusBaseURL': ('/x/', 'svdh'), 'TusSync': ('none', 'svdh'),
    'TusFileMode': ('0640', 'svdh'), 'TusLockTimeout': ('5s', 'svd'),
    'TusAllowStore': ('/srv', 'svd'), 'TusAllowMaxSize': ('1G', 'svd'),
    'TusExpire': ('7d', 'svdh'), 'TusAllowExpire': ('7d', 'svd'),
    'TusExtensions': ('-checksum', 'svdh'), 'TusProtocols': ('tus', 'svdh'),
    'TusChecksums': ('sha1', 'svdh'), 'TusDownload': ('Off', 'svdh'), 'TusForwarded': ('On', 'svd'),
    'TusDirMode': ('0750', 'svdh'), 'TusCORS': ('Off', 'svdh'),
    'TusCORSAllowOrigin': ('^https://a$', 'svdh'), 'TusCORSAllowCredentials': ('On', 'svdh'),
    'TusCORSAllowMethods': ('+PUT', 'svdh'), 'TusCORSAllowHeaders': ('+X-A', 'svdh'),
    'TusCORSExposeHeaders': ('+X-A', 'svdh'), 'TusCORSMaxAge': ('1h', 'svdh'),
    'TusStatus': ('On', 'svd'), 'TusHook': ('http://127.0.0.1:9/ pre-create', 'svdh'),
    'TusHookTimeout': ('5s', 'svdh'), 'TusHookRetry': ('5 1s', 'svdh'),
    'TusHookProgressInterval': ('2s', 'svdh'), 'TusHookMaxAge': ('1d', 'svd'),
    'TusHookForwardHeader': ('Cookie', 'svd'), 'TusHookVerify': ('Off', 'svd'),
    'TusHookSecret': ('hello', 'svdh'), 'TusAllowHook': ('Local', 'svd'),
    'TusStateDir': ('{root}/state2', 's')}


@pytest.fixture(scope='module')
def checker(shared_httpd):
    """Never started: its configuration is only tested."""
    server = shared_httpd()
    server.make_store('store')
    return server


def line_of(server, name):
    value = DIRECTIVES[name][0].format(root=server.root)
    return f'{name} {value.replace("file store", f"file {server.root}/stores/store")}'


# -- contexts --------------------------------------------------------------------------------------

@pytest.mark.parametrize('name', DIRECTIVES)
@pytest.mark.parametrize('context, section', [
    ('s', '{line}'), ('v', '<VirtualHost *:1>\nServerName localhost\n{line}\n</VirtualHost>'),
    ('d', '<Directory "/srv">\n{line}\n</Directory>'),
    ('d', '<Location "/x">\n{line}\n</Location>'),
    ('d', '<Directory "/srv">\n<Files "*">\n{line}\n</Files>\n</Directory>'),
    ('d', '<Location "/x">\n<If "true">\n{line}\n</If>\n</Location>')])
def test_context(checker, name, context, section):
    code, said = checker.configtest(section.format(line=line_of(checker, name)) + '\n')
    if context in DIRECTIVES[name][1]:
        assert code == 0, said
    else:
        assert code != 0
        assert f'{name} ' in said


@pytest.mark.parametrize('name', [name for name, (_, contexts) in DIRECTIVES.items()
                                  if name != 'TusStateDir'])
def test_default_resets(checker, name):
    code, said = checker.configtest(f'<Location "/x">\n{name} default\n</Location>\n')
    assert code == 0, said


# -- values ----------------------------------------------------------------------------------------

@pytest.mark.parametrize('line', [
    'TusEngine on', 'TusEngine OFF', 'TusMetadata dbm', 'TusMetadata dbm:sdbm',
    'TusMetadata dbm:gdbm', 'TusMetadata dbm:db', 'TusMaxSize 0', 'TusMaxSize 1', 'TusMaxSize 1K',
    'TusMaxSize 1m', 'TusMaxSize 5G', 'TusMaxSize 2T', 'TusMaxSize 9223372036854775807',
    'TusBaseURL /', 'TusBaseURL /a/b', 'TusBaseURL https://a.example:8443/x/', 'TusSync none',
    'TusSync finish', 'TusSync always', 'TusSync FINISH', 'TusFileMode 0600', 'TusFileMode 660',
    'TusLockTimeout 20', 'TusLockTimeout 500ms', 'TusLockTimeout 20s', 'TusLockTimeout 1mi',
    'TusLockTimeout 1h', 'TusLockTimeout 1d', 'TusAllowStore /a /b', 'TusAllowMaxSize 1G',
    'TusExpire off', 'TusExpire OFF', 'TusExpire 1ms', 'TusExpire 7d', 'TusExpire 3650d',
    'TusAllowExpire none', 'TusAllowExpire 2w', 'TusExtensions all', 'TusExtensions none',
    'TusExtensions None', 'TusExtensions creation termination', 'TusExtensions +checksum -creation',
    'TusExtensions CREATION', 'TusProtocols tus', 'TusProtocols TUS', 'TusChecksums SHA1 md5',
    'TusChecksums sha1 sha256 sha512 md5 crc32 crc32c', 'TusDownload off', 'TusForwarded on',
    'TusDirMode 0700', 'TusDirMode 775', 'TusCORS on', 'TusCORSAllowOrigin null',
    r'TusCORSAllowOrigin "^https://(a|b)\.example$"', 'TusCORSAllowCredentials on',
    'TusCORSAllowMethods POST', 'TusCORSAllowMethods +PUT +LOCK', 'TusCORSAllowMethods none',
    'TusCORSAllowHeaders *', 'TusCORSAllowHeaders X-A x-a', 'TusCORSAllowHeaders NONE',
    'TusCORSExposeHeaders +X-A', 'TusCORSMaxAge 0', 'TusCORSMaxAge 10mi', 'TusCORSMaxAge 365d',
    'TusCORSMaxAge 1000ms', 'TusStatus on',
    'TusHook http://a.example/', 'TusHook HTTPS://A.example:8443/x?y=z',
    'TusHook "http://[::1]:9000/hooks" pre-create', 'TusHook /hook.php post-finish',
    'TusHook unix:/run/app.sock|http://localhost/path pre-create post-create post-receive '
    'pre-finish post-finish pre-terminate post-terminate', 'TusHook none', 'TusHook NONE',
    'TusHook http://a.example/ pre-create pre-create', 'TusHookTimeout 1ms', 'TusHookTimeout 1h',
    'TusHookRetry 0', 'TusHookRetry 100', 'TusHookRetry 3 250ms', 'TusHookProgressInterval 10ms',
    'TusHookMaxAge 1s', 'TusHookMaxAge 3650d', 'TusHookForwardHeader Cookie X-Token',
    'TusHookForwardHeader none', 'TusHookVerify on', 'TusHookSecret none', 'TusHookSecret " a b "',
    'TusHookSecret whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', 'TusHookSecret file:/etc/hostname',
    'TusHookSecret "exec:/bin/echo hello world"', 'TusAllowHook Off', 'TusAllowHook local',
    'TusAllowHook Local https:// http://10.0.0.1:8080/in', 'TusAllowHook "unix:/run/app.sock|"'])
def test_good_values(checker, line):
    code, said = checker.configtest(f'<Location "/x">\n{line}\n</Location>\n')
    assert code == 0, said


@pytest.mark.parametrize('line, hint', [
    ('TusEngine', 'On|Off|argument'), ('TusEngine Maybe', 'On|Off'),
    ('TusEngine On Off', 'argument|On'),
    ('TusStore', 'file|argument'), ('TusStore file', 'path|PATH'), ('TusStore s3 /x', 'file'),
    ('TusStore /x', 'file'), ('TusStore file relative', 'absolute'),
    ('TusStore file ""', 'path|PATH'),
    ('TusMetadata sql', 'dbm'), ('TusMetadata dbm:nosuch', 'sdbm'), ('TusMetadata dbm:', 'sdbm'),
    ('TusMaxSize -1', 'TusMaxSize'), ('TusMaxSize 1X', 'K'), ('TusMaxSize x', 'TusMaxSize'),
    ('TusMaxSize ""', 'TusMaxSize'), ('TusMaxSize 1.5G', 'TusMaxSize'),
    ('TusMaxSize 9223372036854775808', 'TusMaxSize'), ('TusMaxSize 99999999T', 'TusMaxSize'),
    ('TusBaseURL relative', 'path|URL'), ('TusBaseURL ftp://x/', 'http'),
    ('TusBaseURL ""', 'path|URL'),
    ('TusBaseURL "/a b"', 'TusBaseURL'), ('TusSync sometimes', 'finish'),
    ('TusFileMode 888', 'octal'),
    ('TusFileMode 07777', 'TusFileMode'), ('TusFileMode rw', 'octal'), ('TusFileMode ""', 'octal'),
    ('TusLockTimeout soon', 'TusLockTimeout'), ('TusLockTimeout -1', 'TusLockTimeout'),
    ('TusLockTimeout 5x', 'TusLockTimeout'), ('TusAllowStore', 'argument|directory|DIR'),
    ('TusAllowStore relative', 'absolute'), ('TusAllowMaxSize x', 'TusAllowMaxSize'),
    ('TusExpire', 'argument'), ('TusExpire 0', 'off, nor from 1ms to 3650d'),
    ('TusExpire 3651d', 'from 1ms to 3650d'), ('TusExpire never', 'off'),
    ('TusExpire 99999999999999w', 'too large'), ('TusExpire 1y', r'ms\|s\|mi\|h\|d\|w'),
    ('TusExpire 1 d', 'argument'), ('TusAllowExpire off', 'none'),
    ('TusAllowExpire 0', 'none, nor from 1ms to 3650d'),
    ('TusExtensions', 'argument'), ('TusExtensions "" creation', 'known are'),
    ('TusExtensions uploads', 'known are: creation,creation-with-upload,.*expiration'),
    ('TusExtensions +all', 'known are'), ('TusExtensions -none', 'known are'),
    ('TusExtensions creation all', 'known are'), ('TusExtensions --creation', 'known are'),
    ('TusExtensions +', 'known are'), ('TusExtensions creation -checksum', 'as with Options'),
    ('TusExtensions +checksum creation', 'as with Options'),
    ('TusExtensions creation-with-upload', 'creation for creation-with-upload'),
    ('TusExtensions creation concatenation-unfinished', 'concatenation for concatenation-unf'),
    ('TusExtensions creation checksum-trailer', '^(?s:.*)checksum-trailer cannot be offered'),
    ('TusProtocols', 'argument'), ('TusProtocols ietf', 'not spoken by this version yet; say tus'),
    ('TusProtocols tus ietf', 'say tus'), ('TusProtocols http', 'known is: tus'),
    ('TusProtocols +tus', 'known is: tus'),
    ('TusChecksums', 'argument'), ('TusChecksums sha3', 'known are: sha1,.*crc32c'),
    ('TusChecksums sha1,md5', 'known are: sha1'), ('TusChecksums none', 'TusExtensions -checksum'),
    ('TusChecksums sha1 -md5', 'known are: sha1'), ('TusChecksums "" sha1', 'known are'),
    ('TusDownload yes', r'On\|Off'), ('TusForwarded 1', r'On\|Off'), ('TusCORS *', r'On\|Off'),
    ('TusCORSAllowCredentials true', r'On\|Off'), ('TusStatus enabled', r'On\|Off'),
    ('TusDirMode 0660', 'owner read, write and enter'), ('TusDirMode 0077', 'owner'),
    ('TusDirMode 02770', 'three or four octal digits'), ('TusDirMode 2770', 'more than read'),
    ('TusDirMode 4700', 'more than'), ('TusDirMode 1777', 'more than'), ('TusDirMode 78', 'octal'),
    ('TusDirMode rwx', 'octal'),
    ('TusCORSAllowOrigin', 'argument'), ('TusCORSAllowOrigin ""', 'default'),
    ('TusCORSAllowOrigin (', r"'\(' is no regular expression: .*offset 1\. Syntax"),
    ('TusCORSAllowOrigin *', "no regular expression: .*offset 0"),
    ('TusCORSAllowOrigin a[', 'no regular expression'),
    ('TusCORSAllowOrigin a b', 'argument'),
    ('TusCORSAllowMethods', 'argument'), ('TusCORSAllowMethods POST,PATCH', 'without commas'),
    ('TusCORSAllowMethods "PO ST"', 'no method'), ('TusCORSAllowMethods "" POST', 'no method'),
    ('TusCORSAllowHeaders X:A', 'name of a header field'),
    ('TusCORSAllowHeaders "X-A, X-B"', 'without commas'),
    ('TusCORSAllowHeaders "(x)"', 'RFC 9110'), ('TusCORSAllowHeaders +', 'RFC 9110'),
    ('TusCORSAllowHeaders +X-A X-B', 'to all of them'),
    ('TusCORSAllowHeaders -X-A', 'write the list without it'),
    ('TusCORSAllowHeaders +X-A -X-B', 'write the list without it'),
    ('TusCORSAllowHeaders X-A none', 'only argument'),
    ('TusCORSAllowHeaders default X-A', 'only argument'),
    ('TusCORSExposeHeaders \u00fc', 'RFC 9110'),
    ('TusCORSMaxAge -1', 'digit'), ('TusCORSMaxAge 500ms', 'whole seconds'),
    ('TusCORSMaxAge 366d', 'from 0 to 365d'), ('TusCORSMaxAge off', 'from 0 to 365d'),
    ('TusHook', 'argument'), ('TusHook ""', 'argument'), ('TusHook pre-create', 'http://'),
    ('TusHook ftp://a.example/', 'http://'), ('TusHook file:///etc/passwd', 'http://'),
    ('TusHook gopher://a.example/', 'http://'), ('TusHook http://', 'host'),
    ('TusHook http://user:pw@a.example/', 'user information'),
    ('TusHook http://a.example:0/', 'port'), ('TusHook http://a.example:65536/', 'port'),
    ('TusHook http://127.1/', 'four decimal'),
    ('TusHook http://0x7f000001/', 'four decimal'), ('TusHook http://2130706433/', 'four decimal'),
    ('TusHook http://[::1/', 'IPv6'), ('TusHook http://a..example/', 'host'),
    ('TusHook http://a.example/../x', r'segment'), ('TusHook http://a.example/%2e%2e/x', 'segment'),
    ('TusHook http://a.example/%2fx', 'encoded slash'), ('TusHook http://a.example/#x', 'fragment'),
    ('TusHook "http://a.example/a b"', 'percent-encoded'), ('TusHook //a.example/x', 'host'),
    ('TusHook unix:/run/app.sock', r'"\|"'),
    ('TusHook unix:app.sock|http://localhost/', 'absolute'),
    ('TusHook unix:/run/app.sock|/x', 'http://'), ('TusHook unix:/run/app.sock|fcgi://x/', 'http'),
    ('TusHook http://a.example/ pre-delete', 'known are: pre-create, .*post-terminate'),
    ('TusHook http://a.example/ PRE-CREATE', 'no event'),
    ('TusHook none pre-create', 'no URL of a hook'), ('TusHook http://a.example/ none', 'no event'),
    ('TusHookTimeout 0', 'from 1ms to 1h'), ('TusHookTimeout 61mi', 'from 1ms to 1h'),
    ('TusHookTimeout soon', 'TusHookTimeout'), ('TusHookTimeout', 'argument'),
    ('TusHookRetry', 'argument'), ('TusHookRetry 101', 'from 0 to 100'),
    ('TusHookRetry -1', 'from 0 to 100'), ('TusHookRetry 3 0', 'from 1ms to 1h'),
    ('TusHookRetry 3 1s 2s', 'argument'), ('TusHookRetry 1s', 'from 0 to 100'),
    ('TusHookProgressInterval 9ms', 'from 10ms to 1h'), ('TusHookProgressInterval 0', 'from 10ms'),
    ('TusHookMaxAge 0', 'from 1s to 3650d'), ('TusHookMaxAge 500ms', 'from 1s'),
    ('TusHookMaxAge 3651d', 'from 1s to 3650d'), ('TusHookMaxAge never', 'TusHookMaxAge'),
    ('TusHookForwardHeader', 'argument'), ('TusHookForwardHeader "X A"', 'header field'),
    ('TusHookForwardHeader "" X-A', 'header field'), ('TusHookForwardHeader X:A', 'header field'),
    *((f'TusHookForwardHeader {name}', 'belongs to the call') for name in (
        'Host', 'content-length', 'Connection', 'Transfer-Encoding', 'Expect', 'webhook-signature',
        'Webhook-Id', 'Content-Type')),
    ('TusHookVerify maybe', r'On\|Off'), ('TusHookSecret', 'argument'),
    ('TusHookSecret ""', 'argument'),
    ('TusHookSecret file:/no/such/file', '/no/such/file cannot be read'),
    ('TusHookSecret file:/dev/null', 'empty|cannot be read'),
    ('TusHookSecret file:', 'cannot be read'),
    ('TusHookSecret file:/etc', 'cannot be read'),
    ('TusHookSecret exec:/no/such/program', 'cannot be run'),
    ('TusHookSecret exec:', 'cannot be run'), ('TusHookSecret exec:/bin/true', 'says nothing'),
    ('TusHookSecret whsec_', 'base64'), ('TusHookSecret whsec_!!', 'base64'),
    (f'TusHookSecret {"x" * 1025}', '1024'),
    ('TusAllowHook', 'argument'), ('TusAllowHook ftp://', 'how a URL can begin'),
    ('TusAllowHook On', 'Off nor Local'), ('TusAllowHook Off Local', 'Off nor Local|how a URL'),
    ('TusAllowHook http://a.example/?x', 'query'),
    ('TusAllowHook /hook.php', 'how a URL can begin'),
    ('TusAllowHook "unix:/run/app.sock|http://localhost/"', 'goes on')])
def test_bad_values(checker, line, hint):
    """Refused at configtest, with a message that says what would be right."""
    code, said = checker.configtest(f'<Location "/x">\n{line}\n</Location>\n')
    assert code != 0
    assert line.split()[0] in said
    assert re.search(hint, said.replace('Syntax error', '')), said


def test_an_engine_without_a_store_is_told(checker):
    code, said = checker.configtest('<Location "/x">\nTusEngine On\n</Location>\n')
    assert code != 0 or 'TusStore' in said


# -- merging ---------------------------------------------------------------------------------------

@pytest.fixture
def server(httpd):
    return httpd()


def test_off_by_default(server):
    (server.htdocs / 'x').write_text('static')
    store = server.make_store()
    server.start(f'<Location /x>\nTusStore file "{store}"\n</Location>\n')
    with Tus(server).connect() as conn:
        answer = conn.request('GET', '/x')
        assert (answer.status, answer.body) == (200, b'static')
        assert answer.get('Tus-Resumable') is None


def test_a_location_inside_switches_off(server):
    store = server.make_store()
    (server.htdocs / 'files').mkdir()
    (server.htdocs / 'files' / 'page.html').write_text('static')
    server.start(endpoint('Location /files', store)
                 + '<Location /files/page.html>\nTusEngine Off\n</Location>\n')
    with Tus(server).connect() as conn:
        assert conn.request('GET', '/files/page.html').body == b'static'
    assert Tus(server, store=store).upload(b'hello')


def test_values_are_inherited_and_overridden(server):
    one, two = server.make_store('one'), server.make_store('two')
    server.start(f'''
        TusStore file "{one}"
        TusMaxSize 100
        <Location /a>
            TusEngine On
        </Location>
        <Location /a/b>
            TusMaxSize 50
        </Location>
        <Location /a/b/c>
            TusEngine On
            TusMaxSize default
            TusStore file "{two}"
        </Location>
        ''')
    assert Tus(server).options('/a/').get('Tus-Max-Size') == '100'
    assert Tus(server).options('/a/b/').get('Tus-Max-Size') == '50'
    assert Tus(server).options('/a/b/c/').get('Tus-Max-Size') is None
    assert one.data(Tus(server, '/a/').upload(b'hello')) == b'hello'
    assert two.data(Tus(server, '/a/b/c/').upload(b'hello')) == b'hello'


def test_the_scope_that_httpd_merges_last_wins(server):
    """Directory, .htaccess, Files, Location, If."""
    store = server.make_store()
    up = server.make_dir(server.htdocs / 'up')
    sizes = {}

    def size(name, section=''):
        (up / '.htaccess').write_text('TusMaxSize 2\n' if name != 'Directory' else '')
        server.graceful(f'<Directory "{server.htdocs}">\nAllowOverride All\n</Directory>\n'
                        + endpoint(f'Directory "{up}"', store, 'TusMaxSize 1') + section)
        sizes[name] = Tus(server).options('/up/').get('Tus-Max-Size')

    server.start(endpoint(f'Directory "{up}"', store))
    section = ''
    size('Directory')
    size('.htaccess')
    section += '<Location /up>\nTusMaxSize 4\n</Location>\n'
    size('Location', section)
    section += '<If "true">\nTusMaxSize 5\n</If>\n'
    size('If', section)
    assert sizes == {'Directory': '1', '.htaccess': '2', 'Location': '4', 'If': '5'}


def test_default_in_an_htaccess_means_what_the_server_says(server):
    store = server.make_store()
    up = server.make_dir(server.htdocs / 'up')
    inner = server.make_dir(up / 'inner')
    (up / '.htaccess').write_text('TusMaxSize 10\n')
    (inner / '.htaccess').write_text('TusMaxSize default\n')
    server.start(f'<Directory "{server.htdocs}">\nAllowOverride All\nTusEngine On\n'
                 f'TusStore file "{store}"\nTusMaxSize 99\n</Directory>\n')
    assert Tus(server).options('/').get('Tus-Max-Size') == '99'
    assert Tus(server).options('/up/').get('Tus-Max-Size') == '10'
    assert Tus(server).options('/up/inner/').get('Tus-Max-Size') == '99'


def test_virtual_hosts(server):
    one, two = server.make_store('one'), server.make_store('two')
    server.start(f'''
        <VirtualHost *>
            ServerName one.example
            TusStore file "{one}"
            <Location /files>
                TusEngine On
            </Location>
        </VirtualHost>
        <VirtualHost *>
            ServerName two.example
            TusStore file "{two}"
            TusMaxSize 100
            <Location /files>
                TusEngine On
            </Location>
        </VirtualHost>
        <VirtualHost *>
            ServerName none.example
        </VirtualHost>
        ''')
    for name, store in (('one', one), ('two', two)):
        tus = Tus(server, headers=[('Host', f'{name}.example')], store=store)
        assert store.data(tus.upload(b'hello')) == b'hello'
        assert tus.options().get('Tus-Max-Size') == (None if name == 'one' else '100')
    with Tus(server).connect() as conn:
        answer = conn.request('OPTIONS', '/files/', [('Host', 'none.example')])
        assert answer.get('Tus-Resumable') is None


# -- what the values do ----------------------------------------------------------------------------

@pytest.mark.parametrize('value, size', [('1K', 1024), ('2M', 2 << 20), ('3G', 3 << 30),
                                         ('4T', 4 << 40), ('7', 7)])
def test_max_size(server, value, size):
    store = server.make_store()
    tus = Tus(server.start(endpoint('Location /files', store, f'TusMaxSize {value}')), store=store)
    assert tus.options().get('Tus-Max-Size') == str(size)
    assert tus.create(size).status == 201
    assert_error(tus.create(size + 1), 413, 'ERR_MAX_SIZE_EXCEEDED')


def test_a_hook_of_an_htaccess_waits_for_a_minute_at_most(server):
    directory = server.make_dir(server.htdocs / 'up')
    (directory / 'page.html').write_text('static')
    server.start(f'<Directory "{server.htdocs}">\nAllowOverride All\n</Directory>\n')
    for time, status in (('1mi', 200), ('61s', 500)):
        (directory / '.htaccess').write_text(f'TusHookTimeout {time}\n')
        with Tus(server).connect() as conn:
            assert conn.request('GET', '/up/page.html').status == status
    server.expect_log('from 1ms to 1mi in an .htaccess')


def test_allow_max_size_bounds_an_htaccess(server):
    store = server.make_store()
    for name, size in (('less', '10'), ('more', '1G'), ('none', '0')):
        directory = server.make_dir(server.htdocs / name)
        (directory / '.htaccess').write_text(f'TusEngine On\nTusMaxSize {size}\n')
    server.start(f'<Directory "{server.htdocs}">\nAllowOverride All\n'
                 f'TusStore file "{store}"\nTusAllowMaxSize 100\n</Directory>\n')
    server.allow_log('TusAllowMaxSize')
    assert Tus(server).options('/less/').get('Tus-Max-Size') == '10'
    for name in ('more', 'none'):
        tus = Tus(server, f'/{name}/')
        assert tus.create(101).status in (413, 500), name
    assert Tus(server, '/less/').create(10).status == 201


@pytest.mark.parametrize('mode', ['0640', '0600', '666'])
def test_file_mode(httpd, mode):
    server = httpd(umask=0o077)
    store = server.make_store()
    tus = Tus(server.start(endpoint('Location /files', store, f'TusFileMode {mode}')), store=store)
    for url in (tus.new(10), tus.upload(b'hello')):
        for path in (store.data_path(url), store.info_path(url)):
            assert stat.S_IMODE(path.stat().st_mode) == int(mode, 8)
    tus.append(tus.new(5), 0, b'hello')
    assert {stat.S_IMODE(path.stat().st_mode) for path in store.path.iterdir()} == {int(mode, 8)}


@pytest.mark.parametrize('sync', ['none', 'finish', 'always'])
def test_sync(server, sync):
    """What reaches the disk is seen by test_sync.py; here each of them is a working endpoint."""
    store = server.make_store()
    tus = Tus(server.start(endpoint('Location /files', store, f'TusSync {sync}')), store=store)
    url = tus.new(10, b'hello')
    assert tus.append(url, 5, b'world') == 10
    assert tus.get(url).body == b'helloworld'


@pytest.mark.parametrize('driver', ['sdbm', 'gdbm', 'db'])
def test_metadata_driver(server, driver):
    """A driver that apr-util was built without is refused at configtest, by name."""
    store = server.make_store()
    config = endpoint('Location /files', store, f'TusMetadata dbm:{driver}')
    code, said = server.configtest(config)
    if code:
        assert driver in said and driver != 'sdbm'
        return
    tus = Tus(server.start(config), store=store)
    assert tus.get(tus.upload(b'hello')).body == b'hello'


def test_a_reset_engine_is_off(server):
    store = server.make_store()
    server.start(endpoint('Location /files', store)
                 + '<Location /files/off>\nTusEngine default\n</Location>\n')
    with Tus(server).connect() as conn:
        assert conn.request('OPTIONS', '/files/off/').get('Tus-Resumable') is None


def test_the_module_is_loaded_once_and_quiet(server):
    """Without any directive of its own it changes nothing and says nothing."""
    server.start()
    (server.htdocs / 'a.txt').write_text('static')
    with Tus(server).connect() as conn:
        assert conn.request('GET', '/a.txt').body == b'static'
    assert not server.error_log.loud_lines()


@pytest.mark.parametrize('name', ['tus-lock', 'tus-meta'])
def test_a_mutex_that_does_not_recover_is_refused(httpd, name):
    """posixsem stays taken when its holder is killed; every upload would wait for ever."""
    server = httpd()
    server.expect_log('Mutex posixsem cannot be used for .*Say: Mutex pthread tus-lock')
    server.expect_log('AH00020: Configuration Failed')
    with pytest.raises(HttpdError):
        server.start(f'Mutex posixsem {name}')
