"""A hook endpoint that answers as a test's script says, and remembers what it was told."""
import contextlib
import json
import os
import shutil
import socket
import ssl
import struct
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from .httpd import make_certificate
from .util import free_port, wait_until

TYPES = ('pre-create', 'post-create', 'post-receive', 'pre-finish', 'post-finish', 'pre-terminate',
         'post-terminate')

# What a rule of a script may have; all of it may be left out.
RULE = {
    'Type',     # the event that it is for; without it, all
    'times',    # so many calls it is for, then for none; without it, for all
    'status',   # 200
    'answer',   # what JSON is made of, {}; or a function that makes it from the HookCall
    'body',     # bytes in the place of JSON
    'headers',  # {name: value} or [(name, value)], beside Content-Type and Content-Length
    'raw',      # bytes in the place of a whole response; the connection ends after them
    'delay',    # seconds before the answer
    'until',    # a threading.Event that the answer waits for
    'close',    # True: "Connection: close", and so it is
    'drop',     # 'close' or 'reset' in the place of an answer
}


@dataclass
class HookCall:
    """One request."""

    type: str
    event: dict         # its JSON
    body: bytes
    path: str
    headers: list       # (name, value) as they came
    connection: int     # the number of its connection, from 0
    status: int | None = None   # that it was answered with, once it was

    def all(self, name):
        return [value for field, value in self.headers if field.lower() == name.lower()]

    def get(self, name):
        """The only value of a field, None without it. Fails when the field is repeated."""
        values = self.all(name)
        assert len(values) < 2, f'{name} more than once in {self.headers}'
        return values[0] if values else None

    @property
    def upload(self):
        return self.event['Event']['Upload']

    @property
    def request(self):
        return self.event['Event']['HTTPRequest']


class BadRequest(Exception):
    """What came is no call of a hook."""


