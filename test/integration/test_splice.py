"""Bodies that go from the socket into the store unseen: every byte where it belongs, and no more.

A body of 128 KiB or more over plain HTTP/1.1 is spliced, unless something needs to see its bytes.
"""
import fcntl
import hashlib
import os
import random
import re
import struct
import subprocess
import sys
import termios
import threading
import time

import pytest

from testenv.checksum import with_checksum
from testenv.http import Connection, request_head
from testenv.httpd import MPMS, endpoint, one_child
from testenv.stream import assert_stretch, stretch
from testenv.tus import Tus, assert_error, patch_fields
from testenv.util import AS_ROOT, free_port, pattern, run_user, wait_until

KIB = 1 << 10
MIB = 1 << 20
LEAST = 128 * KIB


# Takes all that one user may have of pipes, and says so.
HOG = '''
import fcntl, os
held = []
try:
    while len(held) < 200:
        held.append(os.pipe())
        fcntl.fcntl(held[-1][1], 1031, 1 << 20)
except OSError:
    held += [os.pipe() for _ in range(60)]
print(fcntl.fcntl(held[-1][1], 1032), flush=True)
input()
'''


def started(server, *lines, store=None):
    store = store or server.make_store()
    server.start('\n'.join(['KeepAliveTimeout 60', 'MaxKeepAliveRequests 0', *lines, ''])
                 + endpoint('Location /files', store))
    return Tus(server, store=store)


@pytest.fixture(scope='module')
def tus(shared_httpd):
    return started(shared_httpd(mpm_settings=one_child(32)))


class Spliced:
    """How many bytes were spliced since it was made, for each request that had some."""

    def __init__(self, tus):
        self.log = tus.server.error_log
        self.start = len(self.log.text())

    def all(self):
        return [int(number) for number in
                re.findall(r'(\d+) bytes were spliced', self.log.text()[self.start:])]

    def total(self):
        return sum(self.all())


def patch_head(url, offset, length, *fields):
    return request_head('PATCH', url, [*patch_fields(offset), ('Content-Length', length), *fields])


def in_pieces(data, *ends):
    """The data cut there."""
    cuts = [0, *(end for end in ends if end < len(data)), len(data)]
    return [data[start:end] for start, end in zip(cuts, cuts[1:])]


# -- what is spliced -------------------------------------------------------------------------------

@pytest.mark.parametrize('size', [LEAST, LEAST + 1, MIB, MIB + 1, 5 * MIB + 7])
def test_a_large_body_is_spliced(tus, size):
    data = pattern(size)
    url = tus.new(size)
    spliced = Spliced(tus)
    assert tus.append(url, 0, data) == size
    assert tus.store.data(url) == data
    assert tus.store.finished(url)
    assert size - 64 * KIB <= spliced.total() <= size


def test_also_in_a_creation(tus):
    data = pattern(MIB)
    spliced = Spliced(tus)
    url = tus.new(len(data), data)
    assert tus.store.data(url) == data
    assert spliced.total()


def test_and_after_100_continue(tus):
    data = pattern(MIB)
    url = tus.new(MIB)
    spliced = Spliced(tus)
    with tus.connect() as conn:
        conn.send(patch_head(url, 0, MIB, ('Expect', '100-continue')))
        assert conn.interim().status == 100
        conn.send(data)
        assert conn.response('PATCH').status == 204
    assert tus.store.data(url) == data
    assert spliced.total() == MIB


@pytest.mark.parametrize('size', [0, 1, 4096, LEAST - 1])
def test_a_small_body_is_not(tus, size):
    data = pattern(size)
    url = tus.new(size + 1)
    spliced = Spliced(tus)
    assert tus.append(url, 0, data) == size
    assert tus.store.data(url) == data
    assert spliced.total() == 0


