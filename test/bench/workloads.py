"""What is measured, of whom, and what mod_tus is to reach."""
import os
import time
from dataclasses import dataclass, field
from typing import Callable

import clients
from subjects import PEER_CLASSES, Apache, Floor, ModTus, Rustus, Tusd
from tools import Copying, Hashing

GIB = 1 << 30


@dataclass(frozen=True)
class Sizes:
    """How much of everything."""
    big: int = GIB              # bytes
    distant: int = 32 << 20     # bytes, over HTTP/2 with a delay
    part: int = GIB             # bytes, of four that are joined
    small: int = 20_000         # requests
    on_disk: int = 5_000        # requests, some of which wait for the disk
    heads: int = 100_000        # requests
    stored: int = 1_000         # uploads that they ask for
    many: int = 1_000_000       # uploads in one store
    stalled: int = 1_000        # uploads
    long: int = 4 << 30         # bytes, of one upload that is watched
    warm: int = 64 << 20        # bytes, of each of those before it
    take_overs: int = 200


FULL = Sizes()
SMOKE = Sizes(big=4 << 20, distant=1 << 20, part=1 << 20, small=300, on_disk=100, heads=500,
              stored=50, many=200, stalled=50, long=8 << 20, warm=1 << 20, take_overs=1)


@dataclass(frozen=True)
class Entry:
    """One line of a table; with what it is run where that is not the workload's way."""
    label: str
    server: type
    options: dict = field(default_factory=dict)
    run: Callable = None
    prepare: Callable = None

    @property
    def is_peer(self):
        return self.server in PEER_CLASSES


@dataclass(frozen=True)
class Target:
    """mod_tus's CPU is to be at most, its rate at least, so many times what others have.

    Several others are added up. PEERS: each of them by itself.
    """
    figure: str
    factor: float
    others: tuple
    of: str = 'mod_tus'


PEERS = ('the peers',)


@dataclass(frozen=True)
class Workload:
    number: str
    title: str
    entries: tuple
    run: Callable               # (server, sizes, what prepare returned): seconds
    amount: Callable            # of sizes: how many units a run is
    unit: str                   # 'GiB', 'upload' or 'request'
    targets: tuple = ()
    medium: str = 'tmpfs'
    prepare: Callable = None    # (server, sizes), once
    reads: bool = False         # what prepare left; nobody is to find it on the disk only
    note: str = ''


def nothing(_server, _sizes):
    return None


def tus(label='mod_tus', run=None, **options):
    return Entry(label, ModTus, options, run)


WORKER = 'mod_tus, worker'


def floor(**options):
    return Entry('floor', Floor, options)


def peers(*classes, **options):
    """Those that are there."""
    return tuple(Entry(each.name, each, options) for each in PEER_CLASSES
                 if each in (classes or PEER_CLASSES) and each.version())


# -- runs ------------------------------------------------------------------------------------------

def gibibytes(sizes):
    return sizes.big / GIB


def patch(server, sizes, _):
    return clients.patch(server, sizes.big)


def checksum(server, sizes):
    clients.assert_verifies(server)
    return clients.checksum_of(sizes.big)


def patch_checksummed(server, sizes, value):
    return clients.patch(server, sizes.big, value)


def patch_h2(server, sizes, _):
    return clients.patch_h2(server, sizes.big)


def patch_h2_distant(server, sizes, _):
    return clients.patch_h2(server, sizes.distant, 30)


def create(server, sizes, _):
    return clients.create_small(server, sizes.small)


def create_on_disk(server, sizes, _):
    return clients.create_small(server, sizes.on_disk)


def cycle(server, sizes, _):
    return clients.cycle_small(server, sizes.small)


def stock(server, sizes, **options):
    """A file with the paths of what is stored."""
    paths = server.place / 'paths'
    paths.write_text('\n'.join(server.stock(sizes.stored, **options)))
    return paths


def stock_finished(server, sizes):
    return stock(server, sizes, length=0)


def head(server, sizes, paths):
    return clients.head_any(server, paths, sizes.heads)


def parts(server, sizes):
    paths = clients.make_parts(server, 4, sizes.part)
    os.sync()
    return paths


def parts_to_copy(tool, sizes):
    """Files that were uploaded like those to be joined: how a file was written decides how quickly
    it is read."""
    place = tool.place / 'uploads'
    place.mkdir()
    server = ModTus(place)
    server.start()
    try:
        return [server.store / os.path.basename(path) for path in parts(server, sizes)]
    finally:
        server.close()


def join(server, _sizes, paths):
    begun = time.perf_counter()
    final = server.create(None, [('Upload-Concat', 'final;' + ' '.join(paths))])
    seconds = time.perf_counter() - begun
    server.spent.append(final)
    return seconds


def file_to_get(server, sizes):
    """An upload, or a plain file where there are no uploads."""
    if server.name == 'httpd':
        with (server.htdocs / 'file').open('wb') as file:
            for _ in range(sizes.big >> 20):
                file.write(bytes(1 << 20))
        return '/file'
    path = server.create(sizes.big)
    clients.load('patch', server.port, path, sizes.big)
    return path


def get(server, _sizes, path):
    return clients.load('get', server.port, path)


# -- workloads -------------------------------------------------------------------------------------