class HookServer:
    """Listens on an address, or on a unix socket, from start() to stop(), again and again.

    `script` is a list of rules; the first that fits a call answers it, else 200 and {}. It may be
    replaced at any time. Whatever is no POST of an event is answered with 400 and noted; close()
    fails then. `tls` is a certificate and its key, or True for one that nobody signed.
    """

    def __init__(self, script=(), tls=False, unix=None, path='/hook', host='127.0.0.1'):
        self.script = script
        self.calls = []
        self.problems = []
        self.connections = 0
        self.path = path
        self.host = host
        self.unix = unix and Path(unix)
        self.port = None if unix else free_port()
        self._lock = threading.Lock()
        self._used = {}         # how often a rule was, by its id()
        self._open = set()
        self._threads = []
        self._listener = None
        self._stopping = None
        self._directory = None
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER) if tls else None
        if tls:
            self.present(self._make_certificate() if tls is True else tls)
        self.start()

    @property
    def script(self):
        return self._script

    @script.setter
    def script(self, rules):
        for rule in rules:
            assert_rule(rule)
        self._script = list(rules)

    def _make_certificate(self):
        """One for localhost, signed by itself."""
        self._directory = Path(tempfile.mkdtemp(prefix='mod_tus-hook-'))
        make_certificate(self._directory)
        return self._directory / 'cert.pem', self._directory / 'key.pem'

    def present(self, identity):
        """Show this certificate from now on: the files of it and of its key."""
        self.certificate, key = identity
        self._tls.load_cert_chain(self.certificate, key)

    @property
    def url(self):
        """As TusHook has it."""
        if self.unix:
            return f'unix:{self.unix}|http://localhost{self.path}'
        if self._tls:
            return f'https://localhost:{self.port}{self.path}'
        return f'http://{self.host}:{self.port}{self.path}'

    @contextlib.contextmanager
    def saying(self, *rules):
        """These rules, for a while."""
        before, self.script = self.script, rules
        try:
            yield
        finally:
            self.script = before

    # -- its life ------------------------------------------------------------------------------

    def start(self):
        assert not self._listener, 'it is running'
        if self.unix:
            self.unix.unlink(missing_ok=True)
            self._listener = socket.socket(socket.AF_UNIX)
            self._listener.bind(str(self.unix))
            os.chmod(self.unix, 0o666)
            self._listener.listen(128)
        else:
            self._listener = socket.create_server((self.host, self.port), backlog=128)
        self._stopping = threading.Event()
        self._begin(self._accept, self._listener, self._stopping)
        return self

    def stop(self):
        """Ends at once, as if killed: who waits for an answer gets none."""
        if not self._listener:
            return
        self._stopping.set()
        end(self._listener)
        with self._lock:
            for sock in self._open:
                end(sock)
        for rule in self._script:
            if 'until' in rule:
                rule['until'].set()
        while self._threads:    # the one that accepts is the first, and may begin others
            self._threads[0].join(timeout=20)
            assert not self._threads[0].is_alive(), 'a thread of the hook server does not end'
            self._threads.pop(0)
        self._listener.close()
        self._listener = None

    def close(self):
        """Ends it for good; fails when something came that is no call of a hook."""
        self.stop()
        if self._directory:
            shutil.rmtree(self._directory)
        assert not self.problems, 'the hook server was told: ' + '\n'.join(self.problems)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # -- what came -----------------------------------------------------------------------------

    def of(self, *types, upload=None):
        """The calls of these types (without any: all), of one upload if its id is given."""
        assert set(types) <= set(TYPES), types
        with self._lock:
            return [call for call in self.calls if (not types or call.type in types)
                    and (upload is None or call.upload['ID'] == upload)]

    def types(self, upload=None):
        return [call.type for call in self.of(upload=upload)]

    def wait(self, count, *types, upload=None, timeout=15):
        """Wait for so many calls of these types, and return them; more may have come."""
        wait_until(lambda: len(self.of(*types, upload=upload)) >= count,
                   f'{count} calls of {types or "any type"}', timeout)
        return self.of(*types, upload=upload)

    def forget(self, *types):
        """Forget the calls of these types, all without any."""
        with self._lock:
            self.calls[:] = [call for call in self.calls if types and call.type not in types]

    def take(self):
        """All calls, which are then forgotten."""
        with self._lock:
            calls, self.calls = self.calls, []
        return calls

    # -- a connection --------------------------------------------------------------------------

    def _begin(self, target, *arguments):
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        with self._lock:
            self._threads = [each for each in self._threads if each.is_alive()]
            self._threads.append(thread)
            thread.start()

    def _accept(self, listener, stopping):
        while True:
            try:
                sock = listener.accept()[0]
            except OSError:
                return
            with self._lock:
                if stopping.is_set():
                    sock.close()
                    return
                number, self.connections = self.connections, self.connections + 1
                self._open.add(sock)
            self._begin(self._serve, sock, number, stopping)

    def _serve(self, sock, number, stopping):
        wire = sock
        try:
            if self._tls:
                # It detaches the socket, so what stop() ends has to be the new one.
                wire = self._tls.wrap_socket(sock, server_side=True, do_handshake_on_connect=False)
                with self._lock:
                    self._open.add(wire)
                    self._open.discard(sock)
                if stopping.is_set():
                    return
                wire.do_handshake()
            with wire.makefile('rb') as stream:
                while self._exchange(wire, stream, number, stopping):
                    pass
        except OSError:
            pass    # the other side's end of it, or stop()
        finally:
            with self._lock:
                self._open -= {sock, wire}
            wire.close()

    def _exchange(self, wire, stream, number, stopping):
        """One call and its answer; whether the connection goes on."""
        try:
            call = read_call(stream, number)
            if not call:
                return False
        except BadRequest as problem:
            with self._lock:
                self.problems.append(str(problem))
            wire.sendall(response(400, b'', [('Connection', 'close')]))
            return False
        with self._lock:
            self.calls.append(call)
            rule = self._rule(call)
        self._pause(rule, stopping)
        if stopping.is_set():
            return False
        return self._answer(wire, rule, call)

    def _rule(self, call):
        """The rule for a call; the lock is held."""
        for rule in self._script:
            used = self._used.get(id(rule), (rule, 0))[1]
            if rule.get('Type', call.type) == call.type and used < rule.get('times', used + 1):
                # With the rule, so that its id is no other's as long as it is known here.
                self._used[id(rule)] = (rule, used + 1)
                return rule
        return {}

    @staticmethod
    def _pause(rule, stopping):
        if 'delay' in rule:
            stopping.wait(rule['delay'])
        if 'until' in rule:
            rule['until'].wait()

    @staticmethod
    def _answer(wire, rule, call):
        if 'drop' in rule:
            if rule['drop'] == 'reset':
                wire.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))
            return False
        if 'raw' in rule:
            wire.sendall(rule['raw'])
            return False
        call.status = rule.get('status', 200)
        wire.sendall(response(call.status, body_of(rule, call), fields_of(rule)))
        return not rule.get('close')


