"""The same requests over HTTP/1.1, TLS and HTTP/2 with and without TLS."""
import threading

from .curl import curl
from .h2 import H2Connection
from .http import Disconnected
from .stream import stretch
from .tus import Tus, assert_of_endpoint, patch_fields
from .util import wait_until

PROTOCOLS = ('h1', 'tls', 'h2c', 'h2')
CONFIG = 'Protocols h2 h2c http/1.1\n'

_OPTIONS = {'h1': '--http1.1', 'tls': '--http1.1', 'h2c': '--http2-prior-knowledge',
            'h2': '--http2'}
_VERSION = ('Tus-Resumable', '1.0.0')


class Transport:
    """How requests to one endpoint are made. The server has been started with CONFIG and TLS."""

    def __init__(self, tus, protocol):
        self.protocol = protocol
        self.store = tus.store
        self.is_h2 = protocol.startswith('h2')
        is_tls = protocol in ('tls', 'h2')
        self.tus = Tus(tus.server, tus.base, tus.store, tls=is_tls)
        self.option = _OPTIONS[protocol]
        port = tus.server.tls_port if is_tls else tus.server.port
        self.origin = f'http{"s" if is_tls else ""}://127.0.0.1:{port}'

    def request(self, method, url, fields=(), body=None):
        """One request on a connection of its own; the answer must be an endpoint's."""
        if not self.is_h2:
            return self.tus.request(method, url, fields, body)
        headers = [part for name, value in fields for part in ('-H', f'{name}: {value}')]
        verb = ['--head'] if method == 'HEAD' else ['-X', method]
        data = [] if body is None else ['--data-binary', '@-', '-H', 'Expect:']
        answer = curl(self.option, *verb, *headers, *data, self.origin + url, data=body or b'')
        assert_of_endpoint(answer)
        return answer

    def head(self, url):
        return self.request('HEAD', url, [_VERSION])

    def patch(self, url, offset, body, fields=()):
        return self.request('PATCH', url, [*patch_fields(offset), *fields], body)

    def overridden_patch(self, url, offset, body):
        fields = [*patch_fields(offset), ('X-HTTP-Method-Override', 'PATCH')]
        return self.request('POST', url, fields, body)

    def delete(self, url):
        return self.request('DELETE', url, [_VERSION])

    def open_patch(self, url, offset, length):
        """A PATCH whose head is sent; its body is up to the test."""
        if self.is_h2:
            return H2Patch(self.connect_h2(), url, offset)
        return H1Patch(self, url, offset, length)

    def connect_h2(self):
        return H2Connection(self.tus.server.tls_port if self.tus.tls else self.tus.server.port,
                            self.tus.tls)

    def hold(self, url, offset, length, sent):
        """The same with `sent` sent and stored."""
        patch = self.open_patch(url, offset, length)
        patch.send(sent)
        wait_until(lambda: self.store.is_held(url), 'the upload to be held')
        wait_until(lambda: self.store.size(url) == offset + len(sent), 'the bytes to be stored')
        return patch


class OneConnection(Transport):
    """All requests are streams of one HTTP/2 connection."""

    def __init__(self, tus, protocol):
        super().__init__(tus, protocol)
        self.connection = self.connect_h2()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.connection.close()

    def request(self, method, url, fields=(), body=None):
        answer = self.connection.request(method, url, fields, body)
        assert_of_endpoint(answer)
        return answer

    def open_patch(self, url, offset, length):
        return H2Patch(self.connection, url, offset, owns=False)


class H1Patch:
    """A PATCH whose body comes when the test says so; length None: in chunks."""

    def __init__(self, transport, url, offset, length):
        self.chunked = length is None
        self.conn = transport.tus.connect()
        framing = (('Transfer-Encoding', 'chunked') if self.chunked
                   else ('Content-Length', length))
        self.conn.send_head('PATCH', url, [*patch_fields(offset), framing])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.conn.close()

    def send(self, data):
        self.conn.send(data)

    def end(self):
        """The body was sent whole."""
        if self.chunked:
            self.conn.send(b'0\r\n\r\n')

    def response(self):
        answer = self.conn.response('PATCH')
        assert_of_endpoint(answer)
        return answer

    def vanish(self):
        """From now on the client neither reads nor sends, and does not even go away."""


class H2Patch:
    """The same as a stream, without Content-Length."""

    def __init__(self, connection, url, offset, owns=True):
        self.connection = connection
        self.owns = owns
        self.stream = connection.open('PATCH', url, patch_fields(offset))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.owns:
            self.connection.close()
        else:
            self.stream.reset()

    def send(self, data):
        self.stream.send(data)

    def end(self):
        self.stream.end()

    def response(self):
        answer = self.stream.response()
        assert_of_endpoint(answer)
        return answer

    def vanish(self):
        """Nobody reads that connection any more."""


class Pump:
    """Sends bytes from `start` on as fast as the patch takes them, until it takes no more."""

    bytes = staticmethod(stretch)
    pause = 0   # seconds after each 64 KiB

    def __init__(self, patch, start=0):
        self._patch = patch
        self._start = start
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def _run(self):
        size = 1 << 16
        at = self._start
        try:
            while not self._over.is_set():
                self._patch.send(self.bytes(at, at + size))
                at += size
                self._over.wait(self.pause)
        except (OSError, ValueError, Disconnected):
            pass    # refused, or closed: the answer says why

    def stop(self):
        self._over.set()
        self._thread.join()
