"""What waits to be told: a look at the hooks' spools in TusStateDir, and at who tells."""
import contextlib
import fcntl
import hashlib
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class Spooled:
    """A file of the spool."""

    path: Path
    id: str = ''
    type: str = ''
    is_pending: bool = False
    fields: dict = field(default_factory=dict)
    headers: list = field(default_factory=list)
    body: bytes = b''


def parse(text):
    """The event in these bytes; None if it is not whole."""
    head, empty, body = text.partition(b'\n\n')
    lines = head.decode('latin-1').split('\n')
    pairs = [line.partition(': ')[::2] for line in lines[1:]]
    fields = {name: value for name, value in pairs if name != 'header'}
    if lines[0] != 'tus-event 1' or not empty or fields.get('length') != str(len(body)):
        return None
    return Spooled(None, fields['id'], fields['type'], False, fields,
                   [value for name, value in pairs if name == 'header'], body)


def read(path):
    event = parse(Path(path).read_bytes())
    assert event, f'{path} is not whole'
    event.path = Path(path)
    event.is_pending = event.path.suffix == '.new'
    return event


def files(server, failed=False):
    """Paths of all events that wait, pending ones too; or of those that were moved aside.

    What somebody died over while he wrote it is none, and lies there for an hour.
    """
    found = []
    for spool in sorted(server.state_dir.glob('*/spool')):
        for directory, _, names in os.walk(spool):
            if (Path(directory).name == 'failed') == failed:
                found += [Path(directory) / name for name in names if not name.endswith('.tmp')]
    return found


def waiting(server):
    """All events that wait; those that are told while they are looked for are none."""
    found = []
    for path in files(server):
        with contextlib.suppress(FileNotFoundError):
            found.append(read(path))
    return found


@contextlib.contextmanager
def worked_on(shard):
    """By another server that shares the spool."""
    handle = os.open(shard, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def wait_empty(server, timeout=30):
    deadline = time.monotonic() + timeout
    while files(server):
        left = [str(path.relative_to(server.state_dir)) for path in files(server)]
        assert time.monotonic() < deadline, f'in the spool is left: {left}'
        time.sleep(0.02)


def edit(path, **fields):
    """Write other values of fields into an event; it is due at once."""
    text = path.read_bytes()
    head, _, body = text.partition(b'\n\n')
    for name, value in fields.items():
        head, count = re.subn(rf'(?m)^{name}: .*$'.encode(), f'{name}: {value}'.encode(), head)
        assert count == 1, name
    path.write_bytes(head + b'\n\n' + body)
    make_due(path)


def age(path, seconds):
    """Make an event, and its upload, older; it is due at once."""
    fields = read(path).fields
    created, at = (int(fields[name]) - seconds * 10**6 for name in ('created', 'at'))
    edit(path, created=created, at=at)
    key, _, kind, hook = path.name.split('.', 3)
    path.rename(path.with_name(f'{key}.{created:016x}.{kind}.{hook}'))


def shard_of(uid):
    return hashlib.sha1(uid.encode()).hexdigest()[:2]


def multiply(path, ids):
    """The same event, of each of these uploads."""
    text = Path(path).read_bytes()
    uid = parse(text).id.encode()
    rest = path.name.split('.', 1)[1]
    spool = path.parent.parent
    owner = path.stat()
    made = set()
    for other in ids:
        key = hashlib.sha1(other.encode()).hexdigest()[:32]
        shard = spool / key[:2]
        if shard not in made:
            shard.mkdir(mode=0o700, exist_ok=True)
            os.chown(shard, owner.st_uid, owner.st_gid)
            made.add(shard)
        copy = shard / f'{key}.{rest}'
        head, empty, body = text.replace(uid, other.encode()).partition(b'\n\n')
        head = re.sub(rb'(?m)^length: .*$', b'length: %d' % len(body), head)
        copy.write_bytes(head + empty + body)
        copy.chmod(0o600)
        os.chown(copy, owner.st_uid, owner.st_gid)


def make_due(path, ahead=0):
    now = time.time() + ahead
    os.utime(path, (now, now))


def courier_of(server, port):
    """The child that has a connection to the hooks' endpoint at that port, or None."""
    remote = f'0100007F:{port:04X}'
    sockets = set()
    for line in Path('/proc/net/tcp').read_text().splitlines()[1:]:
        fields = line.split()
        if fields[2] == remote and fields[3] == '01':
            sockets.add(f'socket:[{fields[9]}]')
    for pid in server.children():
        try:
            if any(os.readlink(fd.path) in sockets for fd in os.scandir(f'/proc/{pid}/fd')):
                return pid
        except (FileNotFoundError, PermissionError, ProcessLookupError):
            continue
    return None
