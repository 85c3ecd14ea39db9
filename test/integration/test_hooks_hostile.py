"""Endpoints of hooks that are away, broken or hostile: the client hears 502 and nothing is made, or
it hears an answer that is well-formed, whatever was put into it."""
import contextlib
import json
import socket
import threading

import pytest

from testenv import spool
from testenv.h2 import H2Connection
from testenv.hooked import assert_failed, failed, noted, start
from testenv.hookserver import HookServer
from testenv.http import request_head
from testenv.httpd import endpoint, resident
from testenv.store import upload_id
from testenv.tus import Tus, assert_of_endpoint, patch_fields

MIB = 1 << 20
VERSION = ('Tus-Resumable', '1.0.0')


@pytest.fixture(scope='module')
def shared(shared_httpd):
    """One server for all, with HTTP/2 too; a hook has three seconds."""
    with HookServer() as hooks:
        tus = start(shared_httpd(modules=['http2']), hooks, 'TusHookTimeout 3s',
                    extra='Protocols h2c http/1.1\n')
        yield tus
        tus.server.stop()


@pytest.fixture
def tus(shared):
    shared.answers()
    for path in shared.store.path.iterdir():
        path.unlink(missing_ok=True)    # the sweep may remove it too
    return shared


@contextlib.contextmanager
def nothing_made(tus):
    """A request that ends without a trace: neither in the store nor in the journal."""
    spool.wait_empty(tus.server)
    tus.hooks.forget('post-create', 'post-finish', 'post-terminate')
    files, ids = tus.store.files(), noted(tus.server)
    yield
    assert tus.store.files() == files
    assert noted(tus.server) <= ids
    assert not spool.files(tus.server) and not tus.hooks.of('post-create', 'post-terminate')


# -- no answer -------------------------------------------------------------------------------------

def answer(body, *fields, status=b'200 OK'):
    return b'\r\n'.join([b'HTTP/1.1 ' + status, *fields, b'', b'']) + body


def chunked(body):
    return answer(body, b'Transfer-Encoding: chunked')


