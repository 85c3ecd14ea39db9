"""A store is never served or executed as plain files, by whatever road a request comes to it.

Every road is driven twice: to an ordinary directory, where x.php must run (else the road proves
nothing), and to the store, where the answer is 404 and nothing runs.
"""
import select
import socket

import pytest

from testenv.http import Connection
from testenv.httpd import endpoint
from testenv.store import upload_id
from testenv.tus import Tus
from testenv.util import give_to_user

PHP = '<?php file_put_contents(__DIR__ . "/ran", "php"); echo "executed";'
CGI = '''#!/bin/sh
echo cgi > "$(dirname "$0")/ran"
printf 'Content-Type: text/plain\\n\\nexecuted'
'''
MODULES = ['proxy', 'proxy_fcgi', 'proxy_http', 'cgid', 'include', 'rewrite', 'actions', 'speling']


def plant(directory):
    """Files that do something when they are served or run."""
    directory.mkdir(parents=True, exist_ok=True)
    files = {'x.php': PHP, 'index.php': PHP, 'x.cgi': CGI, 'x.txt': 'executed',
             'x.shtml': '<!--#echo var="DATE_GMT" -->executed', 'index.html': 'executed'}
    for name, content in files.items():
        path = directory / name
        path.write_text(content)
        path.chmod(0o755)
        give_to_user(path)
    directory.chmod(0o777)
    give_to_user(directory)


def fetch(server, path, method='GET'):
    with Connection(server.port) as conn:
        return conn.request(method, path)


class Roads:
    """A server with a plain directory and a store beside each other below htdocs/site."""

    def __init__(self, server, php, override):
        self.server = server
        site = server.htdocs / 'site'
        self.places = {'plain': site / 'plain', 'store': site / 'store'}
        for name, path in self.places.items():
            plant(path)
            (server.htdocs / f'link-{name}').symlink_to(path)
            (server.root / f'far-{name}').symlink_to(path)
            (server.htdocs / f'map-{name}.var').write_text(
                f'URI: site/{name}/x.txt\nContent-Type: text/plain\n')
            server.make_dir(server.htdocs / f'index-{name}')
            (server.htdocs / f'page-{name}.shtml').write_text(
                f'<!--#include virtual="/site/{name}/x.php" -->|'
                f'<!--#include virtual="/site/{name}/x.txt" -->|'
                f'<!--#include virtual="/site/{name}/x.cgi" -->|'
                f'<!--#include file="site/{name}/x.txt" -->')
        self.config = f'''
            Options FollowSymLinks
            ScriptSock {server.root}/run/cgisock
            <Directory "{server.htdocs}">
                Options Indexes FollowSymLinks MultiViews ExecCGI Includes
                AllowOverride {override}
                Require all granted
                AddHandler cgi-script .cgi
                AddHandler type-map .var
                AddOutputFilter INCLUDES .shtml
                DirectoryIndex index.php index.html
                CheckSpelling On
                <FilesMatch "\\.php$">
                    SetHandler "proxy:fcgi://127.0.0.1:{php.port}"
                </FilesMatch>
            </Directory>
            RewriteEngine On
            '''
        for name, path in self.places.items():
            self.config += f'''
            Alias /alias-{name} "{path}"
            Alias /far-{name} "{server.root}/far-{name}"
            AliasMatch "^/match-{name}/(.*)$" "{path}/$1"
            ScriptAlias /script-{name} "{path}"
            ProxyPassMatch "^/pass-{name}/(.*\\.php)$" "fcgi://127.0.0.1:{php.port}{path}/$1"
            ProxyPassMatch "^/site/{name}-by-pass/(.*)$" "fcgi://127.0.0.1:{php.port}{path}/$1"
            RewriteRule "^/go-{name}$" "/site/{name}/x.php" [PT]
            RewriteRule "^/file-{name}$" "{path}/x.txt" [L]
            RewriteRule "^/proxy-{name}$" "fcgi://127.0.0.1:{php.port}{path}/x.php" [P]
            <Directory "{server.htdocs}/index-{name}">
                DirectoryIndex /site/{name}/x.php
            </Directory>
            <Directory "{server.root}/far-{name}">
                Require all granted
                Options FollowSymLinks
            </Directory>
            <Location "/error-{name}">
                Redirect 410
                ErrorDocument 410 /site/{name}/x.php
            </Location>
            <Location "/action-{name}">
                Action run-{name} /site/{name}/x.cgi virtual
                SetHandler run-{name}
            </Location>
            <Location "/perdir-{name}">
                RewriteEngine On
                RewriteRule "^" "fcgi://127.0.0.1:{php.port}{path}/x.php" [P]
            </Location>
            <Location "/rewritten-{name}">
                RewriteEngine On
                RewriteRule "^" "{path}/x.txt" [L]
            </Location>
            <Location "/fallback-{name}">
                FallbackResource /site/{name}/x.php
            </Location>
            '''


