"""Cross-origin requests: what a browser is told, by whatever module an answer was made."""
import re

import pytest

from testenv.curl import curl
from testenv.httpd import MPMS, endpoint
from testenv.store import Store
from testenv.tus import OCTETS, Tus, assert_error, assert_of_endpoint, patch_fields

APP = 'https://app.example'
ORIGIN = ('Origin', APP)
ASKS = ('Access-Control-Request-Method', 'POST')
PREFLIGHT = [ORIGIN, ASKS, ('Access-Control-Request-Headers', 'authorization,tus-resumable')]
VERSION = ('Tus-Resumable', '1.0.0')
JOE = ('Authorization', 'Basic am9lOnNlY3JldA==')
USERS = 'joe:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n'   # secret
METHODS = ['POST', 'HEAD', 'PATCH', 'OPTIONS', 'GET', 'DELETE']

# What the reference server says (its recorded preflight), without the fields of the IETF's protocol.
ALLOWED = {'Authorization', 'Origin', 'X-Requested-With', 'X-Request-ID', 'X-HTTP-Method-Override',
           'Content-Type', 'Upload-Length', 'Upload-Offset', 'Tus-Resumable', 'Upload-Metadata',
           'Upload-Defer-Length', 'Upload-Concat'}
EXPOSED = {'Upload-Offset', 'Location', 'Upload-Length', 'Tus-Version', 'Tus-Resumable',
           'Tus-Max-Size', 'Tus-Extension', 'Upload-Metadata', 'Upload-Defer-Length',
           'Upload-Concat'}


def items(response, name):
    """A list field, which may stand there once."""
    value = response.get(name)
    return re.split(r', *', value) if value else []


def cors_fields(response):
    return {name.lower() for name, _ in response.headers
            if name.lower().startswith('access-control-')}


def assert_vary(response, *names):
    assert {name.lower() for name in items(response, 'Vary')} == set(names), response


def assert_cors(response, origin=APP, credentials=False, vary=('origin',)):
    """An answer that a page of that origin may read."""
    fields = {'access-control-allow-origin', 'access-control-expose-headers'}
    if credentials:
        fields.add('access-control-allow-credentials')
        assert response.get('Access-Control-Allow-Credentials') == 'true', response
    assert response.get('Access-Control-Allow-Origin') == origin, response
    assert EXPOSED < set(items(response, 'Access-Control-Expose-Headers')), response
    assert cors_fields(response) == fields, response
    assert_vary(response, *vary)


def assert_no_cors(response, vary=('origin',)):
    assert not cors_fields(response), response
    assert_vary(response, *vary)


def assert_preflight(response, origin=APP, credentials=False):
    """The answer that makes a browser send the request itself."""
    fields = {'access-control-allow-origin', 'access-control-allow-methods',
              'access-control-allow-headers', 'access-control-max-age'}
    if credentials:
        fields.add('access-control-allow-credentials')
    assert (response.status, response.body) == (200, b''), response
    assert_of_endpoint(response)
    assert response.get('Access-Control-Allow-Origin') == origin, response
    assert cors_fields(response) == fields, response
    assert_vary(response, 'origin')


def protected(server, *lines):
    return ['AuthType Basic', 'AuthName x', f'AuthUserFile "{server.root}/users"',
            'Require valid-user', *lines]


