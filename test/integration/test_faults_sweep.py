"""Errors and death at each call of the sweep: what others left is cleaned up all the same.

A server whose own sweep is kept out leaves things lying about; test/tus_deed is the sweep, so that
it can die at each of its calls in turn.
"""
import errno
import json
import os
import shutil

import pytest

from testenv.checksum import with_checksum
from testenv.deeds import Deeds
from testenv.expiry import backdate
from testenv.faults import ALL, DIE_AFTER, EVER, FAIL, KINDS, REQUEST, ROOM, SWEEP, Faults
from testenv.http import Disconnected
from testenv.httpd import endpoint
from testenv.index import dump, state_of_store, without_sweep
from testenv.store import upload_id
from testenv.tus import Tus
from testenv.util import pattern

pytestmark = pytest.mark.reliability

FULL = os.environ.get('TUS_FAULTS') == 'full'
STEP = 1 if FULL else 3     # of n

DATA = pattern(20_000, 7)
EXPIRE = 3600

HOW = {'death': (DIE_AFTER, None, 0, KINDS), 'EIO once': (FAIL, None, errno.EIO, ALL),
       'ENOSPC': (FAIL, EVER, errno.ENOSPC, ROOM)}


class Mess:
    """A store as the dead left it, to be copied: `base` was settled, `left` was not."""

    def __init__(self, server):
        server.allow_log('AH10392')
        self.root = server.root
        store = server.make_store()
        self.faults = Faults(server.root, [])
        server.environment.update(self.faults.environment)
        server.start(endpoint('Location /files', store)
                     + endpoint('Location /soon', store, f'TusExpire {EXPIRE}s'))
        self.tus = Tus(server, store=store)
        self.soon = Tus(server, '/soon/', store)
        self.warm = self.tus.upload(b'x')
        self.state = state_of_store(server)
        self.faults.watch(store.path, self.state)
        with without_sweep(self.state):
            self.make_base()
            self.save('base')
            self.make_left()
            self.save('left')

    def save(self, name):
        """A copy; the index is not there yet, nor what the server's sweep noted of it."""
        for what, path in (('store', self.tus.store.path), ('state', self.state)):
            shutil.copytree(path, self.root / name / what, symlinks=True,
                            ignore=shutil.ignore_patterns('index.*', 'clean', 'rebuild*'))

    def make_base(self):
        self.finished = self.tus.upload(DATA)
        self.open = self.tus.new(len(DATA), DATA[:7000])
        (self.tus.store.path / 'foreign').write_bytes(b'bytes')
        (self.tus.store.path / 'foreign.info').write_bytes(b'no record')

    def make_left(self):
        self.die_at('write', '.info.tmp', lambda: self.tus.create(100))
        self.chunk = self.tus.new(len(DATA), DATA[:7000])
        self.die_at('write', upload_id(self.chunk), lambda: self.tus.patch(
            self.chunk, 7000, b'-' * 100, with_checksum(b'+' * 100)))
        self.full = self.tus.new(len(DATA), DATA[:7000])
        self.die_at('create', '.info.tmp', lambda: self.tus.patch(self.full, 7000, DATA[7000:]))
        self.terminated = self.tus.new(len(DATA), DATA[:7000])
        self.die_at('unlink', upload_id(self.terminated), lambda: self.tus.delete(self.terminated))
        parts = [self.tus.partial(7000, DATA[:7000]), self.tus.partial(len(DATA) - 7000)]
        self.final = self.tus.final(parts)
        self.parts = parts
        self.die_at('copy', upload_id(self.final),
                    lambda: self.tus.patch(parts[1], 0, DATA[7000:]))
        self.expired = self.soon.new(len(DATA), DATA[:7000])
        self.age(self.expired)
        self.forgotten = self.soon.new(len(DATA), DATA[:7000])
        self.age(self.forgotten, Expired='2001-01-01T00:00:00.000000Z')

    def die_at(self, kind, name, request):
        """The request dies after its first call of that kind at a file of such a name; its path."""
        with self.faults.armed(DIE_AFTER, kinds=(kind,), suffix=name):
            with pytest.raises((Disconnected, OSError)):
                request()
            return self.faults.hit.split(' ', 1)[1]

    def age(self, url, **more):
        """As if it had been made, and written, so long ago that it has expired."""
        info = self.tus.store.info(url)
        info['ModTus'].update(Created='2000-01-01T00:00:00.000000Z', **more)
        self.tus.store.info_path(url).write_text(json.dumps(info))
        backdate(self.soon, url, EXPIRE * 1.5)

    # -- the sweep -----------------------------------------------------------------------------

    def lay_out(self, place):
        """The mess at `place`, noted in the journal, beside an index of the base."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.root / 'base', place, symlinks=True)
        with Deeds() as deeds:
            assert deeds.do('settle', place / 'store', place / 'state') == {'status': 200}
        shutil.copytree(self.root / 'left', place, symlinks=True, dirs_exist_ok=True,
                        ignore=shutil.ignore_patterns('journal*'))
        left = [line for line in (self.root / 'left' / 'state' / 'journal').open('rb')
                if line[:1] in b'+=']
        with (place / 'state' / 'journal').open('ab') as journal:
            journal.writelines(left)

    def lay_out_anew(self, place):
        """The same, and no index was ever made: the first sweep of a store."""
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(self.root / 'left', place, symlinks=True)

    def check(self, place):
        """All is settled by a sweep that meets no fault; nothing that should stay is gone."""
        store, state = place / 'store', place / 'state'
        with Deeds() as deeds:
            for _ in range(2):
                assert deeds.do('settle', store, state) == {'status': 200}
                assert deeds.do('expire', store, state) == {'status': 200}

            def state_of(url):
                return deeds.do('inspect', store, state, upload_id(url))
            for url, offset in ((self.finished, len(DATA)), (self.open, 7000), (self.chunk, 7000),
                                (self.full, len(DATA)), (self.final, len(DATA))):
                answer = state_of(url)
                assert answer == {'status': 200, 'offset': offset, 'length': len(DATA),
                                  'finished': offset == len(DATA)}
                assert (store / upload_id(url)).read_bytes() == DATA[:offset]
            # It died between the data and the record: then nobody knows that it has expired.
            expired = state_of(self.expired)['status']
            assert expired in (404, 410)
            assert state_of(self.forgotten)['status'] == 404
            assert state_of(self.terminated)['status'] == 404
        known = [self.warm, self.finished, self.open, self.chunk, self.full, self.final,
                 *self.parts]
        files = {name for url in known for name in (upload_id(url), upload_id(url) + '.info')}
        if expired == 410:
            known.append(self.expired)
            files.add(upload_id(self.expired) + '.info')
        assert set(os.listdir(store)) == files | {'foreign', 'foreign.info'}
        assert (store / 'foreign').read_bytes() == b'bytes'
        assert not list((state / 'unverified').iterdir())
        assert set(dump(state)) == {upload_id(url) for url in known}


@pytest.fixture(scope='module')
def mess(shared_httpd):
    return Mess(shared_httpd())


@pytest.mark.parametrize('how', HOW.values(), ids=HOW)
@pytest.mark.parametrize('lay_out', [Mess.lay_out, Mess.lay_out_anew], ids=['sweep', 'first sweep'])
def test_the_sweep(mess, scratch, lay_out, how):
    action, last, error, kinds = how
    place = scratch / 'mess'
    faults = Faults(scratch, [place / 'store', place / 'state'])
    n, hit = 1, True
    while hit:
        lay_out(mess, place)
        deeds = Deeds(environment=faults.environment)
        with faults.armed(action, n, last, error, kinds, REQUEST | SWEEP):
            if deeds.do('settle', place / 'store', place / 'state'):
                deeds.do('expire', place / 'store', place / 'state')
            hit = faults.hit
        deeds.close()
        try:
            mess.check(place)
        except AssertionError as problem:
            raise AssertionError(f'at call {n}, {hit}: {problem}') from problem
        n += STEP
    assert n > 30
