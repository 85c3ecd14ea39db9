#!/usr/bin/python3
"""Whether requests take more instructions than they did when they were last recorded.

    test/bench/instructions.py [--record]

httpd runs under callgrind as one process, which notes after each request what was executed since
the request before; the least of many requests is what one costs, which leaves out start-up and
what other threads do meanwhile. No clock is involved, and callgrind shows every processor that has
AVX2 as the same one. What still matters is the compiler and the libraries: the figures in
instructions.json are judged on the same distribution with the same compiler, elsewhere printed
beside their record only.
"""
import argparse
import json
import platform
import re
import subprocess
import sys
from pathlib import Path

import clients
from media import place
from subjects import OneProcess
from testenv.httpd import MODULE
from testenv.util import give_to_user, wait_until

RECORD = Path(__file__).with_name('instructions.json')
TOLERANCE = 0.05
COUNT = 25
MIB = 1 << 20

# What a file of callgrind's says: a cost line of a function's own; `calls=` announces one that is
# its callee's. A name stands where its number is used first.
OBJECT = re.compile(r'(c?)ob=\((\d+)\)(?: (.*))?$')
COST = re.compile(r'(?:[+-]?\d+|\*) (\d+)$')


class Traced(OneProcess):
    """Under callgrind, which writes a file for each request."""

    def __init__(self, path):
        self.notes = path / 'notes'
        super().__init__(path, ['valgrind', '--tool=callgrind', '--combine-dumps=no',
                                '--dump-after=ap_run_log_transaction', '--dump-line=no',
                                f'--callgrind-out-file={self.notes}/out'])
        self.notes.mkdir()
        give_to_user(self.notes)

    def costs(self, requests):
        """(inside mod_tus.so, all) of each request so far."""
        paths = [self.notes / f'out.{number}' for number in range(1, requests + 1)]
        wait_until(paths[-1].exists, 'the last request to be noted', timeout=60)
        return [cost_of(path.read_text()) for path in paths]


def cost_of(text):
    names, current, own, is_callee = {}, None, {}, False
    for line in text.splitlines():
        if match := OBJECT.match(line):
            names.setdefault(match[2], match[3])
            current = current if match[1] else match[2]
        elif match := COST.match(line):
            if not is_callee:
                own[current] = own.get(current, 0) + int(match[1])
            is_callee = False
        elif line.startswith('calls='):
            is_callee = True
    inside = sum(cost for number, cost in own.items() if names[number].endswith(MODULE.name))
    return inside, sum(own.values())


def measured():
    """The instructions of one request of each kind."""
    with place('tmpfs') as base:
        server = Traced(base)
        try:
            server.start()
            return of_requests(server)
        finally:
            server.close()


def of_requests(server):
    """COUNT of each kind, one after the other."""
    clients.create_small(server, COUNT, connections=1)
    created = server.all_paths()
    paths = server.place / 'paths'
    paths.write_text(created[0])
    clients.head_any(server, paths, COUNT, connections=1)
    uploads = [server.create(MIB) for _ in range(COUNT)]
    paths.write_text(uploads[0])
    clients.head_any(server, paths, COUNT, connections=1)
    for path in uploads:
        clients.load('patch', server.port, path, MIB)
    costs = server.costs(5 * COUNT)
    kinds = {'creation with 4 KiB': costs[:COUNT], 'HEAD': costs[COUNT:2 * COUNT],
             'HEAD of an unfinished one': costs[3 * COUNT:4 * COUNT],
             'PATCH of 1 MiB': costs[4 * COUNT:]}
    return {f'{kind}, {figure}': value for kind, found in kinds.items()
            for figure, value in least(found).items()}


def least(costs):
    inside, everything = zip(*costs)
    return {'inside mod_tus.so': min(inside), 'all': min(everything)}


def environment():
    """What the figures depend on beside our source."""
    cpu = 'AVX2' if re.search(r'\bavx2\b', Path('/proc/cpuinfo').read_text()) else 'no AVX2'
    compiler = re.search(r'(GCC:|clang).*', said('readelf', '--string-dump=.comment', MODULE))
    release = platform.freedesktop_os_release()
    return [platform.machine(), cpu, compiler[0] if compiler else 'unknown compiler',
            f'{release["ID"]} {release.get("VERSION_ID", "")}'.strip()]


def said(*command):
    return subprocess.run([str(word) for word in command], capture_output=True, text=True,
                          check=True).stdout


def judge(figures, recorded):
    """Prints a line for each figure; whether none is too far off."""
    here = environment()
    if recorded['environment'] != here:
        print(f'Recorded with {", ".join(recorded["environment"])}; here is {", ".join(here)}: '
              'not judged')
    good = True
    for name, value in figures.items():
        change = value / recorded['figures'].get(name, 1) - 1
        verdict = 'passed' if abs(change) <= TOLERANCE else 'FAILED'
        if recorded['environment'] != here:
            verdict = 'not judged'
        good = good and verdict != 'FAILED'
        print(f'instructions {name}: {value:,}, {change:+.1%}: {verdict}')
    if not good:
        print('If that is meant: make -f Makefile.apxs bench-instructions RECORD=1')
    return good


def main():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--record', action='store_true')
    is_recording = parser.parse_args().record
    figures = measured()
    if is_recording:
        RECORD.write_text(json.dumps({'environment': environment(), 'figures': figures},
                                     indent=2) + '\n')
    return 0 if judge(figures, json.loads(RECORD.read_text())) else 1


if __name__ == '__main__':
    sys.exit(main())
