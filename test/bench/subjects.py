"""The servers that are compared. Each runs on 127.0.0.1, does not log, and does not sync."""
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'test' / 'integration'))

from testenv.http import Connection                                                 # noqa: E402
from testenv.httpd import Httpd, MODULE, endpoint, end_with_parent, \
    make_certificate                                                                # noqa: E402
from testenv.util import AS_ROOT, free_port, give_to_user, run_user, wait_until     # noqa: E402

BUILT = ROOT / 'build' / 'bench'
PEERS = ROOT / 'build' / 'peers'
VERSION = ('Tus-Resumable', '1.0.0')


class Server:
    """What all have in common. `place` is a directory of its own on the medium to measure."""

    name = ''
    base = '/files/'

    def __init__(self, place, tls=False, **_):
        self.place = place
        self.tls = tls
        self.port = free_port()
        self.store = place / 'store'
        self.store.mkdir()
        self.process = None
        self.spent = []

    @property
    def pid(self):
        return self.process.pid

    def start(self):
        if self.tls:
            make_certificate(self.place)
        stdin, directory = self.surroundings()
        with (self.place / 'stderr').open('ab') as said:
            self.process = subprocess.Popen(
                [str(word) for word in self.command()], stdin=stdin, cwd=directory, stdout=said,
                stderr=said, preexec_fn=end_with_parent)
        wait_until(lambda: self.process.poll() is not None or self.listens(),
                   f'{self.name} to listen')
        if self.process.poll() is not None:
            raise AssertionError(f'{self.name}: {(self.place / "stderr").read_text()[-500:]}')

    def command(self):
        raise NotImplementedError

    def surroundings(self):
        """Standard input and working directory."""
        return subprocess.DEVNULL, None

    def listens(self):
        try:
            socket.create_connection(('127.0.0.1', self.port), timeout=1).close()
            return True
        except OSError:
            return False

    def stop(self):
        if not self.process:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def close(self):
        self.stop()

    # -- single requests, outside of what is measured --------------------------------------------

    def request(self, method, path, headers=(), body=None, expect=(200,)):
        with Connection(self.port, tls=self.tls, timeout=120) as connection:
            answer = connection.request(method, path, [VERSION, *headers], body)
        assert answer.status in expect, f'{self.name}: {method} {path}: {answer}'
        return answer

    def create(self, length, headers=()):
        """The path of a new upload; without a length, of one that is made of others."""
        fields = [] if length is None else [('Upload-Length', length)]
        answer = self.request('POST', self.base, [*fields, *headers], b'', (201,))
        return re.sub(r'^https?://[^/]+', '', answer.get('Location'))

    def offset(self, path):
        return int(self.request('HEAD', path).get('Upload-Offset'))

    def delete(self, path):
        self.request('DELETE', path, expect=(204,))

    def clear(self):
        """Delete what a run has left, which is no part of what it costs."""
        for path in self.spent:
            self.delete(path)
        self.spent.clear()

    def stock(self, count, length=4096):
        """Paths of so many new uploads that HEAD can ask for: unfinished, unless of length 0."""
        return [self.create(length) for _ in range(count)]


class Floor(Server):
    """The least that a server can do: test/bench/floor."""

    name = 'floor'

    def __init__(self, place, hashes=False, **options):
        super().__init__(place, **options)
        self.hashes = hashes

    def command(self):
        if self.tls:
            return [BUILT / 'floor_tls', self.port, self.store, self.place / 'cert.pem',
                    self.place / 'key.pem']
        return [BUILT / 'floor', self.port, self.store, *(['sha256'] if self.hashes else [])]

    def delete(self, path):
        (self.store / path.rsplit('/', 1)[-1]).unlink()


class Rustus(Server):
    name = 'rustus'
    program = PEERS / 'bin' / 'rustus'

    def command(self):
        return [self.program, '--host', '127.0.0.1', '--port', self.port, '--url', '/files',
                '--data-dir', self.store, '--info-dir', self.store, '--log-level', 'OFF',
                '--max-body-size', 1 << 40, '--storage', 'file-storage',
                '--info-storage', 'file-info-storage']

    @classmethod
    def version(cls):
        return said([cls.program, '--version']).split()[-1] if cls.program.exists() else None


class TusNode(Server):
    name = '@tus/server'
    package = PEERS / 'node_modules' / '@tus' / 'server' / 'package.json'

    def command(self):
        return ['node', '--input-type=module', '-', self.port, self.store]

    def surroundings(self):
        return (ROOT / 'test' / 'bench' / 'peers' / 'tus-node.js').open('rb'), PEERS

    @classmethod
    def version(cls):
        if not cls.package.exists():
            return None
        return re.search(r'"version": "([^"]+)"', cls.package.read_text())[1]


class Tusd(Server):
    name = 'tusd'

    def command(self):
        tls = ['-tls-mode', 'tls13', '-tls-certificate', self.place / 'cert.pem',
               '-tls-key', self.place / 'key.pem'] if self.tls else []
        return [os.environ['TUSD'], '-host', '127.0.0.1', '-port', self.port, '-upload-dir',
                self.store, '-show-greeting=false', '-verbose=false', *tls]

    @classmethod
    def version(cls):
        if not os.environ.get('TUSD'):
            return None
        found = re.search(r'^Version: (\S+)', said([os.environ['TUSD'], '-version']), re.M)
        return found[1] if found else 'of unknown version'


