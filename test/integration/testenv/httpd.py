"""One private httpd: own configuration, directories, ports and logs, in a temporary directory."""
import contextlib
import ctypes
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from .errorlog import ErrorLog, audit
from .store import Store
from .util import AS_ROOT, free_port, give_to_user, run_user, wait_until

HERE = Path(__file__).resolve().parent
MODULE = Path(os.environ.get('MOD_TUS_SO', HERE.parents[2] / '.libs' / 'mod_tus.so')).resolve()
MPMS = os.environ.get('TUS_MPM', 'event,worker,prefork').split(',')
SANITIZED = bool(os.environ.get('HTTPD_PRELOAD'))
AT_ONCE = '\nMaxMemFree 1' if SANITIZED else ''     # what a pool had is freed, and seen by ASan

# What a fresh Debian enables; a module that is compiled in has no file and needs no LoadModule.
STOCK_MODULES = ['unixd', 'log_config', 'logio', 'watchdog', 'access_compat', 'alias',
                 'auth_basic', 'authn_core', 'authn_file', 'authz_core', 'authz_host', 'authz_user',
                 'autoindex', 'deflate', 'dir', 'env', 'filter', 'mime', 'negotiation',
                 'reqtimeout', 'setenvif']

MPM_SETTINGS = {
    'event': 'StartServers 2\nServerLimit 4\nThreadsPerChild 8\nMinSpareThreads 1\n'
             'MaxSpareThreads 32\nMaxRequestWorkers 32',
    'worker': 'StartServers 2\nServerLimit 4\nThreadsPerChild 8\nMinSpareThreads 1\n'
              'MaxSpareThreads 32\nMaxRequestWorkers 32',
    'prefork': 'StartServers 4\nServerLimit 32\nMinSpareServers 1\nMaxSpareServers 32\n'
               'MaxRequestWorkers 32',
}


def one_child(threads):
    """mpm_settings of event and worker: all that happens shares one process."""
    return (f'StartServers 1\nServerLimit 1\nThreadsPerChild {threads}\nMinSpareThreads 1\n'
            f'MaxSpareThreads {threads}\nMaxRequestWorkers {threads}')


ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1)

CONFIG = '''\
ServerRoot "{root}"
DefaultRuntimeDir "{root}/run"
PidFile "{root}/run/httpd.pid"
ServerName localhost
Listen 127.0.0.1:{port}
{modules}
{user}
{mpm_settings}
Timeout 30
ErrorLog "{root}/error.log"
LogLevel warn{tus_level}
LogFormat "%a %P \\"%r\\" %>s %I %O id=%{{tus-id}}n offset=%{{tus-offset}}n" tus
CustomLog "{root}/access.log" tus
TypesConfig "{root}/mime.types"
DocumentRoot "{root}/htdocs"
RequestReadTimeout header=20-40,minrate=500
RequestReadTimeout body=10,minrate=500
<Directory "/">
    AllowOverride None
    Require all denied
</Directory>
<Directory "{root}/htdocs">
    Options FollowSymLinks
    Require all granted
</Directory>
{state_dir}
{extra}
'''


def endpoint(section, store, *lines):
    """A configuration section, e.g. 'Location /files', that is a tus endpoint."""
    body = '\n'.join(f'    {line}' for line in
                     ('TusEngine On', f'TusStore file "{store}"', *lines))
    return f'<{section}>\n{body}\n</{section.split()[0]}>\n'


class HttpdError(AssertionError):
    """httpd did not do what a test needs before it can begin."""


def apxs(variable):
    return subprocess.run(['apxs', '-q', variable], capture_output=True, text=True,
                          check=True).stdout.strip()


def end_with_parent():
    """In the child, before exec: a killed test run leaves no server behind."""
    pr_set_pdeathsig = 1
    ctypes.CDLL(None).prctl(pr_set_pdeathsig, signal.SIGTERM)


