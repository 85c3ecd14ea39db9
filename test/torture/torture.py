#!/usr/bin/python3
"""Uploads over servers whose processes are killed all the time; nothing may get lost.

    torture.py [--seconds 60] [--seed N] [--mpm event,worker,prefork] [--clients 12]

Under each MPM in turn. Prints what was done and each loss; exit status 1 if there was one. The same
seed makes the same choices: what is uploaded how, and what is killed next. MOD_TUS_SO and the like:
see test/integration/README.md.
"""
import argparse
import os
import random
import re
import signal
import sys
import threading
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / 'integration'))

from testenv.errorlog import is_loud                        # noqa: E402
from testenv.httpd import MPMS, Httpd, endpoint             # noqa: E402
from testenv.store import upload_id                         # noqa: E402
from testenv.tus import Tus                                 # noqa: E402
from testenv.util import wait_until                         # noqa: E402

from lives import PATIENCE, Client                          # noqa: E402

KEPT = 400      # uploads that lie there until the end; older ones are looked at and removed
EXPIRE = 2      # seconds, at /soon

SETTINGS = {
    'event': 'StartServers 4\nServerLimit 8\nThreadsPerChild 8\nMinSpareThreads 24\n'
             'MaxSpareThreads 64\nMaxRequestWorkers 64',
    'prefork': 'StartServers 24\nServerLimit 48\nMinSpareServers 16\nMaxSpareServers 48\n'
               'MaxRequestWorkers 48',
}
SETTINGS['worker'] = SETTINGS['event']

# What httpd says of its own accord when its processes are killed.
USUAL = re.compile('AH00098|AH1039[23]')


class Tally:
    """What the clients have done, and what is to be looked at."""

    def __init__(self, tus):
        self.tus = tus
        self.count = Counter()
        self.losses = []
        self.kept, self.left, self.removed = [], [], []
        self._lock = threading.Lock()

    def lose(self, what):
        with self._lock:
            self.losses.append(what)
        print(f'LOSS {what}', flush=True)

    def keep(self, upload):
        old = None
        with self._lock:
            self.count['finished'] += 1
            self.count['bytes'] += len(upload.data)
            self.kept.append(upload)
            if len(self.kept) > KEPT:
                old = self.kept.pop(0)
        if old:
            self.verify(old)
            old.client.insist(lambda: self.tus.delete(old.url), (204, 404))

    def leave(self, upload):
        with self._lock:
            self.count['left to expire'] += 1
            self.left.append(upload)

    def remove(self, upload):
        with self._lock:
            self.count['terminated'] += 1
            self.removed.append(upload)

    # -- the end -------------------------------------------------------------------------------

    def verify(self, upload):
        """Byte by byte."""
        try:
            if self.tus.store.data(upload.url) != upload.data:
                self.lose(f'{upload.url} is not what was uploaded')
            if not self.tus.store.finished(upload.url):
                self.lose(f'{upload.url} is full, and not finished')
        except OSError as error:
            self.lose(f'{upload.url}: {error}')

    def verify_all(self):
        for upload in self.kept:
            self.verify(upload)
            if self.tus.offset(upload.url) != len(upload.data):
                self.lose(f'{upload.url}: HEAD has another offset')
        for upload in self.removed:
            if self.tus.head(upload.url).status != 404:
                self.lose(f'{upload.url} was terminated, and is still there')
        self.wait_gone([upload.url for upload in self.left], 'has expired')
        self.wait_gone([upload.url for upload in self.removed], 'was terminated')
        self.verify_rest()

    def wait_gone(self, urls, why):
        def remaining():
            files = self.tus.store.files()
            return [url for url in urls if {upload_id(url), upload_id(url) + '.info'} & files]
        try:
            wait_until(lambda: not remaining(), 'the sweep', PATIENCE)
        except AssertionError:
            for url in remaining():
                self.lose(f'{url} {why}, and its files are still there')

    def verify_rest(self):
        """Whose creation was never answered is whole, or gone."""
        def odd():
            files = self.tus.store.files()
            uploads = {name.removesuffix('.info') for name in files if not name.startswith('.')}
            return sorted({name for name in files if name.startswith('.')}
                          | {uid for uid in uploads if not {uid, uid + '.info'} <= files})
        try:
            wait_until(lambda: not odd(), 'the sweep', 15)
        except AssertionError:
            self.lose(f'left over: {odd()}')
        for name in self.tus.store.files():
            uid = name.removesuffix('.info')
            if uid != name and self.tus.head('/files/' + uid).status not in (200, 410):
                self.lose(f'{uid} cannot be read')


