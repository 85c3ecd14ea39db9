"""A 2 MiB disk that only one server sees, in a mount namespace that goes away with it."""
import os
import tempfile
from pathlib import Path

from .mounts import with_mount
from .util import AS_ROOT, run_user

SIZE = 2 << 20


class FullDisk:
    """Start a server with prefix=disk.command, then attach() to look at the disk as it does."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix='mod_tus-disk-'))
        user = run_user()
        owner = f',uid={user.pw_uid},gid={user.pw_gid}' if AS_ROOT else ''
        self.command = with_mount(
            f'mount -t tmpfs -o size={SIZE},mode=0770{owner} tmpfs {self.path}')
        self.inside = None

    def attach(self, server):
        self.inside = Path(f'/proc/{server.process.pid}/root{self.path}')
        assert os.statvfs(self.inside).f_blocks * os.statvfs(self.inside).f_frsize == SIZE, \
            'the 2 MiB tmpfs could not be mounted: this test needs root, or user namespaces'

    def fill(self, leave=0):
        """Take all room but `leave` bytes."""
        with (self.inside / 'ballast').open('wb', buffering=0) as ballast:
            try:
                while ballast.write(bytes(4096)):
                    pass
            except OSError:
                pass
            ballast.truncate(ballast.tell() - leave)

    def make_room(self):
        (self.inside / 'ballast').unlink()

    def remove(self):
        self.path.rmdir()
