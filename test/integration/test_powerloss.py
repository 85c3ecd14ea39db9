"""A loss of power at any moment: what was promised is there, whatever else the disk forgot.

The calls of real requests are recorded; each state that a file system without any ordering could
have kept of them is made, after each call, and asked for the upload. What was answered before
binds: see the promises below. TUS_FAULTS=full tries more states.

Of hooks' events it is said of each state what will be told of it; and, of some, seen.
"""
import json
import os
import random
import shutil
from collections import Counter
from pathlib import Path

import pytest

from testenv import spool
from testenv.checksum import with_checksum
from testenv.deeds import Deeds
from testenv.faults import Faults
from testenv.httpd import endpoint
from testenv.powerloss import Disk, materialise
from testenv.store import Store, upload_id
from testenv.tus import Tus
from testenv.util import give_to_user, pattern

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


# -- hooks -----------------------------------------------------------------------------------------

POST = 'post-create post-finish post-terminate'


class Hooked(Session):
    """A session whose events nobody takes; also what of them has to last."""

    def __init__(self, tus, faults, sync):
        super().__init__(tus, None, faults)
        self.sync = sync
        self.events = []    # (calls made by then, type, id)

    def acknowledge(self, url, offset, data=DATA, finished=None):
        super().acknowledge(url, offset, data, finished)
        calls, uid, _, _, finished = self.promises[-1]
        if self.sync == 'always':
            self.events.append((calls, 'post-create', uid))
        if finished:
            self.events.append((calls, 'post-finish', uid))

    def remove(self, url):
        assert self.tus.delete(url).status == 204
        if self.sync == 'always':
            calls = len(self.faults.recorded(self.before))
            self.events.append((calls, 'post-terminate', upload_id(url)))

    def kept(self, number):
        """What has to be told, whatever happens, once so many calls were made."""
        return {(type, uid) for calls, type, uid in self.events if calls <= number}


def removed(session):
    url = session.new(len(DATA))
    session.remove(url)


def removed_unfinished(session):
    url = session.new(CUT[1])
    session.append(url, CUT[1], CUT[2])
    session.remove(url)


def some(session):
    """Whose events lie beside each other."""
    urls = [session.new() for _ in range(4)]
    for url in urls:
        session.append(url, 0, len(DATA))


HOOKED = (whole, pieces, concatenated, removed, removed_unfinished, some)


class Recorded:
    """A hooked session: its directories, and some of the states that it may leave."""

    def __init__(self, server, faults, name, run, sync):
        self.store, self.sync = server.root / 'stores' / name, sync
        self.session = Hooked(Tus(server, f'/{name}/', Store(self.store)), faults, sync)
        known = set(os.listdir(server.state_dir))
        run(self.session)
        self.calls = faults.recorded(self.session.before)
        new, = [each for each in set(os.listdir(server.state_dir)) - known
                if (server.state_dir / each).is_dir()]
        self.state_dir = server.state_dir / new
        self.uids = {uid for _, uid, *_ in self.session.promises}
        self.samples = []   # (number of calls, state)

    def ignored(self, path):
        below = Path(path)
        return not (below.is_relative_to(self.store) or below.is_relative_to(self.state_dir))

    def states(self):
        """(number of calls, state), of all that may be found."""
        disk = Disk([self.store, self.state_dir], self.ignored)
        for number, call in enumerate([None, *self.calls]):
            if call:
                disk.play(call)
            if call and (call.kind == 'lock' or self.ignored(call.path)):
                continue
            for state in disk.states(BOUND, number):
                yield number, state

    def record_of(self, state, uid):
        """What ID.info says then; None if there is none that can be read."""
        try:
            return json.loads(state[f'{self.store}/{uid}.info'][0])
        except (KeyError, ValueError):
            return None

    def happened(self, state, event):
        """What its record says of a pending one."""
        record = self.record_of(state, event.fields['id'])
        if event.type == 'post-terminate':
            return record is None
        return record is not None and (event.type == 'post-create'
                                       or 'Finished' in record['ModTus'])

    def spooled(self, state):
        """(events that are whole, how many files of them are not)."""
        events, torn = [], 0
        for path, what in state.items():
            path = Path(path)
            if (what is None or path.suffix == '.tmp' or path.parent.parent.name != 'spool'
                    or path.parent.name == 'failed'):
                continue
            event = spool.parse(what[0])
            torn += event is None
            if event:
                event.is_pending = path.suffix == '.new'
                events.append(event)
        return events, torn

    def told(self, state):
        """What will be told: {(type, id)}."""
        return {(event.type, event.fields['id']) for event in self.spooled(state)[0]
                if not event.is_pending or self.happened(state, event)}

    def comes_true(self, type, uid):
        """Whether it is so now, with a server that goes on with what it found."""
        try:
            return type == 'post-finish' and 'Finished' in json.loads(
                (self.store / f'{uid}.info').read_text())['ModTus']
        except FileNotFoundError:
            return type == 'post-terminate'

    def wrong(self, number, state):
        """What is wrong with a state that may be found after so many calls, as sentences."""
        told = self.told(state)
        for type, uid in self.session.kept(number) - told:
            # No TusSync says that what was removed stays so.
            if type != 'post-terminate' or not self.record_of(state, uid):
                yield f'{type} is lost'
        for type, uid in told:
            record = self.record_of(state, uid)
            if type == 'post-finish' and record and 'Finished' not in record['ModTus']:
                yield 'post-finish of what is not finished'
            if self.sync == 'always' and not record and ('post-terminate', uid) not in told:
                yield f'{type} of what is not there'

    def put(self, state):
        """Make it so, in the directories that the server knows."""
        for root in (self.store, self.state_dir):
            for entry in root.iterdir():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        for path, what in sorted(state.items()):
            path = Path(path)
            if what is None:
                path.mkdir(exist_ok=True)
            elif isinstance(what, str):
                path.symlink_to(what)
            else:
                path.write_bytes(what[0])
                path.chmod(what[1])
            give_to_user(path)


