"""Faults in the file-system calls of a process, and a record of them: test/faults/ preloaded."""
import atexit
import contextlib
import errno
import functools
import mmap
import os
import shutil
import struct
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from .util import program

SOURCE = Path(__file__).resolve().parents[2] / 'faults'

KINDS = ('create', 'write', 'truncate', 'rename', 'unlink', 'mkdir', 'link', 'symlink', 'sync',
         'datasync', 'syncall', 'mode', 'lock', 'share', 'copy')
NONE, FAIL, SHORT, DIE_BEFORE, DIE_AFTER, WAIT = range(6)
REQUEST, SWEEP = 1, 2
EVER = 2**32 - 1

# What fails for want of room, and what else can go wrong with a disk.
ROOM = ('create', 'write', 'mkdir', 'link', 'symlink', 'rename', 'sync', 'datasync', 'syncall',
        'share', 'copy')
ALL = tuple(kind for kind in KINDS if kind != 'lock')

# Of a server whose children die often: they are replaced once a second, more each time.
MANY_CHILDREN = ('StartServers 24\nServerLimit 48\nThreadsPerChild 2\nMinSpareThreads 48\n'
                 'MaxSpareThreads 96\nMaxRequestWorkers 96')

CONTROL = struct.Struct('=7IiIII512s512s512s512s512s512s')
COUNTERS = struct.Struct('=III512s')
COUNT_AT = struct.calcsize('=7Ii')
RECORD = struct.Struct('=6IQq')


@dataclass
class Call:
    kind: str
    path: str
    to: str         # of a symbolic link; the old name, of a rename or link
    data: bytes
    offset: int
    mode: int
    inode: int
    pid: int

    def __str__(self):
        return f'{self.kind} {self.path}' + (f' ({self.to})' if self.to else '')


@functools.cache
def library():
    """The library, built once and gone with this process."""
    directory = Path(tempfile.mkdtemp(prefix='mod_tus-faults-'))
    atexit.register(shutil.rmtree, directory)
    directory.chmod(0o755)
    subprocess.run([program('cc', 'gcc'), '-std=gnu99', '-D_GNU_SOURCE', '-shared', '-fPIC', '-O',
                    '-o', directory / 'faults.so', *sorted(SOURCE.glob('*.c')), '-ldl'], check=True)
    return directory / 'faults.so'


class Faults:
    """A control file, for the processes that are started with `environment`."""

    def __init__(self, directory, roots):
        self.path = Path(directory) / 'faults.control'
        self.log = Path(f'{self.path}.log')
        self.environment = {'LD_PRELOAD': str(library()), 'FAULTS': str(self.path)}
        self.path.write_bytes(bytes(CONTROL.size))
        self.log.touch()
        with self.path.open('r+b') as file:
            self._map = mmap.mmap(file.fileno(), CONTROL.size)
        self.roots = [os.fsencode(root) for root in roots]
        self._write(recording=0)

    def _write(self, armed=0, recording=0, kinds=ALL, who=REQUEST, action=NONE, first=0, last=0,
               error=0, suffix=''):
        bits = sum(1 << KINDS.index(kind) for kind in kinds)
        roots = [*self.roots, b'', b'', b'', b''][:4]
        self._map[4:] = CONTROL.pack(0, recording, bits, who, action, first, last, error, 0, 0,
                                     0, b'', suffix.encode(), *roots)[4:]
        self._map[:4] = struct.pack('=I', armed)

    def watch(self, *roots):
        """Calls below these directories are meant from now on."""
        self.roots = [os.fsencode(root) for root in roots]
        self._write()

    def disarm(self):
        self._map[:8] = bytes(8)

    @property
    def count(self):
        """Calls since it was armed."""
        return COUNTERS.unpack_from(self._map, COUNT_AT)[0]

    @property
    def hit(self):
        """The first call that was hit, or None."""
        _, hits, kind, path = COUNTERS.unpack_from(self._map, COUNT_AT)
        return f'{KINDS[kind]} {os.fsdecode(path.rstrip(bytes(1)))}' if hits else None

    @contextlib.contextmanager
    def armed(self, action, first=1, last=None, error=errno.EIO, kinds=ALL, who=REQUEST, suffix=''):
        """The calls from `first` to `last` are hit: one, or EVER more; of paths that end so."""
        self._write(1, 0, kinds, who, action, first, first if last is None else last, error, suffix)
        try:
            yield self
        finally:
            self.disarm()

    @contextlib.contextmanager
    def recording(self):
        """What is recorded meanwhile is the list's, once this ends."""
        begin = self.log.stat().st_size
        calls = []
        self._write(recording=1)
        try:
            yield calls
        finally:
            self.disarm()
            calls += self.recorded(begin)

    def record(self):
        """Record from now on, until disarm()."""
        self._write(recording=1)

    def recorded(self, begin=0):
        """What stands in the log from that byte on."""
        with self.log.open('rb') as log:
            log.seek(begin)
            return list(parse(log.read()))


def parse(text):
    at = 0
    while at < len(text):
        kind, path_len, to_len, data_len, mode, pid, inode, offset = RECORD.unpack_from(text, at)
        at += RECORD.size
        fields = []
        for length in (path_len, to_len, data_len):
            fields.append(text[at:at + length])
            at += length
        yield Call(KINDS[kind], os.fsdecode(fields[0]), os.fsdecode(fields[1]), fields[2], offset,
                   mode, inode, pid)
