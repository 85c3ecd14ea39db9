"""An HTTP/1.1 client that sends exactly what it is told and hides nothing of the answer."""
import re
import socket
import ssl
import struct
from collections import Counter


class Response:
    """One final answer, with the interim (1xx) answers that came before it."""

    def __init__(self, status, reason, headers, body=b''):
        self.status = status
        self.reason = reason
        self.headers = headers
        self.body = body
        self.interim = []

    def __repr__(self):
        fields = ''.join(f'\n    {name}: {value}' for name, value in self.headers)
        return f'<{self.status} {self.reason}{fields}\n    {self.body[:300]!r}>'

    def all(self, name):
        return [value for field, value in self.headers if field.lower() == name.lower()]

    def get(self, name):
        """The only value of a field, None without it. Fails when the field is repeated."""
        values = self.all(name)
        assert len(values) < 2, f'{name} more than once in {self}'
        return values[0] if values else None

    def repeated(self):
        """The names of fields that occur more than once."""
        counts = Counter(name.lower() for name, _ in self.headers)
        return {name for name, count in counts.items() if count > 1}

    @property
    def closes(self):
        return (self.get('Connection') or '').lower() == 'close'


class Disconnected(Exception):
    """The server closed the connection before a whole answer."""


class Connection:
    """One connection; requests and answers in the order in which the test asks for them."""

    def __init__(self, port, tls=False, timeout=30):
        self.sock = socket.create_connection(('127.0.0.1', port), timeout=timeout)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if tls:
            context = ssl.create_default_context()
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
            self.sock = context.wrap_socket(self.sock)
        self._buffer = b''

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- sending -------------------------------------------------------------------------------

    def send(self, data):
        self.sock.sendall(data)

    def send_head(self, method, path, headers=()):
        self.send(request_head(method, path, headers))

    def send_request(self, method, path, headers=(), body=None, chunked=False):
        """A whole request. `body` is bytes, or an iterable of them (give Content-Length then)."""
        headers = list(headers)
        if chunked:
            headers.append(('Transfer-Encoding', 'chunked'))
        elif isinstance(body, bytes):
            headers.append(('Content-Length', str(len(body))))
        try:
            pieces = [body] if isinstance(body, bytes) else (body or [])
            self.send_head(method, path, headers)
            for piece in pieces:
                self.send(chunk(piece) if chunked and piece else piece)
            if chunked:
                self.send(chunk(b''))
        except (BrokenPipeError, ConnectionResetError):
            pass    # refused before the body was sent: the answer says why

    def half_close(self):
        """FIN: nothing more will be sent."""
        self.sock.shutdown(socket.SHUT_WR)

    def reset(self):
        """RST, as from a client that died."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
        self.sock.close()

    def close(self):
        self.sock.close()

    # -- receiving -----------------------------------------------------------------------------

    def response(self, method='GET'):
        """The next answer. `method` is what it answers: HEAD has no body."""
        interim = []
        while True:
            answer = self.head()
            if answer.status >= 200:
                answer.interim = interim
                answer.body = self._body(answer, method)
                return answer
            interim.append(answer)

    def interim(self):
        """The next answer, which must be an interim one."""
        answer = self.head()
        assert answer.status < 200, answer
        return answer

    def head(self):
        """The head of the next answer, interim or final, as soon as it is there."""
        return Response(*parse_head(self._until(b'\r\n\r\n')))

    def request(self, method, path, headers=(), body=None, chunked=False):
        self.send_request(method, path, headers, body, chunked)
        return self.response(method)

    def at_end(self):
        """Whether the server has closed its side and sent nothing more."""
        return not self._buffer and not self._receive()

    def _body(self, answer, method):
        if method == 'HEAD' or answer.status in (204, 304):
            return b''
        if (answer.get('Transfer-Encoding') or '').lower() == 'chunked':
            return self._chunked_body()
        length = answer.get('Content-Length')
        if length is not None:
            return self._exactly(int(length))
        while self._receive():
            pass
        body, self._buffer = self._buffer, b''
        return body

    def _chunked_body(self):
        body = b''
        while True:
            size = int(self._until(b'\r\n').split(b';')[0], 16)
            if not size:
                while self._until(b'\r\n') != b'\r\n':
                    pass
                return body
            body += self._exactly(size)
            self._until(b'\r\n')

    def _receive(self):
        try:
            data = self.sock.recv(1 << 18)
        except (ConnectionResetError, ssl.SSLEOFError):
            data = b''
        self._buffer += data
        return data

    def _until(self, mark):
        while mark not in self._buffer:
            if not self._receive():
                raise Disconnected(f'after {self._buffer!r}')
        end = self._buffer.index(mark) + len(mark)
        data, self._buffer = self._buffer[:end], self._buffer[end:]
        return data

    def _exactly(self, size):
        pieces = [self._buffer[:size]]
        self._buffer = self._buffer[size:]
        missing = size - len(pieces[0])
        while missing:
            if not self._receive():
                raise Disconnected(f'{missing} bytes short')
            pieces.append(self._buffer[:missing])
            self._buffer = self._buffer[missing:]
            missing -= len(pieces[-1])
        return b''.join(pieces)


def to_bytes(text):
    return text if isinstance(text, bytes) else str(text).encode('latin-1')


def request_head(method, path, headers=()):
    lines = [to_bytes(method) + b' ' + to_bytes(path) + b' HTTP/1.1']
    if not any(to_bytes(name).lower() == b'host' for name, _ in headers):
        lines.append(b'Host: 127.0.0.1')
    lines += [to_bytes(name) + b': ' + to_bytes(value) for name, value in headers]
    return b'\r\n'.join(lines) + b'\r\n\r\n'


def chunk(data):
    return b'%x\r\n%s\r\n' % (len(data), data)


def parse_head(data):
    """Status, reason and fields of a head as it stood on the wire (or in curl's output)."""
    first, *lines = data.decode('latin-1').rstrip('\r\n').split('\r\n')
    match = re.fullmatch(r'HTTP/(?:1\.[01]|2) (\d{3}) ?(.*)', first)
    assert match, f'not a status line: {first!r}'
    headers = []
    for line in lines:
        name, colon, value = line.partition(':')
        assert colon and re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name), \
            f'not a header field: {line!r}'
        headers.append((name, value.strip(' \t')))
    return int(match[1]), match[2], headers
