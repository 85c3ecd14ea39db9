"""The newer request is served at once, whatever the protocols, and however ill the older one is."""
import threading

import pytest

from testenv.httpd import endpoint
from testenv.stream import assert_stretch, stretch
from testenv.transport import CONFIG, PROTOCOLS, OneConnection, Pump, Transport
from testenv.tus import Tus, assert_error
from testenv.util import wait_until

pytestmark = pytest.mark.reliability

LENGTH = 1 << 40

# No timeout ends an older request before a newer one does.
PATIENT = CONFIG + 'RequestReadTimeout body=0\nTimeout 120\nTusLockTimeout 6s\n'

# Every two connections are in two processes.
ONE_THREAD = ('StartServers 8\nServerLimit 24\nThreadsPerChild 1\nMinSpareThreads 2\n'
              'MaxSpareThreads 24\nMaxRequestWorkers 24\nH2MinWorkers 4\nH2MaxWorkers 8')
ONE_PROCESS = ('StartServers 1\nServerLimit 1\nThreadsPerChild 24\nMinSpareThreads 1\n'
               'MaxSpareThreads 24\nMaxRequestWorkers 24')


def started(server):
    store = server.make_store()
    server.start(PATIENT + endpoint('Location /files', store) + server.tls_vhost())
    return Tus(server, store=store)


@pytest.fixture(scope='module')
def processes(shared_httpd):
    return started(shared_httpd(mpm='worker', modules=['http2'], tls=True,
                                 mpm_settings=ONE_THREAD))


@pytest.fixture(scope='module')
def threads(shared_httpd):
    return started(shared_httpd(modules=['http2'], tls=True, mpm_settings=ONE_PROCESS))


# -- older requests --------------------------------------------------------------------------------

class Stalled:
    """It has sent a part of what it announced, and is silent."""

    def __init__(self, old, url):
        self.patch = old.hold(url, 0, LENGTH, stretch(0, 5000))

    def answer(self):
        return self.patch.response()

    def close(self):
        self.patch.__exit__()


class Dead(Stalled):
    """Its client is gone without a word: it reads no answer either."""

    def __init__(self, old, url):
        super().__init__(old, url)
        self.patch.vanish()

    def answer(self):
        return None


class Fast(Stalled):
    """It sends as fast as it can."""

    def __init__(self, old, url):
        self.patch = old.open_patch(url, 0, LENGTH)
        self.pump = Pump(self.patch)
        wait_until(lambda: old.store.size(url) > 1 << 20, 'the first MiB')

    def answer(self):
        self.pump.stop()    # a TLS socket has room for one thread of Python's
        return self.patch.response()

    def close(self):
        super().close()
        self.pump.stop()


class Chunked(Stalled):
    """A chunked body that stops in the middle of its framing, where httpd reads blocking."""

    def __init__(self, old, url, rest):
        data = stretch(0, 5000)
        self.patch = old.open_patch(url, 0, None)
        self.patch.send(b'%x\r\n%s%s' % (len(data), data, rest))
        wait_until(lambda: old.store.is_held(url), 'the upload to be held')
        wait_until(lambda: old.store.size(url) == 5000, 'the bytes to be stored')


FRAMING = {'after the data': b'', 'in the CRLF': b'\r', 'before the next chunk': b'\r\n',
           'in a chunk size': b'\r\n1', 'in the last chunk': b'\r\n0', 'in its CRLF': b'\r\n0\r',
           'after the last chunk': b'\r\n0\r\n', 'in a trailer': b'\r\n0\r\nUpload-Check',
           'after a trailer': b'\r\n0\r\nX-Trailer: x\r\n'}


def newer_requests(new):
    """What takes over: the method, and what it answers when the older one stopped at an offset."""
    def patch(send):
        def request(url, offset):
            answer = send(url, offset, stretch(offset, offset + 10))
            assert (answer.status, answer.get('Upload-Offset')) == (204, str(offset + 10)), answer
            return offset + 10
        return request

    def head(url, _):
        answer = new.head(url)
        assert answer.status == 200, answer
        return int(answer.get('Upload-Offset'))

    def delete(url, _):
        answer = new.delete(url)
        assert answer.status == 204, answer

    return {'HEAD': head, 'PATCH': patch(new.patch), 'POST': patch(new.overridden_patch),
            'DELETE': delete}


# The offset of a fast one is not known before it has stopped: a PATCH has to ask for it first.
NAMES = {Stalled: ('HEAD', 'PATCH', 'POST', 'DELETE'), Dead: ('HEAD', 'PATCH'),
         Fast: ('HEAD', 'DELETE')}


def take_over(tus, new, older, name):
    """Let a newer request take over from older(url) and look at what is left of both."""
    url = tus.new(LENGTH)
    held = older(url)
    try:
        offset = newer_requests(new)[name](url, 5000)
        answer = held.answer()
        if answer is not None:
            assert_error(answer, 503, 'ERR_UPLOAD_INTERRUPTED')
    finally:
        held.close()
    if offset is None:
        assert not tus.store.data_path(url).exists()
        return
    wait_until(lambda: not tus.store.is_held(url), 'the upload to be released')
    assert_stretch(tus.store.data_path(url), offset)
    assert tus.append(url, offset, stretch(offset, offset + 7)) == offset + 7
    assert_stretch(tus.store.data_path(url), offset + 7)
    assert tus.delete(url).status == 204


@pytest.mark.parametrize('newer', PROTOCOLS)
@pytest.mark.parametrize('older', PROTOCOLS)
@pytest.mark.parametrize('state', [Stalled, Dead, Fast])
def test_across_processes(processes, state, older, newer):
    old, new = Transport(processes, older), Transport(processes, newer)
    for name in NAMES[state]:
        take_over(processes, new, lambda url: state(old, url), name)