def make_server(server, extra=''):
    """One server with an endpoint for each case, all over the same store."""
    (server.root / 'users').write_text(USERS)
    store = server.store = server.make_store()
    hosted = server.make_dir(server.htdocs / 'hosted')
    server.hosted = Store(server.make_dir(hosted / 'store'))
    (hosted / '.htaccess').write_text('\n'.join(
        ['TusEngine On', 'TusStore file store', 'TusCORS On', *protected(server), '']))
    (server.htdocs / 'oops.html').write_text('<p>oops</p>')
    server.expect_log('TusStore .*/missing cannot be used')
    return server.start(
        f'<Directory "{hosted}">\nAllowOverride FileInfo AuthConfig\n</Directory>\n'
        + endpoint('Location /files', store)    # TusCORS is On
        + endpoint('Location /off', store, 'TusCORS Off')
        + endpoint('Location /strict', store, 'TusCORS On',
                   r'TusCORSAllowOrigin "^https://([a-z]+\.)?app\.example$"',
                   'TusCORSAllowCredentials On')
        + endpoint('Location /proxied', store, 'TusCORS On', 'TusForwarded On',
                   'TusCORSAllowOrigin "^https://app\\.example$"')
        + endpoint('Location /private', store, 'TusCORS On', 'TusCORSAllowCredentials On',
                   *protected(server))
        + endpoint('Location /private-off', store, *protected(server, 'TusCORS Off'))
        + endpoint('Location /denied', store, 'TusCORS On', 'Require all denied')
        + endpoint('Location /order', store, 'TusCORS On', 'Order Deny,Allow', 'Deny from all')
        + endpoint('Location /little', store, 'TusCORS On', 'LimitRequestBody 10')
        + endpoint('Location /page', store, 'TusCORS On', 'ErrorDocument 403 /oops.html',
                   'Require all denied')
        + endpoint('Location /deflate', store, 'TusCORS On', 'SetOutputFilter DEFLATE')
        + endpoint('Location /lists', store, 'TusCORS On', 'TusCORSAllowMethods POST PATCH',
                   'TusCORSAllowHeaders +X-Token', 'TusCORSExposeHeaders X-One X-Two',
                   'TusCORSMaxAge 10mi')
        + endpoint('Location /gone', server.root / 'stores' / 'missing', 'TusCORS On',
                   *protected(server))
        + extra)


@pytest.fixture(scope='module')
def server(shared_httpd):
    return make_server(shared_httpd())


@pytest.fixture
def tus(server):
    return Tus(server, store=server.store)


def at(server, name, *headers):
    return Tus(server, f'/{name}/', server.store, headers=headers)


# -- what an answer carries ------------------------------------------------------------------------

def test_every_answer_of_an_upload(server):
    tus = at(server, 'files', ORIGIN)
    answers = [tus.options(), tus.create(10), tus.create(), tus.create(3, b'abc')]
    url = answers[-1].get('Location')
    answers += [tus.head(url), tus.get(url), tus.get(url, [('Range', 'bytes=1-1')]),
                tus.patch(url, 3, b'd'), tus.patch(url, 0, b''), tus.delete(url),
                tus.head(url), tus.get(url), tus.request('PUT', url),
                tus.request('PATCH', url)]
    assert [answer.status for answer in answers] == [
        200, 201, 400, 201, 200, 200, 206, 413, 409, 204, 404, 404, 405, 412]
    for answer in answers:
        assert_cors(answer)


def test_not_modified(server):
    tus = at(server, 'files', ORIGIN)
    url = tus.upload(b'abc')
    etag = tus.get(url).get('ETag')
    answer = tus.get(url, [('If-None-Match', etag)])
    assert answer.status == 304
    assert answer.get('Access-Control-Allow-Origin') == APP
    assert_vary(answer, 'origin')


def test_without_an_origin(tus):
    """A cache must know that the answer to a page would be another."""
    url = tus.new(3, b'abc')
    for answer in (tus.options(), tus.head(url), tus.get(url), tus.create(),
                   tus.options(headers=[ASKS]), tus.options(headers=[('Origin', ''), ASKS])):
        assert_no_cors(answer)


def test_switched_off(server):
    tus = at(server, 'off', ORIGIN)
    url = tus.new(3, b'abc')
    for answer in (tus.options(headers=[ASKS]), tus.head(url), tus.get(url), tus.create()):
        assert_no_cors(answer, vary=())


@pytest.mark.parametrize('origin', [
    'http://localhost:3000', 'https://[2001:db8::1]', 'null', 'file://', 'chrome-extension://abc',
    'https://xn--bcher-kva.example', '*', 'nonsense', 'x' * 4000, 'https://gr\u00fcn.example',
    'https://a.example\t', '"><script>', '%0d%0aSet-Cookie: a=b'])
