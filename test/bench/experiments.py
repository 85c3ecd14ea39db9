"""What is no comparison of runs: many uploads, system calls, take-over, memory."""
import collections
import contextlib
import re
import signal
import subprocess
import time
from pathlib import Path

import clients
import workloads
from measure import figures, measure, pss, series, settled_cpu
from media import Missing, in_memory, place, run
from report import Table, comparison, number, spread
from subjects import BUILT, Floor, ModTus, OneProcess, Plain, end_with_parent
from takeover import take_overs
from testenv.index import dump, state_of_store
from testenv.util import wait_until

KIB, MIB = 1 << 10, 1 << 20
HEALING = 60    # seconds
JOURNAL_EMPTY = 32    # bytes: its header, and no id


@contextlib.contextmanager
def running(server):
    try:
        server.start()
        yield server
    finally:
        server.close()


def mod_tus(path, **options):
    path.mkdir()
    return running(ModTus(path, **options))


def plain(path, of):
    path.mkdir()
    return running(Plain(path, of))


# -- many uploads ----------------------------------------------------------------------------------

def many_uploads(sizes, rounds, quiet):
    """HEAD among few and among many, start-up, and an index that is made anew."""
    with place('disk') as base, mod_tus(base / 'few') as few, mod_tus(base / 'many') as many:
        for server, count in ((few, sizes.stored), (many, sizes.many)):
            clients.create_small(server, count, length=64)
            assert len(server.all_paths()) == count
            wait_folded(server)
        names = {f'mod_tus, {count:,} uploads': server
                 for count, server in ((sizes.stored, few), (sizes.many, many))}
        with plain(base / 'plain-few', few) as plain_few, \
             plain(base / 'plain-many', many) as plain_many:
            yield heads({**names, f'httpd, {sizes.stored:,} static files': plain_few,
                         f'httpd, {sizes.many:,} static files': plain_many},
                        sizes, rounds, quiet)
        yield starts(names, rounds)
        yield healing(many, sizes.many)


def wait_folded(server):
    """Until the index has all that was made, which would count as HEAD's work otherwise."""
    state = state_of_store(server)
    wait_until(lambda: (state / 'journal').stat().st_size < JOURNAL_EMPTY
               and not (state / 'journal.fold').exists(), 'the journal to be folded', timeout=600)


def heads(names, sizes, rounds, quiet):
    few, many, *_ = names
    workload = workloads.Workload(
        '6b', f'HEAD of one of {sizes.stored:,} and of {sizes.many:,} uploads, on disk', (),
        workloads.head, None, 'request', targets=(workloads.Target('rate', 0.9, (few,), many),))
    samples = {name: [] for name in names}
    for server in names.values():
        (server.place / 'paths').write_text('\n'.join(server.all_paths()))
    for _ in range(rounds + (rounds > 1)):
        for name in (few, many):
            in_memory(names[name].store.glob('*.info'))
        for name, server in names.items():
            samples[name].append(measure(
                server, lambda it: workloads.head(it, sizes, it.place / 'paths'), quiet))
    results = {name: figures(found[rounds > 1:], sizes.heads)
               for name, found in samples.items()}
    return comparison(workload, results, (), judging=sizes is workloads.FULL)


def starts(names, rounds):
    rows = []
    for name, server in names.items():
        seconds = series([start(server) for _ in range(rounds)])
        rows.append([name, number(seconds.median), spread(seconds)])
    return Table('6c', 'Start-up, until the first HEAD is answered', ['', 's', 'spread'], rows,
                 [f'Wanted: under 1 s, {"met" if seconds.median < 1 else "**missed**"}'])


def start(server):
    path = (server.place / 'paths').open().readline().strip()
    server.stop()
    begun = time.perf_counter()
    server.start()
    server.offset(path)
    return time.perf_counter() - begun


def healing(server, count):
    """The index is gone; how fast it comes to know each upload again, while serving.

    `rebuild` lists the uploads, a line each, and `rebuild.at` says how far in it the index is.
    """
    state = state_of_store(server)
    server.stop()
    for path in state.glob('index.*'):
        path.unlink()
    begun = time.perf_counter()
    server.start()
    listed, done = 1, 0
    while not is_healed(state) and time.perf_counter() - begun < HEALING:
        with contextlib.suppress(FileNotFoundError, ValueError):
            listed = (state / 'rebuild').stat().st_size
            done = int((state / 'rebuild.at').read_text())
        time.sleep(0.1)
    seconds = time.perf_counter() - begun
    if is_healed(state):
        assert len(dump(state)) == count
        listed = done = count
    return Table('6d', 'An index that is made anew by a scan, while serving',
                 ['', 'uploads', 'of them known again', 's', 'uploads/s'],
                 [['mod_tus', f'{count:,}', f'{count * done // listed:,}', number(seconds),
                   number(count * done / listed / seconds)]],
                 [f'From the start of httpd, watched for {HEALING} s at most.'])


def is_healed(state):
    return list(state.glob('index.*')) and not list(state.glob('rebuild*'))


# -- system calls ----------------------------------------------------------------------------------

SYNCS = ('fsync', 'fdatasync', 'sync_file_range', 'syncfs')
UPLOADS = 100


