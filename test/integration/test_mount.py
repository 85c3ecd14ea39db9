"""Where an endpoint can be mounted, and what may stand in front of it or around it."""
import re

import pytest

from testenv.httpd import endpoint
from testenv.store import Store
from testenv.tus import Tus, roundtrip
from testenv.util import give_to_user

ID = '[0-9a-f]{32}'


def mount(server, section, base, extra='', lines=()):
    """Start `server` with one endpoint; the client of it."""
    store = server.make_store()
    server.start(extra + endpoint(section, store, *lines))
    return Tus(server, base, store)


def assert_served(tus, location=None):
    """The whole protocol works there, and Location leads back to it."""
    url = roundtrip(tus)
    assert re.fullmatch((location or re.escape(tus.base)) + ID, url), url


def make_htaccess(server, path, *lines):
    """A directory below htdocs whose .htaccess makes it an endpoint, with its store inside."""
    directory = server.make_dir(server.htdocs / path)
    store = give_to_user_dir(directory / 'store')
    (directory / '.htaccess').write_text('\n'.join(
        ['TusEngine On', 'TusStore file store', *lines, '']))
    return store


def give_to_user_dir(path):
    path.mkdir()
    path.chmod(0o770)
    give_to_user(path)
    return Store(path)


# -- <Location> ------------------------------------------------------------------------------------

@pytest.mark.parametrize('section, base', [
    ('Location "/files"', '/files/'), ('Location "/files/"', '/files/'),
    ('Location "/a/deep/er/path"', '/a/deep/er/path/'), ('Location "/"', '/'),
    ('LocationMatch "^/(files|media)(/|$)"', '/media/')])
def test_location(httpd, section, base):
    assert_served(mount(httpd(), section, base))


@pytest.mark.parametrize('path, base', [
    ('/my files', '/my%20files/'), ('/grün', '/gr%c3%bcn/'), ('/a%b', '/a%25b/')])
def test_location_that_needs_escapes(httpd, path, base):
    tus = mount(httpd(), f'Location "{path}"', base)
    assert_served(tus, '(?i)' + re.escape(base))


def test_a_base_with_an_extension(httpd):
    """What mod_mime makes of the name of the base is not true of the uploads."""
    tus = mount(httpd(), 'Location "/files.gz"', '/files.gz/', extra='''
        AddEncoding x-gzip .gz
        AddLanguage de .gz
        AddDefaultCharset On
        ''')
    assert_served(tus)
    url = tus.upload(b'hello')
    for answer in (tus.get(url), tus.create(5), tus.options()):
        assert answer.get('Content-Encoding') is None
        assert answer.get('Content-Language') is None


def test_location_over_a_directory_that_exists(httpd):
    """mod_dir, mod_negotiation and mod_autoindex have no say."""
    server = httpd()
    for name in ('index.html', 'x.txt', 'x.html'):
        directory = server.make_dir(server.htdocs / 'files')
        (directory / name).write_text('static')
    tus = mount(server, 'Location "/files"', '/files/', extra=f'''
        DirectoryIndex index.html
        <Directory "{server.htdocs}">
            Options Indexes MultiViews FollowSymLinks
        </Directory>
        ''')
    assert_served(tus)
    for path in ('/files', '/files/', '/files/x', '/files/index.html'):
        assert b'static' not in tus.get(path).body
        assert tus.create(0, url='/files').status == 201
    assert tus.create(0, url='/files/').status == 201


@pytest.mark.parametrize('options', ['FollowSymLinks', 'SymLinksIfOwnerMatch', 'None'])
@pytest.mark.parametrize('above', ['', 'files', 'files/made'])
def test_location_below_directories_with_rules_of_their_own(httpd, options, above):
    """Whether they hold does not depend on what files there are; of uploads there are none."""
    server = httpd()
    directory = server.make_dir(server.htdocs / 'files/made').parents[1] / above
    (directory / '.htaccess').write_text('Require all denied\n')
    tus = mount(server, 'Location "/files/made"', '/files/made/', extra=f'''
        <Directory "{server.htdocs}">
            Options {options}
            AllowOverride AuthConfig
        </Directory>
        ''')
    server.expect_log('AH01630: client denied')
    for url in ('/files/made', '/files/made/', '/files/made/x'):
        assert tus.create(5, url=url).status == 403
        assert tus.head(url).status == 403
        assert tus.patch(url, 0, b'hello').status == 403
        assert tus.get(url).status == 403