def test_the_origin_is_echoed(server, origin):
    """What a browser does not say about itself does it no good to read."""
    assert_cors(at(server, 'files', ('Origin', origin)).options(), origin.strip())


def test_the_origin_twice(server):
    answer = at(server, 'files', ORIGIN, ('Origin', 'https://evil.example')).options()
    assert answer.get('Access-Control-Allow-Origin') not in (APP, 'https://evil.example')


def test_credentials(server):
    assert_cors(at(server, 'strict', ORIGIN).create(10), credentials=True)
    assert_preflight(at(server, 'strict').options(headers=PREFLIGHT), credentials=True)


def test_lists(server):
    tus = at(server, 'lists')
    answer = tus.options(headers=PREFLIGHT)
    assert_preflight(answer)
    assert items(answer, 'Access-Control-Allow-Methods') == ['POST', 'PATCH']
    assert ALLOWED | {'X-Token'} < set(items(answer, 'Access-Control-Allow-Headers')), answer
    assert answer.get('Access-Control-Max-Age') == '600'
    answer = tus.create(10, headers=[ORIGIN])
    assert items(answer, 'Access-Control-Expose-Headers') == ['X-One', 'X-Two']


@pytest.mark.parametrize('coding', ['gzip', None])
def test_vary_is_one_field(server, coding):
    """mod_deflate varies too, and never in the same table as we do."""
    tus = at(server, 'deflate')
    url = tus.upload(b'text ' * 1000, [('Upload-Metadata', 'filetype dGV4dC9wbGFpbg==')])
    fields = [('Accept-Encoding', coding)] if coding else []
    for origin in ([], [ORIGIN]):
        answer = tus.get(url, [*fields, *origin])
        assert (answer.status, answer.get('Content-Encoding')) == (200, coding)
        assert_vary(answer, 'origin', 'accept-encoding')


# -- preflights ------------------------------------------------------------------------------------

@pytest.mark.parametrize('name, credentials', [
    ('files', False), ('private', True), ('denied', False), ('gone', False), ('hosted', False),
    ('page', False)])
@pytest.mark.parametrize('tail', ['', '0' * 32, 'a/b'])
def test_preflight(server, name, credentials, tail):
    """It needs no user, no rule and no store, and tells only what the configuration says."""
    tus = at(server, name)
    before = server.store.snapshot()
    answer = tus.options(tus.base + tail, PREFLIGHT)
    assert_preflight(answer, credentials=credentials)
    assert items(answer, 'Access-Control-Allow-Methods') == METHODS
    assert ALLOWED | {'Upload-Checksum'} <= set(items(answer, 'Access-Control-Allow-Headers'))
    assert answer.get('Access-Control-Max-Age') == '86400'
    assert answer.get('Tus-Version') == '1.0.0'
    assert server.store.snapshot() == before


def test_the_exposed_fields(server):
    exposed = items(at(server, 'files', ORIGIN).options(), 'Access-Control-Expose-Headers')
    assert {'Upload-Expires', 'Tus-Checksum-Algorithm'} < set(exposed)


NO_PREFLIGHTS = [
    ('OPTIONS', []), ('OPTIONS', [ORIGIN]), ('OPTIONS', [ASKS]),
    ('OPTIONS', [('Origin', ''), ASKS]),
    ('POST', [ORIGIN, ASKS]), ('GET', [ORIGIN, ASKS]), ('HEAD', [ORIGIN, ASKS]),
    ('PATCH', [ORIGIN, ASKS]), ('DELETE', [ORIGIN, ASKS]), ('PUT', [ORIGIN, ASKS]),
    ('options', [ORIGIN, ASKS]), ('PROPFIND', [ORIGIN, ASKS])]


@pytest.mark.parametrize('method, fields', NO_PREFLIGHTS)
@pytest.mark.parametrize('name', ['private', 'hosted'])
def test_what_is_no_preflight_needs_a_user(server, name, method, fields):
    server.allow_log('AH01618')
    answer = at(server, name).request(method, f'/{name}/{"0" * 32}', fields)
    assert answer.status in (401, 501), answer
    if method != 'options':
        assert answer.status == 401


