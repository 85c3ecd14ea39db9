"""X-HTTP-Method-Override: the effective method is what every access rule judges."""
import pytest

from testenv.httpd import endpoint
from testenv.store import Store
from testenv.tus import Tus, assert_error, assert_of_endpoint, patch_fields
from testenv.util import free_port

VERSION = ('Tus-Resumable', '1.0.0')


@pytest.fixture(scope='module')
def server(shared_httpd):
    server = shared_httpd(modules=['allowmethods'])
    store = server.make_store()
    (server.htdocs / 'a.txt').write_text('static')
    server.store = store
    return server.start(
        endpoint('Location /files', store)
        + endpoint('Location /limit', store,
                   '<Limit DELETE PATCH>', 'Require all denied', '</Limit>')
        + endpoint('Location /limitexcept', store,
                   '<LimitExcept OPTIONS POST HEAD GET>', 'Require all denied', '</LimitExcept>')
        + endpoint('Location /require', store, 'Require method OPTIONS POST HEAD GET')
        + endpoint('Location /allowmethods', store, 'AllowMethods OPTIONS POST HEAD GET')
        + endpoint('Location /if', store, '<If "%{REQUEST_METHOD} =~ /DELETE|PATCH/">',
                   'Require all denied', '</If>'))


@pytest.fixture
def tus(server):
    return Tus(server, store=server.store)


def override(tus, method, url, fields=(), body=b'', actual='POST', **how):
    return tus.request(actual, url, [*fields, ('X-HTTP-Method-Override', method)], body, **how)


def test_a_whole_upload_by_post_alone(tus):
    url = override(tus, 'POST', '/files/', [VERSION, ('Upload-Length', 10)]).get('Location')
    with tus.connect() as conn:
        answer = override(tus, 'PATCH', url, patch_fields(0), b'hello', conn=conn)
        assert (answer.status, answer.get('Upload-Offset')) == (204, '5')
        answer = override(tus, 'PATCH', url, patch_fields(5), b'world', conn=conn)
        assert (answer.status, answer.get('Upload-Offset')) == (204, '10')
    assert tus.store.data(url) == b'helloworld'
    assert override(tus, 'DELETE', url, [VERSION]).status == 204
    assert tus.head(url).status == 404


def test_head_by_override(tus):
    url = tus.new(10, b'abc')
    with tus.connect() as conn:
        conn.send_request('POST', url, [VERSION, ('X-HTTP-Method-Override', 'HEAD')], b'')
        answer = conn.response('HEAD')
        assert_of_endpoint(answer)
        assert (answer.status, answer.get('Upload-Offset')) == (200, '3')
        assert tus.offset(url, conn=conn) == 3, 'no body was sent'


def test_options_by_override(tus):
    answer = override(tus, 'OPTIONS', '/files/')
    assert (answer.status, answer.get('Tus-Version')) == (200, '1.0.0')


def test_get_by_override(tus):
    url = tus.upload(b'abc')
    answer = override(tus, 'GET', url)
    assert (answer.status, answer.body) == (200, b'abc')


@pytest.mark.parametrize('actual', ['GET', 'PUT', 'PATCH', 'DELETE', 'OPTIONS'])
def test_the_actual_method_is_ignored(tus, actual):
    url = tus.new(10)
    answer = override(tus, 'PATCH', url, patch_fields(0), b'hello', actual=actual)
    assert (answer.status, answer.get('Upload-Offset')) == (204, '5')
    assert tus.store.data(url) == b'hello'


def test_head_as_the_actual_method(tus):
    url = tus.new(10)
    with tus.connect() as conn:
        conn.send_request('HEAD', url, [VERSION, ('X-HTTP-Method-Override', 'DELETE')])
        assert conn.response('HEAD').status == 204
    assert tus.head(url).status == 404


@pytest.mark.parametrize('method', ['FOO', '', 'PATCH, PATCH', 'PATCH DELETE', '*', 'TRACE',
                                    'CONNECT', 'x' * 4000, 'M\u00f6'])
def test_a_method_that_is_none_of_ours(tus, method):
    url = tus.new(10, b'abc')
    before = tus.store.snapshot()
    answer = override(tus, method, url, patch_fields(3), b'hello')
    assert answer.status in (400, 405, 501), answer
    assert tus.store.snapshot() == before


def test_the_field_twice(tus):
    url = tus.new(10, b'abc')
    fields = [('X-HTTP-Method-Override', 'PATCH'), ('X-HTTP-Method-Override', 'DELETE'),
              *patch_fields(3)]
    assert tus.request('POST', url, fields, b'hello').status in (400, 405, 501)
    assert tus.store.data(url) == b'abc'


# -- access rules ----------------------------------------------------------------------------------

@pytest.mark.parametrize('base, status', [('limit', 403), ('limitexcept', 403), ('require', 403),
                                          ('allowmethods', 405), ('if', 403)])
@pytest.mark.parametrize('method', ['PATCH', 'DELETE'])
@pytest.mark.parametrize('actual', [None, 'POST', 'GET', 'OPTIONS'])
def test_no_rule_can_be_passed(server, base, status, method, actual):
    tus = Tus(server, f'/{base}/', server.store)
    server.allow_log('AH01630|AH01623')
    url = tus.new(10, b'abc')
    fields = patch_fields(3) if method == 'PATCH' else [VERSION]
    if actual is None:
        answer = tus.request(method, url, fields, b'hello')
    else:
        answer = override(tus, method, url, fields, b'hello', actual=actual)
    assert answer.status == status
    assert tus.offset(url) == 3
    assert tus.store.data(url) == b'abc'


