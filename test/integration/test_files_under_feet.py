"""A file that is cut, taken away or replaced while it is sent or written: no child dies of it."""
import os
import signal
import subprocess
import zlib

import pytest

from testenv.curl import curl_command
from testenv.damage import cut, emptied, removed
from testenv.http import Disconnected
from testenv.httpd import endpoint
from testenv.stream import assert_stretch, stretch
from testenv.transport import CONFIG, Transport
from testenv.tus import Tus, metadata
from testenv.util import give_to_user, wait_until

pytestmark = pytest.mark.reliability

SIZE = 12 << 20
TEXT = [('Upload-Metadata', metadata(filename='a.txt', filetype='text/plain'))]


@pytest.fixture(scope='module')
def tus(shared_httpd):
    server = shared_httpd(modules=['http2'], tls=True)
    store = server.make_store()
    server.start(CONFIG + 'EnableSendfile On\nEnableMMAP On\nTusLockTimeout 2s\n'
                 + endpoint('Location /files', store)
                 + endpoint('Location /expiring', store, 'TusExpire 1s')
                 + 'AddOutputFilterByType DEFLATE text/plain\n' + server.tls_vhost())
    return Tus(server, store=store)


@pytest.fixture
def expiring(tus):
    """Where what was finished is remembered for a second only."""
    return Tus(tus.server, base='/expiring/', store=tus.store)


# -- what is done to the file ----------------------------------------------------------------------

def replaced(path):
    put(path, lambda new: new.write_bytes(b'another file'))


def made_a_fifo(path):
    put(path, os.mkfifo)


def made_a_symlink(path):
    target = path.parent.parent / 'secret'
    target.write_bytes(b'do not touch')
    give_to_user(target)
    put(path, lambda new: new.symlink_to(target))


def made_a_directory(path):
    path.unlink()
    path.mkdir()


def put(path, make):
    new = path.with_name('new')
    make(new)
    give_to_user(new)
    new.rename(path)


DAMAGES = [emptied, cut, removed, replaced, made_a_fifo, made_a_symlink, made_a_directory]


@pytest.fixture
def intact(tus):
    """The children are those of before, whatever happened."""
    children = set(tus.server.children())
    tus.server.allow_log(r'\[(tus|core|http2):(error|warn)\]|AH10298')
    yield
    assert children <= set(tus.server.children()), 'a child died'
    secret = tus.store.path.parent / 'secret'
    assert not secret.exists() or secret.read_bytes() == b'do not touch'
    assert tus.server.answers()
    for path in tus.store.path.iterdir():
        if path.is_dir():
            path.rmdir()
        else:
            path.unlink(missing_ok=True)    # the sweep may remove it too


# -- downloads -------------------------------------------------------------------------------------

class Plain:
    """A download over a connection of our own that is read a little, and then to its end."""

    def __init__(self, tus, url, tls=False):
        self.conn = Tus(tus.server, tls=tls).connect()
        self.conn.send_head('GET', url, [('Connection', 'close')])
        assert self.conn.head().status == 200
        self.body = bytearray(self.conn._exactly(100_000))

    def rest(self):
        self.body += self.conn._buffer
        try:
            while len(self.body) < SIZE and (data := self.conn.sock.recv(1 << 18)):
                self.body += data
        except OSError:
            pass
        self.conn.close()
        return bytes(self.body)


class Deflated:
    """What mod_deflate makes of it, read until it ends or makes no sense."""

    def __init__(self, tus, url):
        self.conn = tus.connect()
        self.conn.send_head('GET', url, [('Accept-Encoding', 'gzip'), ('Connection', 'close')])
        head = self.conn.head()
        assert (head.status, head.get('Content-Encoding')) == (200, 'gzip'), head

    def rest(self):
        inflate = zlib.decompressobj(31)
        body = b''
        try:
            while True:
                size = int(self.conn._until(b'\r\n'), 16)
                if size == 0:
                    break
                body += inflate.decompress(self.conn._exactly(size))
                self.conn._until(b'\r\n')
        except (OSError, Disconnected):
            pass
        self.conn.close()
        return body


