"""A tus 1.0 client that looks at every answer with suspicion."""
import base64
import os
import re
import signal

from .http import Connection
from .store import upload_id
from .util import wait_until

OCTETS = 'application/offset+octet-stream'
EXTENSIONS = ('creation,creation-with-upload,creation-defer-length,termination,concatenation,'
              'concatenation-unfinished,checksum,checksum-trailer')


def metadata(**pairs):
    """An Upload-Metadata value; None means a key without a value."""
    return ','.join(key if value is None else f'{key} {b64(value)}' for key, value in pairs.items())


def b64(value):
    data = value.encode('utf-8') if isinstance(value, str) else value
    return base64.b64encode(data).decode('ascii')


def assert_of_endpoint(response):
    """What every answer of an endpoint carries, whoever made it; no field is repeated."""
    assert response.get('Tus-Resumable') == '1.0.0', response
    assert response.get('X-Content-Type-Options') == 'nosniff', response
    assert not response.repeated() - {'vary', 'set-cookie', 'www-authenticate'}, response


def assert_error(response, status, code):
    """One of mod_tus's own errors: status, `ERR_CODE: message` as plain text."""
    assert response.status == status, response
    assert_of_endpoint(response)
    assert re.match(r'text/plain\b', response.get('Content-Type') or ''), response
    assert re.fullmatch(rf'{code}: [^\r\n]+\n?', response.body.decode('utf-8')), response
    if status == 412:
        assert response.get('Tus-Version') == '1.0.0', response
    if status == 405:
        assert response.get('Allow'), response


class Tus:
    """An endpoint as a client sees it. Every request uses a connection of its own or `conn`."""

    def __init__(self, server, base='/files/', store=None, tls=False, headers=()):
        self.server = server
        self.base = base
        self.store = store
        self.tls = tls
        self.headers = list(headers)

    def connect(self, **options):
        port = self.server.tls_port if self.tls else self.server.port
        return Connection(port, tls=self.tls, **options)

    def request(self, method, url, headers=(), body=None, conn=None, chunked=False):
        """Any request, without headers of our own; the answer must be an endpoint's."""
        headers = [*self.headers, *headers]
        if conn:
            response = conn.request(method, url, headers, body, chunked)
        else:
            with self.connect() as own:
                response = own.request(method, url, headers, body, chunked)
        assert_of_endpoint(response)
        return response

    def options(self, url=None, headers=()):
        return self.request('OPTIONS', url or self.base, headers)

    def create(self, length=None, body=b'', headers=(), url=None, **how):
        fields = [('Tus-Resumable', '1.0.0')]
        if length is not None:
            fields.append(('Upload-Length', length))
        if body != b'':
            fields.append(('Content-Type', OCTETS))
        return self.request('POST', url or self.base, [*fields, *headers], body, **how)

    def new(self, length=None, body=b'', headers=(), **how):
        """Create an upload that must succeed; its URL."""
        response = self.create(length, body, headers, **how)
        assert response.status == 201, response
        location = response.get('Location')
        assert location, response
        return location

    def head(self, url, headers=(), **how):
        return self.request('HEAD', url, [('Tus-Resumable', '1.0.0'), *headers], **how)

    def offset(self, url, **how):
        """What HEAD says about an upload that must exist."""
        response = self.head(url, **how)
        assert response.status == 200, response
        assert response.get('Cache-Control') == 'no-store', response
        return int(response.get('Upload-Offset'))

    def patch(self, url, offset, body, headers=(), **how):
        return self.request('PATCH', url, [*patch_fields(offset), *headers], body, **how)

    def append(self, url, offset, body, **how):
        """A PATCH that must succeed; the new offset."""
        response = self.patch(url, offset, body, **how)
        assert response.status == 204, response
        return int(response.get('Upload-Offset'))

    def delete(self, url, **how):
        return self.request('DELETE', url, [('Tus-Resumable', '1.0.0')], **how)

    def get(self, url, headers=(), **how):
        return self.request('GET', url, headers, **how)

    def upload(self, data, headers=()):
        """A finished upload; its URL."""
        return self.new(len(data), data, headers)

    def partial(self, length, body=b'', headers=()):
        """A part of an upload that is to be made by final(); its URL."""
        return self.new(length, body, [('Upload-Concat', 'partial'), *headers])

    def concat(self, parts, headers=(), **how):
        """Ask for the final upload of these parts (URLs); the answer."""
        return self.create(headers=[('Upload-Concat', 'final;' + ' '.join(parts)), *headers], **how)

    def final(self, parts, headers=(), **how):
        """The final upload of these parts, which must succeed; its URL."""
        response = self.concat(parts, headers, **how)
        assert response.status == 201, response
        return response.get('Location')

    def holder(self, url):
        """The process that has the upload's data file open."""
        path = str(self.store.data_path(url))
        for pid in self.server.children():
            for fd in os.scandir(f'/proc/{pid}/fd'):
                try:
                    if os.readlink(fd.path) == path:
                        return pid
                except FileNotFoundError:
                    continue
        raise AssertionError('nobody holds the upload')

    def kill_holder(self, url):
        """kill -9 of that process; it is gone on return."""
        pid = self.holder(url)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in self.server.children(), 'the child to be gone')

    def hold(self, url, offset, length, sent, **how):
        return HeldPatch(self, url, offset, length, sent, **how)