ONLY_POST = ['Require all denied', """<If "%{REQUEST_METHOD} == 'POST'">""", 'Require all granted',
             '</If>']


@pytest.fixture(scope='module')
def only_post(shared_httpd):
    """What <If> grants to POST, in every place that can say so, over the same store."""
    server = shared_httpd()
    htaccess, directory = (server.make_dir(server.htdocs / name) for name in
                           ('htaccess', 'directory'))
    store = Store(server.make_dir(htaccess / 'store'))
    (htaccess / '.htaccess').write_text(
        '\n'.join(['TusEngine On', 'TusStore file store', *ONLY_POST, '']))
    server.start(f'<Directory "{htaccess}">\nAllowOverride FileInfo AuthConfig\n</Directory>\n'
                 + endpoint('Location /files', store)
                 + endpoint('Location /location', store, *ONLY_POST)
                 + endpoint(f'Directory "{directory}"', store, *ONLY_POST))
    return Tus(server, store=store)


@pytest.mark.parametrize('base', ['location', 'directory', 'htaccess'])
@pytest.mark.parametrize('method', ['DELETE', 'PATCH', 'GET', 'HEAD'])
def test_what_an_if_grants_to_post_is_granted_to_nothing_else(only_post, base, method):
    """The <If> that matched the method on the wire must not count for the effective one."""
    tus = Tus(only_post.server, f'/{base}/', only_post.store)
    tus.server.allow_log('AH01630')
    url = tus.new(10, b'abc')
    fields = patch_fields(3) if method == 'PATCH' else [VERSION]
    for actual in (method, 'POST'):
        with tus.connect() as conn:
            conn.send_request(actual, url, [*fields, ('X-HTTP-Method-Override', method)], b'hello')
            answer = conn.response('HEAD' if actual == 'HEAD' else 'GET')
        assert_of_endpoint(answer)
        assert answer.status == 403, answer
    assert tus.store.data(url) == b'abc'
    assert only_post.offset(url.replace(tus.base, only_post.base)) == 3


def test_what_the_rules_allow_is_done(server):
    """DELETE is denied as itself and becomes POST: the effective method counts there too."""
    tus = Tus(server, '/limit/', server.store)
    answer = override(tus, 'POST', '/limit/', [VERSION, ('Upload-Length', 5)], actual='DELETE')
    assert answer.status == 201


def test_other_urls_know_no_override(server):
    with Tus(server).connect() as conn:
        answer = conn.request('GET', '/a.txt', [('X-HTTP-Method-Override', 'DELETE')])
        assert (answer.status, answer.body) == (200, b'static')
        assert answer.get('Tus-Resumable') is None


def test_the_access_log_shows_what_was_sent(tus):
    url = tus.new(10)
    override(tus, 'PATCH', url, patch_fields(0), b'hello')
    tus.server.wait_access(f'"POST {url} HTTP/1.1" 204')


def test_override_with_the_wrong_version(tus):
    url = tus.new(10, b'abc')
    assert_error(override(tus, 'DELETE', url), 412, 'ERR_UNSUPPORTED_VERSION')
    assert tus.offset(url) == 3


# -- the configuration is looked up again for the effective method ---------------------------------

@pytest.fixture(scope='module', params=['/files/', '/site/directory/', '/site/htaccess/'])
def mounted(request, shared_httpd):
    """An endpoint of each kind where ProxyPass would take all that is not below /site."""
    server = shared_httpd(modules=['proxy', 'proxy_http'])
    store = server.make_store()
    site = server.htdocs / 'site'
    directory, htaccess = (server.make_dir(site / name) for name in ('directory', 'htaccess'))
    own = Store(server.make_dir(htaccess / 'store'))
    (htaccess / '.htaccess').write_text('TusEngine On\nTusStore file store\n')
    server.start('ProxyPass /site !\n'
                 f'ProxyPass / http://127.0.0.1:{free_port()}/\n'
                 f'<Directory "{htaccess}">\nAllowOverride FileInfo\n</Directory>\n'
                 + endpoint('Location /files', store)
                 + endpoint(f'Directory "{directory}"', store))
    return Tus(server, request.param, own if 'htaccess' in request.param else store)


def test_the_mount_after_an_override(mounted):
    answer = override(mounted, 'POST', mounted.base, [VERSION, ('Upload-Length', 10)],
                      actual='PUT')
    assert answer.status == 201, answer
    url = answer.get('Location')
    assert url.startswith(mounted.base), url
    answer = override(mounted, 'PATCH', url, patch_fields(0), b'hello')
    assert (answer.status, answer.get('Upload-Offset')) == (204, '5')
    assert override(mounted, 'DELETE', url + '/below', [VERSION]).status == 404
    assert override(mounted, 'DELETE', mounted.base, [VERSION]).status in (404, 405)
    answer = override(mounted, 'GET', url)
    assert (answer.status, answer.body) == (200, b'hello')
    assert mounted.store.data(url) == b'hello'
    assert override(mounted, 'DELETE', url, [VERSION]).status == 204
    assert mounted.head(url).status == 404
