"""Uploads that run while the server restarts, stops, is upgraded, dies, or has a twin."""
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
from pathlib import Path

import pytest

from testenv.curl import CurlPatch
from testenv.httpd import HERE, MODULE, MPM_SETTINGS, MPMS, alive, endpoint
from testenv.http import Disconnected
from testenv.mounts import with_mount
from testenv.relay import Relay
from testenv.store import Store
from testenv.stream import assert_stretch, stretch
from testenv.transport import CONFIG, PROTOCOLS, Transport
from testenv.tus import Tus, assert_error
from testenv.util import give_to_user, wait_until

pytestmark = pytest.mark.reliability

SOURCES = HERE.parents[2]

# Children that are slow to go under a connection.
SLOW_TO_GO = 'AH00045|AH00046|AH00047|AH0309'


@pytest.fixture
def tus(httpd, mpm):
    server = httpd(mpm=mpm)
    store = server.make_store()
    server.start('TusLockTimeout 10s\n' + endpoint('Location /files', store))
    return Tus(server, store=store)


def kept(tus, url):
    """What HEAD says is there, and it is: the first bytes of the stream."""
    offset = tus.offset(url)
    assert_stretch(tus.store.data_path(url), offset)
    return offset


class Client:
    """Uploads the stream as tus clients do, whatever happens to its requests."""

    def __init__(self, tus, length):
        self.tus = tus
        self.length = length
        self.url = tus.new(length)
        self.acknowledged = 0
        self.statuses = set()
        self.problem = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self):
        try:
            while self.acknowledged < self.length:
                try:
                    self._step()
                except (OSError, Disconnected):
                    pass
        except Exception as problem:    # a thread cannot fail a test by itself
            self.problem = problem

    def _step(self):
        head = self.tus.head(self.url)
        if head.status == 423:
            return
        assert head.status == 200, head
        offset = int(head.get('Upload-Offset'))
        assert offset >= self.acknowledged, 'an acknowledged byte is gone'
        end = min(self.length, offset + 300_000)
        answer = self.tus.patch(self.url, offset, stretch(offset, end))
        self.statuses.add(answer.status)
        if answer.status == 204:
            self.acknowledged = end

    def join(self):
        self._thread.join()
        if self.problem:
            raise self.problem
        assert self.statuses <= {204, 503, 423, 409}, self.statuses
        assert_stretch(self.tus.store.data_path(self.url), self.length)
        assert self.tus.store.finished(self.url)


# -- the ways to restart ---------------------------------------------------------------------------

@pytest.mark.parametrize('how', ['graceful', 'restart'])
def test_clients_get_through_restarts(tus, how):
    tus.server.allow_log(SLOW_TO_GO)
    clients = [Client(tus, 12 << 20) for _ in range(3)]
    for _ in range(3):
        getattr(tus.server, how)()
    for client in clients:
        client.join()
    tus.store.assert_only(*(client.url for client in clients))


def test_writers_of_two_generations(tus):
    """Each leg begins after another graceful restart, while the older ones still send."""
    relay = Relay(tus)
    for _ in range(3):
        relay.run(tus)
        tus.server.graceful()
    relay.run(tus)
    statuses = [leg.status() for leg in relay.legs[:-1]]
    assert set(statuses) <= {503, None}, statuses
    relay.finish(tus)


@pytest.mark.parametrize('mpm, protocol', [
    (mpm, protocol) for mpm in MPMS for protocol in PROTOCOLS
    if not (mpm == 'prefork' and protocol.startswith('h2'))])
def test_graceful_over_each_protocol(httpd, mpm, protocol):
    """The upload ends, or is interrupted by an answer that says so."""
    server = httpd(mpm=mpm, modules=['http2'], tls=True)
    server.allow_log('AH10034')     # mod_http2 does not work under prefork, and says so
    store = server.make_store()
    server.start(CONFIG + endpoint('Location /files', store) + server.tls_vhost())
    tus = Tus(server, store=store)
    url = tus.new(20_000)
    way = Transport(tus, protocol)
    # Python's h2 takes no answer of a stream that was there before GOAWAY; curl does.
    with (CurlPatch(way.origin + url, 0, way.option) if way.is_h2
          else way.open_patch(url, 0, 20_000)) as patch:
        patch.send(stretch(0, 5000))
        wait_until(lambda: store.size(url) == 5000, 'the first bytes')
        server.graceful()
        try:
            patch.send(stretch(5000, 20_000))
        except OSError:
            pass
        answer = patch.response()
    assert answer.status in (204, 503), answer
    offset = kept(tus, url)
    assert offset == 20_000 if answer.status == 204 else offset >= 5000


