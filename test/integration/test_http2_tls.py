"""TLS and HTTP/2, with clients of their own: curl and nghttp."""
import pytest

from testenv.curl import CurlPatch, curl, nghttp, nghttp_with_body
from testenv.httpd import MPMS, endpoint
from testenv.transport import Transport
from testenv.tus import (EXTENSIONS, OCTETS, Tus, assert_error, assert_of_endpoint, patch_fields,
                         roundtrip)
from testenv.util import pattern, wait_until

DATA = pattern(4 << 20)


@pytest.fixture(scope='module')
def tus(shared_httpd):
    """The endpoint over HTTP/1.1 without TLS; `scheme` below tells the others."""
    server = shared_httpd(modules=['http2'], tls=True)
    store = server.make_store()
    server.start('Protocols h2 h2c http/1.1\n' + endpoint('Location /files', store)
                 + server.tls_vhost())
    return Tus(server, store=store)


@pytest.fixture(params=['h2c', 'h2', 'https'])
def scheme(request, tus):
    """(option of curl, origin)"""
    if request.param == 'h2c':
        return '--http2-prior-knowledge', f'http://127.0.0.1:{tus.server.port}'
    origin = f'https://127.0.0.1:{tus.server.tls_port}'
    return ('--http2' if request.param == 'h2' else '--http1.1'), origin


def request(scheme, method, path, fields=(), body=None):
    """One request by curl; the answer must be an endpoint's."""
    option, origin = scheme
    headers = [part for name, value in fields for part in ('-H', f'{name}: {value}')]
    verb = ['--head'] if method == 'HEAD' else ['-X', method]
    data = [] if body is None else ['--data-binary', '@-', '-H', 'Expect:']
    answer = curl(option, *verb, *headers, *data, origin + path, data=body or b'')
    assert_of_endpoint(answer)
    return answer


def create(scheme, length, body=None):
    fields = [('Tus-Resumable', '1.0.0'), ('Upload-Length', length)]
    if body is not None:
        fields.append(('Content-Type', OCTETS))
    answer = request(scheme, 'POST', '/files/', fields, body)
    assert answer.status == 201, answer
    return answer.get('location')


def open_patch(tus, scheme, url):
    """By clients that read an answer which comes before the body has ended: curl may lose it."""
    option, origin = scheme
    if option == '--http1.1':
        return CurlPatch(origin + url, 0, option)
    protocol = 'h2' if option == '--http2' else 'h2c'
    return Transport(tus, protocol).open_patch(url, 0, None)


def test_the_whole_protocol(tus, scheme):
    options = request(scheme, 'OPTIONS', '/files/')
    assert (options.status, options.get('Tus-Extension')) == (200, EXTENSIONS)
    url = create(scheme, len(DATA))
    half = len(DATA) // 2
    for start, end in ((0, half), (half, len(DATA))):
        answer = request(scheme, 'PATCH', url, patch_fields(start), DATA[start:end])
        assert (answer.status, answer.get('Upload-Offset')) == (204, str(end))
        head = request(scheme, 'HEAD', url, [('Tus-Resumable', '1.0.0')])
        assert head.get('Upload-Offset') == str(end)
    assert tus.store.data(url) == DATA
    assert request(scheme, 'GET', url).body == DATA
    assert request(scheme, 'GET', url, [('Range', 'bytes=5-9')]).body == DATA[5:10]
    assert request(scheme, 'DELETE', url, [('Tus-Resumable', '1.0.0')]).status == 204
    assert request(scheme, 'GET', url).status == 404


def test_creation_with_data(tus, scheme):
    url = create(scheme, 5, b'hello')
    assert tus.store.data(url) == b'hello'


def test_refusals(tus, tmp_path, scheme):
    """Answered before the body was read; everything else of HTTP/2 is the same to them."""
    url = create(scheme, 10)
    for method, path, fields, body, status, code in (
            ('PATCH', url, patch_fields(4), b'hello', 409, 'ERR_MISMATCHED_OFFSET'),
            ('PATCH', url, patch_fields(0), b'x' * 11, 413, 'ERR_UPLOAD_SIZE_EXCEEDED'),
            ('PATCH', url, patch_fields(0)[1:], b'x', 412, 'ERR_UNSUPPORTED_VERSION'),
            ('POST', '/files/', patch_fields(0)[:2], b'x', 400, 'ERR_INVALID_UPLOAD_LENGTH')):
        if scheme[0] == '--http1.1':
            answer = request(scheme, method, path, fields, body)
        else:
            (tmp_path / 'body').write_bytes(body)
            headers = [f'-H{name}: {value}' for name, value in [(':method', method), *fields]]
            answer = nghttp_with_body('-d', tmp_path / 'body', *headers, scheme[1] + path)
        assert_error(answer, status, code)
    assert tus.offset(url) == 0