class Httpd:
    _paths = {}

    def __init__(self, mpm='event', modules=(), tus=True, umask=0o022, tls=False, mpm_settings=None,
                 prefix=(), environment=()):
        self.mpm = mpm
        self.modules = [f'mpm_{mpm}', *STOCK_MODULES, *modules]
        self.tus = tus
        self.umask = umask
        self.mpm_settings = (mpm_settings or MPM_SETTINGS[mpm]) + AT_ONCE
        self.prefix = list(prefix)
        self.environment = dict(environment)
        self.root = Path(tempfile.mkdtemp(prefix='mod_tus-'))
        self.root.chmod(0o755)
        for name in ('htdocs', 'run', 'stores'):
            (self.root / name).mkdir()
        give_to_user(self.root / 'stores')
        (self.root / 'mime.types').write_text(
            'text/html html shtml\ntext/plain txt\nimage/png png\napplication/pdf pdf\n')
        self.htdocs = self.root / 'htdocs'
        self.state_dir = self.root / 'state'
        self.settled = True
        self.error_log = ErrorLog(self.root / 'error.log')
        self.stderr_log = ErrorLog(self.root / 'stderr.log')
        self.port = free_port()
        self.tls_port = free_port() if tls else None
        self.process = None
        self._text = ''
        self._expected = []
        self._allowed = []
        self._before = []    # what the last test had declared
        if tls:
            self.modules += ['ssl', 'socache_shmcb']
            make_certificate(self.root)

    # -- configuration -------------------------------------------------------------------------

    def make_store(self, name='files'):
        """A directory below stores/ that httpd's children may write."""
        path = self.root / 'stores' / name
        path.mkdir()
        give_to_user(path)
        path.chmod(0o770)
        return Store(path)

    def make_dir(self, path):
        """A directory (with its parents), e.g. below htdocs, owned by httpd's children."""
        path.mkdir(parents=True, exist_ok=True)
        return give_to_user(path)

    def configure(self, extra):
        self._text = extra
        loads = []
        for name in self.modules:
            path = Path(self.path_of('LIBEXECDIR')) / f'mod_{name}.so'
            if path.exists():
                loads.append(f'LoadModule {name}_module "{path}"')
            elif name not in ('unixd', 'log_config', 'logio', 'watchdog'):
                raise HttpdError(f'{path} is missing')
        if self.tus:
            loads.append(f'LoadModule tus_module "{MODULE}"')
        user = run_user()
        config = CONFIG.format(
            root=self.root, port=self.port, modules='\n'.join(loads),
            user=f'User {user.pw_name}\nGroup #{user.pw_gid}' if AS_ROOT else '',
            mpm_settings=self.mpm_settings, tus_level=' tus:trace2' if self.tus else '',
            state_dir=f'TusStateDir "{self.state_dir}"' if self.tus else '',
            extra=self._tls_config() + extra)
        (self.root / 'httpd.conf').write_text(config)

    def tls_vhost(self, extra=''):
        """The virtual host on the TLS port."""
        return (f'<VirtualHost 127.0.0.1:{self.tls_port}>\nServerName localhost\n'
                f'SSLEngine on\n{extra}\n</VirtualHost>\n')

    def _tls_config(self):
        if not self.tls_port:
            return ''
        return (f'Listen 127.0.0.1:{self.tls_port} https\n'
                f'SSLCertificateFile "{self.root}/cert.pem"\n'
                f'SSLCertificateKeyFile "{self.root}/key.pem"\n'
                f'SSLSessionCache shmcb:{self.root}/run/ssl_scache(512000)\n')

    @classmethod
    def path_of(cls, variable):
        if variable not in cls._paths:
            cls._paths[variable] = apxs(variable)
        return cls._paths[variable]

    def _command(self, *arguments):
        binary = Path(self.path_of('SBINDIR')) / self.path_of('PROGNAME')
        return [*self.prefix, str(binary), '-d', str(self.root), '-f',
                str(self.root / 'httpd.conf'), *arguments]

    def _environment(self):
        environment = {'PATH': os.environ['PATH'], 'LANG': 'C', **self.environment}
        for name, value in os.environ.items():
            if name.endswith('SAN_OPTIONS'):
                environment[name] = value
        preload = [os.environ.get('HTTPD_PRELOAD'), self.environment.get('LD_PRELOAD')]
        environment['LD_PRELOAD'] = ' '.join(filter(None, preload))
        return environment

    # -- life ----------------------------------------------------------------------------------

    def configtest(self, extra=None):
        """`httpd -t` of the given configuration: (exit code, what it said)."""
        if extra is not None:
            self.configure(extra)
        result = subprocess.run(self._command('-t'), capture_output=True, text=True,
                                env=self._environment(), check=False, timeout=60)
        return result.returncode, result.stdout + result.stderr

    def start(self, extra=''):
        """Write the configuration, start httpd and return when it answers."""
        if self.tus and not MODULE.exists():
            raise HttpdError(f'{MODULE} is missing: build it first (make -f Makefile.apxs)')
        if self.tus and self.settled and not self.state_dir.exists():
            self._settle()
        for _ in range(3):
            self.configure(extra)
            if self._launch():
                return self
            self.port = free_port()
            self.tls_port = self.tls_port and free_port()
            self.error_log.mark_read()
            self.stderr_log.mark_read()
        raise HttpdError('no free port after three tries')

    def _settle(self):
        """All data counts as stored: tests make files older than the machine's last boot."""
        self.state_dir.mkdir(mode=0o700)
        (self.state_dir / 'settled').write_text(f'{10**6 * (int(time.time()) + 10**7)}\n')
        give_to_user(self.state_dir)

    def _launch(self):
        """Start the parent. False when somebody else took the port in the meantime.

        In a session of its own, because httpd ends its whole process group at its stop.
        """
        with self.stderr_log.path.open('ab') as stderr:
            self.process = subprocess.Popen(
                self._command('-DFOREGROUND'), stdin=subprocess.DEVNULL, stdout=stderr,
                stderr=stderr, env=self._environment(), umask=self.umask, start_new_session=True,
                preexec_fn=end_with_parent)
        wait_until(lambda: self.process.poll() is not None or self.answers(),
                   'httpd to answer', timeout=60 if SANITIZED else 20)
        if self.process.poll() is None:
            return True
        said = self.stderr_log.unread() + self.error_log.unread()
        self.process = None
        if 'Address already in use' in said:
            return False
        raise HttpdError(f'httpd did not start: {said}')

    def answers(self):
        """Whether some child takes requests. `OPTIONS *` belongs to no directory and no module."""
        try:
            with socket.create_connection(('127.0.0.1', self.port), timeout=1) as probe:
                probe.sendall(b'OPTIONS * HTTP/1.0\r\n\r\n')
                return b''.join(iter(lambda: probe.recv(4096), b'')).startswith(b'HTTP/')
        except OSError:
            return False

    def graceful(self, extra=None):
        """`-k graceful`; returns when every new connection goes to the new generation."""
        if extra is not None:
            self.configure(extra)
        self._let_clients_go()
        old = self.children()
        resumed = self._resumed()
        self.process.send_signal(signal.SIGUSR1)
        self._wait_for_generation(resumed)
        wait_until(lambda: not any(listens(pid) for pid in old),
                   'the old children to stop listening')
        wait_until(self.answers, 'the new generation to answer')

    def restart(self, extra=None):
        """`-k restart`: the old children are gone when this returns."""
        if extra is not None:
            self.configure(extra)
        self._let_clients_go()
        old = self.children()
        resumed = self._resumed()
        self.process.send_signal(signal.SIGHUP)
        self._wait_for_generation(resumed)
        wait_until(lambda: not any(alive(pid) for pid in old), 'the old children to end')
        wait_until(self.answers, 'the new generation to answer')

    def _resumed(self):
        return self.error_log.text().count('resuming normal operations')

    def _wait_for_generation(self, resumed):
        wait_until(lambda: self.process.poll() is not None or self._resumed() > resumed,
                   'httpd to resume normal operations')
        if self.process.poll() is not None:
            raise HttpdError(f'httpd ended at restart: {self.error_log.unread()}')

    def stop(self):
        """End the server and see that no child outlives it."""
        if not self.process:
            return
        self._let_clients_go()
        children = self.children()
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self.kill()
            raise HttpdError('httpd did not stop within 30 s') from None
        self.process = None
        wait_until(lambda: not any(alive(pid) for pid in children), 'all children to end')

    def _let_clients_go(self):
        """Wait until the server is idle, unless a test has clients that stay.

        The event MPM logs errors, and may crash, when it ends under a connection in lingering
        close: seen in one of 230 stops at once, without mod_tus.
        """
        deadline = time.monotonic() + 0.5
        while self.connections() and time.monotonic() < deadline:
            time.sleep(0.01)

    def connections(self):
        """How many connections of clients there are, for the kernel or still for a child."""
        ports = (self.port, self.tls_port)
        return (sum(port in ports and state not in (LISTEN, TIME_WAIT)
                    for port, state, _ in tcp_sockets())
                + sum(len(closed_sockets(pid)) for pid in self.children()))

    def kill(self):
        """kill -9 of the parent and all its children."""
        children = self.children()
        self.process.kill()
        self.process.wait()
        self.process = None
        for pid in children:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not any(alive(pid) for pid in children), 'all children to end')

    def remove(self):
        if 'TUS_KEEP' not in os.environ:
            shutil.rmtree(self.root)

    # -- a look inside -------------------------------------------------------------------------

    def children(self):
        pid = self.process.pid
        text = Path(f'/proc/{pid}/task/{pid}/children').read_text()
        return [int(pid) for pid in text.split()]

    def threads_that_take_signals(self):
        """Other threads of the children than their first that take one of those that end them."""
        found = []
        for pid in self.children():
            for task in Path(f'/proc/{pid}/task').iterdir():
                status = (task / 'status').read_text()
                blocked = int(re.search(r'SigBlk:\s*(\w+)', status)[1], 16)
                if task.name != str(pid) and not all(blocked >> (one - 1) & 1 for one in ENDING):
                    found.append((task.name, (task / 'comm').read_text().strip(), hex(blocked)))
        return found

    def access_log(self):
        return (self.root / 'access.log').read_text('utf-8', 'replace')

    def wait_access(self, regex):
        """The match of regex in the access log, which is written after the answer."""
        return wait_until(lambda: re.search(regex, self.access_log()), f'access log: {regex}')

    def wait_log(self, regex, timeout=15):
        """The match of regex in what the current test made httpd log."""
        return wait_until(lambda: re.search(regex, self.error_log.unread()), f'error log: {regex}',
                          timeout)

    # -- the audit -----------------------------------------------------------------------------

    def expect_log(self, regex):
        """The current test provokes this line: it must come, and is no failure."""
        self._expected.append(regex)

    def allow_log(self, regex):
        """The current test may provoke this line."""
        self._allowed.append(regex)

    def audit(self, late=False):
        """Fail on what was logged since the last audit and not declared; or only declared for that,
        if what came was on its way then.
        """
        allowed = self._allowed + (self._before if late else [])
        problems = audit((self.stderr_log, self.error_log), self._expected, allowed)
        self.forget()
        if problems:
            raise AssertionError('error log:\n' + '\n'.join(problems))

    def forget(self):
        """Begin a new test: what was logged and declared so far is done with."""
        self.stderr_log.mark_read()
        self.error_log.mark_read()
        self._before = self._expected + self._allowed
        self._expected, self._allowed = [], []

    def log_tail(self, lines=60):
        text = self.stderr_log.unread() + self.error_log.unread()
        return '\n'.join(line[:500] for line in text.splitlines()[-lines:])


