"""The hook endpoint of the tests: it does what its script says, and what it notes is true."""
import json
import socket
import ssl
import threading
from http.client import HTTPConnection, HTTPException, HTTPSConnection

import pytest

from testenv.hookserver import HookServer
from testenv.util import wait_until


class Caller:
    """A kept connection to it."""

    def __init__(self, server):
        if server.unix:
            self.conn = HTTPConnection('localhost', timeout=20)
            self.conn.sock = socket.socket(socket.AF_UNIX)
            self.conn.sock.connect(str(server.unix))
        elif server.url.startswith('https:'):
            context = ssl.create_default_context(cafile=server.certificate)
            context.hostname_checks_common_name = True
            self.conn = HTTPSConnection('localhost', server.port, timeout=20, context=context)
        else:
            self.conn = HTTPConnection('127.0.0.1', server.port, timeout=20)

    def send(self, type, upload='a', headers=()):
        event = {'Type': type, 'Event': {'Upload': {'ID': upload}, 'HTTPRequest': {}}}
        self.conn.request('POST', '/hook', json.dumps(event),
                          {'Content-Type': 'application/json', **dict(headers)})

    def call(self, type, upload='a', headers=()):
        self.send(type, upload, headers)
        answer = self.conn.getresponse()
        return answer.status, answer.read()


@pytest.fixture
def server(hook_server):
    return hook_server()


def test_it_consents_by_default(server):
    caller = Caller(server)
    assert caller.call('pre-create', headers={'X-A': 'b'}) == (200, b'{}')
    assert caller.call('post-finish', 'b') == (200, b'{}')
    assert Caller(server).call('post-create', 'b') == (200, b'{}')
    assert [call.connection for call in server.calls] == [0, 0, 1]
    assert server.connections == 2
    assert server.types() == ['pre-create', 'post-finish', 'post-create']
    assert server.types(upload='b') == ['post-finish', 'post-create']
    first = server.of('pre-create')[0]
    assert (first.get('x-a'), first.path, first.status) == ('b', '/hook', 200)
    assert json.loads(first.body) == first.event and first.upload == {'ID': 'a'}
    server.forget()
    assert server.calls == []


def test_the_first_rule_that_fits_answers(server):
    server.script = [{'Type': 'pre-create', 'status': 500, 'times': 2},
                     {'Type': 'pre-create', 'answer': {'RejectUpload': True}, 'times': 1},
                     {'Type': 'post-finish', 'body': b'ok', 'headers': {'Content-Type': 'text/x'}},
                     {'answer': lambda call: call.upload}]
    caller = Caller(server)
    assert [caller.call('pre-create')[0] for _ in range(3)] == [500, 500, 200]
    assert caller.call('pre-create') == (200, b'{"ID": "a"}')
    assert caller.call('post-finish') == (200, b'ok')
    assert caller.call('post-terminate', 'z') == (200, b'{"ID": "z"}')


def test_connections_end_as_scripted(server):
    server.script = [{'Type': 'pre-create', 'close': True},
                     {'Type': 'post-create', 'drop': 'close'},
                     {'Type': 'pre-finish', 'drop': 'reset'},
                     {'Type': 'post-finish', 'raw': b'x'}]
    caller = Caller(server)
    assert caller.call('pre-create')[0] == 200 and caller.conn.sock is None
    for type in ('post-create', 'pre-finish', 'post-finish'):
        with pytest.raises((HTTPException, ConnectionResetError)) as caught:
            Caller(server).call(type)
        assert (caught.type is ConnectionResetError) == (type == 'pre-finish')
    assert [call.status for call in server.calls] == [200, None, None, None]


def test_an_answer_waits_until_it_may_go(server):
    go = threading.Event()
    server.script = [{'until': go}]
    caller = Caller(server)
    caller.send('pre-create')
    assert server.wait(1)[0].status is None
    go.set()
    assert caller.conn.getresponse().status == 200