def test_more_bytes_than_the_length_by_a_stream_without_content_length(tus, scheme):
    url = create(scheme, 10)
    with open_patch(tus, scheme, url) as patch:
        patch.send(b'0123456789 and more')
        assert_error(patch.response(), 413, 'ERR_UPLOAD_SIZE_EXCEEDED')
    assert tus.store.data(url) == b'0123456789'[:tus.offset(url)]


def test_a_body_that_comes_in_pieces(tus, scheme):
    option, origin = scheme
    url = create(scheme, 10)
    with CurlPatch(origin + url, 0, option) as patch:
        patch.send(b'hello')
        wait_until(lambda: tus.store.size(url) == 5, 'the first piece')
        patch.send(b'world')
        assert patch.response().status == 204
    assert tus.store.data(url) == b'helloworld'


def test_a_client_that_goes_away(tus, scheme):
    option, origin = scheme
    url = create(scheme, 10)
    with CurlPatch(origin + url, 0, option) as patch:
        patch.send(b'hello')
        wait_until(lambda: tus.store.size(url) == 5, 'the first piece')
        patch.process.kill()
    assert tus.offset(url) == 5
    assert tus.append(url, 5, b'world') == 10
    assert tus.store.data(url) == b'helloworld'


def test_a_newer_request_takes_over(tus, scheme):
    """The holder speaks this protocol, the newcomer plain HTTP/1.1."""
    url = create(scheme, 10)
    with open_patch(tus, scheme, url) as holder:
        holder.send(b'hello')
        wait_until(lambda: tus.store.size(url) == 5, 'the first piece')
        assert tus.offset(url) == 5
        assert tus.append(url, 5, b'world') == 10
        assert_error(holder.response(), 503, 'ERR_UPLOAD_INTERRUPTED')
    assert tus.store.data(url) == b'helloworld'


def test_it_takes_over_itself(tus, scheme):
    """The holder speaks plain HTTP/1.1, the newcomer this protocol."""
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello') as holder:
        answer = request(scheme, 'PATCH', url, patch_fields(5), b'world')
        assert (answer.status, answer.get('Upload-Offset')) == (204, '10')
        assert_error(holder.response(), 503, 'ERR_UPLOAD_INTERRUPTED')


def test_tls_with_our_own_client(tus):
    roundtrip(Tus(tus.server, store=tus.store, tls=True), DATA)


@pytest.mark.parametrize('how', ['close', 'reset'])
def test_a_cut_tls_connection(tus, how):
    tls = Tus(tus.server, store=tus.store, tls=True)
    url = tls.new(len(DATA))
    with tls.hold(url, 0, len(DATA), DATA[:70_000]) as patch:
        if how == 'reset':
            patch.conn.reset()
    wait_until(lambda: tus.offset(url) == 70_000, 'the offset')
    assert tus.store.data(url) == DATA[:70_000]
    assert tls.append(url, 70_000, DATA[70_000:]) == len(DATA)
    tus.delete(url)


@pytest.mark.parametrize('port', ['h2c', 'h2'])
def test_nghttp(tus, tmp_path, port):
    """Another stack, several streams of one connection."""
    origin = (f'http://127.0.0.1:{tus.server.port}' if port == 'h2c'
              else f'https://127.0.0.1:{tus.server.tls_port}')
    body = tmp_path / 'body'
    body.write_bytes(DATA)
    url = tus.new(len(DATA))
    fields = [f'-H{name}: {value}' for name, value in [*patch_fields(0), (':method', 'PATCH')]]
    assert statuses('-d', body, *fields, origin + url) == [204]
    assert tus.store.data(url) == DATA
    missing = origin + '/files/' + '0' * 32
    assert statuses('-n', origin + url, origin + url + '?again', missing) == [200, 200, 404]


def statuses(*arguments):
    """The answers of several streams come in any order."""
    return sorted(answer.status for answer in nghttp(*arguments))


def test_clients_beside_a_held_stream(tus):
    """A stalled upload keeps no other client waiting."""
    origin = f'http://127.0.0.1:{tus.server.port}'
    held, free = tus.new(10), tus.upload(b'hello')
    with CurlPatch(origin + held, 0, '--http2-prior-knowledge') as holder:
        holder.send(b'hello')
        wait_until(lambda: tus.store.size(held) == 5, 'the first piece')
        assert statuses('-n', origin + free, origin + free + '?again') == [200, 200]
        holder.send(b'world')
        assert holder.response().status == 204


@pytest.mark.parametrize('mpm', [mpm for mpm in MPMS if mpm != 'prefork'])
def test_h2_under_the_other_mpms(httpd, mpm):
    """mod_http2 does not work under prefork, and says so."""
    server = httpd(mpm=mpm, modules=['http2'])
    store = server.make_store()
    server.start('Protocols h2c http/1.1\n' + endpoint('Location /files', store))
    tus = Tus(server, store=store)
    url = tus.new(5)
    scheme = ('--http2-prior-knowledge', f'http://127.0.0.1:{server.port}')
    assert request(scheme, 'PATCH', url, patch_fields(0), b'hello').status == 204
    assert store.data(url) == b'hello'