def system_calls(_sizes, _rounds, _quiet):
    rows = []
    try:
        for label, options, do in (
                ('HEAD', {}, ask), ('creation with 4 KiB, TusSync none', {}, make),
                ('creation with 4 KiB, TusSync finish', {'sync': 'finish'}, make),
                ('creation with 4 KiB, TusSync always', {'sync': 'always'}, make)):
            with place('disk') as base, running(OneProcess(base, **options)) as server:
                calls = traced(server, lambda: do(server))
            rows.append([label, *(f'{calls[name] / UPLOADS:.2f}' for name in SYNCS),
                         f'{sum(calls.values()) / UPLOADS:.1f}'])
    except Missing as missing:
        return [Table('4c', 'System calls of a request', [''], [], [f'Not measured: {missing}.'])]
    return [Table('4c', 'System calls of a request', ['', *SYNCS, 'all'], rows,
                  ['Of httpd -X with prefork, on one connection, the sweep included.'])]


def ask(server):
    paths = server.place / 'paths'
    clients.head_any(server, paths, UPLOADS, connections=1)


def make(server):
    clients.create_small(server, UPLOADS, connections=1)


def traced(server, do):
    """How often each system call was made."""
    (server.place / 'paths').write_text(server.create(0))
    log = server.place / 'strace'
    run(['strace', '-V'])
    with subprocess.Popen(['strace', '-f', '-qq', '-o', log, '-p', str(server.pid)],
                          preexec_fn=end_with_parent) as strace:
        wait_until(lambda: is_traced(server.pid) or strace.poll() is not None,
                   'strace to attach')
        if strace.returncode is not None:
            raise Missing('strace may not trace here')
        do()
        strace.send_signal(signal.SIGINT)
    return collections.Counter(re.findall(r'^\d+ +(\w+)\(', log.read_text(), re.M))


def is_traced(pid):
    """All its threads are."""
    return all('TracerPid:\t0\n' not in path.read_text()
               for path in Path(f'/proc/{pid}/task').glob('*/status'))


# -- take-over -------------------------------------------------------------------------------------

def take_over(sizes, _rounds, _quiet):
    rows = []
    for older, newer, seconds, crossed in take_overs(sizes.take_overs):
        times = [1000 * each for each in seconds]
        rows.append([f'{older}, {newer}', number(times[len(times) // 2]),
                     number(times[len(times) * 99 // 100]), number(times[-1]), str(crossed)])
    return [Table('9', 'Take-over of a stalled holder in another process',
                  ['held by, asked for by', 'p50 ms', 'p99 ms', 'max ms', 'across processes'], rows,
                  [f'{sizes.take_overs} times each, from the last byte of a HEAD to the first of '
                   'its answer.'])]


# -- memory ----------------------------------------------------------------------------------------

# A thread for each of the stalled uploads.
WARM = 16     # requests, so that most threads have what they need
THREADS = {'workers': 1600, 'more': 'RequestReadTimeout body=0\n'}


def memory(sizes, _rounds, quiet):
    rivals = [(ModTus.name, ModTus, THREADS), (Floor.name, Floor, {}),
              *((entry.label, entry.server, {}) for entry in workloads.peers())]
    stalls, growths = [], []
    for label, kind, options in rivals:
        with place('disk') as base, running(kind(base, **options)) as server:
            growths.append([label, *growth(server, sizes, quiet)])
        if kind is not Floor:
            with place('tmpfs') as base, running(kind(base, **options)) as server:
                stalls.append([label, *stalled(server, sizes, quiet)])
    yield Table('10a', f'PSS with {sizes.stalled:,} stalled uploads',
                ['', 'idle MiB', 'with them MiB', 'KiB more per upload', 'all KiB per upload'],
                stalls, [f'mod_tus with MaxRequestWorkers {THREADS["workers"]}.'])
    verdict = 'met' if float(growths[0][-1].replace(',', '')) <= 1024 else '**missed**'
    yield Table('10b', f'Growth of PSS while one upload of {sizes.long >> 20:,} MiB runs',
                ['', 'before MiB', 'most MiB', 'growth KiB'], growths,
                ['Wanted of mod_tus: at most 1,024 KiB.'])


def stalled(server, sizes, quiet):
    paths = server.place / 'paths'
    paths.write_text('\n'.join(server.create(MIB) for _ in range(sizes.stalled)))
    settled_cpu(server.pid, quiet)
    idle = pss(server.pid)
    with subprocess.Popen([BUILT / 'load', 'stall', str(server.port), paths, str(MIB), '1000'],
                          stdin=subprocess.PIPE, stdout=subprocess.PIPE) as load:
        assert load.stdout.readline() == b'stalled\n'
        if isinstance(server, ModTus):
            wait_until(lambda: stored(server) == 1000 * sizes.stalled, 'all to be stored', 60)
        settled_cpu(server.pid, quiet)
        full = pss(server.pid)
        load.stdin.close()
    return [number(idle / MIB), number(full / MIB), number((full - idle) / KIB / sizes.stalled),
            number(full / KIB / sizes.stalled)]


def stored(server):
    return sum(path.stat().st_size for path in server.store.iterdir() if path.suffix != '.info')


def growth(server, sizes, quiet):
    for _ in range(WARM):
        clients.patch(server, sizes.warm)
        server.clear()
    path = server.create(sizes.long)
    settled_cpu(server.pid, quiet)
    before = most = pss(server.pid)
    with subprocess.Popen([BUILT / 'load', 'patch', str(server.port), path, str(sizes.long)],
                          stdout=subprocess.DEVNULL) as load:
        while load.poll() is None:
            most = max(most, pss(server.pid))
            time.sleep(0.05)
    assert load.returncode == 0 and server.offset(path) == sizes.long
    server.delete(path)
    return [number(before / MIB), number(most / MIB), number((most - before) / KIB)]