# name: (a rule, the status and the words of the log)
NO_ANSWERS = {
    'closed': ({'drop': 'close'}, 0, 'gave no answer'),
    'reset': ({'drop': 'reset'}, 0, 'gave no answer'),
    'not found': ({'status': 404}, 404, 'the status means no success'),
    'error': ({'status': 500, 'answer': {'RejectUpload': True}}, 500, 'the status'),
    'bad request': ({'status': 400, 'answer': {'RejectUpload': True}}, 400, 'the status'),
    'not modified': ({'status': 304, 'body': b''}, 304, 'the status means no success'),
    'unauthorized': ({'status': 401, 'headers': {'WWW-Authenticate': 'Basic realm=x'}}, 401, ''),
    'unknown status': ({'status': 999}, 999, 'the status means no success'),
    'text': ({'body': b'garbage'}, 200, 'it is not JSON'),
    'a page': ({'body': b'<html>PHP Warning</html>'}, 200, 'it is not JSON'),
    'JSON and more': ({'body': b'{} x'}, 200, 'it is not JSON'),
    'two JSONs': ({'body': b'{}{"RejectUpload":true}'}, 200, 'it is not JSON'),
    'half a JSON': ({'body': b'{"RejectUpload":tr'}, 200, 'it is not JSON'),
    'a list': ({'body': b'[]'}, 200, 'no object'),
    'a string': ({'body': b'"ok"'}, 200, 'no object'),
    'not UTF-8': ({'body': b'{"ChangeFileInfo":{"ID":"\xff"}}'}, 200, 'it is not JSON'),
    'a lone surrogate': ({'body': br'{"ChangeFileInfo":{"ID":"\ud800"}}'}, 200, 'it is not JSON'),
    'NUL': ({'body': b'{}\0'}, 200, 'it is not JSON'),
    'a byte order mark': ({'body': b'\xef\xbb\xbf{}'}, 200, 'it is not JSON'),
    'compressed': ({'body': b'\x1f\x8b\x08\0', 'headers': {'Content-Encoding': 'gzip'}}, 200, ''),
    'deep': ({'body': b'[' * 500_000 + b']' * 500_000}, 200, 'nested too deeply'),
    'deep, not closed': ({'body': b'{"a":' * 100_000}, 200, 'nested too deeply'),
    'a wrong flag': ({'answer': {'RejectUpload': 'yes'}}, 200, 'RejectUpload is not true or'),
    'a wrong response': ({'answer': {'HTTPResponse': []}}, 200, 'HTTPResponse is not an object'),
    'a wrong status': ({'answer': {'HTTPResponse': {'StatusCode': '403'}}}, 200, 'not an integer'),
    'half a status': ({'answer': {'HTTPResponse': {'StatusCode': 403.5}}}, 200, 'not an integer'),
    'a wrong body': ({'answer': {'HTTPResponse': {'Body': {'a': 1}}}}, 200, 'Body is not a string'),
    'NUL in a body': ({'answer': {'HTTPResponse': {'Body': 'a\0b'}}}, 200, 'Body is not a string'),
    'wrong fields': ({'answer': {'HTTPResponse': {'Header': {'A': 1}}}}, 200, 'Header is not'),
    'listed fields': ({'answer': {'HTTPResponse': {'Header': {'A': ['b']}}}}, 200, 'Header is not'),
    'NUL in a name': ({'answer': {'HTTPResponse': {'Header': {'X\0': 'b'}}}}, 200, 'not JSON'),
    'wrong changes': ({'answer': {'ChangeFileInfo': 'x'}}, 200, 'ChangeFileInfo is not an object'),
    'a wrong id': ({'answer': {'ChangeFileInfo': {'ID': 7}}}, 200, 'ID is not'),
    'wrong metadata': ({'answer': {'ChangeFileInfo': {'MetaData': {'a': 1}}}}, 200, 'MetaData is'),
    'a wrong place': ({'answer': {'ChangeFileInfo': {'Storage': 'x'}}}, 200, 'Storage is not'),
    'more than a MiB': ({'body': b' ' * (MIB + 1)}, 0, 'more than 1048576 bytes'),
    'no HTTP': ({'raw': b'SSH-2.0-OpenSSH_9.2\r\n'}, 0, ''),
    'bare JSON': ({'raw': b'{"RejectUpload":false}'}, 0, ''),
    'nothing but a line': ({'raw': b'HTTP/1.1 200 OK\r\n'}, 0, ''),
    'half a head': ({'raw': b'HTTP/1.1 200 OK\r\nContent-Le'}, 0, ''),
    'half a body': ({'raw': answer(b'{"Rej', b'Content-Length: 22')}, 0, 'gave no answer'),
    'half a chunk': ({'raw': chunked(b'5\r\n{"a"')}, 0, ''),
    'no last chunk': ({'raw': chunked(b'2\r\n{}\r\n')}, 0, ''),
    'no chunk': ({'raw': chunked(b'zz\r\n{}\r\n0\r\n\r\n')}, 0, ''),
    'a switch': ({'raw': answer(b'', b'Upgrade: x', b'Connection: Upgrade', status=b'101 Now')},
                 0, ''),
    'never more than interim': ({'raw': b'HTTP/1.1 100 Continue\r\n\r\n' * 10_000}, 0, 'too many'),
    'a long field': ({'raw': answer(b'{}', b'X: ' + b'x' * MIB)}, 0, ''),
    'many fields': ({'raw': answer(b'{}', *[b'X: y'] * 30_000)}, 0, 'too many header fields'),
}


@pytest.mark.parametrize('name', NO_ANSWERS)
def test_no_answer_means_no(tus, name):
    rule, status, why = NO_ANSWERS[name]
    failed(tus.server, tus.hooks.url, status=status, why=f'.*{why}')
    tus.answers({'Type': 'pre-create', **rule})
    for body in (b'', b'hello'):
        with nothing_made(tus):
            assert_failed(tus.create(5, body))
    # What a kept connection lost may have been sent again.
    assert set(tus.asked()) == {'pre-create'} and len(tus.asked()) in (2, 3, 4)
    tus.answers()
    assert tus.get(tus.upload(b'hello')).body == b'hello'