def patch_fields(offset):
    return [('Tus-Resumable', '1.0.0'), ('Content-Type', OCTETS), ('Upload-Offset', offset)]


class HeldPatch:
    """A PATCH of `length` bytes whose client has sent `sent` so far and is silent."""

    def __init__(self, tus, url, offset, length, sent, chunked=False, headers=()):
        self.conn = tus.connect()
        self.chunked = chunked
        framing = ('Transfer-Encoding', 'chunked') if chunked else ('Content-Length', length)
        self.conn.send_head('PATCH', url, [*tus.headers, *patch_fields(offset), *headers, framing])
        if sent and chunked:
            self.conn.send(b'%x\r\n%s' % (length, sent))
        else:
            self.conn.send(sent)
        wait_until(lambda: tus.store.is_held(url), 'the upload to be held')
        wait_until(lambda: tus.store.size(url) == offset + len(sent), 'the held bytes to be stored')

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.conn.close()

    def send(self, data):
        self.conn.send(data)

    def finish(self, rest):
        """Send what is missing; the answer."""
        self.send(rest + (b'\r\n0\r\n\r\n' if self.chunked else b''))
        return self.response()

    def response(self):
        response = self.conn.response('PATCH')
        assert_of_endpoint(response)
        return response


def roundtrip(tus, data=b'0123456789' * 1000):
    """The whole life of one upload at an endpoint; returns the Location it was given."""
    options = tus.options()
    assert options.status == 200, options
    assert options.get('Tus-Version') == '1.0.0', options
    assert options.get('Tus-Extension') == EXTENSIONS, options

    url = tus.new(len(data), headers=[('Upload-Metadata', metadata(filename='a b.bin'))])
    assert tus.offset(url) == 0
    half = len(data) // 2
    assert tus.append(url, 0, data[:half]) == half
    assert tus.offset(url) == half
    assert tus.append(url, half, data[half:]) == len(data)

    head = tus.head(url)
    assert head.get('Upload-Offset') == head.get('Upload-Length') == str(len(data)), head
    assert head.get('Upload-Metadata') == metadata(filename='a b.bin'), head
    download = tus.get(url)
    assert (download.status, download.body) == (200, data), download
    if tus.store:
        assert tus.store.data(url) == data
        assert tus.store.finished(url)

    gone = tus.delete(url)
    assert gone.status == 204, gone
    assert tus.head(url).status == 404
    if tus.store:
        assert not {name for name in tus.store.files() if upload_id(url) in name}
    return url