# -- the words of HTTP -----------------------------------------------------------------------------

def end(sock):
    """Wakes whoever reads from it, or accepts."""
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


def assert_rule(rule):
    assert set(rule) <= RULE, f'not known in a script: {set(rule) - RULE}'
    assert rule.get('Type', TYPES[0]) in TYPES, rule
    assert rule.get('drop', 'close') in ('close', 'reset'), rule


def body_of(rule, call):
    if 'body' in rule:
        return rule['body']
    answer = rule.get('answer', {})
    return json.dumps(answer(call) if callable(answer) else answer).encode()


def fields_of(rule):
    headers = rule.get('headers', {})
    fields = list(headers.items() if isinstance(headers, dict) else headers)
    if not any(name.lower() == 'content-type' for name, _ in fields):
        fields.insert(0, ('Content-Type', 'application/json'))
    return fields + [('Connection', 'close')] * bool(rule.get('close'))


def response(status, body, headers):
    lines = [f'HTTP/1.1 {status} Status', *(f'{name}: {value}' for name, value in headers)]
    if status not in (204, 304):
        lines.append(f'Content-Length: {len(body)}')
    return '\r\n'.join([*lines, '', '']).encode('latin-1') + body


def read_call(stream, connection):
    """The next call; None at the end of the connection, also in the midst of one."""
    head = []
    while not head or head[-1] != b'\r\n':
        head.append(stream.readline(65537))
        if not head[-1].endswith(b'\n'):
            return None
    method, path, headers = parse_request(head)
    call = HookCall('', {}, b'', path, headers, connection)
    if method != 'POST':
        raise BadRequest(f'{method} {path}')
    for name in ('Host', 'Content-Length', 'Content-Type'):
        if len(call.all(name)) != 1:
            raise BadRequest(f'{name} {len(call.all(name))} times in {headers}')
    if call.all('Transfer-Encoding') or not call.get('Content-Length').isdigit():
        raise BadRequest(f'a body of unknown length: {headers}')
    length = int(call.get('Content-Length'))
    call.body = stream.read(length)
    if len(call.body) < length:
        return None
    read_event(call)
    return call


def parse_request(head):
    lines = [line.decode('latin-1').removesuffix('\r\n') for line in head[:-1]]
    words = lines[0].split(' ')
    if len(words) != 3 or words[2] != 'HTTP/1.1' or any('\n' in line for line in lines):
        raise BadRequest(f'not a request: {lines}')
    headers = []
    for line in lines[1:]:
        name, colon, value = line.partition(':')
        if not colon or not name or name != name.strip():
            raise BadRequest(f'not a header field: {line!r}')
        headers.append((name, value.strip(' \t')))
    return words[0], words[1], headers


def read_event(call):
    try:
        call.event = json.loads(call.body)
    except ValueError as problem:
        raise BadRequest(f'not JSON: {call.body!r}: {problem}') from None
    call.type = call.event.get('Type') if isinstance(call.event, dict) else None
    if call.type not in TYPES:
        raise BadRequest(f'no event: {call.body!r}')