def test_what_an_htaccess_excepts_from_a_location(httpd):
    """For these requests there is no endpoint, and files are what they are."""
    server = httpd()
    directory = server.make_dir(server.htdocs / 'files')
    (directory / 'a.txt').write_text('static')
    (directory / '.htaccess').write_text('''
        <If "%{HTTP:X-Plain} == 'yes'">
            TusEngine Off
        </If>
        ''')
    tus = mount(server, 'Location "/files"', '/files/', extra=f'''
        <Directory "{server.htdocs}">
            AllowOverride All
        </Directory>
        ''')
    assert_served(tus)
    connection, fields = tus.connect(), [('Tus-Resumable', '1.0.0'), ('X-Plain', 'yes')]
    found = connection.request('HEAD', '/files/a.txt', fields)
    assert (found.status, found.get('Content-Length')) == (200, '6')
    assert connection.request('HEAD', '/files/b.txt', fields).status == 404
    assert connection.request('POST', '/files/b.txt', fields, b'').status in (404, 405)


def test_the_base_without_slash_is_not_redirected(httpd):
    server = httpd()
    server.make_dir(server.htdocs / 'files')
    tus = mount(server, 'Location "/files"', '/files/')
    assert tus.create(5, url='/files').status == 201
    assert tus.options('/files').status == 200


# -- <Directory> -----------------------------------------------------------------------------------

@pytest.mark.parametrize('section', [
    'Directory "{htdocs}/up"', 'Directory "{htdocs}/*p"', 'DirectoryMatch "/u[p]/"',
    'Directory ~ "/u[p]/"'])
def test_directory(httpd, section):
    server = httpd()
    server.make_dir(server.htdocs / 'up')
    assert_served(mount(server, section.format(htdocs=server.htdocs), '/up/', extra=f'''
        <Directory "{server.htdocs}">
            Options Indexes MultiViews FollowSymLinks
        </Directory>
        '''))


def test_directory_under_an_alias(httpd):
    server = httpd()
    up = server.make_dir(server.root / 'elsewhere' / 'up')
    assert_served(mount(server, f'Directory "{up}"', '/alias/', lines=['Require all granted'],
                        extra=f'Alias "/alias" "{up}"\n'))


def test_directory_below_an_alias(httpd):
    server = httpd()
    up = server.make_dir(server.root / 'elsewhere' / 'up')
    assert_served(mount(server, f'Directory "{up}"', '/alias/up/', lines=['Require all granted'],
                        extra=f'Alias "/alias" "{up.parent}"\n'))


def test_location_under_an_alias(httpd):
    server = httpd()
    up = server.make_dir(server.root / 'elsewhere')
    assert_served(mount(server, 'Location "/alias/up"', '/alias/up/', extra=f'''
        Alias "/alias" "{up}"
        <Directory "{up}">
            Require all granted
        </Directory>
        '''))


def test_a_symlinked_directory(httpd):
    server = httpd()
    up = server.make_dir(server.root / 'elsewhere' / 'up')
    (server.htdocs / 'link').symlink_to(up)
    assert_served(mount(server, f'Directory "{server.htdocs}/link"', '/link/'))


def test_a_user_directory(httpd):
    server = httpd(modules=['userdir'])
    home = server.make_dir(server.root / 'home' / 'bob' / 'public' / 'up')
    assert_served(mount(server, f'Directory "{home}"', '/~bob/up/', lines=['Require all granted'],
                        extra=f'UserDir "{server.root}/home/*/public"\n'))


# -- .htaccess -------------------------------------------------------------------------------------

def allow(server, override, directory=None):
    return (f'<Directory "{directory or server.htdocs}">\nAllowOverride {override}\n'
            f'Require all granted\nOptions FollowSymLinks\n</Directory>\n')


@pytest.mark.parametrize('override', ['FileInfo', 'All',
                                      'None\nAllowOverrideList TusEngine TusStore'])
@pytest.mark.parametrize('path', ['up', 'a/b/up', ''])
def test_htaccess(httpd, override, path):
    server = httpd()
    store = make_htaccess(server, path)
    server.start(allow(server, override))
    assert_served(Tus(server, f'/{path}/' if path else '/', store))


def test_htaccess_under_an_alias(httpd):
    server = httpd()
    store = make_htaccess(server, '../elsewhere/up')
    directory = server.root / 'elsewhere'
    server.start(f'Alias "/alias" "{directory}"\n' + allow(server, 'FileInfo', directory))
    assert_served(Tus(server, '/alias/up/', store))


def test_htaccess_of_a_user(httpd):
    server = httpd(modules=['userdir'])
    store = make_htaccess(server, '../home/bob/public/up')
    server.start(f'UserDir "{server.root}/home/*/public"\n'
                 + allow(server, 'FileInfo', f'{server.root}/home/*/public'))
    assert_served(Tus(server, '/~bob/up/', store))


