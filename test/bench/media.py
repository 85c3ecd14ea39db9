"""Where uploads are stored while they are measured."""
import contextlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

DIRECTORIES = {'tmpfs': os.environ.get('TMPFS', '/dev/shm'),
               'disk': os.environ.get('DISK', '/var/tmp')}
IMAGE_SIZE = 32 << 30    # most of it a hole


class Missing(Exception):
    """Something cannot be measured on this machine, and why."""


@contextlib.contextmanager
def place(medium):
    """A new directory there, which everybody may pass."""
    if medium == 'xfs':
        with image() as path:
            yield path
        return
    path = Path(tempfile.mkdtemp(prefix='mod_tus-bench-', dir=DIRECTORIES[medium]))
    path.chmod(0o755)
    try:
        yield path
    finally:
        shutil.rmtree(path)


def in_memory(paths):
    """Reads files, so that the next one who does finds them in the page cache.

    A machine may have dropped some of them, be there room or not.
    """
    block = bytearray(1 << 20)
    for path in paths:
        with open(path, 'rb', buffering=0) as file:
            while file.readinto(block):
                pass


@contextlib.contextmanager
def image():
    """An XFS in a file, where files can share blocks."""
    with place('disk') as outside:
        file, path = outside / 'image', outside / 'xfs'
        path.mkdir()
        with file.open('wb') as created:
            created.truncate(IMAGE_SIZE)
        for command in (['mkfs.xfs', '-q', '-m', 'reflink=1', file],
                        ['mount', '-o', 'loop', file, path]):
            run(command)
        try:
            yield path
        finally:
            run(['umount', path])


def run(command):
    try:
        result = subprocess.run(command, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        raise Missing(f'{command[0]} is not installed') from None
    if result.returncode:
        raise Missing(f'{command[0]}: {result.stderr.strip()}')


def file_system(medium):
    """What a medium is, in words."""
    result = subprocess.run(['findmnt', '-no', 'FSTYPE', '--target', DIRECTORIES[medium]],
                            capture_output=True, text=True, check=False)
    return (result.stdout.split() or ['unknown'])[-1]