@pytest.mark.parametrize('mpm_of', ['processes', 'threads'])
@pytest.mark.parametrize('protocol', ['h2c', 'h2'])
@pytest.mark.parametrize('state', [Stalled, Fast])
def test_two_streams_of_one_connection(request, mpm_of, state, protocol):
    tus = request.getfixturevalue(mpm_of)
    with OneConnection(tus, protocol) as one:
        for name in NAMES[state]:
            take_over(tus, one, lambda url: state(one, url), name)


@pytest.mark.parametrize('protocol', ['h2c', 'h2'])
def test_a_stream_that_its_client_gave_up(threads, protocol):
    """RST_STREAM, as from a browser's abort(): the next stream goes on."""
    url = threads.new(10)
    with OneConnection(threads, protocol) as one:
        with one.hold(url, 0, 10, b'hello'):
            pass
        assert one.head(url).get('Upload-Offset') == '5'
        assert one.patch(url, 5, b'world').status == 204
        assert one.request('GET', url).body == b'helloworld'


@pytest.mark.parametrize('newer', PROTOCOLS)
@pytest.mark.parametrize('older', PROTOCOLS)
def test_across_threads(threads, older, newer):
    old, new = Transport(threads, older), Transport(threads, newer)
    for state in (Stalled, Fast):
        take_over(threads, new, lambda url: state(old, url), 'HEAD')


@pytest.mark.parametrize('protocol', ['h2c', 'h2'])
def test_a_stream_flows(threads, protocol):
    """Without Content-Length too, and without a pause after every few kilobytes."""
    url = threads.new(LENGTH)
    with Transport(threads, protocol).open_patch(url, 0, LENGTH) as patch, Pump(patch) as pump:
        wait_until(lambda: threads.store.size(url) > 96 << 20, '96 MiB')
        offset = threads.offset(url)
        assert_stretch(threads.store.data_path(url), offset)
        assert patch.response().status == 503
        pump.stop()
    threads.delete(url)


@pytest.mark.parametrize('rest', FRAMING.values(), ids=FRAMING.keys())
@pytest.mark.parametrize('older', ['h1', 'tls'])
def test_in_the_middle_of_the_framing(processes, older, rest):
    """Also where httpd waits for the rest by itself and nobody else can."""
    old = Transport(processes, older)
    for name in ('HEAD', 'PATCH', 'DELETE'):
        take_over(processes, Transport(processes, 'h1'),
                  lambda url: Chunked(old, url, rest), name)


@pytest.mark.parametrize('older', ['h1', 'tls'])
def test_after_the_last_chunk_under_prefork(httpd, older):
    """There the child has no other thread of httpd's that could help."""
    tus = started(httpd(mpm='prefork', modules=['http2'], tls=True))
    tus.server.allow_log('AH10034')     # mod_http2 does not work under prefork, and says so
    old = Transport(tus, older)
    for rest in (b'\r\n0\r\n', b'\r\n0\r\nUpload-Check'):
        take_over(tus, Transport(tus, 'h1'), lambda url: Chunked(old, url, rest), 'PATCH')


def test_a_chunked_body_goes_on_if_nobody_asks(processes):
    """A trailer that is slow to come is awaited, and the upload is finished by it."""
    url = processes.new(5000)
    held = Chunked(Transport(processes, 'h1'), url, b'\r\n0\r\n')
    assert processes.get(url).status == 200
    held.patch.send(b'\r\n')
    answer = held.answer()
    assert (answer.status, answer.get('Upload-Offset')) == (204, '5000')
    held.close()
    assert processes.store.finished(url)


# -- GET -------------------------------------------------------------------------------------------

@pytest.mark.parametrize('newer', PROTOCOLS)
def test_get_waits_for_nobody(processes, newer):
    new = Transport(processes, newer)
    url = processes.new(10)
    with processes.hold(url, 0, 10, b'hello') as holder:
        for _ in range(3):
            answer = new.request('GET', url)
            assert (answer.status, answer.body) == (200, b'hello')
        assert holder.finish(b'world').status == 204


def test_nobody_waits_for_a_get(processes):
    """A client that reads its download slowly, or not at all, keeps nobody off."""
    size = 32 << 20
    url = processes.new(2 * size)
    processes.append(url, 0, stretch(0, size))
    with processes.connect() as slow:
        slow.send_head('GET', url)
        head = slow.head()
        assert (head.status, head.get('Content-Length')) == (200, str(size))
        assert not processes.store.is_held(url)
        assert processes.offset(url) == size
        assert processes.append(url, size, stretch(size, 2 * size)) == 2 * size
        body = slow._exactly(size)
        assert body == stretch(0, size), 'what was announced, and nothing of what came later'
        slow.send_head('GET', url)
        assert slow.head().status == 200
        assert processes.delete(url).status == 204
        assert slow._exactly(2 * size) == stretch(0, 2 * size)


# -- who is finishing ------------------------------------------------------------------------------

def test_complete_is_said_of_the_finished_only(processes):
    """Whoever reads Offset = Length from an answer finds Finished in the record."""
    problems = []

    def watch(url, over):
        while not over.is_set():
            answer = processes.head(url)
            if answer.get('Upload-Offset') == '5' and not processes.store.finished(url):
                problems.append(answer)

    for _ in range(15):
        url = processes.new(5)
        over = threading.Event()
        watchers = [threading.Thread(target=watch, args=[url, over]) for _ in range(2)]
        for watcher in watchers:
            watcher.start()
        answer = processes.patch(url, 0, b'hello')
        if answer.status == 204 and not processes.store.finished(url):
            problems.append(answer)
        over.set()
        for watcher in watchers:
            watcher.join()
    assert not problems