def said(command):
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


# Debian's apache2 without a log of requests, without the limit of 100 requests on a connection,
# which no other server here has, and with so many threads in each process that none ever closes a
# connection because all its threads are busy, which event does.
CONFIG = '''\
ServerRoot "{root}"
DefaultRuntimeDir "{root}/run"
PidFile "{root}/run/httpd.pid"
ServerName localhost
Listen 127.0.0.1:{port}
{loads}
{user}
<IfModule !mpm_prefork_module>
    StartServers 2
    MinSpareThreads 25
    MaxSpareThreads {workers}
    ThreadsPerChild 64
    ServerLimit {processes}
    MaxRequestWorkers {workers}
</IfModule>
MaxConnectionsPerChild 0
MaxKeepAliveRequests 0
ErrorLog "{root}/error.log"
LogLevel warn
TypesConfig "{root}/mime.types"
DocumentRoot "{htdocs}"
<Directory "/">
    AllowOverride None
    Require all denied
</Directory>
<Directory "{htdocs}">
    Require all granted
</Directory>
'''
TLS = '''\
SSLEngine on
SSLCertificateFile "{root}/cert.pem"
SSLCertificateKeyFile "{root}/key.pem"
'''


class Apache(Httpd):
    """httpd as Debian sets it up, with event if nothing else is said."""

    name = 'httpd'
    base = '/files/'
    loads_tus = False
    request, clear = Server.request, Server.clear

    def __init__(self, place, mpm='event', tls=False, modules=(), workers=256, more=''):
        super().__init__(mpm=mpm, modules=[*modules, *(['ssl'] if tls else [])], tus=self.loads_tus)
        self.place = place
        self.htdocs = place / 'store'
        self.htdocs.mkdir()
        give_to_user(self.htdocs)
        self.store = self.htdocs
        self.tls = tls
        self.state_dir = place / 'state'
        self.workers = workers
        self.more = more
        self.spent = []
        if tls:
            make_certificate(self.root)

    @property
    def pid(self):
        return self.process.pid

    def stock(self, count):
        """Paths of so many plain files."""
        for number in range(count):
            (self.htdocs / str(number)).write_bytes(bytes(64))
        return [f'/{number}' for number in range(count)]

    def all_paths(self):
        return [self.base + entry.name for entry in os.scandir(self.store)
                if not entry.name.endswith('.info')]

    def configure(self, extra):
        user = run_user()
        libexec = Path(self.path_of('LIBEXECDIR'))
        loads = [f'LoadModule {name}_module "{libexec}/mod_{name}.so"'
                 for name in self.modules if (libexec / f'mod_{name}.so').exists()]
        if self.tus:
            loads.append(f'LoadModule tus_module "{MODULE}"')
        config = CONFIG.format(
            root=self.root, port=self.port, loads='\n'.join(loads), htdocs=self.htdocs,
            user=f'User {user.pw_name}\nGroup #{user.pw_gid}' if AS_ROOT else '',
            processes=self.workers // 64, workers=self.workers)
        if self.tls:
            config += TLS.format(root=self.root)
        (self.root / 'httpd.conf').write_text(config + self.more + self.directives())

    def directives(self):
        return ''

    def answers(self):
        return Server.listens(self)

    def close(self):
        """Stop, and leave nothing."""
        self.stop()
        self.remove()


class Plain(Apache):
    """Serves the files of another's store as they are."""

    base = '/'

    def __init__(self, place, of):
        super().__init__(place)
        self.store = self.htdocs = of.store


class ModTus(Apache):
    name = 'mod_tus'
    loads_tus = True
    create, offset, delete = Server.create, Server.offset, Server.delete
    stock = Server.stock

    def __init__(self, place, sync='none', **options):
        super().__init__(place, **options)
        self.sync = sync

    def directives(self):
        return (f'TusStateDir "{self.state_dir}"\n'
                + endpoint('Location /files', self.store, f'TusSync {self.sync}'))


class OneProcess(ModTus):
    """httpd -X: without children, and a process that may be run under another program."""

    def __init__(self, place, under=(), **options):
        super().__init__(place, mpm='prefork', **options)
        self.under = under

    def start(self):
        self.configure('')
        said = self.place / 'stderr'
        with said.open('ab') as stderr:
            self.process = subprocess.Popen(
                [*self.under, *self._command('-X')], stdin=subprocess.DEVNULL, stdout=stderr,
                stderr=stderr, start_new_session=True, preexec_fn=end_with_parent)
        wait_until(lambda: self.process.poll() is not None or self.answers(), 'httpd -X to answer',
                   timeout=120)
        if self.process.poll() is not None:
            self.process = None
            raise AssertionError(said.read_text()[-2000:])


PEER_CLASSES = (Tusd, Rustus, TusNode)