class Killer:
    """Kills children at random, all of them at once, or the whole server."""

    def __init__(self, server, config, seed):
        self.server = server
        self.config = config
        self.dice = random.Random(f'{seed}-killer')
        self.count = Counter()
        self.first = ['children', 'all', 'server']  # each of them once, however short the time

    def strike(self):
        what = (self.first.pop() if self.first else
                self.dice.choices(['children', 'all', 'server'], [85, 11, 4])[0])
        if what == 'server':
            self.server.kill()
            self.server.start(self.config)
            self.count['server'] += 1
            return
        children = self.server.children()
        victims = children if what == 'all' else [self.dice.choice(children)] if children else []
        for pid in victims:
            try:
                os.kill(pid, signal.SIGKILL)
                self.count['children'] += 1
            except ProcessLookupError:
                pass
        self.count['all at once'] += what == 'all'

    def run(self, seconds):
        end = time.monotonic() + seconds
        while self.first or time.monotonic() < end:
            time.sleep(self.dice.uniform(0.01, 0.3))
            self.strike()


def check_log(server, tally):
    for log in (server.error_log, server.stderr_log):
        for line in log.loud_lines():
            if not USUAL.search(line):
                tally.lose(f'in the error log: {line[:400]}')


def torture(mpm, seconds, seed, clients):
    """One server; what is wrong."""
    server = Httpd(mpm=mpm, mpm_settings=SETTINGS[mpm])
    try:
        store = server.make_store()
        config = (endpoint('Location /files', store)
                  + endpoint('Location /soon', store, f'TusExpire {EXPIRE}s'))
        server.start(config)
        tus = Tus(server, store=store)
        tally, stop = Tally(tus), threading.Event()
        killer = Killer(server, config, f'{seed}-{mpm}')
        threads = [threading.Thread(target=Client(number, f'{seed}-{mpm}', tus, stop, tally).run)
                   for number in range(clients)]
        for thread in threads:
            thread.start()
        try:
            killer.run(seconds)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        wait_until(server.answers, 'children that live')
        tally.verify_all()
        check_log(server, tally)
        report(mpm, killer.count, tally)
        return tally.losses
    finally:
        server.stop()
        server.remove()


def report(mpm, kills, tally):
    count = tally.count
    print(f'{mpm}: {kills["children"]} children killed ({kills["all at once"]} times all at once), '
          f'{kills["server"]} times the server; {count["finished"]} uploads of '
          f'{count["bytes"]} bytes finished, {count["terminated"]} terminated, {count["left to expire"]} left to expire; '
          f'{len(tally.losses)} losses', flush=True)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--seconds', type=float, default=60)
    parser.add_argument('--seed', default=str(random.SystemRandom().randrange(1_000_000)))
    parser.add_argument('--mpm', default=','.join(MPMS))
    parser.add_argument('--clients', type=int, default=12)
    arguments = parser.parse_args()
    mpms = arguments.mpm.split(',')
    print(f'SEED={arguments.seed}', flush=True)
    losses = [loss for mpm in mpms
              for loss in torture(mpm, arguments.seconds / len(mpms), arguments.seed,
                                  arguments.clients)]
    print(f'{len(losses)} losses')
    return 1 if losses else 0


if __name__ == '__main__':
    sys.exit(main())