def test_one_that_is_down(tus):
    failed(tus.server, tus.hooks.url, why='.*gave no answer')
    with nothing_made(tus):
        tus.hooks.stop()
        try:
            assert_failed(tus.create(5))
        finally:
            tus.hooks.start()
    assert tus.create(5).status == 201


def test_one_that_is_slow(tus):
    """It has the time that it has, however its answer trickles."""
    never = threading.Event()
    failed(tus.server, tus.hooks.url, why='.*(?i:time)')
    tus.says('pre-create', until=never)
    with nothing_made(tus):
        assert_failed(tus.create(5))
    never.set()


def drip(listener, over):
    """An answer of which another byte comes as long as anybody reads."""
    with contextlib.suppress(OSError):
        sock = listener.accept()[0]
        with sock:
            sock.recv(65536)
            sock.sendall(answer(b'', b'Content-Length: 1000000'))
            while not over.wait(0.02):
                sock.sendall(b' ')


def test_one_that_drips(httpd):
    over = threading.Event()
    with socket.create_server(('127.0.0.1', 0)) as listener:
        thread = threading.Thread(target=drip, args=(listener, over), daemon=True)
        thread.start()
        server = httpd()
        url = f'http://127.0.0.1:{listener.getsockname()[1]}/'
        server.start(endpoint('Location /files', server.make_store(), f'TusHook {url} pre-create',
                              'TusHookTimeout 300ms', 'TusHookRetry 1'))
        failed(server, url, why='.*(?i:time)')
        assert_failed(Tus(server).create(5))
        over.set()
        thread.join()


def test_a_name_that_is_none(httpd):
    server = httpd()
    store = server.make_store()
    server.start(endpoint('Location /files', store, 'TusHook http://nosuch.invalid/ pre-create',
                          'TusHookRetry 1'))
    failed(server, 'http://nosuch.invalid/', why='.*gave no answer')
    assert_failed(Tus(server).create(5))
    assert not store.files()


def test_100_mb(tus):
    """Read up to its limit, and given up: no child grows by it."""
    size = {pid: resident(pid) for pid in tus.server.children()}
    failed(tus.server, tus.hooks.url, why='.*more than 1048576 bytes')
    tus.answers({'Type': 'pre-create', 'body': b' ' * (100 * MIB)})
    for _ in range(5):
        with nothing_made(tus):
            assert_failed(tus.create(5))
    for pid in tus.server.children():
        assert resident(pid) - size.get(pid, 0) < 60 * MIB


