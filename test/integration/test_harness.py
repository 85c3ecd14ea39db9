"""The harness itself: what it asserts can fail. All but a few lines of it run without mod_tus."""
import contextlib
import errno
import fcntl
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from testenv import curl as h2
from testenv.errorlog import ErrorLog, audit, is_loud
from testenv.faults import DIE_AFTER, DIE_BEFORE, EVER, FAIL, SHORT, Call, Faults
from testenv.http import Connection, Disconnected, Response, chunk, parse_head
from testenv.httpd import HttpdError, alive, listens, resident
from testenv.index import dump, state_of_store
from testenv.php import PhpFpm
from testenv.powerloss import Disk
from testenv.store import Store
from testenv.tus import Tus, assert_error, assert_of_endpoint, metadata, roundtrip
from testenv.util import free_port, pattern, port_range, program, run_user, wait_until

HERE = Path(__file__).resolve().parent


@pytest.fixture(scope='module')
def plain(shared_httpd):
    """An httpd without mod_tus."""
    server = shared_httpd(tus=False)
    (server.htdocs / 'a.txt').write_text('hello\n')
    return server.start('<Location /denied>\nRequire all denied\n</Location>\n')


def fetch(server, path='/a.txt', **options):
    with Connection(server.port, **options) as conn:
        return conn.request('GET', path)


# -- the server ------------------------------------------------------------------------------------

def test_serves_under_each_mpm(httpd, mpm):
    server = httpd(tus=False, mpm=mpm).start()
    (server.htdocs / 'a.txt').write_text('hello\n')
    assert fetch(server).body == b'hello\n'
    threads = {int(line.split()[1]) for pid in server.children()
               for line in Path(f'/proc/{pid}/status').read_text().splitlines()
               if line.startswith('Threads:')}
    assert max(threads) > 1 if mpm != 'prefork' else threads == {1}


def test_stop_ends_every_process(httpd):
    server = httpd(tus=False).start()
    parent, children = server.process.pid, server.children()
    assert len(children) >= 2
    server.stop()
    assert not any(alive(pid) for pid in [parent, *children])
    with pytest.raises(OSError):
        Connection(server.port)


def test_configtest_tells_good_from_bad(httpd):
    server = httpd(tus=False)
    assert server.configtest('')[0] == 0
    code, said = server.configtest('NoSuchDirective on\n')
    assert code != 0 and 'NoSuchDirective' in said


def test_start_fails_on_a_broken_configuration(httpd):
    server = httpd(tus=False)
    with pytest.raises(HttpdError, match='NoSuchDirective'):
        server.start('NoSuchDirective on\n')
    server.expect_log('NoSuchDirective')
    server.allow_log('^AH00526')


def test_start_fails_without_the_module(httpd, monkeypatch):
    monkeypatch.setattr('testenv.httpd.MODULE', Path('/nonexistent/mod_tus.so'))
    with pytest.raises(HttpdError, match='nonexistent'):
        httpd().start()


def test_a_taken_port_is_left_to_its_owner(httpd):
    server = httpd(tus=False)
    with socket.create_server(('127.0.0.1', server.port)):
        taken = server.port
        server.start()
        assert server.port != taken
        assert server.answers()


def test_graceful_waits_for_the_new_generation(httpd, mpm):
    server = httpd(tus=False, mpm=mpm).start()
    old = server.children()
    server.graceful('Redirect 410 /new\n')
    assert fetch(server, '/new').status == 410
    assert not any(listens(pid) for pid in old)
    assert any(listens(pid) for pid in server.children())


def test_a_connection_ends_when_the_child_closed_it(httpd):
    """Not when the kernel is done with it: httpd may crash if it is stopped between the two."""
    server = httpd(tus=False).start()
    wait_until(lambda: not server.connections(), 'the probe to end')
    with socket.create_connection(('127.0.0.1', server.port)) as client:
        client.sendall(b'OPTIONS * HTTP/1.0\r\n\r\n')
        while client.recv(4096):
            pass
        assert server.connections() == 1
        with halted(server.children()):
            client.close()
            assert server.connections() == 1
    wait_until(lambda: not server.connections(), 'the child to close it')


