"""Clients that mean harm, or are many: nothing breaks or grows, and the others are served.

TUS_REQUESTS=100000 makes test_nothing_grows as long as one likes.
"""
import os
import random
import re
import resource
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from testenv.checksum import with_checksum
from testenv.httpd import SANITIZED, endpoint, one_child, resident
from testenv.relay import ink
from testenv.stream import assert_stretch, stretch
from testenv.tus import OCTETS, Tus, assert_error, patch_fields, roundtrip
from testenv.util import pattern, wait_until

pytestmark = pytest.mark.reliability

VERSION = ('Tus-Resumable', '1.0.0')
REQUESTS = int(os.environ.get('TUS_REQUESTS', '2000'))

STALLED = 1000
MANY_THREADS = ('StartServers 8\nServerLimit 20\nThreadsPerChild 64\nMinSpareThreads 16\n'
                'MaxSpareThreads 1280\nMaxRequestWorkers 1280')
MANY_PROCESSES = 'StartServers 24\nMinSpareServers 8\nMaxSpareServers 40\nMaxRequestWorkers 40'


def allow_files(number):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < number:
        resource.setrlimit(resource.RLIMIT_NOFILE, (number, max(number, hard)))


def started(server, *lines):
    store = server.make_store()
    server.start('\n'.join([*lines, '']) + endpoint('Location /files', store))
    return Tus(server, store=store)


@pytest.fixture(scope='module')
def tus(shared_httpd):
    return started(shared_httpd(mpm_settings=one_child(32)), 'TusLockTimeout 20s',
                   'KeepAliveTimeout 60', 'MaxKeepAliveRequests 0')


def child_of(tus):
    child, = tus.server.children()
    return child


def open_files(pid):
    """What its descriptors lead to; the index is open for a moment now and then."""
    paths = []
    for entry in os.scandir(f'/proc/{pid}/fd'):
        try:
            paths.append(re.sub(r':\[\d+\]', '', os.readlink(entry.path)))
        except FileNotFoundError:
            pass
    return sorted(path for path in paths if '/state/' not in path)


def settled_files(tus, pid):
    """The same while nobody is connected."""
    wait_until(lambda: not tus.server.connections(), 'the connections to be closed', 60)
    return open_files(pid)


def assert_files(tus, pid, files):
    """They are exactly those."""
    try:
        wait_until(lambda: settled_files(tus, pid) == files, 'the descriptors', 60)
    except AssertionError:
        assert settled_files(tus, pid) == files


# -- many ------------------------------------------------------------------------------------------

def test_a_thousand_stalled_uploads(httpd):
    """They cost their workers and nothing else; each goes on where it was, or is taken over."""
    allow_files(STALLED + 500)
    tus = started(httpd(mpm_settings=MANY_THREADS), 'RequestReadTimeout body=0', 'Timeout 300')
    urls = [tus.new(100) for _ in range(STALLED)]
    held = []
    try:
        for url in urls:
            conn = tus.connect()
            held.append(conn)
            conn.send_head('PATCH', url, [*patch_fields(0), ('Content-Length', 100)])
            conn.send(stretch(0, 50))
        wait_until(lambda: all(tus.store.size(url) == 50 for url in urls), 'all to be stored', 60)
        roundtrip(tus)
        for url in urls[::50]:
            assert tus.offset(url) == 50
            assert tus.append(url, 50, stretch(50, 100)) == 100
        for url, conn in zip(urls, held):
            if url not in urls[::50]:
                conn.send(stretch(50, 100))
        answers = [conn.response('PATCH') for conn in held]
    finally:
        for conn in held:
            conn.close()
    for number, (url, answer) in enumerate(zip(urls, answers)):
        assert answer.status == (503 if number % 50 == 0 else 204), answer
        assert tus.store.data(url) == stretch(0, 100)