ROADS = [
    '/site/{}/x.php', '/site/{}/x.txt', '/site/{}/x.cgi', '/site/{}/x.shtml', '/site/{}/',
    '/site/{}/x', '/site/{}/x.php/path/info', '/site/{}/x.cgi/path', '/site//{}/./x.php',
    '/site/%73ite/../{}/x.php', '/site/{}/%78.php', '/link-{}/x.php', '/link-{}/x.txt', '/link-{}/',
    '/alias-{}/x.php', '/alias-{}/x.txt', '/alias-{}/', '/far-{}/x.txt', '/match-{}/x.php',
    '/match-{}/x.txt', '/script-{}/x.cgi', '/pass-{}/x.php', '/site/{}-by-pass/x.php', '/go-{}',
    '/file-{}', '/proxy-{}', '/fallback-{}/any', '/action-{}', '/perdir-{}', '/rewritten-{}',
    '/map-{}.var']


POSTED = {'POST': b''}


def ran(place):
    return (place / 'ran').exists()


@pytest.fixture(scope='module', params=['None', 'FileInfo', 'All'])
def roads(request, shared_httpd, php):
    """The store is known from the server's configuration."""
    server = shared_httpd(modules=MODULES)
    roads = Roads(server, php, request.param)
    server.start(roads.config + endpoint('Location /files', roads.places['store']))
    return roads


# What httpd itself has to say about roads that end in 404: scripts and includes not found.
NOISE = ('AH01276|AH01071|AH02811|AH01264|AH01265|AH00687|AH01376|AH01374|AH00035|AH00038|AH00129|'
         'AH00130|AH01220|AH01215|unable to include')


@pytest.mark.parametrize('road', ROADS)
def test_a_road_to_the_store(roads, road):
    roads.server.allow_log(NOISE)
    assert b'executed' in fetch(roads.server, road.format('plain')).body, 'the road leads nowhere'
    for method in ('GET', 'POST', 'HEAD'):
        with Connection(roads.server.port) as conn:
            answer = conn.request(method, road.format('store'), [], POSTED.get(method))
        assert answer.status == 404, answer
        assert b'executed' not in answer.body
    assert not ran(roads.places['store'])


def test_the_scripts_do_run_elsewhere(roads):
    roads.server.allow_log(NOISE)
    for name in ('x.php', 'x.cgi'):
        (roads.places['plain'] / 'ran').unlink(missing_ok=True)
        fetch(roads.server, f'/site/plain/{name}')
        assert ran(roads.places['plain'])


def test_an_include(roads):
    roads.server.allow_log(NOISE)
    assert fetch(roads.server, '/page-plain.shtml').body.count(b'executed') == 4
    page = fetch(roads.server, '/page-store.shtml')
    assert page.status == 200
    assert b'executed' not in page.body
    assert not ran(roads.places['store'])


def test_an_index_of_another_directory(roads):
    roads.server.allow_log(NOISE)
    assert b'executed' in fetch(roads.server, '/index-plain/').body
    assert b'executed' not in fetch(roads.server, '/index-store/').body
    assert not ran(roads.places['store'])


def test_an_error_document(roads):
    roads.server.allow_log(NOISE)
    assert b'executed' in fetch(roads.server, '/error-plain').body
    answer = fetch(roads.server, '/error-store')
    assert answer.status in (404, 410)
    assert b'executed' not in answer.body
    assert not ran(roads.places['store'])