@contextlib.contextmanager
def halted(pids):
    """All their threads."""
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
            for task in Path(f'/proc/{pid}/task').iterdir():
                wait_until(lambda: ') T ' in (task / 'stat').read_text(), f'{task} to stop')
        yield
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)


def test_restart_ends_the_old_generation(httpd):
    server = httpd(tus=False).start()
    old = server.children()
    server.restart('Redirect 410 /new\n')
    assert not any(alive(pid) for pid in old)
    assert fetch(server, '/new').status == 410


def test_a_restart_that_ends_httpd_is_noticed(httpd):
    server = httpd(tus=False).start()
    with pytest.raises(HttpdError, match='ended at restart'):
        server.graceful('NoSuchDirective on\n')
    server.process = None
    server.expect_log('NoSuchDirective')
    server.allow_log('AH00526|AH00020|Configuration Failed')


def test_kill_leaves_nothing(httpd):
    server = httpd(tus=False).start()
    pids = [server.process.pid, *server.children()]
    server.kill()
    assert not any(alive(pid) for pid in pids)


def test_children_run_unprivileged(plain):
    def uids():
        return {re.search(r'^Uid:\t(\d+)', Path(f'/proc/{pid}/status').read_text(), re.M)[1]
                for pid in plain.children()}
    wait_until(lambda: uids() == {str(run_user().pw_uid)}, 'every child to be that user')
    assert run_user().pw_uid != 0


def test_resident_memory_is_seen_to_grow():
    before = resident(os.getpid())
    block = bytearray(os.urandom(32 << 20))
    assert resident(os.getpid()) - before > 16 << 20
    del block


# -- the audit of the error log --------------------------------------------------------------------

def test_audit_fails_on_an_undeclared_error(plain):
    assert fetch(plain, '/denied').status == 403
    plain.wait_log('AH01630')
    with pytest.raises(AssertionError, match='unexpected.*AH01630'):
        plain.audit()


def test_audit_passes_a_declared_error(plain):
    plain.expect_log('AH01630: client denied')
    assert fetch(plain, '/denied').status == 403


def test_audit_fails_when_a_declared_line_does_not_come(plain):
    plain.expect_log('AH01630: client denied')
    with pytest.raises(AssertionError, match='never logged'):
        plain.audit()


def test_audit_forgets_what_an_earlier_test_declared(plain):
    plain.allow_log('AH01630')
    plain.audit()
    assert fetch(plain, '/denied').status == 403
    with pytest.raises(AssertionError, match='unexpected'):
        plain.audit()


def test_audit_of_what_comes_late(plain):
    plain.allow_log('AH01630')
    plain.audit()
    assert fetch(plain, '/denied').status == 403
    plain.wait_log('AH01630')
    plain.audit(late=True)


def test_audit_fails_when_a_child_crashes(httpd):
    server = httpd(tus=False).start()
    os.kill(server.children()[0], signal.SIGSEGV)
    server.wait_log('exit signal Segmentation fault')
    with pytest.raises(AssertionError, match='Segmentation fault'):
        server.audit()


@pytest.mark.parametrize('line', [
    '==7==ERROR: AddressSanitizer: heap-use-after-free',
    'SUMMARY: LeakSanitizer: 3 bytes leaked',
    'a.c:1:2: runtime error: signed integer overflow',
    'some text that no logger wrote',
    '[Sun Nov 22 14:00:00.1 2026] [core:notice] [pid 1] child pid 9 exit signal Bus error (7)',
    '[Sun Nov 22 14:00:00.1 2026] [tus:warn] [pid 1:tid 1] careful',
    '[Sun Nov 22 14:00:00.1 2026] [tus:emerg] [pid 1] over',
])
def test_audit_knows_a_loud_line(tmp_path, line):
    log = ErrorLog(tmp_path / 'log')
    log.path.write_text(line + '\n')
    assert audit([log], [], []) == [f'unexpected: {line}']


@pytest.mark.parametrize('line', [
    '', '[Sun Nov 22 14:00:00.1 2026] [mpm_event:notice] [pid 1:tid 1] AH00489: resuming',
    '[Sun Nov 22 14:00:00.1 2026] [tus:info] [pid 1:tid 1] UploadCreated',
    '[Sun Nov 22 14:00:00.1 2026] [ssl:warn] [pid 1:tid 1] AH01882: compiled against a newer one'])