def test_slow_bodies(httpd):
    """A byte now and then: they are told to come again, and keep nobody from working meanwhile."""
    tus = started(httpd(), 'RequestReadTimeout body=3,minrate=1000')
    urls = [tus.new(1 << 20) for _ in range(16)]
    conns = []
    for url in urls:
        conn = tus.connect()
        conns.append(conn)
        conn.send_head('PATCH', url, [*patch_fields(0), ('Content-Length', 1 << 20)])
    for at in range(10):
        for conn in conns:
            try:
                conn.send(stretch(at, at + 1))
            except OSError:
                pass    # it was answered already
        roundtrip(tus)
    for url, conn in zip(urls, conns):
        assert_error(conn.response('PATCH'), 503, 'ERR_READ_TIMEOUT')
        conn.close()
        offset = tus.offset(url)
        assert 1 <= offset <= 10
        assert_stretch(tus.store.data_path(url), offset)


@pytest.fixture(scope='module')
def processes(shared_httpd):
    """Twenty connections are in twenty processes."""
    return started(shared_httpd(mpm='prefork', mpm_settings=MANY_PROCESSES), 'TusLockTimeout 20s')


@pytest.mark.parametrize('size', [1, 70_000, 2 << 20])
@pytest.mark.parametrize('where', ['tus', 'processes'])
def test_twenty_patches_at_one_offset(request, where, size):
    """Of what they send, that of one is stored; who was told 204 is that one."""
    tus = request.getfixturevalue(where)
    for _ in range(6):
        url = tus.new(size)
        begin = threading.Barrier(20)

        def patch(writer):
            with tus.connect(timeout=60) as conn:
                begin.wait()
                return tus.patch(url, 0, ink(writer, 0, size), conn=conn).status

        with ThreadPoolExecutor(20) as pool:
            statuses = list(pool.map(patch, range(20)))
        assert set(statuses) <= {204, 409, 503}, statuses
        assert statuses.count(204) <= 1, statuses
        data = tus.store.data(url)
        assert tus.offset(url) == len(data)
        writers = {w for w in range(20) if data == ink(w, 0, len(data))}
        assert writers, f'{len(data)} bytes of more than one writer'
        if 204 in statuses:
            assert statuses.index(204) in writers and len(data) == size
        assert tus.delete(url).status == 204


# -- at random -------------------------------------------------------------------------------------

class Vandal:
    """Requests that end in every way there is, at random; knows what each upload was sent."""

    def __init__(self, tus, seed):
        self.tus = tus
        self.dice = random.Random(seed)
        self.url = tus.new(1 << 30)
        self.problem = None

    def run(self, number):
        deeds = [self.connect, self.half_a_head, self.garbage, self.half_a_creation,
                 self.half_a_patch, self.chunks, self.whole, self.no_reader]
        try:
            for _ in range(number):
                self.dice.choice(deeds)()
        except Exception as problem:    # a thread cannot fail a test by itself
            self.problem = problem

    def leave(self, conn):
        self.dice.choice([conn.reset, conn.close, conn.half_close])()

    def connect(self):
        self.leave(self.tus.connect())

    def half_a_head(self):
        conn = self.tus.connect()
        head = f'PATCH {self.url} HTTP/1.1\r\nHost: x\r\nTus-Resumable: 1.0.0\r\n'.encode()
        conn.send(head[:self.dice.randrange(1, len(head))])
        self.leave(conn)

    def garbage(self):
        conn = self.tus.connect()
        conn.send(self.dice.randbytes(self.dice.randrange(1, 300)))
        self.leave(conn)

    def half_a_creation(self):
        conn = self.tus.connect()
        conn.send_head('POST', self.tus.base, [VERSION, ('Upload-Length', 9000),
                                               ('Content-Type', OCTETS), ('Content-Length', 9000)])
        conn.send(stretch(0, self.dice.randrange(9000)))
        self.leave(conn)

    def begin_patch(self, framing):
        offset = self.tus.offset(self.url)
        conn = self.tus.connect()
        conn.send_head('PATCH', self.url, [*patch_fields(offset), framing])
        return conn, offset

    def half_a_patch(self):
        conn, offset = self.begin_patch(('Content-Length', 50_000))
        conn.send(stretch(offset, offset + self.dice.randrange(50_000)))
        self.leave(conn)

    def chunks(self):
        conn, offset = self.begin_patch(('Transfer-Encoding', 'chunked'))
        data = stretch(offset, offset + 3000)
        body = b'%x\r\n%s\r\n0\r\n\r\n' % (len(data), data)
        conn.send(body[:self.dice.randrange(len(body))])
        self.leave(conn)

    def whole(self):
        """An older request of ours may still be on its way, and come between HEAD and PATCH."""
        offset = self.tus.offset(self.url)
        answer = self.tus.patch(self.url, offset, stretch(offset, offset + 5000))
        assert answer.status in (204, 409, 503), answer

    def no_reader(self):
        """Many requests at once, and not one answer is read."""
        conn = self.tus.connect()
        for _ in range(20):
            conn.send_head('HEAD', self.url, [VERSION])
        self.leave(conn)