def test_it_stops_and_starts_on_the_same_port(server):
    server.script = [{'Type': 'pre-finish', 'delay': 1000}]
    caller, waiting = Caller(server), Caller(server)
    assert caller.call('pre-create')[0] == 200
    waiting.send('pre-finish')
    server.wait(1, 'pre-finish')
    server.stop()
    with pytest.raises((HTTPException, ConnectionResetError)):
        waiting.conn.getresponse()
    with pytest.raises(OSError):
        Caller(server).call('pre-create')
    server.start()
    assert Caller(server).call('post-finish')[0] == 200
    assert server.types() == ['pre-create', 'pre-finish', 'post-finish']


def test_it_listens_elsewhere(tmp_path):
    with HookServer(unix=tmp_path / 'sock') as local, HookServer(tls=True) as secure:
        for server in (local, secure):
            caller = Caller(server)
            assert caller.call('pre-create')[0] == caller.call('post-create')[0] == 200
            assert server.connections == 1
        assert local.url == f'unix:{tmp_path}/sock|http://localhost/hook'
        assert secure.url == f'https://localhost:{secure.port}/hook'
        idle = Caller(secure)
        idle.conn.connect()
        local.stop()
        local.start()
        assert Caller(local).call('pre-create')[0] == 200


def test_threads_call_at_once(server):
    def call_often(number):
        caller = Caller(server)
        for _ in range(50):
            caller.call('post-receive', str(number))

    threads = [threading.Thread(target=call_often, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(server.calls) == 400
    assert all(len(server.of(upload=str(number))) == 50 for number in range(8))


@pytest.mark.parametrize('text', [
    b'GET /hook HTTP/1.1\r\nHost: a\r\n\r\n',
    b'POST /hook HTTP/1.0\r\nHost: a\r\nContent-Type: b\r\nContent-Length: 2\r\n\r\n{}',
    b'POST /hook HTTP/1.1\r\nHost: a\r\nContent-Type: b\r\nContent-Length: 2\r\n\r\n{}',
    b'POST /hook HTTP/1.1\r\nHost: a\r\nContent-Type: b\r\nContent-Length: 2\r\n\r\n{x',
    b'POST /hook HTTP/1.1\r\nHost: a\r\nContent-Type: b\r\nContent-Length: 22\r\n\r\n'
    b'{"Type": "pre-nothing"}',
    b'POST /hook HTTP/1.1\r\nHost: a\r\nHost: a\r\nContent-Type: b\r\nContent-Length: 2\r\n\r\n{}',
    b'POST /hook HTTP/1.1\r\nHost: a\r\nContent-Type: b\r\nTransfer-Encoding: chunked\r\n\r\n',
    b'POST /hook HTTP/1.1\r\nHost: a\r\nX\r\n\r\n',
    b'POST /hook HTTP/1.1\r\nHost: a\nX: y\r\n\r\n',
    b'\x16\x03\x01\r\n\r\n',
])
def test_what_is_no_call_is_noted(text):
    server = HookServer()
    with socket.create_connection(('127.0.0.1', server.port), timeout=20) as sock:
        sock.sendall(text)
        assert sock.recv(100).startswith(b'HTTP/1.1 400 ')
    with pytest.raises(AssertionError, match='was told'):
        server.close()


def test_a_broken_call_is_none(server):
    with socket.create_connection(('127.0.0.1', server.port), timeout=20) as sock:
        sock.sendall(b'POST /hook HTTP/1.1\r\nHost: a\r\nContent-Type: b\r\n'
                     b'Content-Length: 9\r\n\r\n{')
    wait_until(lambda: server.connections == 1, 'the connection')
    server.stop()
    assert server.calls == [] and server.problems == []


def test_a_script_with_a_mistake_is_refused():
    for rule in ({'type': 'pre-create'}, {'Type': 'pre-crate'}, {'drop': 'rst'}):
        with pytest.raises(AssertionError):
            HookServer([rule])