def test_audit_lets_quiet_lines_pass(line):
    assert not is_loud(line)


@pytest.mark.parametrize('name, body, passes', [
    ('quiet', 'pass', True),
    ('loud', "assert server.request('/denied').status == 403", False),
    ('silent', "server.expect_log('AH01630')", False)])
def test_a_test_fails_with_its_audit(tmp_path, name, body, passes):
    """The hook in conftest.py, tried from outside."""
    test = tmp_path / f'test_{name}.py'
    test.write_text(f'''
from testenv.http import Connection

def test_it(httpd):
    server = httpd(tus=False).start('<Location /denied>\\nRequire all denied\\n</Location>\\n')
    server.request = lambda path: Connection(server.port).request('GET', path)
    {body}
''')
    result = subprocess.run(
        [sys.executable, '-m', 'pytest', '-q', '-p', 'conftest', '-p', 'no:cacheprovider', test],
        cwd=tmp_path, env={**os.environ, 'PYTHONPATH': str(HERE)}, capture_output=True, text=True,
        check=False)
    assert ('1 passed' in result.stdout) == passes, result.stdout
    assert ('1 failed' in result.stdout) != passes, result.stdout


# -- small helpers ---------------------------------------------------------------------------------

def test_wait_until_gives_up():
    with pytest.raises(AssertionError, match='in vain: pigs to fly'):
        wait_until(lambda: False, 'pigs to fly', timeout=0.05)


def test_workers_have_ports_of_their_own(monkeypatch):
    monkeypatch.setenv('PYTEST_XDIST_WORKER_COUNT', '3')
    ports = []
    for worker in range(3):
        monkeypatch.setenv('PYTEST_XDIST_WORKER', f'gw{worker}')
        ports += range(*port_range())
    assert len(ports) == len(set(ports))
    assert ports[0] == 10000 and 31990 < ports[-1] < 32000


def test_free_port_avoids_a_taken_one(monkeypatch):
    free = free_port()
    with socket.create_server(('127.0.0.1', 0)) as taken:
        drawn = iter([taken.getsockname()[1], free + 1])
        monkeypatch.setattr('random.randrange', lambda *_: next(drawn))
        assert free_port() == free + 1


def test_a_missing_program_is_named():
    with pytest.raises(AssertionError, match='no-such-program'):
        program('no-such-program')


def test_pattern_differs_by_seed():
    assert pattern(1000) == pattern(1000) != pattern(1000, seed=1)


def test_store_sees_a_file_too_many(tmp_path):
    store = Store(tmp_path)
    store.assert_only()
    (tmp_path / 'a').write_text('')
    (tmp_path / 'a.info').write_text('{}')
    store.assert_only('/files/a')
    (tmp_path / '.a.info.tmp').write_text('')
    with pytest.raises(AssertionError, match='a.info.tmp'):
        store.assert_only('/files/a')


def test_snapshot_sees_bytes_and_modes(tmp_path):
    store = Store(tmp_path)
    (tmp_path / 'a').write_text('x')
    before = store.snapshot()
    (tmp_path / 'a').chmod(0o600)
    assert store.snapshot() != before
    before = store.snapshot()
    (tmp_path / 'a').write_text('y')
    assert store.snapshot() != before


def test_store_sees_who_holds_an_upload(tmp_path):
    store = Store(tmp_path)
    (tmp_path / 'a').write_text('x')
    assert not store.is_held('/files/a')
    with (tmp_path / 'a').open() as data:
        fcntl.flock(data, fcntl.LOCK_EX)
        assert store.is_held('/files/a')
    assert not store.is_held('/files/a')


# -- the clients -----------------------------------------------------------------------------------

def serve_once(answer):
    """A one-shot server that says `answer`; its port."""
    listener = socket.create_server(('127.0.0.1', 0))

    def run():
        with listener, listener.accept()[0] as conn:
            conn.recv(65536)
            conn.sendall(answer)

    threading.Thread(target=run, daemon=True).start()
    return listener.getsockname()[1]


