"""A loss of power at any moment: what was promised is there, whatever else the disk forgot.

The calls of real requests are recorded; each state that a file system without any ordering could
have kept of them is made, after each call, and asked for the upload. What was answered before
binds: see the promises below. TUS_FAULTS=full tries more states.
"""
import os
from collections import Counter
from pathlib import Path

import pytest

from testenv.checksum import with_checksum
from testenv.deeds import Deeds
from testenv.faults import Faults
from testenv.httpd import endpoint
from testenv.powerloss import Disk, materialise
from testenv.store import Store, upload_id
from testenv.tus import Tus
from testenv.util import pattern

pytestmark = pytest.mark.reliability

FULL = os.environ.get('TUS_FAULTS') == 'full'
BOUND = 4000 if FULL else 150
DATA = pattern(10_000, 9)
CUT = (0, 3000, 6000, len(DATA))

# In the state directory nothing else has any say in what an upload is.
KEPT = ('unverified', 'links', 'synced', 'info')


class Session:
    """Requests in a store of their own, and after which call each was answered what."""

    def __init__(self, tus, lax, faults):
        self.tus = tus
        self.lax = lax      # another endpoint on the store, with TusSync finish
        self.faults = faults
        self.before = faults.log.stat().st_size
        self.promises = []  # (calls made by then, id, bytes, offset, finished)

    def acknowledge(self, url, offset, data=DATA, finished=None):
        finished = offset == len(data) if finished is None else finished
        self.promises.append((len(self.faults.recorded(self.before)), upload_id(url), data, offset,
                              finished))

    def new(self, stored=0, fields=(), data=DATA, length=len(DATA)):
        url = self.tus.new(length, data[:stored], fields)
        self.acknowledge(url, stored, data)
        return url

    def append(self, url, start, end, fields=(), data=DATA):
        self.tus.append(url, start, data[start:end], headers=fields)
        self.acknowledge(url, end, data)


def whole(session):
    session.new(len(DATA))


def pieces(session):
    url = session.new()
    for start, end in zip(CUT, CUT[1:]):
        session.append(url, start, end)


def deferred(session):
    url = session.new(CUT[1], [('Upload-Defer-Length', 1)], length=None)
    session.append(url, CUT[1], CUT[2], [('Upload-Length', len(DATA))])
    session.append(url, CUT[2], CUT[3])


def checksummed(session):
    url = session.new()
    for start, end in zip(CUT, CUT[1:]):
        wrong = bytes(byte ^ 1 for byte in DATA[start:end])
        fields = with_checksum(DATA[start:end])
        assert session.tus.patch(url, start, wrong, fields).status == 460
        session.append(url, start, end, fields)


def concatenated(session):
    half = len(DATA) // 2
    parts = [session.new(half, [('Upload-Concat', 'partial')], part, half)
             for part in (DATA[:half], DATA[half:])]
    session.acknowledge(session.tus.final(parts), len(DATA))


def concatenated_later(session):
    half = len(DATA) // 2
    partial = [('Upload-Concat', 'partial')]
    parts = [session.new(half, partial, DATA[:half], half),
             session.new(0, partial, DATA[half:], half)]
    final = session.tus.final(parts)
    session.acknowledge(final, 0)
    session.tus.append(parts[1], 0, DATA[half:])
    session.acknowledge(parts[1], half, DATA[half:])
    session.acknowledge(final, len(DATA))


def created_elsewhere(session):
    made = session.lax.new(len(DATA), DATA[:CUT[1]])
    url = session.tus.base + upload_id(made)
    session.append(url, CUT[1], CUT[2])
    session.append(url, CUT[2], CUT[3])


def declared_elsewhere(session):
    """The record that is written then is to last as long as the bytes that were acknowledged."""
    url = session.new(CUT[1], [('Upload-Defer-Length', 1)], length=None)
    session.lax.append(session.lax.base + upload_id(url), CUT[1], DATA[CUT[1]:CUT[2]],
                       headers=[('Upload-Length', len(DATA))])
    session.append(url, CUT[2], CUT[3])


SESSIONS = (whole, pieces, deferred, checksummed, concatenated, concatenated_later,
            created_elsewhere, declared_elsewhere)


