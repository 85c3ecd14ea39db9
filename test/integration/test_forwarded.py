"""TusForwarded and TusBaseURL: what Location starts with behind a proxy, and before strangers."""
import re

import pytest

from testenv.curl import curl
from testenv.httpd import endpoint
from testenv.tus import Tus, assert_of_endpoint

VERSION = ('Tus-Resumable', '1.0.0')


@pytest.fixture(scope='module')
def server(shared_httpd):
    server = shared_httpd(modules=['http2'], tls=True)
    store = server.store = server.make_store()
    hosted = server.make_dir(server.htdocs / 'hosted')
    server.make_dir(hosted / 'store')
    (hosted / '.htaccess').write_text('TusEngine On\nTusStore file store\n')
    return server.start(
        'Protocols h2 h2c http/1.1\n'
        + f'<Directory "{hosted}">\nAllowOverride FileInfo\nTusForwarded On\n</Directory>\n'
        + endpoint('Location /files', store, 'TusForwarded On')
        + endpoint('Location /off', store)
        + endpoint('Location /path', store, 'TusForwarded On', 'TusBaseURL /public/up')
        + endpoint('Location /url', store, 'TusForwarded On',
                   'TusBaseURL https://cdn.example:8443/up/')
        + endpoint('Location /off-again', store, 'TusForwarded On', 'TusForwarded Off')
        + server.tls_vhost())


def base(server, name, fields, host='up.example:8080'):
    """What Location starts with for a request with these fields."""
    answer = Tus(server).create(3, url=f'/{name}/', headers=[('Host', host), *fields])
    assert answer.status == 201, answer
    match = re.fullmatch(r'(.*/)[0-9a-f]{32}', answer.get('Location'))
    assert match, answer
    return match[1]


def forwarded(*values):
    return [('Forwarded', value) for value in values]


def x_forwarded(proto=None, host=None):
    fields = [('X-Forwarded-Proto', proto), ('X-Forwarded-Host', host)]
    return [(name, value) for name, value in fields if value is not None]


SAID = [
    (forwarded('proto=https;host=a.example'), 'https://a.example'),
    (forwarded('for=192.0.2.1;Proto=HTTPS;HOST="a.example:8443";by=x'), 'https://a.example:8443'),
    (forwarded('host="[2001:db8::1]:8443" ; proto="https"'), 'https://[2001:db8::1]:8443'),
    (forwarded('proto=https;host=a.example, proto=http;host=b.example'), 'https://a.example'),
    (forwarded('proto=https;host=a.example', 'proto=http;host=b.example'), 'https://a.example'),
    (forwarded('proto=https;host="a\\.example"'), 'https://a.example'),
    (x_forwarded('https', 'a.example'), 'https://a.example'),
    (x_forwarded('https', 'a.example:8443'), 'https://a.example:8443'),
    (x_forwarded('https, http', 'a.example, b.example'), 'https://a.example'),
    (x_forwarded('https', '[2001:db8::1]'), 'https://[2001:db8::1]'),
    # The scheme's own port is left out.
    (x_forwarded('https', 'a.example:443'), 'https://a.example'),
    (x_forwarded('http', 'a.example:80'), 'http://a.example'),
    (x_forwarded('https', 'a.example:80'), 'https://a.example:80'),
    (x_forwarded('https', '[2001:db8::443]:443'), 'https://[2001:db8::443]'),
    # Forwarded is the standard; the others complete it.
    (forwarded('proto=https;host=a.example') + x_forwarded('http', 'b.example'),
     'https://a.example'),
    (forwarded('proto=https') + x_forwarded(host='a.example'), 'https://a.example'),
    (forwarded('for=192.0.2.1') + x_forwarded('https', 'a.example'), 'https://a.example'),
    # What is not said comes from the request.
    (x_forwarded('https'), 'https://up.example:8080'),
    (x_forwarded(host='a.example'), 'http://a.example'),
    (x_forwarded(host='a.example:80'), 'http://a.example'),
    (forwarded('host=a.example'), 'http://a.example'),
    (x_forwarded('http'), 'http://up.example:8080'),
]


