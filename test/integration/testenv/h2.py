"""HTTP/2 with as many streams on one connection as a test likes; threads may share it.

It keeps an answer that comes before its request was sent whole, which curl 7.88 does not.
"""
import select
import socket
import ssl
import threading
import time

import h2.config
import h2.connection
import h2.errors
import h2.events

from .http import Disconnected, Response, to_bytes

PATIENCE = 60   # seconds for an answer, or for room to send


def connect(port, tls):
    sock = socket.create_connection(('127.0.0.1', port), timeout=PATIENCE)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        context.set_alpn_protocols(['h2'])
        sock = context.wrap_socket(sock)
        assert sock.selected_alpn_protocol() == 'h2'
    return sock


class H2Connection:
    def __init__(self, port, tls=False):
        self.sock = connect(port, tls)
        self.tls = tls
        self.closed = False
        self.streams = {}
        self.lock = threading.RLock()   # of all that is here, the socket included
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding='latin-1'))
        self.h2.initiate_connection()
        self.flush()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        with self.lock:
            self.closed = True
            self.sock.close()

    def open(self, method, path, fields=(), body=None):
        """A stream; body None: it is sent later."""
        with self.lock:
            stream = Stream(self, self.h2.get_next_available_stream_id())
            self.streams[stream.number] = stream
            self.h2.send_headers(stream.number, [
                (':method', method), (':scheme', 'https' if self.tls else 'http'),
                (':authority', '127.0.0.1'), (':path', path),
                *((name.lower(), to_bytes(value)) for name, value in fields)],
                end_stream=body == b'')
            self.flush()
        if body:
            try:
                stream.send(body)
                stream.end()
            except Disconnected:
                pass    # refused before the body was sent: the answer says why
        return stream

    def request(self, method, path, fields=(), body=None):
        return self.open(method, path, fields, body or b'').response()

    # -- with the lock -------------------------------------------------------------------------

    def flush(self):
        self.sock.sendall(self.h2.data_to_send())

    def wait(self, condition, what):
        """Its value once it has one; takes what arrives meanwhile. Others get their turns."""
        deadline = time.monotonic() + PATIENCE
        while True:
            with self.lock:
                value = condition()
                if value:
                    return value
                if self.closed:
                    raise Disconnected(f'while waiting for {what}')
                self._take(0.005)
            if time.monotonic() > deadline:
                raise AssertionError(f'waited {PATIENCE} s in vain: {what}')
            time.sleep(0)

    def _take(self, timeout):
        pending = self.tls and self.sock.pending()
        if not pending and not select.select([self.sock], [], [], timeout)[0]:
            return
        try:
            data = self.sock.recv(1 << 16)
        except (ConnectionResetError, ssl.SSLEOFError):
            data = b''
        if not data:
            self.closed = True
            return
        for event in self.h2.receive_data(data):
            stream = self.streams.get(getattr(event, 'stream_id', None))
            if stream:
                stream.take(event)
        if not self.closed:
            self.flush()


class Stream:
    """One request and its answer."""

    def __init__(self, connection, number):
        self.connection = connection
        self.number = number
        self.head = None
        self.body = b''
        self.over = False       # no more will come
        self.refuses = False    # no more may be sent

    def take(self, event):
        """Something arrived."""
        if isinstance(event, h2.events.ResponseReceived):
            fields = [field for field in event.headers if not field[0].startswith(':')]
            self.head = Response(int(dict(event.headers)[':status']), '', fields)
        elif isinstance(event, h2.events.DataReceived):
            self.body += event.data
            if event.flow_controlled_length:
                self.connection.h2.acknowledge_received_data(event.flow_controlled_length,
                                                             self.number)
        elif isinstance(event, h2.events.StreamEnded):
            self.over = True
        elif isinstance(event, h2.events.StreamReset):
            self.over = self.refuses = True

    def _room(self):
        if self.refuses or self.over:
            raise Disconnected('the stream is over')
        connection = self.connection.h2
        return min(connection.local_flow_control_window(self.number),
                   connection.max_outbound_frame_size)

    def send(self, data):
        connection = self.connection
        at = 0
        while at < len(data):
            connection.wait(self._room, 'room to send')
            with connection.lock:
                piece = data[at:at + self._room()]
                connection.h2.send_data(self.number, piece)
                connection.flush()
            at += len(piece)

    def end(self):
        """Nothing more will be sent."""
        with self.connection.lock:
            if not self.refuses and not self.connection.closed:
                self.connection.h2.end_stream(self.number)
                self.connection.flush()

    def reset(self):
        """RST_STREAM, as from a client that gave up."""
        with self.connection.lock:
            if not self.over and not self.connection.closed:
                self.refuses = True
                self.connection.h2.reset_stream(self.number, h2.errors.ErrorCodes.CANCEL)
                self.connection.flush()

    def response(self):
        """The answer; the body need not have been sent whole."""
        self.connection.wait(lambda: self.over, 'an answer')
        if not self.head:
            raise Disconnected('the stream was reset without an answer')
        self.head.body = self.body
        return self.head