@pytest.fixture(scope='module')
def faults_and_server(shared_httpd):
    server = shared_httpd()
    faults = Faults(server.root, [])
    server.environment.update(faults.environment)
    sections = ''
    for sync in ('finish', 'always'):
        for session in SESSIONS:
            store = server.make_store(f'{session.__name__}-{sync}')
            sections += endpoint(f'Location /{store.path.name}', store, f'TusSync {sync}')
            sections += endpoint(f'Location /lax/{store.path.name}', store)
    server.start(sections)
    faults.watch(server.root / 'stores', server.state_dir)
    faults.record()
    return faults, server


def record(faults_and_server, run, sync):
    """The session, its calls, and the store's directory in TusStateDir."""
    faults, server = faults_and_server
    store = server.root / 'stores' / f'{run.__name__}-{sync}'
    session = Session(Tus(server, f'/{store.name}/', Store(store)),
                      Tus(server, f'/lax/{store.name}/', Store(store)), faults)
    known = set(os.listdir(server.state_dir)) if server.state_dir.exists() else set()
    run(session)
    calls = faults.recorded(session.before)
    new, = [name for name in set(os.listdir(server.state_dir)) - known
            if (server.state_dir / name).is_dir()]
    return session, calls, store, server.state_dir / new


def judge(sync, answer, stored, data, offset, finished):
    """What is wrong with an upload of which this was acknowledged, or None."""
    status = answer['status']
    if status not in (200, 404):
        return f'{status} {answer["why"]}'
    if status == 404:
        bound = finished or (offset is not None and sync == 'always')
        return 'it is gone' if bound else None
    if answer['finished'] and (answer['offset'] != len(data) or stored != data):
        return 'finished, and not exact'
    if stored[:answer['offset']] != data[:answer['offset']]:
        return f'bytes that were never received count: offset {answer["offset"]}'
    if finished and not answer['finished']:
        return f'finished, and now at {answer["offset"]}'
    if sync == 'always' and offset is not None and answer['offset'] < offset:
        return f'acknowledged {offset}, and now at {answer["offset"]}'
    return None


def check_states(session, calls, store, state_dir, sync, base):
    """What is wrong in which states: a Counter of sentences, and how many states there were."""
    wrong, total, examples = Counter(), 0, {}
    places = {str(store): f'{base}/store', str(state_dir): f'{base}/state'}
    ids = dict.fromkeys(uid for _, uid, *_ in session.promises)

    def ignored(path):
        """The sweep of other stores, and what it notes of this one."""
        below = Path(path)
        if below.is_relative_to(store):
            return False
        return (not below.is_relative_to(state_dir)
                or below != state_dir and below.relative_to(state_dir).parts[0] not in KEPT)

    disk = Disk(places, ignored)
    with Deeds('another') as deeds:
        for number, call in enumerate([None, *calls]):
            if call:
                disk.play(call)
            if call and (call.kind == 'lock' or ignored(call.path)):
                continue
            for state in disk.states(BOUND, number):
                total += 1
                materialise(state, places)
                for uid in ids:
                    answer = deeds.do('inspect', f'{base}/store', f'{base}/state', uid)
                    path = f'{base}/store/{uid}'
                    stored = open(path, 'rb').read() if os.path.exists(path) else b''
                    data, offset, finished = promised(session, uid, number)
                    problem = judge(sync, answer, stored, data, offset, finished)
                    if problem:
                        wrong[problem] += 1
                        examples.setdefault(problem, f'after call {number} ({call})')
    return wrong, total, examples


def promised(session, uid, number):
    """(bytes, offset or None, finished) as acknowledged when so many calls were made."""
    found = [promise for promise in session.promises if promise[1] == uid]
    made = [promise for promise in found if promise[0] <= number]
    return (found[0][2], made[-1][3], made[-1][4]) if made else (found[0][2], None, False)


@pytest.mark.parametrize('sync', ['finish', 'always'])
@pytest.mark.parametrize('run', SESSIONS)
def test_promises_hold(faults_and_server, scratch, run, sync):
    session, calls, store, state_dir = record(faults_and_server, run, sync)
    wrong, total, examples = check_states(session, calls, store, state_dir, sync, scratch)
    assert total > len(calls) / 2
    print(f'{run.__name__}, TusSync {sync}: {len(calls)} calls, {total} states')
    assert not wrong, '\n'.join(f'{count} states: {problem}, {examples[problem]}'
                                for problem, count in wrong.most_common())