def alive(pid):
    """A process that runs; one that is only waited for does not, if none of its threads does."""
    try:
        state = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()[0]
        return state != 'Z' or len(os.listdir(f'/proc/{pid}/task')) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


LISTEN, TIME_WAIT = '0A', '06'


def listens(pid):
    """Whether the process holds a listening socket."""
    listening = {inode for _, state, inode in tcp_sockets(pid) if state == LISTEN}
    return bool(held_sockets(pid) & listening)


def tcp_sockets(pid='self'):
    """(local port, state, inode) of all where the process is; none if it has ended."""
    sockets = []
    for line in proc_lines(pid, 'net/tcp') + proc_lines(pid, 'net/tcp6'):
        _, local, _, state, *fields = line.split()
        sockets.append((int(local.split(':')[1], 16), state, fields[5]))
    return sockets


def held_sockets(pid):
    """The inodes of the process's sockets; none if it has ended, or is about to."""
    inodes = set()
    with contextlib.suppress(OSError):
        for fd in os.scandir(f'/proc/{pid}/fd'):
            with contextlib.suppress(OSError):
                if (target := os.readlink(fd.path)).startswith('socket:'):
                    inodes.add(target[len('socket:['):-1])
    return inodes


def closed_sockets(pid):
    """Sockets that the process holds and the kernel has already done with."""
    held = held_sockets(pid)
    if not held:
        return held
    known = {inode for _, _, inode in tcp_sockets(pid)}
    known |= {line.split()[6] for line in proc_lines(pid, 'net/unix')}
    return held - known


def proc_lines(pid, name):
    """The lines of such a table of the kernel's, without its heading."""
    with contextlib.suppress(OSError):
        return Path(f'/proc/{pid}/{name}').read_text().splitlines()[1:]
    return []


def resident(pid, what='VmRSS'):
    """Resident memory of a process in bytes."""
    text = Path(f'/proc/{pid}/status').read_text()
    return int(re.search(rf'^{what}:\s+(\d+) kB', text, re.M)[1]) * 1024


def make_certificate(directory):
    subprocess.run(['openssl', 'req', '-x509', '-newkey', 'rsa:2048', '-nodes', '-days', '2',
                    '-subj', '/CN=localhost', '-addext', 'basicConstraints=critical,CA:FALSE',
                    '-keyout', directory / 'key.pem', '-out', directory / 'cert.pem'],
                   check=True, capture_output=True)