def test_htaccess_with_listings_and_negotiation(httpd):
    server = httpd()
    store = make_htaccess(server, 'up', 'Options +Indexes +MultiViews', 'DirectoryIndex index.html')
    (server.htdocs / 'up' / 'index.html').write_text('static')
    (server.htdocs / 'up' / 'x.html').write_text('static')
    server.start(allow(server, 'All'))
    tus = Tus(server, '/up/', store)
    assert_served(tus)
    for path in ('/up', '/up/', '/up/x', '/up/x.html', '/up/store/'):
        assert b'static' not in tus.get(path).body
        assert tus.get(path).status in (404, 405)


def test_htaccess_below_a_front_controller(httpd):
    """The rules of a parent .htaccess, as every PHP application has them."""
    server = httpd(modules=['rewrite'])
    store = make_htaccess(server, 'app/up')
    (server.htdocs / 'app' / 'index.html').write_text('front')
    (server.htdocs / 'app' / '.htaccess').write_text('''
        RewriteEngine On
        RewriteBase /app/
        RewriteRule ^index\\.html$ - [L]
        RewriteCond %{REQUEST_FILENAME} !-f
        RewriteCond %{REQUEST_FILENAME} !-d
        RewriteRule . /app/index.html [L]
        ''')
    server.start(allow(server, 'All'))
    assert Tus(server).connect().request('GET', '/app/other').body == b'front'
    assert_served(Tus(server, '/app/up/', store))


def test_htaccess_is_not_read_without_permission(httpd):
    server = httpd()
    make_htaccess(server, 'up')
    server.start(allow(server, 'None'))
    answer = Tus(server).connect().request('POST', '/up/', [
        ('Tus-Resumable', '1.0.0'), ('Upload-Length', '5')], b'')
    assert answer.status >= 400
    assert answer.get('Tus-Resumable') is None
    server.allow_log('AH01276')


def test_htaccess_needs_fileinfo(httpd):
    server = httpd()
    make_htaccess(server, 'up')
    server.start(allow(server, 'AuthConfig'))
    server.expect_log('TusEngine not allowed here')
    assert Tus(server).connect().request('OPTIONS', '/up/').status == 500


# -- behind other modules --------------------------------------------------------------------------

def test_behind_a_rewrite_in_front(httpd):
    """Location is built from the URL that the client used."""
    server = httpd(modules=['rewrite'])
    tus = mount(server, 'Location "/internal/files"', '/front/', extra='''
        RewriteEngine On
        RewriteRule ^/front(.*)$ /internal/files$1 [PT]
        ''')
    assert_served(tus)
    assert_served(Tus(server, '/internal/files/', tus.store))


def test_in_a_host_with_a_front_controller(httpd):
    server = httpd(modules=['rewrite'])
    (server.htdocs / 'index.html').write_text('front')
    tus = mount(server, 'Location "/files"', '/files/', extra=f'''
        <Directory "{server.htdocs}">
            RewriteEngine On
            RewriteCond %{{REQUEST_FILENAME}} !-f
            RewriteCond %{{REQUEST_FILENAME}} !-d
            RewriteRule ^ /index.html [L]
        </Directory>
        ''')
    assert tus.connect().request('GET', '/other').body == b'front'
    assert_served(tus)


@pytest.mark.parametrize('exception', ['', 'ProxyPass /files !\n'], ids=['all', 'with exception'])
def test_where_a_proxy_takes_the_rest(httpd, exception):
    backend = httpd(tus=False).start()
    (backend.htdocs / 'a.txt').write_text('backend')
    (backend.htdocs / 'files').mkdir()
    (backend.htdocs / 'files' / 'index.html').write_text('backend')
    server = httpd(modules=['proxy', 'proxy_http'])
    tus = mount(server, 'Location "/files"', '/files/',
                extra=f'{exception}ProxyPass / http://127.0.0.1:{backend.port}/\n')
    assert tus.connect().request('GET', '/a.txt').body == b'backend'
    assert_served(tus)
    assert 'files' not in backend.access_log()


def test_behind_a_proxy_with_the_same_path(httpd):
    """The default Location has no scheme and host, so the client's own are right."""
    server = httpd()
    tus = mount(server, 'Location "/files"', '/files/')
    front = httpd(tus=False, modules=['proxy', 'proxy_http']).start(
        f'ProxyPass /files http://127.0.0.1:{server.port}/files\n')
    assert_served(Tus(front, '/files/', tus.store))