@pytest.fixture
def recorded(httpd, hook_server):
    """(all sessions, the server that was stopped, its configuration, the endpoint of the hook)."""
    hooks = hook_server()
    hooks.stop()
    server = httpd()
    faults = Faults(server.root, [])
    server.environment.update(faults.environment)
    # Said for the whole server, so that all of them have one hook.
    config = f'TusHook {hooks.url} {POST}\nTusHookRetry 1 20ms\n'
    names = [(run, sync, f'{run.__name__}-{sync}') for sync in ('finish', 'always')
             for run in HOOKED]
    for _, sync, name in names:
        config += endpoint(f'Location /{name}', server.make_store(name), f'TusSync {sync}')
    server.start(config)
    faults.watch(server.root / 'stores', server.state_dir)
    faults.record()
    server.expect_log('not told, to be tried again')
    server.allow_log('answers again')
    sessions = [Recorded(server, faults, name, run, sync) for run, sync, name in names]
    faults.disarm()
    server.stop()
    return sessions, server, config, hooks


def check_events(recorded, dice):
    """All states of a session, and a choice of them to be seen: those that are lost first."""
    wrong, total, examples = Counter(), 0, {}
    for number, state in recorded.states():
        total += 1
        for problem in recorded.wrong(number, state):
            wrong[problem] += 1
            examples.setdefault(problem, f'after call {number} ({recorded.calls[number - 1]})')
        events, torn = recorded.spooled(state)
        if torn or any(event.is_pending for event in events) or dice.random() < 0.1:
            recorded.samples.append((number, state))
    print(f'{recorded.store.name}: {len(recorded.calls)} calls, {total} states')
    assert total > len(recorded.calls) / 2
    return [f'{recorded.store.name}: {count} states: {problem}, {examples[problem]}'
            for problem, count in wrong.most_common()]


def test_events_are_kept(recorded):
    """Told is what was promised, and nothing that did not happen; what is torn is moved aside.

    What a sweep goes on with, a finish or a termination that was cut short, happens then.
    """
    sessions, server, config, hooks = recorded
    dice = random.Random(6)
    wrong = [line for session in sessions for line in check_events(session, dice)]
    assert not wrong, '\n'.join(wrong)
    hooks.start()
    for _ in range(60 if FULL else 6):
        expected, torn, owner = set(), 0, {}
        for session in sessions:
            _, state = dice.choice(session.samples)
            session.put(state)
            expected |= session.told(state)
            torn += session.spooled(state)[1]
            owner.update((uid, session) for uid in session.uids)
        server.forget()
        server.allow_log('.')
        server.start(config)
        spool.wait_empty(server)
        told = {(call.type, call.upload['ID']) for call in hooks.take() if call.status == 200}
        assert expected <= told
        assert all(owner[uid].comes_true(type, uid) for type, uid in told - expected)
        assert len(spool.files(server, failed=True)) == torn
        if torn:
            server.wait_log('is no event, and was moved')    # said when the pass is over
        else:
            assert 'is no event, and was moved' not in server.error_log.unread()
        server.stop()