@pytest.mark.parametrize('method, override', [
    ('POST', 'OPTIONS'), ('GET', 'OPTIONS'), ('HEAD', 'OPTIONS'), ('PATCH', 'OPTIONS'),
    ('OPTIONS', 'OPTIONS'), ('OPTIONS', 'POST'), ('OPTIONS', 'PATCH'), ('OPTIONS', 'DELETE'),
    ('OPTIONS', 'GET'), ('OPTIONS', 'HEAD'), ('OPTIONS', 'TRACE'), ('OPTIONS', '')])
@pytest.mark.parametrize('name', ['private', 'denied', 'hosted'])
def test_an_overridden_method_makes_no_preflight(server, tus, name, method, override):
    server.allow_log('AH01630')
    store = server.hosted if name == 'hosted' else server.store
    before = store.snapshot()
    fields = [*PREFLIGHT, ('X-HTTP-Method-Override', override), *patch_fields(0),
              ('Upload-Length', 3)]
    with tus.connect() as conn:
        conn.send_request(method, f'/{name}/', fields, b'abc')
        answer = conn.response('HEAD' if method == 'HEAD' else 'GET')
    assert_of_endpoint(answer)
    assert answer.status == (403 if name == 'denied' else 401), answer
    assert store.snapshot() == before


def test_the_request_itself_needs_a_user(server):
    tus = at(server, 'private', ORIGIN)
    assert tus.options(headers=PREFLIGHT[1:]).status == 200
    answer = tus.create(3)
    assert answer.status == 401
    assert answer.get('WWW-Authenticate')
    assert_cors(answer, credentials=True)
    url = tus.new(3, headers=[JOE])
    assert_cors(tus.head(url), credentials=True)
    assert tus.append(url, 0, b'abc', headers=[JOE]) == 3


def test_without_tuscors_a_preflight_needs_a_user(server):
    answer = at(server, 'private-off').options(headers=PREFLIGHT)
    assert answer.status == 401
    assert_no_cors(answer, vary=())


def test_order_and_deny_judge_preflights_too(server):
    """mod_access_compat comes before all who could let a request pass. A browser stops there."""
    server.expect_log('AH01797')
    answer = at(server, 'order').options(headers=PREFLIGHT)
    assert answer.status == 403
    assert_of_endpoint(answer)
    assert answer.get('Access-Control-Allow-Origin') == APP
    assert at(server, 'order', ORIGIN).create(3).status == 403


# -- errors that other modules make ----------------------------------------------------------------

def test_errors_of_other_modules(server):
    server.allow_log('AH01630|AH01797|AH01617|AH01618')
    wrong = ('Authorization', 'Basic am9lOndyb25n')
    for name, fields, status in (('private', [], 401), ('private', [wrong], 401),
                                 ('denied', [], 403), ('order', [], 403)):
        for method in ('POST', 'PATCH', 'DELETE', 'GET', 'PUT'):
            answer = at(server, name, ORIGIN).request(method, f'/{name}/x', fields)
            assert answer.status == status
            assert_cors(answer, credentials=name == 'private')


def test_an_error_page_of_the_administrator(server):
    server.allow_log('AH01630')
    answer = at(server, 'page', ORIGIN).create(3)
    assert (answer.status, answer.body) == (403, b'<p>oops</p>')
    assert_cors(answer)


@pytest.mark.parametrize('chunked', [False, True])
def test_a_body_that_httpd_refuses(server, chunked):
    """LimitRequestBody, met in the middle of a chunked body: HTTP_IN answers by itself."""
    server.allow_log('AH01588|AH01589|AH01591')
    answer = at(server, 'little', ORIGIN).create(20, bytes(20), chunked=chunked)
    assert answer.status == 413
    assert_cors(answer)