@pytest.mark.parametrize('fields, origin', SAID)
def test_what_a_proxy_says(server, fields, origin):
    assert base(server, 'files', fields) == origin + '/files/'
    assert base(server, 'path', fields) == origin + '/public/up/', 'TusBaseURL is a path'
    assert base(server, 'url', fields) == 'https://cdn.example:8443/up/', 'it is a URL'
    assert base(server, 'hosted', fields) == origin + '/hosted/'


@pytest.mark.parametrize('fields, origin', SAID)
def test_strangers_are_ignored(server, fields, origin):
    assert base(server, 'off', fields) == '/off/'
    assert base(server, 'off-again', fields) == '/off-again/'


@pytest.mark.parametrize('host, origin', [
    ('up.example', 'https://up.example'), ('up.example:443', 'https://up.example'),
    ('up.example:80', 'https://up.example:80'), ('[::1]:8080', 'https://[::1]:8080'),
    ('[::1]', 'https://[::1]')])
def test_the_host_of_the_request(server, host, origin):
    assert base(server, 'files', x_forwarded('https'), host) == origin + '/files/'


def test_a_request_without_host(server):
    with Tus(server).connect() as conn:
        conn.send(b'POST /files/ HTTP/1.0\r\nTus-Resumable: 1.0.0\r\nUpload-Length: 3\r\n'
                  b'X-Forwarded-Proto: https\r\n\r\n')
        answer = conn.response()
    assert re.fullmatch(r'https://localhost/files/[0-9a-f]{32}', answer.get('Location')), answer


def test_nothing_is_said(server):
    assert base(server, 'files', []) == '/files/'
    assert base(server, 'path', []) == '/public/up/'
    assert base(server, 'url', []) == 'https://cdn.example:8443/up/'


# -- what no proxy says ----------------------------------------------------------------------------

NO_HOSTS = [
    'user@evil.example', 'user:secret@evil.example', '//evil.example', 'evil.example/',
    'evil.example/files', 'evil.example?x', 'evil.example#x', 'evil.example\\x',
    'evil example', '\tevil\texample', 'evil.example:', 'evil.example:0', 'evil.example:65536',
    'evil.example:8o', 'evil.example:-1', 'evil.example:80:80', 'evil.example:80@x',
    '2001:db8::1', '[2001:db8::1', '2001:db8::1]', '[2001:db8::1]x', '[evil.example]', '[]',
    '[fe80::1%25eth0]', '<script>', '"', "evil.example\"", 'javascript:alert(1)',
    'https://evil.example', 'evil.ex\u00e4mple', 'x' * 300, '%', '%0', '%zz', ':8080', '', ' ']


@pytest.mark.parametrize('host', NO_HOSTS)
def test_what_is_no_host(server, host):
    """It counts as not said: then nothing is, or only the scheme."""
    assert base(server, 'files', x_forwarded(host=host)) == '/files/'
    assert base(server, 'files', x_forwarded('https', host)) == 'https://up.example:8080/files/'
    quoted = host.replace('\\', '\\\\').replace('"', '\\"')
    assert base(server, 'files', forwarded(f'host="{quoted}"')) == '/files/'


@pytest.mark.parametrize('proto', [
    'javascript', 'javascript:', 'file', 'ftp', 'https:', 'https://', 'http s', 'xhttps', '', ' ',
    'https"', '//', 'on', 'h\u00fcttps'])
def test_what_is_no_scheme(server, proto):
    assert base(server, 'files', x_forwarded(proto)) == '/files/'
    assert base(server, 'files', x_forwarded(proto, 'a.example')) == 'http://a.example/files/'
    assert base(server, 'files', forwarded('proto="' + proto.replace('"', '\\"') + '"')) == '/files/'


@pytest.mark.parametrize('value', [
    'host="evil.example', 'host=', 'host', '=', ';;;', ',', '"', 'host=a.example;host=b.example',
    'host =a.example', 'host= a.example', 'host=a.example x', 'proto=https host=a.example',
    'host="a.example"x', '\\', 'h\u00f6st=a.example', 'host="a' + '\\' * 1001 + '"'])
