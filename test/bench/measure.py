"""What a server costs: CPU time and memory of all its processes; and medians."""
import os
import re
import statistics
import time
from pathlib import Path
from typing import NamedTuple

TICKS = os.sysconf('SC_CLK_TCK')


def tree(pid):
    """A process and all its descendants."""
    found = [pid]
    for parent in found:
        for task in Path(f'/proc/{parent}/task').glob('*/children'):
            found += map(int, task.read_text().split())
    return found


def cpu(pid):
    """Seconds, user and system, that a tree of processes has used, with those that have ended."""
    ticks = 0
    for each in tree(pid):
        fields = Path(f'/proc/{each}/stat').read_text().rsplit(')', 1)[1].split()
        ticks += sum(map(int, fields[11:15]))
    return ticks / TICKS


def settled_cpu(pid, quiet):
    """The same, once the server has done nothing for `quiet` seconds (20 s at most)."""
    deadline = time.monotonic() + 20
    used = cpu(pid)
    while quiet:
        time.sleep(quiet)
        before, used = used, cpu(pid)
        if used - before <= 1 / TICKS or time.monotonic() > deadline:
            break
    return used


def pss(pid):
    """Memory in bytes; what processes share is counted once."""
    total = 0
    for each in tree(pid):
        text = Path(f'/proc/{each}/smaps_rollup').read_text()
        total += int(re.search(r'^Pss:\s+(\d+) kB', text, re.M)[1]) * 1024
    return total


def read_from_disk(pid):
    """Bytes that a tree of processes, with those that have ended, found in no memory."""
    total = 0
    for each in tree(pid):
        text = Path(f'/proc/{each}/io').read_text()
        total += int(re.search(r'^read_bytes: (\d+)', text, re.M)[1])
    return total


class Sample(NamedTuple):
    """One run of a workload: the server's CPU and the client's clock, in seconds, and what the
    server read from a disk, in bytes."""
    cpu: float
    seconds: float
    read: int


def measure(server, run, quiet):
    """A sample of run(server), which returns the seconds it took as its client saw it."""
    os.sync()    # what is left to be written back of something else is not in its way
    before, read = settled_cpu(server.pid, quiet), read_from_disk(server.pid)
    seconds = run(server)
    return Sample(settled_cpu(server.pid, quiet) - before, seconds,
                  read_from_disk(server.pid) - read)


class Series(NamedTuple):
    """The median of several figures, and between which they lie."""
    median: float
    low: float
    high: float


def series(figures):
    return Series(statistics.median(figures), min(figures), max(figures))


def figures(samples, amount):
    """What `amount` units cost each, how many went through in a second, and what was read from a
    disk for all of them."""
    return {'cpu': series([sample.cpu / amount for sample in samples]),
            'rate': series([amount / sample.seconds for sample in samples]),
            'read': series([sample.read for sample in samples])}