def test_graceful_stop(tus):
    """The upload ends, or is interrupted by an answer; then the server ends."""
    url = tus.new(20_000)
    parent = tus.server.process
    with tus.hold(url, 0, 20_000, stretch(0, 5000)) as holder:
        parent.send_signal(signal.SIGWINCH)
        tus.server.wait_log('AH00492|AH00493|AH00297|graceful-stop|shutting down gracefully')
        try:
            answer = holder.finish(stretch(5000, 20_000))
        except OSError:
            answer = holder.response()
    assert answer.status in (204, 503), answer
    parent.wait(timeout=30)
    assert parent.returncode == 0
    tus.server.process = None
    tus.server.start(endpoint('Location /files', tus.store))
    assert kept(tus, url) == (20_000 if answer.status == 204 else 5000)


def test_graceful_stop_that_has_waited_enough(httpd):
    """GracefulShutdownTimeout ends a stalled upload; its bytes stay."""
    server = httpd(mpm='prefork')   # the others give their children ten seconds more
    store = server.make_store()
    config = 'GracefulShutdownTimeout 1\n' + endpoint('Location /files', store)
    tus = Tus(server.start(config), store=store)
    url = tus.new(20_000)
    parent = server.process
    server.allow_log(SLOW_TO_GO)
    with tus.hold(url, 0, 20_000, stretch(0, 5000)):
        parent.send_signal(signal.SIGWINCH)
        parent.wait(timeout=60)
    server.process = None
    server.start(config)
    assert kept(tus, url) == 5000


@pytest.mark.parametrize('how', ['restart', 'stop'])
def test_hard_ends_under_fast_writers(tus, how):
    """Whatever was stored is there, each byte in its place."""
    tus.server.allow_log(SLOW_TO_GO)
    relays = [Relay(tus) for _ in range(3)]
    for relay in relays:
        relay.run(tus)
    if how == 'restart':
        tus.server.restart()
    else:
        tus.server.stop()
        tus.server.start(endpoint('Location /files', tus.store))
    for relay in relays:
        relay.run(tus)
        relay.finish(tus)


def test_max_connections_per_child(httpd, mpm):
    """A child that has served its number ends after its uploads, not with them."""
    server = httpd(mpm=mpm, mpm_settings=MPM_SETTINGS[mpm] + '\nMaxConnectionsPerChild 12')
    store = server.make_store()
    server.start(endpoint('Location /files', store))
    tus = Tus(server, store=store)
    url = tus.new(20_000)
    with tus.hold(url, 0, 20_000, stretch(0, 5000)) as holder:
        first = set(server.children())
        while len(first & set(server.children())) > 1:
            Client(tus, 600_000).join()
        answer = holder.finish(stretch(5000, 20_000))
        assert answer.status == 204, answer
    assert kept(tus, url) == 20_000


# -- an upgrade in place ---------------------------------------------------------------------------

