"""A real php-fpm on a socket and a port of its own."""
import glob
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from .util import AS_ROOT, free_port, run_user, wait_until

POOL = '''\
[global]
error_log = {root}/php.log
daemonize = no
[test]
{user}
listen = 127.0.0.1:{port}
pm = static
pm.max_children = 2
security.limit_extensions =
'''


class PhpFpm:
    """Runs whatever file it is told to run; stop() ends it."""

    def __init__(self):
        binaries = sorted(glob.glob('/usr/sbin/php-fpm*') + glob.glob('/usr/bin/php-fpm*'))
        assert binaries, 'this test needs php-fpm (Debian: apt-get install php-fpm)'
        self.port = free_port()
        self.root = root = Path(tempfile.mkdtemp(prefix='mod_tus-php-'))
        user = run_user()
        config = root / 'php-fpm.conf'
        config.write_text(POOL.format(
            root=root, port=self.port,
            user=f'user = {user.pw_name}\ngroup = {user.pw_gid}' if AS_ROOT else ''))
        arguments = [binaries[0], '--nodaemonize', '--no-php-ini', '--fpm-config', str(config)]
        self.process = subprocess.Popen(arguments, stdin=subprocess.DEVNULL,
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_until(self._answers, 'php-fpm to listen')

    def _answers(self):
        assert self.process.poll() is None, 'php-fpm ended: see php.log'
        with socket.socket() as probe:
            return probe.connect_ex(('127.0.0.1', self.port)) == 0

    def stop(self):
        self.process.terminate()
        self.process.wait(timeout=20)
        shutil.rmtree(self.root)
