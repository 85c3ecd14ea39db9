"""Errors of the disk, and death, at each call in TusStateDir when a store is used the first time.

Whatever happens then, the next request, or the next start, works; the registry names each store
once, and none by another's name.
"""
import errno
import itertools
import os
import shutil

import pytest

from testenv.faults import (ALL, DIE_AFTER, DIE_BEFORE, EVER, FAIL, KINDS, MANY_CHILDREN, ROOM,
                            SHORT, Faults)
from testenv.http import Disconnected
from testenv.httpd import HttpdError, endpoint
from testenv.tus import Tus
from testenv.util import pattern, wait_until

pytestmark = pytest.mark.reliability

DATA = pattern(5000, 3)
HALF = 2000
STORES = 40

HOW = {'EIO once': (FAIL, None, errno.EIO, ALL), 'ENOSPC once': (FAIL, None, errno.ENOSPC, ROOM),
       'ENOSPC': (FAIL, EVER, errno.ENOSPC, ROOM), 'EDQUOT': (FAIL, EVER, errno.EDQUOT, ROOM),
       'short, then ENOSPC': (SHORT, EVER, errno.ENOSPC, ('write',)),
       'death before': (DIE_BEFORE, None, 0, KINDS), 'death after': (DIE_AFTER, None, 0, KINDS)}


def registry(server):
    """Names by path; a path must not stand there twice, nor a name."""
    path = server.state_dir / 'stores'
    lines = path.read_text().splitlines() if path.exists() else []
    stores = {line.split('\t')[6]: line.split('\t')[0] for line in lines}
    assert len(stores) == len(set(stores.values())) == len(lines), lines
    return stores


def directories(server):
    return {path.name for path in server.state_dir.iterdir() if path.is_dir()}


class FirstUse:
    """A server with stores of which none was ever used, and whose calls in TusStateDir are seen."""

    def __init__(self, server):
        server.allow_log(r'\[tus:error\]')
        server.allow_log('AH10392')     # many children die at a time
        self.server = server
        stores = [server.make_store(f'n{number}') for number in range(STORES)]
        self.faults = Faults(server.root, [server.state_dir])
        server.environment.update(self.faults.environment)
        self.config = ''.join(endpoint(f'Location /{store.path.name}', store) for store in stores)
        server.start(self.config)
        self.fresh = [Tus(server, f'/{store.path.name}/', store) for store in stores]
        self.used = {}      # URLs of finished uploads, by endpoint
        self.forgotten = set()

    def forget(self):
        """TusStateDir is as empty as at the first start."""
        (self.server.state_dir / 'stores').unlink(missing_ok=True)
        for name in directories(self.server):
            wait_until(lambda name=name: self.remove(name), 'the sweep to leave it')
        self.forgotten |= {str(tus.store) for tus in self.used}
        self.used.clear()

    def remove(self, name):
        shutil.rmtree(self.server.state_dir / name, ignore_errors=True)
        return not (self.server.state_dir / name).exists()

    def act(self, how, n):
        """The first request at a store, hit at its n-th call, and what a client does then."""
        action, last, error, kinds = how
        tus = self.fresh.pop()
        died = action in (DIE_BEFORE, DIE_AFTER)
        before = registry(self.server)
        with self.faults.armed(action, n, last, error, kinds):
            try:
                status = tus.create(len(DATA), DATA[:HALF]).status
            except (Disconnected, OSError):
                status = None
            hit = self.faults.hit
        if not hit:
            assert status == 201, status
        elif died:
            assert status is None, status
        else:
            assert status in (201, 500, 507), status
        assert before.items() <= registry(self.server).items()
        url = tus.new(len(DATA), DATA[:HALF])
        assert tus.append(url, HALF, DATA[HALF:]) == len(DATA)
        self.used[tus] = url
        self.check(died)
        return hit

    def check(self, died):
        """All stores that were used are known, each by a name of its own; nothing else is there,
        but for what a sweep had still known that was forgotten under its feet."""
        stores = registry(self.server)
        used = {str(tus.store) for tus in self.used}
        assert used <= set(stores) <= used | self.forgotten
        odd = directories(self.server) - set(stores.values())
        assert not any(os.listdir(self.server.state_dir / name) for name in odd)
        assert died or not odd, f'left behind: {odd}'
        files = {path.name for path in self.server.state_dir.iterdir() if path.is_file()}
        assert files == {'settled', 'stores'}
        for tus, url in self.used.items():
            assert tus.offset(url) == len(DATA)
            assert (self.server.state_dir / stores[str(tus.store)] / 'journal').exists()


@pytest.mark.parametrize('how', HOW.values(), ids=HOW)
@pytest.mark.parametrize('empty', [True, False], ids=['empty', 'others are known'])
def test_first_use(httpd, how, empty):
    first = FirstUse(httpd(mpm_settings=MANY_CHILDREN))
    for n in itertools.count(1):
        if empty:
            first.forget()
        try:
            hit = first.act(how, n)
        except AssertionError as problem:
            raise AssertionError(f'at call {n}: {problem}') from problem
        if not hit:
            break
    assert n > 2
    first.server.stop()
    first.server.start(first.config)
    first.check(died=True)


def test_start_and_stop(httpd):
    """A parent that cannot make TusStateDir, or write into it: the next start works."""
    server = httpd()
    server.settled = False
    server.allow_log(r'\[tus:(warn|error)\]')
    server.state_dir = server.root / 'var' / 'tus'
    server.state_dir.parent.mkdir()
    store = server.make_store()
    config = endpoint('Location /files', store)
    faults = Faults(server.root, [server.state_dir.parent])
    server.environment.update(faults.environment)
    urls = []
    for n in itertools.count(1):
        shutil.rmtree(server.state_dir, ignore_errors=True)
        with faults.armed(FAIL, n, None, errno.ENOSPC, ALL):
            try:
                server.start(config)
                server.stop()
            except HttpdError:
                pass
            hit = faults.hit
        server.start(config)
        tus = Tus(server, store=store)
        urls.append(tus.upload(DATA))
        assert all(tus.offset(url) == len(DATA) for url in urls)
        server.stop()
        assert (server.state_dir / 'settled').exists(), hit
        if not hit:
            break
    assert n > 4


def test_a_registry_that_was_cut_or_scribbled_over(httpd):
    """No line of it makes one store of another; what it does not say is found out anew."""
    server = httpd()
    stores = [server.make_store(f'n{number}') for number in range(3)]
    config = ''.join(endpoint(f'Location /{store.path.name}', store) for store in stores)
    server.start(config)
    tuses = [Tus(server, f'/{store.path.name}/', store) for store in stores]
    urls = [tus.upload(DATA) for tus in tuses]
    path = server.state_dir / 'stores'
    whole = path.read_bytes()
    known = registry(server)
    line = whole.index(b'\n') + 1
    for text in (b'', bytes(len(whole)), whole[:-1], whole[:line - 5], whole[line // 2:],
                 whole[:line] + bytes(line) + whole[2 * line:]):
        server.stop()
        path.write_bytes(text)
        server.start(config)
        for tus, url in zip(tuses, urls):
            assert tus.offset(url) == len(DATA)
            assert tus.upload(DATA)
        found = registry(server)
        assert set(found) == set(known)
        for store, name in found.items():
            assert name == known[store] or name not in known.values()