def test_connects_and_resets_at_random(tus):
    child = child_of(tus)
    before = settled_files(tus, child)
    vandals = [Vandal(tus, seed) for seed in range(8)]
    threads = [threading.Thread(target=vandal.run, args=[100]) for vandal in vandals]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    settled_files(tus, child)    # the last requests may just have been sent
    for vandal in vandals:
        if vandal.problem:
            raise vandal.problem
        assert_stretch(tus.store.data_path(vandal.url), tus.offset(vandal.url))
        assert not tus.store.is_held(vandal.url)
    assert tus.server.children() == [child], 'no child died'
    assert_files(tus, child, before)
    roundtrip(tus)


# -- for long --------------------------------------------------------------------------------------

class Worker:
    """All kinds of requests on one connection, good and bad."""

    def __init__(self, tus):
        self.tus = tus
        self.conn = tus.connect()
        self.requests = 0

    def ask(self, status, method, url, fields, body=None, chunked=False):
        answer = self.tus.request(method, url, fields, body, conn=self.conn, chunked=chunked)
        assert answer.status == status, answer
        self.requests += 1
        if answer.closes:
            self.conn.close()
            self.conn = self.tus.connect()
        return answer

    def work(self):
        data = pattern(3000)
        created = self.ask(201, 'POST', self.tus.base, [VERSION, ('Upload-Length', 9000)])
        url = created.get('Location')
        self.ask(200, 'HEAD', url, [VERSION])
        self.ask(204, 'PATCH', url, patch_fields(0), data)
        self.ask(204, 'PATCH', url, [*patch_fields(3000), *with_checksum(data)], data)
        self.ask(460, 'PATCH', url, [*patch_fields(6000), *with_checksum(b'x')], data)
        self.ask(409, 'PATCH', url, patch_fields(1), data)
        self.ask(412, 'PATCH', url, patch_fields(6000)[1:], data)
        self.ask(415, 'PATCH', url, [VERSION, ('Upload-Offset', 6000)], data)
        self.ask(404, 'HEAD', url + 'x', [VERSION])
        self.ask(405, 'PUT', url, [], data)
        self.ask(200, 'GET', url, [])
        self.take_over(url)
        self.ask(204, 'PATCH', url, patch_fields(6000), [data], chunked=True)
        self.ask(206, 'GET', url, [('Range', 'bytes=1-2')])
        self.ask(200, 'OPTIONS', url, [])
        self.ask(204, 'DELETE', url, [VERSION])

    def take_over(self, url):
        with self.tus.hold(url, 6000, 3000, b'') as holder:
            self.ask(200, 'HEAD', url, [VERSION])
            assert holder.response().status == 503


def work(tus, number):
    """So many requests; how much memory the child had at most meanwhile."""
    child = child_of(tus)
    worker = Worker(tus)
    highest = 0
    while worker.requests < number:
        worker.work()
        highest = max(highest, resident(child))
    worker.conn.close()
    return highest


def test_nothing_grows(tus):
    """A child is as big after thousands of requests as after hundreds."""
    child = child_of(tus)
    work(tus, REQUESTS // 5)
    files, size = settled_files(tus, child), resident(child)
    highest = work(tus, REQUESTS)
    grown = resident(child) - size
    print(f'{REQUESTS} requests: {grown >> 10} KiB more, at most {(highest - size) >> 10} KiB; '
          f'{len(settled_files(tus, child))} descriptors, {len(files)} before')
    assert child_of(tus) == child
    assert_files(tus, child, files)
    assert SANITIZED or grown < 2 << 20
