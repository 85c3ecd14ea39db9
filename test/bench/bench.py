#!/usr/bin/python3
"""Measures mod_tus beside the floors and its peers.

    test/bench/bench.py [--smoke] [--rounds N] [--output FILE] [NUMBER ...]

NUMBER picks workloads: `1a`, or `1` for all that begin with it. Prints tables, and writes them to
FILE with what they were measured on. --smoke does a little of each, without peers.
"""
import argparse
import datetime
import os
import platform
import re
import signal
import subprocess
import sys
from pathlib import Path

import experiments
import subjects
import workloads
from compare import compare
from media import DIRECTORIES, file_system
from subjects import PEER_CLASSES, ROOT

INTRODUCTION = ROOT / 'test' / 'bench' / 'introduction.md'
EXPERIMENTS = (('4c', experiments.system_calls), ('6b', experiments.many_uploads),
               ('9', experiments.take_over), ('10', experiments.memory))
# 7b mounts a file system, and 9 is smoke-bench-takeover.
NOT_SMOKED = ('7b', '9')


def main():
    options = parse()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))    # and leave nothing behind
    if options.smoke:
        subjects.PEER_CLASSES = ()
        workloads.PEER_CLASSES = ()
    sizes = workloads.SMOKE if options.smoke else workloads.FULL
    facts = surroundings(options)
    tables = []
    options.output.parent.mkdir(parents=True, exist_ok=True)
    for number, make in chosen(sizes, options):
        if is_wanted(number, options):
            for table in make():
                print(table.text(), flush=True)
                tables.append(table)
                options.output.write_text(page(tables, facts), 'utf-8')


def is_wanted(number, options):
    if options.smoke and number in NOT_SMOKED:
        return False
    return not options.numbers or number.startswith(tuple(options.numbers))


def parse():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--smoke', action='store_true')
    parser.add_argument('--rounds', type=int, default=5)
    parser.add_argument('--output', type=Path, default=ROOT / 'build' / 'bench' / 'benchmarks.md')
    parser.add_argument('numbers', nargs='*', metavar='NUMBER')
    return parser.parse_args()


def chosen(sizes, options):
    """(number, function that makes its table), in order."""
    quiet = 0 if options.smoke else 1.1     # mod_tus's sweep comes each second
    for workload in workloads.workloads():
        yield workload.number, lambda it=workload: [compare(it, sizes, options.rounds, quiet)]
    for number, run in EXPERIMENTS:
        yield number, lambda it=run: it(sizes, options.rounds, quiet)


# -- the page --------------------------------------------------------------------------------------

def in_order(table):
    number = re.match(r'\d+', table.number)[0]
    return int(number), table.number


def page(tables, facts):
    load = 'Load average at the end', ' '.join(f'{load:.1f}' for load in os.getloadavg())
    lines = '\n'.join(f'- {name}: {value}' for name, value in (*facts, load))
    return (INTRODUCTION.read_text('utf-8') + f'\n## What was measured\n\n{lines}\n\n## Results\n\n'
            + '\n'.join(table.markdown() for table in sorted(tables, key=in_order)))


def surroundings(options):
    """Before anything is written: the page is a part of what git would call dirty."""
    return (('Date', datetime.date.today().isoformat()),
            ('Machine', machine()),
            ('Media', ', '.join(f'{name}: {file_system(name)}' for name in DIRECTORIES)),
            ('Software', ', '.join(versions())),
            ('Command', f'`{command(options)}`'),
            ('Rounds', f'{options.rounds}' + ', after one that is not counted' * (options.rounds > 1)))


def machine():
    cpu = re.search(r'^model name\s*: (.*)', Path('/proc/cpuinfo').read_text(), re.M)
    memory = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / (1 << 30)
    return (f'{os.cpu_count()} × {cpu[1] if cpu else platform.machine()}, {memory:.0f} GiB, '
            f'Linux {platform.release()}')


def versions():
    yield f'mod_tus {said("git", "-C", str(ROOT), "describe", "--always", "--dirty")}'
    httpd = subjects.Apache.path_of('SBINDIR') + '/' + subjects.Apache.path_of('PROGNAME')
    yield re.search(r'Apache/\S+', said(httpd, '-v'))[0]
    yield ' '.join(said('openssl', 'version').split()[:2])
    yield said('curl', '--version').split(' (')[0]
    for peer in PEER_CLASSES:
        yield f'{peer.name} {peer.version() or "not there"}'


def command(options):
    only = f" ONLY='{' '.join(options.numbers)}'" if options.numbers else ''
    return f'make -f Makefile.apxs bench ROUNDS={options.rounds}{only}'


def said(*words):
    result = subprocess.run(words, capture_output=True, text=True, check=False)
    return result.stdout.strip() or 'unknown'


if __name__ == '__main__':
    sys.exit(main())