def test_a_body_in_broken_chunks(tus):
    tus.server.allow_log('AH01590|AH0158|AH0159|AH02')
    url = tus.new(10)
    with tus.connect() as conn:
        conn.send_head('PATCH', url, [ORIGIN, *patch_fields(0), ('Transfer-Encoding', 'chunked')])
        conn.send(b'5\r\nhello\r\nnonsense\r\n')
        answer = conn.response('PATCH')
    assert answer.status == 400, answer
    assert_of_endpoint(answer)
    assert_cors(answer)


def test_a_store_that_is_missing(server):
    server.allow_log('ERR_INTERNAL_SERVER_ERROR')
    answer = at(server, 'gone', ORIGIN, JOE).create(3)
    assert_error(answer, 500, 'ERR_INTERNAL_SERVER_ERROR')
    assert_cors(answer)


def test_a_file_of_a_store(server):
    """404 by the guard, outside any endpoint: none of our business."""
    path = '/hosted/store/' + '0' * 32
    with Tus(server).connect() as conn:
        assert conn.request('GET', '/oops.html', [ORIGIN]).all('Vary') == []
        answer = conn.request('GET', path, [ORIGIN])
    assert answer.status in (401, 404), answer


# -- which origins ---------------------------------------------------------------------------------

STRANGERS = ['https://evil.example', 'http://app.example', 'https://app.example:8443',
             'https://app.example.evil.example', 'https://app.example, https://evil.example',
             'null', 'https://1.app.example', 'HTTPS://APP.EXAMPLE', 'https://app.example/']


@pytest.mark.parametrize('origin', STRANGERS)
def test_an_origin_that_is_not_allowed(server, origin):
    tus = at(server, 'strict')
    url = tus.new(10, b'abc')
    before = server.store.snapshot()
    stranger = ('Origin', origin)
    for method in ('POST', 'PATCH', 'DELETE', 'GET', 'OPTIONS'):
        answer = tus.request(method, url if method != 'POST' else tus.base,
                             [stranger, *patch_fields(3), ('Upload-Length', 1)])
        assert_error(answer, 403, 'ERR_ORIGIN_NOT_ALLOWED')
        assert b'TusCORSAllowOrigin' in answer.body
        assert_no_cors(answer)
    assert tus.head(url, [stranger]).status == 403
    answer = tus.options(headers=[stranger, ASKS])
    assert_error(answer, 403, 'ERR_ORIGIN_NOT_ALLOWED')
    assert_no_cors(answer)
    assert server.store.snapshot() == before


@pytest.mark.parametrize('origin', ['https://app.example', 'https://www.app.example'])
def test_an_origin_that_is_allowed(server, origin):
    tus = at(server, 'strict', ('Origin', origin))
    assert_cors(tus.create(3), origin, credentials=True)
    assert_preflight(tus.options(headers=[ASKS]), origin, credentials=True)


@pytest.mark.parametrize('host, origin', [
    ('up.example', 'http://up.example'), ('up.example:80', 'http://up.example'),
    ('UP.example', 'http://up.example'), ('up.example:8080', 'http://up.example:8080'),
    ('[2001:db8::1]:8080', 'http://[2001:db8::1]:8080')])
def test_the_endpoints_own_origin(server, host, origin):
    """A page beside the endpoint makes no cross-origin request, whatever the regex says."""
    answer = at(server, 'strict', ('Host', host), ('Origin', origin)).create(3)
    assert answer.status == 201
    assert_no_cors(answer)


@pytest.mark.parametrize('host, origin', [
    ('up.example', 'https://up.example'), ('up.example', 'http://up.example:8080'),
    ('up.example:8080', 'http://up.example'), ('up.example', 'http://www.up.example'),
    ('up.example', 'http://up.example.evil.example'), ('up.example', 'http://up.example/'),
    ('up.example', 'up.example')])
def test_what_is_not_the_endpoints_own_origin(server, host, origin):
    answer = at(server, 'strict', ('Host', host), ('Origin', origin)).create(3)
    assert_error(answer, 403, 'ERR_ORIGIN_NOT_ALLOWED')