def test_a_misspelt_name(roads):
    """mod_speling would tell the names in the store."""
    roads.server.allow_log(NOISE)
    assert fetch(roads.server, '/site/plain/xx.txt').status in (300, 301)
    answer = fetch(roads.server, '/site/store/xx.txt')
    assert answer.status == 404
    assert b'x.txt' not in answer.body.replace(b'xx.txt', b'')


def test_a_listing(roads):
    roads.server.allow_log(NOISE)
    for path in ('/site/store/', '/link-store/', '/alias-store/', '/site/store/?C=N;O=D'):
        answer = fetch(roads.server, path)
        assert answer.status == 404, answer
        assert b'x.txt' not in answer.body
    assert fetch(roads.server, '/site/store').status in (301, 404)


def test_the_endpoint_itself_serves_its_uploads(roads):
    tus = Tus(roads.server, '/files/')
    url = tus.upload(b'<?php echo "hello";')
    assert tus.get(url).body == b'<?php echo "hello";'
    assert fetch(roads.server, url.replace('/files/', '/site/store/')).status == 404


def test_what_the_store_holds_is_reached_by_no_id(roads):
    tus = Tus(roads.server, '/files/')
    roads.server.allow_log(r'\[tus:(warn|error)\]')
    for name in ('x.php', 'x.txt', 'index.html'):
        assert tus.get('/files/' + name).status == 404


# -- a store that only an .htaccess names ----------------------------------------------------------

@pytest.fixture(scope='module', params=['FileInfo', 'All'])
def htaccess(request, shared_httpd, php):
    """Both places lie below an endpoint's directory, one of them is its store."""
    server = shared_httpd(modules=MODULES)
    roads = Roads(server, php, request.param)
    (server.htdocs / 'site' / '.htaccess').write_text('TusStore file store\n')
    up = server.make_dir(server.htdocs / 'site' / 'up')
    (up / '.htaccess').write_text('TusEngine On\n')
    return roads, server.start(roads.config)


BY_THE_PATH = [road for road in ROADS if 'by-pass' not in road
               and road.startswith(('/site/', '/go-', '/alias-', '/fallback-'))]


@pytest.mark.parametrize('road', BY_THE_PATH)
def test_a_road_to_the_store_of_an_htaccess(htaccess, road):
    roads, server = htaccess
    server.allow_log(NOISE)
    assert b'executed' in fetch(server, road.format('plain')).body, 'the road leads nowhere'
    answer = fetch(server, road.format('store'))
    assert answer.status == 404, answer
    assert b'executed' not in answer.body
    assert not ran(roads.places['store'])


def test_the_endpoint_of_the_htaccess_works(htaccess):
    roads, server = htaccess
    tus = Tus(server, '/site/up/')
    url = tus.upload(b'hello')
    assert tus.get(url).body == b'hello'
    assert (roads.places['store'] / url.rsplit('/', 1)[-1]).read_bytes() == b'hello'


def test_a_store_inside_the_endpoints_directory(httpd, php):
    """htdocs/up is the endpoint and up/store its store: the files in it are ids of nothing."""
    server = httpd(modules=MODULES)
    roads = Roads(server, php, 'FileInfo')
    up = server.make_dir(server.htdocs / 'up')
    plant(up / 'store')
    (up / '.htaccess').write_text('TusEngine On\nTusStore file store\n')
    server.start(roads.config)
    tus = Tus(server, '/up/')
    url = tus.upload(b'hello')
    for path in ('/up/store/x.php', '/up/store/x.txt', '/up/store/', '/up/store/index.html',
                 url.replace('/up/', '/up/store/')):
        answer = fetch(server, path)
        assert answer.status == 404, answer
        assert b'executed' not in answer.body
    assert not ran(up / 'store')


# -- names that are made of two halves -------------------------------------------------------------

@pytest.mark.parametrize('form', ['fcgi://127.0.0.1:{port}{path}',
                                  'fcgi://127.0.0.1:{port}/{path}/../{name}'])