def ask(answer, method='GET'):
    with Connection(serve_once(answer)) as conn:
        return conn.request(method, '/')


def test_client_reads_a_chunked_body():
    answer = ask(b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n'
                 + chunk(b'hello ') + chunk(b'world') + chunk(b''))
    assert answer.body == b'hello world'


def test_client_keeps_interim_answers_apart():
    answer = ask(b'HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok')
    assert (answer.status, answer.body) == (200, b'ok')
    assert [interim.status for interim in answer.interim] == [100]


@pytest.mark.parametrize('answer', [
    b'', b'HTTP/1.1 200 OK\r\nContent-Le', b'HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc',
    b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello'])
def test_client_fails_on_half_an_answer(answer):
    with pytest.raises(Disconnected):
        ask(answer)


@pytest.mark.parametrize('head', [b'ICY 200 OK\r\n\r\n', b'HTTP/1.1 200 OK\r\nBad Name: x\r\n\r\n',
                                  b'HTTP/1.1 200 OK\r\nnothing\r\n\r\n'])
def test_client_fails_on_a_head_that_is_none(head):
    with pytest.raises(AssertionError):
        parse_head(head)


def test_a_repeated_field_is_noticed():
    answer = Response(200, 'OK', [('Upload-Offset', '1'), ('upload-offset', '1')])
    assert answer.repeated() == {'upload-offset'}
    with pytest.raises(AssertionError, match='more than once'):
        answer.get('Upload-Offset')


def of_endpoint(status=200, fields=(), body=b''):
    headers = {'Tus-Resumable': '1.0.0', 'X-Content-Type-Options': 'nosniff', **dict(fields)}
    return Response(status, '', [(name, value) for name, value in headers.items() if value], body)


def test_an_answer_of_the_endpoint_needs_its_headers():
    assert_of_endpoint(of_endpoint())
    for missing in ('Tus-Resumable', 'X-Content-Type-Options'):
        with pytest.raises(AssertionError):
            assert_of_endpoint(of_endpoint(fields=[(missing, None)]))
    twice = of_endpoint()
    twice.headers.append(('Tus-Resumable', '1.0.0'))
    with pytest.raises(AssertionError):
        assert_of_endpoint(twice)


def test_assert_error_wants_status_type_and_code():
    good = dict(fields=[('Content-Type', 'text/plain; charset=utf-8')], body=b'ERR_X: no\n')
    assert_error(of_endpoint(400, **good), 400, 'ERR_X')
    for bad in (of_endpoint(400, [], good['body']),
                of_endpoint(400, [('Content-Type', 'text/html')], good['body']),
                of_endpoint(400, good['fields'], b'ERR_Y: no\n'),
                of_endpoint(400, good['fields'], b'<p>no</p>'),
                of_endpoint(404, **good)):
        with pytest.raises(AssertionError):
            assert_error(bad, 400, 'ERR_X')
    for status in (405, 412):       # these need Allow and Tus-Version
        with pytest.raises(AssertionError):
            assert_error(of_endpoint(status, **good), status, 'ERR_X')


def test_a_plain_httpd_is_no_endpoint(plain):
    with pytest.raises(AssertionError):
        roundtrip(Tus(plain))


def test_metadata_is_base64():
    assert metadata(filename='ü', empty='', bare=None) == 'filename w7w=,empty ,bare'


def test_tls_answers(httpd):
    server = httpd(tus=False, tls=True)
    server.start(server.tls_vhost())
    (server.htdocs / 'a.txt').write_text('hello\n')
    with Connection(server.tls_port, tls=True) as conn:
        assert conn.request('GET', '/a.txt').body == b'hello\n'
    with pytest.raises(OSError):
        Connection(server.port, tls=True)


def test_http2_clients_want_http2(httpd, plain):
    server = httpd(tus=False, modules=['http2']).start('Protocols h2c http/1.1\n')
    (server.htdocs / 'a.txt').write_text('hello\n')
    url = f'http://127.0.0.1:{server.port}/a.txt'
    assert h2.curl('--http2-prior-knowledge', url).body == b'hello\n'
    assert [answer.status for answer in h2.nghttp(url)] == [200]
    assert h2.nghttp_with_body(url).body == b'hello\n'
    other = f'http://127.0.0.1:{plain.port}/a.txt'
    plain.allow_log('AH00126')
    with pytest.raises(AssertionError, match='curl: exit'):
        h2.curl('--http2-prior-knowledge', other)
    with pytest.raises(AssertionError, match='nghttp'):
        h2.nghttp(other)


# -- other programs --------------------------------------------------------------------------------

def test_php_runs_and_ends(httpd):
    server = httpd(tus=False, modules=['proxy', 'proxy_fcgi'])
    php = PhpFpm()
    try:
        server.start(f'<FilesMatch "\\.php$">\n'
                     f'SetHandler "proxy:fcgi://127.0.0.1:{php.port}"\n</FilesMatch>\n')
        (server.htdocs / 'x.php').write_text('<?php echo 6 * 7;')
        assert fetch(server, '/x.php').body == b'42'
    finally:
        php.stop()
    with pytest.raises(OSError):
        Connection(php.port)


def test_a_full_disk_is_full(full_disk, httpd):
    disk = full_disk
    disk.attach(httpd(tus=False, prefix=disk.command).start())
    disk.fill()
    with pytest.raises(OSError, match='No space left'):
        (disk.inside / 'more').write_bytes(bytes(8192))
    disk.make_room()
    (disk.inside / 'more').write_bytes(bytes(8192))
    assert not list(disk.path.iterdir()), 'the disk is seen outside of the server'


def test_a_disk_that_is_none_is_noticed(full_disk, httpd):
    server = httpd(tus=False).start()
    with pytest.raises(AssertionError, match='could not be mounted'):
        full_disk.attach(server)


def test_a_missing_dump_tool_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr('testenv.index.TOOL', tmp_path / 'no_dump')
    with pytest.raises(AssertionError, match='no_dump is missing'):
        dump(tmp_path)


@pytest.mark.parametrize('script, wrong', [
    ('echo broken >&2; exit 2', 'broken'),
    ("echo '{\"id\":\"a\"}'; echo '{\"id\":\"a\"}'", 'twice')])
def test_a_dump_that_is_wrong_is_noticed(monkeypatch, tmp_path, script, wrong):
    tool = tmp_path / 'dump'
    tool.write_text(f'#!/bin/sh\n{script}\n')
    tool.chmod(0o755)
    monkeypatch.setattr('testenv.index.TOOL', tool)
    with pytest.raises(AssertionError, match=wrong):
        dump(tmp_path)


def test_the_state_of_a_store_is_one_directory(plain):
    plain.state_dir.mkdir()
    with pytest.raises(AssertionError):
        state_of_store(plain)
    (plain.state_dir / 'one').mkdir()
    assert state_of_store(plain) == plain.state_dir / 'one'
    (plain.state_dir / 'two').mkdir()
    with pytest.raises(AssertionError):
        state_of_store(plain)


@pytest.fixture
def faults(tmp_path):
    (tmp_path / 'watched').mkdir()
    return Faults(tmp_path, [tmp_path / 'watched'])


def run_with(faults, script):
    return subprocess.run([sys.executable, '-c', f'import os\n{script}'], capture_output=True,
                          cwd=faults.path.parent, env=faults.environment, check=False)


def test_calls_are_recorded_in_order(faults):
    with faults.recording() as calls:
        assert run_with(faults, """
file = os.open('watched/a', os.O_RDWR | os.O_CREAT, 0o640)
os.write(file, b'hello')
os.pwrite(file, b'j', 0)
os.fsync(file)
os.fdatasync(file)
os.ftruncate(file, 2)
os.fchmod(file, 0o600)
os.rename('watched/a', 'watched/b')
os.symlink('nowhere', 'watched/c')
os.mkdir('watched/d')
os.unlink('watched/b')
os.open('unwatched', os.O_RDWR | os.O_CREAT)
os.open('watched/e', os.O_RDONLY)""").returncode == 1
    root = faults.path.parent / 'watched'
    assert [(call.kind, call.path, call.data, call.offset) for call in calls] == [
        (kind, str(root / name), data, offset) for kind, name, data, offset in (
            ('create', 'a', b'', 0), ('write', 'a', b'hello', 0), ('write', 'a', b'j', 0),
            ('sync', 'a', b'', 0), ('datasync', 'a', b'', 0), ('truncate', 'a', b'', 2),
            ('mode', 'a', b'', 0), ('rename', 'b', b'', 0), ('symlink', 'c', b'', 0),
            ('mkdir', 'd', b'', 0), ('unlink', 'b', b'', 0))]
    assert (calls[0].mode, calls[6].mode) == (0o640, 0o600)
    assert (calls[7].to, calls[8].to) == (str(root / 'a'), 'nowhere')


WRITES = """
file = os.open('watched/a', os.O_RDWR | os.O_CREAT)
for data in (b'aaaa', b'bbbb', b'cccc'):
    try:
        print(os.write(file, data))
    except OSError as error:
        print(os.strerror(error.errno))"""


@pytest.mark.parametrize('action, last, said', [
    (FAIL, 2, [b'4', b'No space left on device', b'4']),
    (FAIL, EVER, [b'4', b'No space left on device', b'No space left on device']),
    (SHORT, EVER, [b'4', b'2', b'No space left on device']),
    (DIE_BEFORE, 2, []), (DIE_AFTER, 2, [])])
def test_the_nth_call_is_hit(faults, action, last, said):
    with faults.armed(action, 2, last, errno.ENOSPC, kinds=('write',)):
        result = run_with(faults, WRITES)
        assert faults.hit == f'write {faults.path.parent}/watched/a'
    assert result.stdout.split(b'\n')[:-1] == said
    stored = (faults.path.parent / 'watched' / 'a').read_bytes()
    if action == FAIL:
        assert stored == (b'aaaacccc' if last == 2 else b'aaaa')
    elif action == SHORT:
        assert stored == b'aaaabb'
    else:
        assert result.returncode == -signal.SIGKILL
        assert stored == (b'aaaa' if action == DIE_BEFORE else b'aaaabbbb')


def test_what_is_not_armed_is_not_hit(faults):
    with faults.armed(FAIL, 4, EVER, kinds=('write',)):
        assert run_with(faults, WRITES).stdout == b'4\n4\n4\n'
        assert not faults.hit and faults.count == 3
    with faults.armed(FAIL, 1, EVER, kinds=('write',), suffix='/b'):
        assert run_with(faults, WRITES).stdout == b'4\n4\n4\n'
        assert not faults.hit and faults.count == 0
    assert run_with(faults, WRITES).stdout == b'4\n4\n4\n'


# -- what is left of a disk without power ----------------------------------------------------------

def call(kind, path, **more):
    return Call(kind, path, **{'to': '', 'data': b'', 'offset': 0, 'mode': 0o600, 'inode': 0,
                               'pid': 0, **more})


def contents(disk):
    """Each state's files and what they hold, without the directories themselves."""
    return sorted(sorted((path, what[0]) for path, what in state.items() if what)
                  for state in disk.states(1000))


def test_what_was_not_synced_may_be_lost():
    disk = Disk(['/d'])
    for made in (call('create', '/d/a'), call('write', '/d/a', data=b'xy')):
        disk.play(made)
    assert contents(disk) == [[], [('/d/a', b'')], [('/d/a', b'\0\0')], [('/d/a', b'xy')]]
    disk.play(call('sync', '/d/a'))
    assert contents(disk) == [[], [('/d/a', b'xy')]], 'the name is the directory\'s'
    disk.play(call('rename', '/d/b', to='/d/a'))
    assert contents(disk) == [[], [('/d/a', b'xy')], [('/d/b', b'xy')]]
    disk.play(call('sync', '/d'))
    assert contents(disk) == [[('/d/b', b'xy')]]


def test_blocks_are_lost_one_by_one():
    disk = Disk(['/d'])
    for made in (call('create', '/d/a'), call('sync', '/d'),
                 call('write', '/d/a', data=b'x' * 4096 + b'y')):
        disk.play(made)
    assert contents(disk) == [[('/d/a', data)] for data in (
        b'', bytes(4097), bytes(4096) + b'y', b'x' * 4096 + bytes(1), b'x' * 4096 + b'y')]