def test_a_malformed_forwarded(server, value):
    assert base(server, 'files', forwarded(value)) == '/files/'


@pytest.mark.parametrize('value', [
    b'a.example\r\n Set-Cookie: x=1', b'a.example\r\n\tb', b'a.example\rSet-Cookie: x=1',
    b'a.example\nSet-Cookie: x=1', b'a.example\0b', b'a.example\x0bb', b'a.example\x7f',
    b'"a.example\r\n Set-Cookie: x=1"', b'a.example%0d%0aSet-Cookie:%20x=1'])
@pytest.mark.parametrize('name', ['Forwarded: host=', 'X-Forwarded-Host: ', 'X-Forwarded-Proto: '])
def test_line_ends_and_controls(server, name, value):
    """httpd refuses them, takes them for a line of its own, or folds them: none gets out."""
    with Tus(server).connect() as conn:
        conn.send(b'POST /files/ HTTP/1.1\r\nHost: up.example\r\nTus-Resumable: 1.0.0\r\n'
                  b'Upload-Length: 3\r\n' + name.encode() + value + b'\r\n\r\n')
        answer = conn.response()
    assert answer.status in (201, 400), answer
    assert answer.get('Set-Cookie') is None
    if answer.status == 201:
        assert_of_endpoint(answer)
        location = re.fullmatch(r'(http://a\.example)?/files/[0-9a-f]{32}', answer.get('Location'))
        assert location, answer
    else:
        server.allow_log('AH0')


def test_a_long_list(server):
    assert base(server, 'files', x_forwarded(', ,', ',')) == '/files/'
    fields = x_forwarded(', '.join(['https'] * 1000), ', '.join(['a.example'] * 700))
    assert base(server, 'files', fields) == 'https://a.example/files/'


# -- the request's own scheme, and other protocols -------------------------------------------------

@pytest.mark.parametrize('option, scheme', [
    ('--http2-prior-knowledge', 'http'), ('--http2', 'https'), ('--http1.1', 'https')])
def test_other_protocols(server, option, scheme):
    port = server.port if scheme == 'http' else server.tls_port

    def location(*fields):
        headers = [part for field in (VERSION, ('Upload-Length', 3), *fields)
                   for part in ('-H', ': '.join(map(str, field)))]
        answer = curl(option, '-X', 'POST', *headers, f'{scheme}://127.0.0.1:{port}/files/')
        assert_of_endpoint(answer)
        return answer.get('Location').rsplit('/', 1)[0]

    assert location() == '/files'
    assert location(*x_forwarded(host='a.example')) == f'{scheme}://a.example/files'
    assert location(*x_forwarded('https', 'a.example:443')) == 'https://a.example/files'
    assert location(*x_forwarded('http')) == f'http://127.0.0.1:{port}/files'


# -- a real proxy ----------------------------------------------------------------------------------

def test_behind_mod_proxy(httpd):
    """The proxy ends TLS and changes the path; the client is sent back through it."""
    backend, front = httpd(), httpd(modules=['proxy', 'proxy_http', 'headers'], tls=True, tus=False)
    store = backend.make_store()
    backend.start(endpoint('Location /internal', store, 'TusForwarded On', 'TusBaseURL /up/'))
    front.start(front.tls_vhost(f'ProxyPass "/up/" "http://127.0.0.1:{backend.port}/internal/"\n'
                                'RequestHeader set X-Forwarded-Proto "https"'))
    home = f'https://127.0.0.1:{front.tls_port}'
    answer = curl('-X', 'POST', '-H', 'Tus-Resumable: 1.0.0', '-H', 'Upload-Length: 5',
                  home + '/up/')
    assert answer.status == 201
    url = answer.get('Location')
    assert url.startswith(home + '/up/'), url
    answer = curl('-X', 'PATCH', '-H', 'Tus-Resumable: 1.0.0', '-H', 'Upload-Offset: 0', '-H',
                  'Content-Type: application/offset+octet-stream', '--data-binary', '@-', url,
                  data=b'hello')
    assert answer.status == 204, answer
    assert store.data(url) == b'hello'