def test_the_own_origin_behind_a_proxy(server):
    proxy = [('X-Forwarded-Proto', 'https'), ('X-Forwarded-Host', 'up.example')]
    own, backend = ('Origin', 'https://up.example'), ('Origin', f'http://127.0.0.1:{server.port}')
    assert at(server, 'proxied', own, *proxy).create(3).status == 201
    assert at(server, 'proxied', own).create(3).status == 403
    assert at(server, 'proxied', backend, ('Host', backend[1][7:]), *proxy).create(3).status == 403
    # Without TusForwarded nobody can talk himself into being at home.
    assert at(server, 'strict', own, *proxy).create(3).status == 403


def test_an_expression_that_is_none(httpd):
    code, said = httpd().configtest('TusCORSAllowOrigin "https://(app"\n')
    assert code != 0
    assert 'TusCORSAllowOrigin' in said


# -- under every MPM, over HTTP/2 and TLS ----------------------------------------------------------

def test_every_mpm(httpd, mpm):
    server = make_server(httpd(mpm=mpm))
    server.allow_log('AH01630|AH01588|AH01589|AH01591')
    assert_preflight(at(server, 'private').options(headers=PREFLIGHT), credentials=True)
    assert_cors(at(server, 'private', ORIGIN).create(3), credentials=True)
    assert_cors(at(server, 'denied', ORIGIN).create(3))
    assert_cors(at(server, 'little', ORIGIN).create(20, bytes(20), chunked=True))
    tus = at(server, 'strict', ORIGIN)
    url = tus.new(3)
    assert tus.append(url, 0, b'abc') == 3
    assert_cors(tus.get(url), credentials=True)


@pytest.fixture(scope='module')
def streams(shared_httpd):
    server = shared_httpd(mpm=next(mpm for mpm in MPMS if mpm != 'prefork'),
                          modules=['http2'], tls=True)
    return make_server(server, 'Protocols h2 h2c http/1.1\n' + server.tls_vhost())


@pytest.mark.parametrize('option, scheme', [
    ('--http2-prior-knowledge', 'http'), ('--http2', 'https'), ('--http1.1', 'https')])
def test_other_protocols(streams, option, scheme):
    port = streams.port if scheme == 'http' else streams.tls_port
    home = f'{scheme}://localhost:{port}'
    streams.allow_log('AH01630|AH01588|AH01589|AH01591')

    def ask(method, path, *fields, body=None):
        headers = [part for field in fields for part in ('-H', ': '.join(map(str, field)))]
        data = [] if body is None else ['--data-binary', '@-', '-H', 'Expect:']
        return curl(option, '--resolve', f'localhost:{port}:127.0.0.1', '-X', method, *headers,
                    *data, home + path, data=body or b'')

    assert_preflight(ask('OPTIONS', '/private/', *PREFLIGHT), credentials=True)
    assert ask('OPTIONS', '/private/', ORIGIN).status == 401
    answer = ask('POST', '/private/', VERSION, ('Upload-Length', 3), ORIGIN)
    assert answer.status == 401
    assert_cors(answer, credentials=True)
    assert_cors(ask('GET', '/denied/x', ORIGIN))
    answer = ask('POST', '/files/', VERSION, ('Upload-Length', 5), ('Content-Type', OCTETS), ORIGIN,
                 body=b'hello')
    assert answer.status == 201
    assert_cors(answer)
    assert_cors(ask('GET', answer.get('Location'), ORIGIN))
    create = VERSION, ('Upload-Length', 5)
    assert ask('POST', '/strict/', *create, ('Origin', home)).status == 201
    assert ask('POST', '/strict/', *create, ('Origin', home + '0')).status == 403
    url = at(streams, 'deflate').upload(b'text ' * 1000,
                                        [('Upload-Metadata', 'filetype dGV4dC9wbGFpbg==')])
    answer = ask('GET', url, ORIGIN, ('Accept-Encoding', 'gzip'))
    assert_vary(answer, 'origin', 'accept-encoding')