def test_nor_a_chunked_one(tus):
    data = pattern(MIB)
    url = tus.new(MIB)
    spliced = Spliced(tus)
    assert tus.append(url, 0, [data[:MIB // 3], data[MIB // 3:]], chunked=True) == MIB
    assert tus.store.data(url) == data
    assert spliced.total() == 0


def test_nor_one_with_a_checksum(tus):
    data = pattern(MIB)
    url = tus.new(MIB)
    spliced = Spliced(tus)
    assert tus.patch(url, 0, data, with_checksum(data, 'sha256')).status == 204
    assert tus.store.data(url) == data
    assert spliced.total() == 0


def test_nor_one_over_tls(httpd):
    server = httpd(tls=True)
    store = server.make_store()
    server.start(endpoint('Location /files', store) + server.tls_vhost())
    tus = Tus(server, store=store, tls=True)
    spliced = Spliced(tus)
    for size in (1, 8000, 65_535, 65_536, 65_537, 300_000, 3_000_000):
        data = pattern(size)
        url = tus.new(2 * size)
        assert tus.append(url, 0, data) == size
        assert tus.append(url, size, data) == 2 * size
        assert tus.store.data(url) == 2 * data
    assert spliced.total() == 0


@pytest.mark.parametrize('module,line', [
    ('dumpio', 'DumpIOInput On\nLogLevel dumpio:trace7'),
    ('deflate', 'SetInputFilter DEFLATE'),
])
def test_filters_that_look_at_the_bytes_see_them(httpd, module, line):
    server = httpd(modules=() if module == 'deflate' else [module])
    tus = started(server, line)
    data = pattern(MIB)
    url = tus.new(MIB)
    spliced = Spliced(tus)
    assert tus.append(url, 0, data) == MIB
    assert tus.store.data(url) == data
    assert spliced.total() == 0


def test_behind_the_proxy_protocol(httpd):
    """mod_remoteip's filter stays, and has nothing to say once the header was read."""
    port = free_port()
    tus = started(httpd(modules=['remoteip']), f'Listen 127.0.0.1:{port}',
                  f'<VirtualHost 127.0.0.1:{port}>\nServerName localhost\n'
                  'RemoteIPProxyProtocol On\n</VirtualHost>')
    data = pattern(MIB)
    url = tus.new(MIB)
    spliced = Spliced(tus)
    with Connection(port) as conn:
        conn.send(b'PROXY TCP4 127.0.0.1 127.0.0.1 1234 80\r\n' + patch_head(url, 0, MIB) + data)
        assert conn.response('PATCH').status == 204
    assert tus.store.data(url) == data
    assert spliced.total()


@pytest.mark.parametrize('mpm', MPMS)
def test_in_each_mpm(httpd, mpm):
    tus = started(httpd(mpm=mpm))
    data = stretch(0, 8 * MIB)
    url = tus.new(len(data))
    spliced = Spliced(tus)
    assert tus.append(url, 0, data) == len(data)
    assert_stretch(tus.store.data_path(url), len(data))
    assert spliced.total()


# -- where it begins and ends ----------------------------------------------------------------------

@pytest.mark.parametrize('cut', [0, 1, 5000, 7900, 8000, 8001, 20_000, LEAST])
def test_what_came_with_the_head_comes_first(tus, cut):
    """httpd has read the start of the body with the head; the rest follows later."""
    data = stretch(0, 3 * LEAST)
    url = tus.new(len(data))
    with tus.connect() as conn:
        conn.send(patch_head(url, 0, len(data)) + data[:cut])
        wait_until(lambda: tus.store.size(url) == cut, 'the first bytes')
        for piece in in_pieces(data[cut:], 1, 100_000):
            conn.send(piece)
            time.sleep(0.01)    # likely to become segments of their own
        assert conn.response('PATCH').status == 204
    assert tus.store.data(url) == data


def test_requests_on_one_connection(tus):
    sizes = [random.Random(7).choice((0, 1, 8000, LEAST, LEAST + 1, 200_000, 300_000))
             for _ in range(200)]
    url = tus.new(sum(sizes))
    offset = 0
    with tus.connect() as conn:
        for size in sizes:
            data = stretch(offset, offset + size)
            conn.send(patch_head(url, offset, size))
            for piece in in_pieces(data, size // 3, size // 2):
                conn.send(piece)
            answer = conn.response('PATCH')
            offset += size
            assert (answer.status, answer.get('Upload-Offset')) == (204, str(offset))
            assert not answer.closes
    assert_stretch(tus.store.data_path(url), offset)


def test_pipelined_requests(tus):
    """No byte of the next request goes into the store with a body."""
    rng = random.Random(11)
    sizes = [rng.choice((0, 1, 100, 8000, LEAST, LEAST + 1, 300_000)) for _ in range(100)]
    urls = [tus.new(size + 1) for size in sizes]
    with tus.connect() as conn:
        def send():
            conn.send(b''.join(patch_head(url, 0, size) + pattern(size, url)
                               for url, size in zip(urls, sizes)))
        sender = threading.Thread(target=send)
        sender.start()
        answers = [conn.response('PATCH') for _ in urls]
        sender.join()
    for answer, url, size in zip(answers, urls, sizes):
        assert (answer.status, answer.get('Upload-Offset')) == (204, str(size))
        assert tus.store.data(url) == pattern(size, url)


# -- what ends it early ----------------------------------------------------------------------------

def unsent(conn):
    """What a reset would throw away: Linux's SIOCOUTQ."""
    return struct.unpack('i', fcntl.ioctl(conn.sock, termios.TIOCOUTQ, bytes(4)))[0]


@pytest.mark.parametrize('how', ['half-close', 'reset'])
@pytest.mark.parametrize('sent', [0, 1, 7000, 8000, 8001, 100_000, MIB, MIB + 1, 3_333_333])
def test_a_client_that_goes_leaves_what_it_sent(tus, sent, how):
    url = tus.new(8 * MIB)
    with tus.connect() as conn:
        conn.send(patch_head(url, 0, 8 * MIB))
        conn.send(stretch(0, sent))
        if how == 'half-close':
            conn.half_close()
            assert_error(conn.response('PATCH'), 503, 'ERR_UPLOAD_INTERRUPTED')
        else:
            wait_until(lambda: unsent(conn) == 0, 'all to be sent')
            conn.reset()
    tus.server.wait_access(rf'"PATCH {url} ')
    assert tus.offset(url) == sent
    assert_stretch(tus.store.data_path(url), sent)
    assert tus.append(url, sent, stretch(sent, 8 * MIB)) == 8 * MIB
    assert_stretch(tus.store.data_path(url), 8 * MIB)


def test_a_client_that_stalls(httpd):
    tus = started(httpd(), 'RequestReadTimeout body=3')
    url = tus.new(MIB)
    with tus.connect() as conn:
        conn.send(patch_head(url, 0, MIB))
        conn.send(stretch(0, 300_000))
        assert_error(conn.response('PATCH'), 503, 'ERR_READ_TIMEOUT')
    assert tus.offset(url) == 300_000
    assert_stretch(tus.store.data_path(url), 300_000)


def test_a_newer_request(tus):
    """It takes over while bytes come as fast as they can."""
    url = tus.new(1 << 40)
    stop = threading.Event()
    with tus.connect() as conn:
        conn.send(patch_head(url, 0, 1 << 40))

        def pump():
            offset = 0
            while not stop.is_set():
                try:
                    conn.send(stretch(offset, offset + MIB))
                except OSError:
                    return
                offset += MIB
        sender = threading.Thread(target=pump)
        sender.start()
        wait_until(lambda: tus.store.size(url) > 4 * MIB, 'some MiB')
        offset = tus.offset(url)
        assert_stretch(tus.store.data_path(url), offset)
        assert tus.append(url, offset, stretch(offset, offset + MIB)) == offset + MIB
        stop.set()
        assert_error(conn.response('PATCH'), 503, 'ERR_UPLOAD_INTERRUPTED')
        sender.join()
    assert_stretch(tus.store.data_path(url), offset + MIB)
    assert tus.delete(url).status == 204


def test_a_child_that_is_killed(httpd):
    tus = started(httpd())
    url = tus.new(1 << 40)
    with tus.connect() as conn:
        conn.send(patch_head(url, 0, 1 << 40))
        for start in range(0, 32 * MIB, MIB):
            conn.send(stretch(start, start + MIB))
        wait_until(lambda: tus.store.size(url) > 16 * MIB, 'some MiB')
        tus.server.allow_log(r'exit signal Killed')
        tus.kill_holder(url)
    offset = tus.offset(url)
    assert offset == tus.store.size(url)
    assert_stretch(tus.store.data_path(url), offset)
    assert tus.append(url, offset, stretch(offset, offset + MIB)) == offset + MIB


def test_a_full_disk(full_disk, httpd):
    """What is stored counts, to the byte, and the next request on a new connection is not harmed."""
    server = httpd(prefix=full_disk.command)
    server.start(endpoint('Location /files', full_disk.path))
    full_disk.attach(server)
    tus = Tus(server)
    url = tus.new(4 * MIB)
    server.expect_log('No space left')
    full_disk.fill(leave=512 * KIB)
    path = full_disk.inside / url.rsplit('/', 1)[-1]
    with tus.connect() as conn:
        conn.send(patch_head(url, 0, 4 * MIB))
        try:
            conn.send(stretch(0, 4 * MIB))
        except OSError:
            pass
        assert_error(conn.response('PATCH'), 507, 'ERR_INSUFFICIENT_STORAGE')
    offset = path.stat().st_size
    assert 0 < offset <= 512 * KIB
    assert tus.offset(url) == offset
    assert_stretch(path, offset)
    full_disk.make_room()
    rest = tus.append(url, offset, stretch(offset, MIB))
    assert rest == MIB
    assert_stretch(path, MIB)
    assert tus.delete(url).status == 204


def test_more_than_fits(tus):
    """An upload of deferred length: TusMaxSize is not passed by a byte."""
    server = tus.server
    data = pattern(2 * MIB)
    response = tus.create(headers=[('Upload-Defer-Length', '1')])
    url = response.get('Location')
    spliced = Spliced(tus)
    assert tus.append(url, 0, data[:MIB]) == MIB
    answer = tus.patch(url, MIB, data[MIB:], [('Upload-Length', MIB + LEAST)])
    assert_error(answer, 413, 'ERR_UPLOAD_SIZE_EXCEEDED')
    assert tus.append(url, MIB, data[MIB:MIB + LEAST], conn=None) == MIB + LEAST
    assert tus.store.data(url)[:MIB + LEAST] == data[:MIB + LEAST]
    assert spliced.total() and server.children()


# -- pipes -----------------------------------------------------------------------------------------

def pipes(pid):
    names = []
    for entry in os.scandir(f'/proc/{pid}/fd'):
        try:
            names.append(os.readlink(entry.path))
        except FileNotFoundError:
            pass
    return sum(name.startswith('pipe:') for name in names)


def test_stalled_uploads_hold_no_pipe(tus):
    """A process has four for all of them."""
    child, = tus.server.children()
    before = pipes(child)
    held = []
    urls = [tus.new(MIB) for _ in range(16)]
    for url in urls:
        conn = tus.connect()
        held.append(conn)
        conn.send(patch_head(url, 0, MIB))
        conn.send(stretch(0, 200_000))
    for url in urls:
        wait_until(lambda: tus.store.size(url) == 200_000, 'the first bytes')
    assert pipes(child) <= max(before, 2 * 4 + before)
    for conn in held:
        conn.send(stretch(200_000, MIB))
        assert conn.response('PATCH').status == 204
        conn.close()
    for url in urls:
        assert_stretch(tus.store.data_path(url), MIB)
    assert pipes(child) <= before + 2 * 4


@pytest.mark.skipif(not AS_ROOT, reason='the limit is of the user who runs httpd')
def test_where_the_user_has_no_pipes_left(httpd):
    """Then the body is read as any other."""
    tus = started(httpd(), 'RequestReadTimeout body=0')
    user = run_user()
    with subprocess.Popen([sys.executable, '-c', HOG], stdin=subprocess.PIPE,
                          stdout=subprocess.PIPE, user=user.pw_uid, group=user.pw_gid,
                          extra_groups=[], text=True) as hog:
        assert int(hog.stdout.readline()) < 64 * KIB, 'the hog did not reach the limit'
        spliced = Spliced(tus)
        url = tus.new(8 * MIB)
        assert tus.append(url, 0, stretch(0, 8 * MIB)) == 8 * MIB
        assert_stretch(tus.store.data_path(url), 8 * MIB)
        assert spliced.total() == 0
        hog.communicate('\n')
    url = tus.new(8 * MIB)
    assert tus.append(url, 0, stretch(0, 8 * MIB)) == 8 * MIB
    assert_stretch(tus.store.data_path(url), 8 * MIB)
    assert spliced.total()


# -- all at once -----------------------------------------------------------------------------------

class Client:
    """Uploads one thing after the other, spliced and not, and goes away in the middle of some."""

    def __init__(self, tus, seed):
        self.tus = tus
        self.rng = random.Random(seed)
        self.done = 0
        self.left = 0
        self.problem = None

    def run(self, until):
        try:
            conn = self.tus.connect()
            while time.monotonic() < until:
                conn = self.upload(conn)
            conn.close()
        except Exception as problem:    # pylint: disable=broad-except
            self.problem = problem

    def upload(self, conn):
        rng, tus = self.rng, self.tus
        size = rng.choice((0, 1, 4096, LEAST, rng.randrange(4 * MIB)))
        data = pattern(size, rng.random())
        url = tus.new(size, conn=conn)
        if size > 1 and rng.random() < 0.15:
            self.leave(conn, url, data[:rng.randrange(size)], size)
            return tus.connect()
        chunked = rng.random() < 0.25
        if size:
            assert tus.append(url, 0, [data] if chunked else data, conn=conn,
                              chunked=chunked) == size
        self.compare(url, data)
        self.done += 1
        return conn

    def leave(self, conn, url, part, size):
        conn.send(patch_head(url, 0, size) + part)
        if self.rng.random() < 0.5:
            wait_until(lambda: unsent(conn) == 0, 'all to be sent')
            conn.reset()
        else:
            conn.close()
        wait_until(lambda: not self.tus.store.is_held(url), 'the upload to be let go')
        wait_until(lambda: self.tus.store.size(url) == len(part), 'all to be stored')
        self.compare(url, part)
        self.left += 1

    def compare(self, url, data):
        stored = self.tus.store.data(url)
        assert hashlib.sha256(stored).digest() == hashlib.sha256(data).digest(), url
        assert self.tus.delete(url).status == 204


def test_many_clients(tus):
    child, = tus.server.children()
    tus.new(MIB, pattern(MIB))
    seconds = float(os.environ.get('TUS_SECONDS', '4'))
    clients = [Client(tus, seed) for seed in range(8)]
    until = time.monotonic() + seconds
    threads = [threading.Thread(target=client.run, args=(until,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not [client.problem for client in clients if client.problem]
    assert all(client.done for client in clients)
    assert tus.server.children() == [child]
    wait_until(lambda: not [entry for entry in os.scandir(f'/proc/{child}/fd')
                            if str(tus.store) in os.path.realpath(entry.path)],
               'the data files to be closed')