@pytest.mark.parametrize('status', [300, 301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(tus, hook_server, status):
    other = hook_server()
    failed(tus.server, tus.hooks.url, status=status)
    tus.answers({'Type': 'pre-create', 'status': status, 'headers': {'Location': other.url}})
    with nothing_made(tus):
        assert_failed(tus.create(5))
    assert not other.calls and other.connections == 0


def test_what_the_endpoint_says_does_not_forge_the_log(tus):
    """It is on one line, whatever control characters are in it."""
    failed(tus.server, tus.hooks.url, status=200)
    tus.says('pre-create', {'ChangeFileInfo': {'Storage': {'Path': '../\n[forged] line\x1b[2J'}}})
    assert_failed(tus.create(5))
    text = tus.server.error_log.unread()
    assert '\n[forged]' not in text and '\x1b' not in text


# -- what is put into an answer --------------------------------------------------------------------

STATUSES = [-1, 0, 1, 99, 100, 101, 103, 199, 204, 205, 304, 600, 1000, 2 ** 31, 2 ** 40 + 200,
            -2 ** 63]
RESERVED = {
    'Content-Length': '0', 'content-length': '7', 'Transfer-Encoding': 'chunked',
    'Connection': 'close, X-From', 'Keep-Alive': 'timeout=1', 'Proxy-Connection': 'close',
    'Trailer': 'X-A', 'TE': 'trailers', 'Upgrade': 'websocket', 'Location': 'https://evil.example/',
    'Upload-Offset': '77', 'Upload-Length': '78', 'Upload-Expires': 'never',
    'Upload-Metadata': 'x', 'Tus-Resumable': '9.9', 'Tus-Version': '9.9', 'Tus-Max-Size': '1',
    'Date': 'now', 'Server': 'x', 'X-Content-Type-Options': 'none',
    'Access-Control-Allow-Origin': '*',
}
INJECTED = {
    'X-One': 'a\r\nInjected: 1', 'X-Two': 'a\nInjected: 1', 'X-Three': 'a\r\n\r\nHTTP/1.1 200 OK',
    'X-Four': 'a\0b', 'X-Five': 'a\rInjected: 1', 'X Six': 'a', 'X-Seven\r\nInjected': '1',
    'X-Eight: a\r\nInjected': '1', '': 'a', ':status': '200', 'X-Ten': '\x7f',
    'X-Äh': 'a', 'X-Long': 'x' * 9000, 'Content-Type': 'text/html\r\nInjected: 1',
    'Set-Cookie': 'a=b\r\nInjected: 1',
}
RESPONSES = {
    **{f'status {status}': {'StatusCode': status} for status in STATUSES},
    **{f'status {status} and a body': {'StatusCode': status, 'Body': 'more'} for status in
       (0, 100, 101, 204, 205, 304, 1000)},
    'reserved fields': {'Header': RESERVED}, 'reserved fields and a body': {
        'Header': RESERVED, 'Body': 'more'},
    'injected fields': {'Header': INJECTED}, 'injected fields and a body': {
        'Header': INJECTED, 'Body': 'HTTP/1.1 200 OK\r\n\r\n'},
    'many fields': {'Header': {f'X-{number}': 'x' * 100 for number in range(1000)}},
    'a large body': {'Body': 'x' * 900_000},
}
NEVER = {'transfer-encoding', 'trailer', 'te', 'injected', 'proxy-connection',
         'upload-expires', 'upload-metadata', 'upload-length', 'tus-max-size', 'tus-version'}


class Http1:
    """Requests sent in one write on one connection; their answers in order."""

    def __init__(self, tus):
        self.tus = tus

    def together(self, *requests):
        """Each is (method, path, fields, body)."""
        data = b''.join(request_head(method, path, [*fields, ('Content-Length', len(body))]) + body
                        for method, path, fields, body in requests)
        with self.tus.connect() as conn:
            conn.send(data)
            answers = [conn.response(method) for method, *_ in requests]
            assert not any(each.closes for each in answers), answers
            conn.half_close()
            assert conn.at_end(), 'more than the answers came'
        return answers


class Http2:
    """The same as streams of one connection."""

    def __init__(self, tus):
        self.tus = tus

    def together(self, *requests):
        with H2Connection(self.tus.server.port) as connection:
            return [connection.request(method, path, fields, body)
                    for method, path, fields, body in requests]


@pytest.fixture(params=[Http1, Http2], ids=['h1', 'h2'])
def client(request, tus):
    return request.param(tus)


def creation(body=b''):
    fields = [VERSION, ('Upload-Length', 5)]
    return 'POST', '/files/', fields + [('Content-Type', patch_fields(0)[1][1])] * bool(body), body


def assert_untouched(given, said):
    """No field that belongs to the protocol or the connection is the hook's."""
    names = [name.lower() for name, _ in given.headers]
    assert not NEVER & set(names), given
    assert_of_endpoint(given)
    for name, value in RESERVED.items():
        assert given.get(name) != value or (name, value) == ('Content-Length', str(len(given.body)))
    for name, value in given.headers:
        assert INJECTED.get(name) != value, given
    if given.get('Content-Length') is not None:
        assert int(given.get('Content-Length')) == len(given.body), given


@pytest.mark.parametrize('name', RESPONSES)
def test_a_creation_stays_in_step(tus, client, name):
    said = RESPONSES[name]
    there = tus.upload(b'there')
    tus.says('pre-create', {'HTTPResponse': said})
    made, empty, head = client.together(creation(b'hello'), creation(), (
        'HEAD', there, [VERSION], b''))
    for given in (made, empty):
        assert given.status == 201, given
        assert given.body.decode() == said.get('Body', '')
        assert_untouched(given, said)
        assert given.get('Location').startswith('/files/')
    assert made.get('Upload-Offset') == '5'
    assert (head.status, head.get('Upload-Offset')) == (200, '5')
    assert tus.get(made.get('Location')).body == b'hello'


@pytest.mark.parametrize('name', [name for name in RESPONSES if not name.startswith('status')])
def test_a_refusal_stays_in_step(tus, client, name):
    said = {'StatusCode': 403, **RESPONSES[name]}
    there = tus.upload(b'there')
    tus.says('pre-create', {'RejectUpload': True, 'HTTPResponse': said})
    given, again, head = client.together(creation(b'hello'), creation(), (
        'HEAD', there, [VERSION], b''))
    for each in (given, again):
        assert each.status == 403, each
        assert_untouched(each, said)
        assert each.get('Location') is None and each.get('Upload-Offset') is None
    assert (head.status, head.get('Upload-Offset')) == (200, '5')
    tus.store.assert_only(there)


@pytest.mark.parametrize('name', RESPONSES)
def test_a_finish_stays_in_step(tus, client, name):
    said = RESPONSES[name]
    one, two = tus.new(5), tus.new(5)
    tus.says('pre-finish', {'HTTPResponse': said})
    given, other, head = client.together(
        ('PATCH', one, patch_fields(0), b'hello'), ('PATCH', two, patch_fields(0), b'world'),
        ('HEAD', one, [VERSION], b''))
    for each in (given, other):
        assert (each.status, each.body) == (204, b''), each
        assert each.get('Upload-Offset') == '5' and each.get('Content-Length') is None
        assert_untouched(each, said)
    assert (head.status, head.get('Upload-Offset')) == (200, '5')


@pytest.mark.parametrize('name', RESPONSES)
def test_a_termination_stays_in_step(tus, client, name):
    said = RESPONSES[name]
    gone, there = tus.new(5), tus.upload(b'there')
    tus.says('pre-terminate', {'HTTPResponse': said})
    given, missing, head = client.together(('DELETE', gone, [VERSION], b''),
                                           ('HEAD', gone, [VERSION], b''),
                                           ('HEAD', there, [VERSION], b''))
    assert (given.status, given.body) == (204, b''), given
    assert_untouched(given, said)
    assert (missing.status, head.status, head.get('Upload-Offset')) == (404, 200, '5')


@pytest.mark.parametrize('name', RESPONSES)
def test_a_stop_is_well_formed(tus, name):
    said = RESPONSES[name]
    url = tus.new(1000)
    tus.says('post-receive', {'StopUpload': True, 'HTTPResponse': said})
    with tus.told_of_progress(url, 1000) as patch:
        given = patch.response()
        assert patch.conn.at_end()
    assert given.status == 400, given
    assert_untouched(given, said)
    assert tus.head(url).status == 404


@pytest.mark.parametrize('status', [200, 202, 226, 299, 300, 307, 399, 402, 451, 460, 499, 599])
def test_a_status_that_may_be(tus, client, status):
    tus.says('pre-create', {'HTTPResponse': {'StatusCode': status, 'Body': 'x'}})
    given, again = client.together(creation(b'hello'), creation())
    assert (given.status, given.body, again.status) == (status, b'x', status)
    assert tus.get(given.get('Location')).body == b'hello'


def test_fields_that_are_left_out_are_told(tus):
    tus.says('pre-create', {'HTTPResponse': {'StatusCode': 204, 'Header': {
        'Location': 'x', 'X-A': 'a\r\nb', 'X-B': 'c', 'X-Forged\n': 'd'}}})
    given = tus.create(5)
    assert (given.status, given.get('X-B'), given.get('X-A')) == (201, 'c', None)
    for what in ('StatusCode 204', "field 'Location'", "field 'X-A'", "field 'X-Forged"):
        tus.server.wait_log(f'hook pre-create {tus.hooks.url}: not taken from its answer: {what}')


def test_bodies_are_sent_as_they_are(tus):
    for body in ('naïve ✓', '{"a":"\u2028"}', 'x' * 70_000, '\r\n\r\n', '\x01\x7f'):
        tus.says('pre-create', {'HTTPResponse': {'Body': body}})
        assert tus.create(5).body.decode() == body


def test_of_two_members_of_a_name_the_last_counts(tus):
    tus.answers({'Type': 'pre-create', 'body': b'{"RejectUpload":true,"RejectUpload":false}'})
    assert tus.create(5).status == 201


def test_names_in_any_case(tus):
    """As Go reads them."""
    tus.answers({'Type': 'pre-create', 'body': json.dumps(
        {'rejectupload': True, 'httpresponse': {'statuscode': 409, 'BODY': 'x'}}).encode()})
    given = tus.create(5)
    assert (given.status, given.body) == (409, b'x')


# -- other ways to an endpoint ---------------------------------------------------------------------

def test_a_unix_socket(hook_server, httpd, mpm):
    server = httpd(mpm=mpm)
    hooks = hook_server(unix=server.root / 'app.sock', path='/a/b?c=d')
    tus = start(server, hooks)
    url = tus.upload(b'hello')
    tus.told(upload_id(url), 'post-create', 'post-finish')
    assert {call.path for call in hooks.of()} == {'/a/b?c=d'}
    assert {call.get('Host') for call in hooks.of()} == {'localhost'}


def test_a_unix_socket_that_is_not_there(httpd):
    server = httpd()
    where = f'unix:{server.root}/none.sock|http://localhost/'
    store = server.make_store()
    server.start(endpoint('Location /files', store, f'TusHook {where} pre-create',
                          'TusHookRetry 1'))
    server.expect_log(rf'hook pre-create unix:.*none\.sock.* failed: status 0 after \d+ ms: '
                      rf'unix:{server.root}/none.sock gave no answer')
    assert_failed(Tus(server).create(5))
    assert not store.files()


def test_a_proxy_of_the_environment_is_not_used(hook_server, httpd):
    hooks, proxy = hook_server(), hook_server()
    where = f'http://127.0.0.1:{proxy.port}'
    server = httpd()
    server.environment.update({name: where for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy',
                                                        'ALL_PROXY')})
    tus = start(server, hooks)
    tus.new(5)
    hooks.wait(1, 'pre-create')
    assert proxy.connections == 0


def test_an_endpoint_that_comes_back(tus):
    """It is found on a new connection, without any client noticing."""
    tus.new(5)
    spool.wait_empty(tus.server)    # else who tells it may find nobody
    tus.hooks.stop()
    tus.hooks.start()
    assert tus.create(5).status == 201


# -- while it lasts --------------------------------------------------------------------------------

def test_who_waits_for_a_hook_keeps_nobody_else_waiting(tus):
    """Uploads that are there go on."""
    never = threading.Event()
    url = tus.new(10, b'hello')
    failed(tus.server, tus.hooks.url, why='.*(?i:time)')
    tus.says('pre-create', until=never)
    with tus.connect() as conn:
        conn.send_request(*creation()[:3], b'')
        tus.hooks.wait(1, 'pre-create')
        assert tus.append(url, 5, b'world') == 10
        assert_failed(conn.response('POST'))
    never.set()


def test_an_upload_whose_finish_nobody_answers_can_be_asked_after(tus):
    """HEAD does not call it finished, and GET does not give it out."""
    url = tus.new(5)
    failed(tus.server, tus.hooks.url, 'pre-finish', 500)
    tus.says('pre-finish', status=500)
    assert_failed(tus.patch(url, 0, b'hello'))
    assert tus.head(url).status in (423, 502)
    assert not tus.store.finished(url)
    tus.answers()
    assert tus.offset(url) == 5
    assert len(tus.hooks.of('pre-finish')) == 1
    assert tus.get(url).body == b'hello'


def test_a_client_that_goes_away_while_a_hook_is_asked(tus):
    """What was consented to is made, as if the answer had been lost."""
    consent = threading.Event()
    tus.says('pre-create', {'ChangeFileInfo': {'ID': 'alone'}}, until=consent)
    with tus.connect() as conn:
        conn.send_request(*creation(b'hello'))
        tus.hooks.wait(1, 'pre-create')
    consent.set()
    tus.told('alone', 'post-create', 'post-finish')
    assert tus.get('/files/alone').body == b'hello'