class Http2:
    """By curl, which is stopped after the first bytes and goes on later."""

    def __init__(self, tus, url, protocol):
        transport = Transport(tus, protocol)
        command = [part for part in curl_command(transport.option) if part != '--include']
        self.process = subprocess.Popen([*command, '--no-buffer', transport.origin + url],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        self.body = self.process.stdout.read(100_000)
        os.kill(self.process.pid, signal.SIGSTOP)

    def rest(self):
        os.kill(self.process.pid, signal.SIGCONT)
        self.body += self.process.stdout.read()
        self.process.stdout.close()
        if self.process.wait() == 0:
            return self.body
        # mod_http2 announces a DATA frame before it reads the file: where bytes are missing then,
        # curl takes what follows for them, and says in the end that the stream broke.
        return os.path.commonprefix([self.body, stretch(0, SIZE)])


DOWNLOADS = {'h1': Plain, 'tls': lambda tus, url: Plain(tus, url, tls=True), 'deflate': Deflated,
             'h2c': lambda tus, url: Http2(tus, url, 'h2c'),
             'h2': lambda tus, url: Http2(tus, url, 'h2')}


@pytest.mark.parametrize('way, damage', [
    *(('h1', damage) for damage in DAMAGES),
    *((way, damage) for way in list(DOWNLOADS)[1:] for damage in (emptied, cut, replaced))])
def test_under_a_slow_download(tus, intact, way, damage):
    """The client gets the bytes that were there, or fewer of them and the end of its connection."""
    url = tus.new(SIZE, stretch(0, SIZE), TEXT if way == 'deflate' else [])
    download = DOWNLOADS[way](tus, url)
    damage(tus.store.data_path(url))
    body = download.rest()
    assert body == stretch(0, len(body))
    if damage in (emptied, cut):
        assert way == 'deflate' or len(body) < SIZE
    else:
        assert len(body) == SIZE, 'what was open stays what it was'
    assert tus.get(url).status in (200, 204, 404, 410, 500)
    assert tus.head(url).status in (200, 404, 410, 500)


@pytest.mark.parametrize('damage', [emptied, cut, removed])
def test_under_a_download_of_an_unfinished_upload(tus, intact, damage):
    url = tus.new(2 * SIZE, stretch(0, SIZE))
    download = Plain(tus, url)
    damage(tus.store.data_path(url))
    body = download.rest()
    assert body == stretch(0, len(body))
    assert (len(body) == SIZE) == (damage is removed)


def test_a_finished_file_that_was_taken_away(tus, intact):
    """Who missed the last answer is told that the upload is complete, and does not begin anew."""
    url = tus.upload(b'helloworld')
    removed(tus.store.data_path(url))
    head = tus.head(url)
    assert (head.status, head.get('Upload-Offset'), head.get('Upload-Length')) == (200, '10', '10')
    assert tus.get(url).status == 410
    assert tus.patch(url, 10, b'').status in (204, 410)
    assert not tus.store.data_path(url).exists(), 'it is not made again'


def assert_complete(tus, url, data):
    head = tus.head(url)
    assert (head.status, head.get('Upload-Offset'), head.get('Upload-Length')) == (200, '10', '10')
    assert tus.patch(url, 10, b'').status == 204
    assert tus.get(url).body == data
    assert tus.store.data(url) == data


@pytest.mark.parametrize('data', [b'', b'hello', b'hello, world, and more'])
def test_a_finished_file_that_was_changed(tus, intact, data):
    """It is the application's: to clients the upload is complete, however long its data is."""
    url = tus.upload(b'helloworld')
    tus.store.data_path(url).write_bytes(data)
    assert_complete(tus, url, data)


@pytest.mark.parametrize('data', [b'', b'hello', b'hello, world, and more'])
def test_a_finished_file_that_was_changed_later(expiring, intact, data):
    """Also when nobody would be told any more of one that was taken away."""
    removed_one, url = (expiring.upload(b'helloworld') for _ in range(2))
    removed(expiring.store.data_path(removed_one))
    wait_until(lambda: expiring.head(removed_one).status == 404, 'to be forgotten')
    expiring.store.data_path(url).write_bytes(data)
    assert_complete(expiring, url, data)


# -- uploads ---------------------------------------------------------------------------------------

@pytest.mark.parametrize('damage', DAMAGES)
@pytest.mark.parametrize('protocol', ['h1', 'tls', 'h2c'])
def test_under_a_running_patch(tus, intact, protocol, damage):
    """The request ends with an answer, and the next one too."""
    url = tus.new(20_000)
    way = Transport(tus, protocol)
    with way.hold(url, 0, 20_000, stretch(0, 10_000)) as patch:
        damage(tus.store.data_path(url))
        patch.send(stretch(10_000, 20_000))
        patch.end()
        answer = patch.response()
    assert answer.status in (204, 404, 410, 409, 500, 503), answer
    for again in (lambda: tus.head(url), lambda: tus.patch(url, 0, b'x'), lambda: tus.get(url),
                  lambda: tus.delete(url)):
        assert again().status in (200, 204, 400, 404, 409, 410, 413, 500), again


@pytest.mark.parametrize('damage', [removed, replaced, made_a_fifo, made_a_symlink,
                                    made_a_directory])
def test_nothing_is_called_finished_that_is_gone(tus, intact, damage):
    """The bytes went into a file that nobody can find any more: that is no finished upload."""
    url = tus.new(20_000)
    with tus.hold(url, 0, 20_000, stretch(0, 10_000)) as patch:
        damage(tus.store.data_path(url))
        answer = patch.finish(stretch(10_000, 20_000))
    assert answer.status >= 400, answer


@pytest.mark.parametrize('damage', [emptied, cut])
def test_nothing_is_called_finished_that_has_a_hole(tus, intact, damage):
    """Bytes that were acknowledged were cut off, and others written behind them."""
    url = tus.new(20_000)
    with tus.hold(url, 0, 20_000, stretch(0, 10_000)) as patch:
        damage(tus.store.data_path(url))
        answer = patch.finish(stretch(10_000, 20_000))
    if answer.status == 204:
        assert_stretch(tus.store.data_path(url), 20_000)


def test_the_record_taken_away_under_a_patch(tus, intact):
    url = tus.new(20_000)
    with tus.hold(url, 0, 20_000, stretch(0, 10_000)) as patch:
        tus.store.info_path(url).unlink()
        answer = patch.finish(stretch(10_000, 20_000))
    assert answer.status in (204, 404, 500), answer
    assert tus.head(url).status == (200 if answer.status == 204 else 404)


def test_the_store_taken_away_under_a_patch(tus, intact):
    """Renamed, as an unmounted disk is gone: what was open is finished there."""
    url = tus.new(20_000)
    away = tus.store.path.with_name('away')
    with tus.hold(url, 0, 20_000, stretch(0, 10_000)) as patch:
        tus.store.path.rename(away)
        answer = patch.finish(stretch(10_000, 20_000))
    assert tus.head(url).status == 500
    away.rename(tus.store.path)
    assert answer.status in (204, 500, 503), answer
    offset = wait_until(lambda: tus.offset(url), 'the offset')
    assert_stretch(tus.store.data_path(url), offset)
    assert offset == 20_000 if answer.status == 204 else offset >= 10_000