H2 = {'tls': True, 'modules': ('http2',)}
H2_STOCK = 'Protocols h2 http/1.1\n'
H2_WIDE = H2_STOCK + 'H2WindowSize 16777216\n'


def h2_entries():
    return (tus(**H2, more=H2_STOCK),
            tus('mod_tus, H2WindowSize 16M', **H2, more=H2_WIDE), *peers(Tusd, tls=True))


def patch_on(number, medium):
    return Workload(
        number, f'One PATCH of 1 GiB, HTTP/1.1, to {medium}', (tus(), floor(), *peers()), patch,
        gibibytes, 'GiB', medium=medium,
        targets=(Target('cpu', 1.15, ('floor',)), Target('cpu', 0.5, ('tusd',)),
                 Target('rate', 1, PEERS)))


def join_on(number, medium, targets=()):
    return Workload(
        number, f'Four uploads of 1 GiB made one, on {medium}',
        (tus(), Entry('cp --reflink=auto', Copying, run=Copying.copy, prepare=parts_to_copy),
         *peers(Rustus, Tusd)),
        join, lambda sizes: 4 * sizes.part / GIB, 'GiB', medium=medium, prepare=parts,
        reads=True, targets=targets)


def workloads():
    """In the order in which they are run."""
    return (
        patch_on('1a', 'tmpfs'),
        patch_on('1b', 'disk'),
        Workload(
            '2a', 'One PATCH of 1 GiB, HTTP/1.1 over TLS 1.3, to tmpfs',
            (tus(tls=True), floor(tls=True), *peers(Tusd, tls=True)), patch, gibibytes, 'GiB',
            targets=(Target('cpu', 1.25, ('floor',)), Target('cpu', 1, ('tusd',)))),
        Workload('2b', 'One PATCH of 1 GiB, HTTP/2 over TLS, to tmpfs', h2_entries(), patch_h2,
                 gibibytes, 'GiB'),
        Workload('2c', 'One PATCH of 32 MiB, HTTP/2 over TLS, 30 ms round trip, to tmpfs',
                 h2_entries(), patch_h2_distant, lambda sizes: sizes.distant / GIB, 'GiB'),
        Workload(
            '3', 'One PATCH of 1 GiB with its SHA-256, to tmpfs',
            (tus(), tus('without a checksum', run=patch),
             Entry('hashing alone', Hashing, run=Hashing.hash, prepare=nothing),
             Entry('floor', Floor, {'hashes': True}, run=patch, prepare=nothing),
             *peers(Rustus)),
            patch_checksummed, gibibytes, 'GiB', prepare=checksum,
            targets=(Target('cpu', 1.1, ('without a checksum', 'hashing alone')),)),
        Workload(
            '4a', 'Creation with 4 KiB in the same request, to tmpfs',
            (tus(), tus(WORKER, mpm='worker'), floor(), *peers()),
            create, lambda sizes: sizes.small, 'upload',
            targets=tuple(Target(figure, factor, (peer,), of) for of in ('mod_tus', WORKER)
                          for figure, factor, peer in (
                              ('cpu', 0.5, 'tusd'), ('cpu', 0.9, 'rustus'),
                              ('rate', 1, 'tusd'), ('rate', 1, 'rustus')))),
        Workload(
            '4b', 'Creation with 4 KiB in the same request, to disk',
            (tus('mod_tus, TusSync none'), tus('mod_tus, TusSync finish', sync='finish'), floor(),
             *peers()),
            create_on_disk, lambda sizes: sizes.on_disk, 'upload', medium='disk'),
        Workload(
            '5', 'POST, PATCH of 4 KiB and HEAD, to tmpfs',
            (tus(), tus(WORKER, mpm='worker'), floor(), *peers()),
            cycle, lambda sizes: sizes.small, 'upload',
            targets=tuple(Target('cpu', factor, (peer,), of) for of in ('mod_tus', WORKER)
                          for factor, peer in ((0.5, 'tusd'), (0.9, 'rustus')))),
        Workload(
            '6', 'HEAD of one of 1,000 uploads', (
                tus(), Entry('mod_tus, finished uploads', ModTus, prepare=stock_finished),
                tus(WORKER, mpm='worker'), floor(), Entry('httpd, static file', Apache),
                Entry('httpd, static file, worker', Apache, {'mpm': 'worker'}), *peers()),
            head, lambda sizes: sizes.heads, 'request', prepare=stock,
            targets=(Target('cpu', 1.3, ('httpd, static file',)),
                     Target('cpu', 1.3, ('httpd, static file',), 'mod_tus, finished uploads'),
                     Target('cpu', 1.3, ('httpd, static file, worker',), WORKER))),
        join_on('7a', 'disk', (Target('rate', 1 / 1.1, ('cp --reflink=auto',)),)),
        join_on('7b', 'xfs'),
        Workload(
            '8', 'GET of 1 GiB, from tmpfs', (
                tus(), tus('mod_tus, EnableSendfile On', more='EnableSendfile On\n'),
                Entry('httpd, static file', Apache),
                Entry('httpd, EnableMMAP Off', Apache, {'more': 'EnableMMAP Off\n'})),
            get, gibibytes, 'GiB', prepare=file_to_get,
            targets=(Target('rate', 0.95, ('httpd, static file',)),)),
    )
