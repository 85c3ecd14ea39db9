"""Runs a workload: one server after the other, round by round, so that the machine's moods fall on
all of them."""
import contextlib
import sys

from measure import figures, measure
from media import Missing, in_memory, place
from report import Table, comparison
from workloads import FULL, nothing


class Rival:
    """A server that takes part, what it was prepared with, and its samples."""

    def __init__(self, entry, server):
        self.entry = entry
        self.server = server
        self.state = None
        self.samples = []
        self.failure = None


def compare(workload, sizes, rounds, quiet):
    """The table of a workload. The first round is not counted, if there is more than one.

    Every second one goes the other way, so that nobody is always behind the same other.
    """
    try:
        with contextlib.ExitStack() as stack:
            base = stack.enter_context(place(workload.medium))
            rivals = [start(workload, entry, base / str(number), sizes, stack)
                      for number, entry in enumerate(workload.entries)]
            for number in range(rounds + (rounds > 1)):
                for rival in rivals[::-1 if number % 2 else 1]:
                    attempt(rival, workload, sizes, quiet)
    except Missing as missing:
        return Table(workload.number, workload.title, [''], [], [f'Not measured: {missing}.'])
    remarks = [f'{rival.entry.label} failed: {rival.failure}' for rival in rivals
               if rival.failure]
    results = {rival.entry.label: figures(rival.samples[rounds > 1:], workload.amount(sizes))
               for rival in rivals if not rival.failure}
    return comparison(workload, results, remarks, judging=sizes is FULL)


def start(workload, entry, path, sizes, stack):
    path.mkdir()
    rival = Rival(entry, entry.server(path, **entry.options))
    stack.callback(rival.server.close)
    prepare = entry.prepare or workload.prepare or nothing
    with peers_may_fail(rival):
        rival.server.start()
        rival.state = prepare(rival.server, sizes)
    return rival


def attempt(rival, workload, sizes, quiet):
    """A sample. A peer that has failed once takes no further part."""
    if rival.failure:
        return
    run = rival.entry.run or workload.run
    with peers_may_fail(rival):
        if workload.reads:
            in_memory(path for path in rival.server.place.rglob('*') if path.is_file())
        rival.samples.append(
            measure(rival.server, lambda server: run(server, sizes, rival.state), quiet))
        rival.server.clear()


@contextlib.contextmanager
def peers_may_fail(rival):
    try:
        yield
    except (AssertionError, OSError) as error:
        if not rival.entry.is_peer:
            raise
        rival.failure = str(error).replace('\n', ' ')[:200]
        print(f'{rival.entry.label}: {error}', file=sys.stderr)