@pytest.fixture(scope='module')
def other_layout(tmp_path_factory):
    """The module of another version, whose lock table is another one."""
    tree = tmp_path_factory.mktemp('upgrade')
    shutil.copytree(SOURCES / 'src', tree / 'src')
    for name in ('mod_tus.c', 'Makefile.apxs'):
        shutil.copy(SOURCES / name, tree)
    header = tree / 'src' / 'tus_words.h'
    text, changed = re.subn(r'(?m)^(#define TUS_LOCK_SHM_LAYOUT) \d+', r'\1 4711',
                            header.read_text())
    assert changed == 1
    header.write_text(text)
    result = subprocess.run(['make', '-f', 'Makefile.apxs', '-s', '-j2',
                             'CFLAGS=-O0 -g0 -U_FORTIFY_SOURCE', 'build'], cwd=tree,
                            capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return tree / '.libs' / 'mod_tus.so'


class Upgradable:
    """A server whose module can be put in another's place."""

    def __init__(self, server):
        self.server = server
        self.module = server.root / 'mod_tus.so'
        self.install(MODULE)
        self.tus = Tus(server, store=server.make_store())
        server.start(f'LoadModule tus_module "{self.module}"\nTusStateDir "{server.state_dir}"\n'
                     'TusLockTimeout 200ms\n' + endpoint('Location /files', self.tus.store))

    def install(self, module):
        """As make install and packages do: by a new file."""
        new = self.module.with_suffix('.new')
        shutil.copy(module, new)
        new.rename(self.module)


def test_an_upgrade_with_another_lock_table(httpd, mpm, other_layout):
    """The older holder cannot be asked then, but neither can anybody write beside it."""
    upgradable = Upgradable(httpd(mpm=mpm, tus=False))
    tus, server = upgradable.tus, upgradable.server
    parent = server.process.pid
    for module in (other_layout, MODULE):
        url = tus.new(20_000)
        relay = Relay(tus)
        leg = relay.run(tus)
        with tus.hold(url, 0, 20_000, stretch(0, 5000)) as holder:
            upgradable.install(module)
            server.graceful()
            assert server.process.pid == parent
            for name in (url, relay.url(tus)):
                assert tus.head(name).status == 423
                assert_error(tus.patch(name, 5000, b'x' * 99), 423, 'ERR_UPLOAD_LOCKED')
                assert_error(tus.delete(name), 423, 'ERR_UPLOAD_LOCKED')
            assert tus.get(url).body == stretch(0, 5000)
            answer = holder.finish(stretch(5000, 20_000))
            assert answer.status == 204, answer
        leg.close()
        wait_until(lambda: not tus.store.is_held(relay.id), 'the older writer to let go')
        relay.run(tus)
        relay.run(tus)
        relay.finish(tus)
        assert kept(tus, url) == 20_000


# -- two servers on one store ----------------------------------------------------------------------

def pass_on(relay, tus):
    """The next leg, at a server that cannot ask the one before: it is refused until that ends."""
    assert tus.head(relay.url(tus)).status == 423
    relay.legs[-1].close()
    wait_until(lambda: not tus.store.is_held(relay.id), 'the older writer to let go')
    relay.run(tus)


def test_children_whose_parent_was_killed(httpd, mpm):
    """They go on serving, beside a new server: between the two nothing is written twice."""
    orphaned, fresh = httpd(mpm=mpm), httpd(mpm=mpm)
    store = orphaned.make_store()
    fresh.state_dir = orphaned.state_dir
    config = ('TusLockTimeout 200ms\nRequestReadTimeout body=0\n'
              + endpoint('Location /files', store))
    old = Tus(orphaned.start(config), store=store)
    url, relay = old.new(20_000), Relay(old)
    relay.run(old)
    with old.hold(url, 0, 20_000, stretch(0, 5000)) as holder:
        children = orphaned.children()
        try:
            orphaned.process.kill()
            orphaned.process.wait()
            orphaned.process = None
            new = Tus(fresh.start(config), store=store)
            assert_error(new.patch(url, 5000, stretch(5000, 9000)), 423, 'ERR_UPLOAD_LOCKED')
            assert new.head(url).status == 423
            pass_on(relay, new)
            pass_on(relay, old)
            relay.run(old)
            relay.finish(new)
            assert holder.finish(stretch(5000, 20_000)).status == 204
            assert kept(new, url) == 20_000
        finally:
            for pid in children:
                if alive(pid):
                    os.kill(pid, signal.SIGKILL)
            wait_until(lambda: not any(alive(pid) for pid in children), 'the orphans to be gone')


def test_a_twin_on_the_same_store(httpd):
    """Two servers of other MPMs, each with its own state, table and path to it, under load."""
    servers = httpd(mpm='event'), httpd(mpm='prefork')
    store = servers[0].make_store()
    link = servers[1].root / 'link'
    link.symlink_to(store.path)
    one, two = (Tus(server.start('TusLockTimeout 200ms\n' + endpoint('Location /files', path)),
                    store=store) for server, path in zip(servers, (store, link)))
    relay = Relay(one)
    relay.run(one)
    for tus in (two, one, two):
        pass_on(relay, tus)
    relay.finish(one)
    clients = [Client(tus, 4 << 20) for tus in (one, two)]
    for client in clients:
        client.join()


# -- one server, several ways to the store ---------------------------------------------------------

def take_turns(ways):
    """Each way takes over from the one before, and the bytes show that they never overlapped."""
    relay = Relay(ways[0])
    for way in (*ways, *reversed(ways)):
        relay.run(way)
    statuses = [leg.status() for leg in relay.legs[:-1]]
    assert set(statuses) <= {503, None}, statuses
    relay.finish(ways[0])


def test_several_paths_to_one_store(httpd, mpm):
    """Two endpoints, one through a symbolic link, and an .htaccess."""
    server = httpd(mpm=mpm)
    directory = server.make_dir(server.htdocs / 'up')
    store = Store(server.make_dir(directory / 'store'))
    store.path.chmod(0o770)
    link = server.root / 'link'
    link.symlink_to(directory)
    (directory / '.htaccess').write_text('TusEngine On\nTusStore file store\n')
    server.start(f'<Directory "{server.htdocs}">\nAllowOverride All\n</Directory>\n'
                 + endpoint('Location /plain', store)
                 + endpoint('Location /dotted', f'{directory}/../up/./store/')
                 + endpoint('Location /linked', link / 'store'))
    take_turns([Tus(server, f'/{base}/', store) for base in ('plain', 'dotted', 'linked', 'up')])


def test_a_store_that_is_mounted_twice(httpd):
    directories = [Path(tempfile.mkdtemp(prefix='mod_tus-bind-')) for _ in range(2)]
    try:
        for directory in directories:
            directory.chmod(0o755)
        source = Store(directories[0] / 'files')
        source.path.mkdir(mode=0o770)
        give_to_user(source.path)
        server = httpd(prefix=with_mount('mount --bind {} {}'.format(*directories)))
        server.start(endpoint('Location /plain', source)
                     + endpoint('Location /bound', directories[1] / 'files'))
        take_turns([Tus(server, f'/{base}/', source) for base in ('plain', 'bound')])
        server.stop()
    finally:
        for directory in directories:
            shutil.rmtree(directory)