def test_a_handler_that_is_half_of_a_path(httpd, php, form):
    """mod_proxy_fcgi appends the file's name to SetHandler's URL; php-fpm runs what comes first."""
    server = httpd(modules=MODULES)
    places = {name: server.root / 'stores' / name for name in ('plain', 'store')}
    for name, place in places.items():
        plant(place)
        directory = server.make_dir(server.htdocs / f'by-{name}')
        (directory / 'a.php').write_text('')
        url = form.format(port=php.port, path=place / 'x.php', name='x.php')
        (directory / '.htaccess').write_text(f'SetHandler "proxy:{url}"\n')
    server.allow_log(NOISE)
    server.start(f'<Directory "{server.htdocs}">\nAllowOverride FileInfo\n</Directory>\n'
                 + endpoint('Location /files', places['store']))
    assert b'executed' in fetch(server, '/by-plain/a.php').body, 'the road leads nowhere'
    assert ran(places['plain'])
    answer = fetch(server, '/by-store/a.php')
    assert answer.status == 404, answer
    assert not ran(places['store'])


def test_a_backend_on_a_socket_is_not_even_asked(httpd):
    """As above, for an upload and with a backend that would see any connection."""
    server = httpd(modules=MODULES)
    store = server.make_store()
    directory = server.make_dir(server.htdocs / 'by')
    (directory / 'a.php').write_text('')
    path = server.root / 'run' / 'fpm'
    server.start('ProxyTimeout 1\n'
                 f'<Directory "{server.htdocs}">\nAllowOverride FileInfo\n</Directory>\n'
                 + endpoint('Location /files', store))
    upload = store.path / upload_id(Tus(server).upload(PHP.encode()))
    with socket.socket(socket.AF_UNIX) as backend:
        backend.bind(str(path))
        backend.listen()
        path.chmod(0o666)
        (directory / '.htaccess').write_text(
            f'SetHandler "proxy:unix:{path}|fcgi://localhost{upload}"\n')
        answer = fetch(server, '/by/a.php')
        asked, _, _ = select.select([backend], [], [], 0)
    assert answer.status == 404, answer
    assert not asked, 'the backend was asked'


def test_the_path_of_a_cgi_is_not_translated_into_the_store(httpd):
    """PATH_TRANSLATED is a file's name, and many a script opens it."""
    server = httpd(modules=['cgid'])
    store = server.make_dir(server.htdocs / 'up' / 'store')
    store.chmod(0o770)
    scripts = server.make_dir(server.root / 'cgi-bin')
    (scripts / 'show').write_text("#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n'\nenv\n")
    (scripts / 'show').chmod(0o755)
    (server.htdocs / 'up' / 'plain.txt').write_text('plain')
    server.start(f'ScriptSock {server.root}/run/cgisock\n'
                 f'ScriptAlias /cgi-bin/ "{scripts}/"\n'
                 f'<Directory "{scripts}">\nRequire all granted\n</Directory>\n'
                 + endpoint('Location /up', store))
    url = Tus(server, '/up/').upload(b'hello')
    page = fetch(server, '/cgi-bin/show/up/plain.txt').body.decode()
    assert f'PATH_TRANSLATED={server.htdocs}/up/plain.txt\n' in page, 'nothing is translated'
    upload = f'/up/store/{upload_id(url)}'
    for path in (upload, upload + '/below', upload + '.info', '/up/store/', '/up//.' + upload[3:]):
        answer = fetch(server, '/cgi-bin/show' + path)
        assert answer.status == 200, answer
        assert str(store) not in answer.body.decode(), path


# -- a store that is refused -----------------------------------------------------------------------

@pytest.mark.parametrize('store', ['{up}', '{up}/', '{htdocs}', '{root}'])
def test_a_store_that_contains_its_endpoint_is_refused(httpd, store):
    """For <Directory> this is known at start, and judged at configtest already."""
    server = httpd()
    up = server.make_dir(server.htdocs / 'up')
    up.chmod(0o777)
    store = store.format(up=up, htdocs=server.htdocs, root=server.root)
    code, said = server.configtest(endpoint(f'Directory "{up}"', store))
    assert code != 0, said
    assert 'TusStore' in said
