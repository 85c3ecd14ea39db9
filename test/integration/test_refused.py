"""A request that will be refused interrupts nobody: the holder goes on, and ends with 204."""
import pytest

from testenv.httpd import endpoint
from testenv.modules import load
from testenv.transport import CONFIG, PROTOCOLS, Transport
from testenv.tus import Tus, assert_error, metadata, patch_fields
from testenv.util import wait_until

pytestmark = pytest.mark.reliability

VERSION = ('Tus-Resumable', '1.0.0')


@pytest.fixture(scope='module')
def strict(shared_httpd):
    """One store, and endpoints that refuse in their own ways."""
    server = shared_httpd(modules=['http2', 'allowmethods'], tls=True)
    store = server.make_store()
    server.start(
        load('tus_observer') + CONFIG + 'RequestReadTimeout body=0\nTimeout 120\n'
        + endpoint('Location /files', store, 'TusCORS On')
        + endpoint('Location /auth', store, 'AuthType Basic', 'AuthName x',
                   'AuthUserFile /dev/null', 'Require valid-user')
        + endpoint('Location /denied', store, 'Require all denied')
        + endpoint('Location /limited', store, 'LimitRequestBody 3')
        + endpoint('Location /small', store, 'TusMaxSize 7')
        + endpoint('Location /keep', store, 'TusExtensions -termination')
        + endpoint('Location /few', store, 'TusChecksums sha1')
        + endpoint('Location /hidden', store, 'TusDownload Off')
        + endpoint('Location /get', store, 'AllowMethods GET')
        + endpoint('Location /origin', store, 'TusCORS On',
                   'TusCORSAllowOrigin "https://example\\.org"')
        + server.tls_vhost())
    return Tus(server, store=store)


def octets(offset=5, *fields):
    return [*patch_fields(offset), *fields]


def without(name):
    return [field for field in octets() if field[0] != name]


def override(method, *fields):
    return ('X-HTTP-Method-Override', method), *fields


SHA1 = 'sha1 qvTGHdzF6KLavt4PO0gs2a6pQ00='      # of "hello"
MD5 = 'md5 XUFAKrxLKna5cZ2REBfFkg=='

# name: (status, method, base, fields, body)
REFUSED = {
    '401': (401, 'PATCH', 'auth', octets(), b'world'),
    '401 HEAD': (401, 'HEAD', 'auth', [VERSION], None),
    '401 DELETE': (401, 'DELETE', 'auth', [VERSION], None),
    '403': (403, 'PATCH', 'denied', octets(), b'world'),
    '403 HEAD': (403, 'HEAD', 'denied', [VERSION], None),
    '403 DELETE': (403, 'DELETE', 'denied', [VERSION], None),
    '403 origin': (403, 'PATCH', 'origin', octets(5, ('Origin', 'https://example.com')), b'world'),
    '403 origin, HEAD': (403, 'HEAD', 'origin', [VERSION, ('Origin', 'https://example.com')], None),
    '404 below it': (404, 'PATCH', 'files', octets(), b'world'),
    '405': (405, 'PUT', 'files', octets(), b'world'),
    '405 POST': (405, 'POST', 'files', [VERSION, ('Upload-Length', '5')], b''),
    '405 POST of bytes': (405, 'POST', 'files', octets(), b'world'),
    '405 DELETE': (405, 'DELETE', 'keep', [VERSION], None),
    '405 GET': (405, 'GET', 'hidden', [], None),
    '405 AllowMethods': (405, 'PATCH', 'get', octets(), b'world'),
    '405 AllowMethods, DELETE': (405, 'DELETE', 'get', [VERSION], None),
    '405 override by no method': (405, 'POST', 'files', override('PATCHY', *octets()), b'world'),
    '405 override by another case': (405, 'PATCH', 'files', override('patch', *octets()), b'world'),
    '405 overrides': (405, 'POST', 'files', override('PATCH', *override('DELETE'), *octets()),
                      b'world'),
    '405 overridden DELETE': (405, 'POST', 'keep', override('DELETE', VERSION), b''),
    '405 overridden, AllowMethods': (405, 'POST', 'get', override('PATCH', *octets()), b'world'),
    '401 overridden': (401, 'POST', 'auth', override('PATCH', *octets()), b'world'),
    '409 overridden': (409, 'POST', 'files', override('PATCH', *octets(4)), b'world'),
    '412 overridden': (412, 'POST', 'files', override('DELETE'), b''),
    '404 another upload': (404, 'PATCH', 'files', octets(), b'world'),
    '409 less': (409, 'PATCH', 'files', octets(4), b'world'),
    '409 more': (409, 'PATCH', 'files', octets(6), b'world'),
    '409 nothing': (409, 'PATCH', 'files', octets(6), b''),
    '412': (412, 'PATCH', 'files', without('Tus-Resumable'), b'world'),
    '412 HEAD': (412, 'HEAD', 'files', [('Tus-Resumable', '0.2.2')], None),
    '412 DELETE': (412, 'DELETE', 'files', [], None),
    '413 upload': (413, 'PATCH', 'files', octets(), b'world!'),
    '413 request': (413, 'PATCH', 'limited', octets(), b'world'),
    '415 none': (415, 'PATCH', 'files', without('Content-Type'), b'world'),
    '415 other': (415, 'PATCH', 'files', without('Content-Type') + [('Content-Type', 'text/plain')],
                  b'world'),
    '400 no offset': (400, 'PATCH', 'files', without('Upload-Offset'), b'world'),
    '400 offset': (400, 'PATCH', 'files', octets(-5), b'world'),
    '400 checksum': (400, 'PATCH', 'files', octets(5, ('Upload-Checksum', 'sha1')), b'world'),
    '400 checksum length': (400, 'PATCH', 'files', octets(5, ('Upload-Checksum', 'sha1 YQ==')),
                            b'world'),
    '400 algorithm': (400, 'PATCH', 'files', octets(5, ('Upload-Checksum', 'sha0 YQ==')), b'world'),
    '400 algorithm of another place': (400, 'PATCH', 'few', octets(5, ('Upload-Checksum', MD5)),
                                       b'world'),
    '400 checksum digits': (400, 'PATCH', 'files', octets(5, ('Upload-Checksum', 'sha1 ?')),
                            b'world'),
    '400 two checksums': (400, 'PATCH', 'files', octets(5, ('Upload-Checksum', SHA1),
                                                        ('Trailer', 'Upload-Checksum')), b'world'),
    '400 length': (400, 'PATCH', 'files', octets(5, ('Upload-Length', 'x')), b'world'),
    '400 another length': (400, 'PATCH', 'files', octets(5, ('Upload-Length', '11')), b'world'),
    '413 length': (413, 'PATCH', 'small', octets(5, ('Upload-Length', '10')), b'world'),
}