def test_behind_a_proxy_that_changes_the_path(httpd):
    server = httpd()
    tus = mount(server, 'Location "/files"', '/files/', lines=['TusBaseURL /public/up/'])
    front = httpd(tus=False, modules=['proxy', 'proxy_http']).start(
        f'ProxyPass /public/up http://127.0.0.1:{server.port}/files\n')
    assert_served(Tus(front, '/public/up/', tus.store))


@pytest.mark.parametrize('value, start', [
    ('/up', '/up/'), ('/up/', '/up/'), ('https://up.example:8443/x', 'https://up.example:8443/x/'),
    ('https://up.example/', 'https://up.example/')])
def test_base_url(httpd, value, start):
    tus = mount(httpd(), 'Location "/files"', '/files/', lines=[f'TusBaseURL {value}'])
    assert re.fullmatch(re.escape(start) + ID, tus.create(5).get('Location'))


def test_on_a_tls_host_with_an_odd_port(httpd):
    server = httpd(tls=True)
    store = server.make_store()
    server.start(server.tls_vhost(endpoint('Location "/files"', store)))
    tus = Tus(server, '/files/', store, tls=True)
    assert_served(tus)
    plain = Tus(server).connect().request('OPTIONS', '/files/')
    assert plain.get('Tus-Resumable') is None, 'only that host has the endpoint'


@pytest.mark.parametrize('path', ['/files//', '//files/', '/files/./', '/x/../files/', '/%66iles/'])
def test_odd_spellings_of_the_base(httpd, path):
    """Whatever is made of them, the Location that they are answered with works."""
    tus = mount(httpd(), 'Location "/files"', '/files/')
    answer = tus.create(5, url=path)
    assert answer.status == 201
    assert tus.append(answer.get('Location'), 0, b'hello') == 5


def test_a_query_string_changes_nothing(httpd):
    tus = mount(httpd(), 'Location "/files"', '/files/')
    answer = tus.create(5, url='/files/?a=/b/c')
    assert answer.status == 201
    url = answer.get('Location')
    assert re.fullmatch('/files/' + ID, url)
    assert tus.append(url + '?x=y', 0, b'hello') == 5


def test_two_endpoints_in_one_server(httpd):
    server = httpd()
    one, two = server.make_store('one'), server.make_store('two')
    server.start(endpoint('Location /one', one) + endpoint('Location /two', two))
    assert_served(Tus(server, '/one/', one))
    assert_served(Tus(server, '/two/', two))
    url = Tus(server, '/one/', one).new(5)
    assert Tus(server, '/two/').head(url.replace('one', 'two')).status == 404


def test_other_urls_stay_as_they_are(httpd):
    server = httpd()
    (server.htdocs / 'a.txt').write_text('static')
    (server.htdocs / 'filesystem.txt').write_text('static')
    tus = mount(server, 'Location "/files"', '/files/')
    for path in ('/a.txt', '/filesystem.txt'):
        answer = tus.connect().request('GET', path)
        assert (answer.status, answer.body) == (200, b'static')
        assert answer.get('Tus-Resumable') is None
        assert answer.get('X-Content-Type-Options') is None


# -- what other modules answer ---------------------------------------------------------------------

def test_answers_of_other_modules_are_the_endpoints_too(httpd):
    """401, 403, 413 ...: each carries the headers, each header once (Tus looks at every answer)."""
    server = httpd()
    (server.root / 'users').write_text('joe:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n')   # secret
    store = server.make_store()
    server.start(
        endpoint('Location /denied', store, 'Require all denied')
        + endpoint('Location /private', store, 'AuthType Basic', 'AuthName x',
                   f'AuthUserFile "{server.root}/users"', 'Require valid-user')
        + endpoint('Location /little', store, 'LimitRequestBody 10')
        + endpoint('Location /moved', store, 'ErrorDocument 403 /denied.html',
                   'Require all denied'))
    server.allow_log('AH01630|AH01617|AH01618|AH00127|AH01629')
    for method in ('OPTIONS', 'POST', 'HEAD', 'PATCH', 'DELETE', 'GET'):
        assert Tus(server).request(method, '/denied/x').status == 403
        assert Tus(server).request(method, '/private/x').status == 401
        assert Tus(server).request(method, '/moved/x').status == 403
    assert Tus(server, '/little/').create(20, bytes(20)).status == 413
    assert Tus(server, '/little/').create(20, bytes(20), chunked=True).status == 413
    authorized = Tus(server, '/private/', store,
                     headers=[('Authorization', 'Basic am9lOnNlY3JldA==')])
    assert_served(authorized)