def refuse(tus, url, newer, refusal):
    status, method, base, fields, body = REFUSED[refusal]
    tus.server.allow_log('AH01630|AH01623')     # denied by the server's configuration
    target = url.replace('/files/', f'/{base}/') + ('/x' if 'below' in refusal else '')
    if 'another upload' in refusal:
        target = target[:-1] + ('0' if target[-1] == '1' else '1')
    if newer == 'h1':
        answer = tus.request(method, target, fields, body)
    else:
        answer = Transport(tus, newer).request(method, target, fields, body)
    assert answer.status == status, answer


@pytest.mark.parametrize('refusal', REFUSED)
def test_a_refused_request_interrupts_nobody(strict, refusal):
    for deferred in (False, True):
        if deferred and refusal in ('413 upload', '400 another length'):
            continue    # with that length unknown it is no mistake
        url = (strict.new(headers=[('Upload-Defer-Length', '1')]) if deferred else strict.new(10))
        with strict.hold(url, 0, 10, b'hello') as holder:
            refuse(strict, url, 'h1', refusal)
            answer = holder.finish(b'world')
            assert (answer.status, answer.get('Upload-Offset')) == (204, '10')
        assert strict.store.data(url) == b'helloworld'


@pytest.mark.parametrize('older', PROTOCOLS)
def test_nor_over_other_protocols(strict, older):
    """Refusals that need no body: those of HTTP/2 and its clients are then the same."""
    old = Transport(strict, older)
    for newer in PROTOCOLS:
        url = strict.new(10)
        with old.hold(url, 0, 10, b'hello') as holder:
            for refusal in ('401 HEAD', '403 DELETE', '412 HEAD', '412 DELETE', '405 DELETE',
                            '405 GET'):
                refuse(strict, url, newer, refusal)
            holder.send(b'world')
            holder.end()
            assert holder.response().status == 204
        assert strict.store.data(url) == b'helloworld'


def test_a_rejected_termination_interrupts_nobody(strict):
    url = strict.new(10, headers=[('Upload-Metadata', metadata(refuse='pre_terminate'))])
    with strict.hold(url, 0, 10, b'hello') as holder:
        assert_error(strict.delete(url), 400, 'ERR_UPLOAD_TERMINATION_REJECTED')
        assert holder.finish(b'world').status == 204
    assert strict.store.data(url) == b'helloworld'


def test_a_length_that_is_too_short_interrupts_nobody(strict):
    """The length of an upload may be declared, but not below what is there."""
    url = strict.new(headers=[('Upload-Defer-Length', '1')])
    with strict.hold(url, 0, 10, b'hello') as holder:
        for length, body in (('4', b''), ('4', b'world'), ('7', b'world')):
            answer = strict.patch(url, 5, body, [('Upload-Length', length)])
            assert answer.status in (400, 413), answer
        assert holder.finish(b'world').status == 204
    assert strict.store.data(url) == b'helloworld'


def test_a_final_interrupts_none_of_its_parts(strict):
    part, other = strict.partial(10), strict.partial(5, b'hello')
    with strict.hold(part, 0, 10, b'hello') as holder:
        final = strict.final([part, other])
        head = strict.head(final)
        assert (head.status, head.get('Upload-Offset')) == (200, None)
        assert_error(strict.patch(final, 0, b'x'), 403, 'ERR_MODIFY_FINAL')
        assert strict.concat([part, '/files/' + '0' * 32]).status in (400, 404)
        assert holder.finish(b'world').status == 204
    wait_until(lambda: strict.get(final).body == b'helloworldhello', 'the join')
