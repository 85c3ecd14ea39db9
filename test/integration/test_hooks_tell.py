"""post-*: told after the answer, at least once, in order, whatever dies in between."""
import contextlib
import errno
import itertools
import os
import random
import signal
import subprocess
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from testenv import spool
from testenv.faults import ALL, DIE_AFTER, EVER, FAIL, KINDS, ROOM, Faults
from testenv.http import Disconnected
from testenv.httpd import SANITIZED, HttpdError, alive, endpoint, one_child, resident
from testenv.index import state_of_store, without_sweep
from testenv.powerloss import Disk
from testenv.store import Store, upload_id
from testenv.tus import Tus
from testenv.util import give_to_user, program, wait_until

FULL = os.environ.get('TUS_FAULTS') == 'full'
POST = ('post-create', 'post-finish', 'post-terminate')
ALL_POST = ' '.join(POST)
DOWN = r'not told, to be tried again'
AGED = r'was never told and is moved aside'
RETRY = 'TusHookRetry 3 20ms'

# What httpd says when we kill its children.
UNCLEAN = 'AH00098'
KILLED = r'AH00052|AH00051|exit signal Killed'


class Teller:
    """A server whose uploads are told to a hook endpoint."""

    def __init__(self, httpd, hooks, *lines, events=ALL_POST, **options):
        self.hooks = hooks
        self.server = httpd(**options)
        self.store = self.server.make_store()
        self.server.start(self.configuration(*lines, events=events))
        self.tus = Tus(self.server, store=self.store)

    def wait_down(self):
        """Until it is known that nobody listens."""
        self.server.wait_log(DOWN)
        self.server.expect_log(DOWN)

    def configuration(self, *lines, url=None, events=ALL_POST):
        hook = [f'TusHook {url or self.hooks.url} {events}'] if events else []
        return endpoint('Location /files', self.store, *hook, RETRY, *lines)

    def live(self):
        """A whole life; the id."""
        url = self.tus.new(10, b'hello')
        self.tus.append(url, 5, b'world')
        assert self.tus.delete(url).status == 204
        return upload_id(url)


@pytest.fixture
def teller(hook_server, httpd):
    def make(*lines, **options):
        return Teller(httpd, hook_server(), *lines, **options)
    return make


def told(hooks, **which):
    """Calls that were answered with success: the first of each event, in order."""
    first = {}
    for call in hooks.of(*POST, **which):
        if call.status == 200:
            first.setdefault(call.get('webhook-id'), call)
    return list(first.values())


def told_types(hooks):
    """{id: the types that it was told}."""
    types = defaultdict(list)
    for call in told(hooks):
        types[call.upload['ID']].append(call.type)
    return types


def wait_told(hooks, ids, *types, timeout=30):
    """Until each of these uploads (one id, or a list) was told these, and nothing else."""
    ids = [ids] if isinstance(ids, str) else ids
    deadline = time.monotonic() + timeout
    while True:
        found = told_types(hooks)
        missing = {uid: found[uid] for uid in ids if found[uid] != list(types)}
        if not missing:
            break
        assert time.monotonic() < deadline, f'told, instead of {types}: {missing}'
        time.sleep(0.02)
    assert_in_order(hooks, ids)


def assert_in_order(hooks, ids):
    """None was tried before the one before it was told, and none again after a later one."""
    last = {}
    for call in hooks.of(*POST):
        before = last.get(call.upload['ID'], call)
        if call.upload['ID'] in ids and call.type != before.type:
            assert before.status == 200, f'{call.type} before {before.type} was told'
            assert POST.index(call.type) > POST.index(before.type), f'{call.type} again'
        last[call.upload['ID']] = call


# -- the client ------------------------------------------------------------------------------------

def test_the_client_never_waits(teller, mpm):
    """All of its requests are answered before the endpoint has answered anything."""
    one = teller(mpm=mpm)
    gate = threading.Event()
    one.hooks.script = [{'until': gate}]
    ids = [one.live() for _ in range(5)]
    assert not [call for call in one.hooks.of() if call.status]
    gate.set()
    wait_told(one.hooks, ids, *POST)
    spool.wait_empty(one.server)


def test_told_within_two_seconds(teller, mpm):
    """The best of some: a machine with other work may be late, but not each time."""
    one = teller(mpm=mpm)
    late = []
    for _ in range(5):
        uid = one.live()
        began = time.monotonic()
        wait_told(one.hooks, uid, *POST)
        late.append(time.monotonic() - began)
    print(f'{mpm}: told after {min(late):.3f} to {max(late):.3f} s')
    assert min(late) < 2


def test_a_place_at_the_endpoint_is_not_lost(teller, hook_server):
    """Who is given one cannot use it while another server is at work on its shard."""
    probe = hook_server()
    one = teller(f'TusHook {probe.url} post-create', events='post-create',
                 mpm_settings=one_child(8))
    gate = threading.Event()
    one.hooks.script = [{'times': 1, 'until': gate}]
    first = upload_id(one.tus.new(10))
    one.hooks.wait(1)
    others = [upload_id(one.tus.new(10)) for _ in range(20)]
    wait_told(probe, others, 'post-create')     # so their shards wait for a place at the other one
    shards = {event.id: event.path.parent for event in spool.waiting(one.server)}
    last = others[-1]
    with contextlib.ExitStack() as stack:
        for shard in {shards[uid] for uid in others} - {shards[first], shards[last]}:
            stack.enter_context(spool.worked_on(shard))
        gate.set()
        wait_told(one.hooks, [first, last], 'post-create')
    wait_told(one.hooks, others, 'post-create')
    spool.wait_empty(one.server)


def test_of_many_processes(teller):
    """Under prefork nearly each request is another's, and all that they spool is told."""
    one = teller(mpm='prefork')
    ids = []
    threads = [threading.Thread(target=lambda: ids.extend(one.live() for _ in range(10)))
               for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(ids)) == 80
    wait_told(one.hooks, ids, *POST)
    assert len(one.hooks.of()) == 240, 'nobody is told twice without need'


def test_children_that_come_and_go(teller):
    """Whoever tells ends with his child, and another goes on at once, not ten seconds later."""
    one = teller(mpm='prefork', mpm_settings='StartServers 2\nServerLimit 8\nMinSpareServers 1\n'
                 'MaxSpareServers 2\nMaxRequestWorkers 8\nMaxConnectionsPerChild 4')
    late, couriers = [], set()
    for _ in range(15):
        uid = one.live()
        began = time.monotonic()
        wait_told(one.hooks, uid, *POST)
        late.append(time.monotonic() - began)
        couriers.add(spool.courier_of(one.server, one.hooks.port))
    print(f'told after {min(late):.3f} to {max(late):.3f} s, by {len(couriers - {None})} processes')
    assert len(couriers - {None}) > 2
    assert sorted(late)[len(late) // 2] < 2


# -- what is told ----------------------------------------------------------------------------------

def test_ids_are_stable(teller):
    one = teller()
    one.hooks.script = [{'times': 4, 'status': 500}, {'times': 1, 'drop': 'reset'}]
    uid = one.live()
    wait_told(one.hooks, uid, *POST)
    by_id = {}
    for call in one.hooks.of(upload=uid):
        by_id.setdefault(call.get('webhook-id'), []).append(call)
        assert call.event['Event']['ModTus']['EventID'] == call.get('webhook-id')
    assert [calls[0].type for calls in by_id.values()] == list(POST)
    assert len(one.hooks.of(upload=uid)) == 8
    for calls in by_id.values():
        assert len({call.body for call in calls}) == 1
    one.server.expect_log(DOWN)


def test_what_it_says_is_how_it_was(teller):
    """Not how it is when it is told."""
    one = teller()
    one.hooks.stop()
    uid = one.live()
    one.wait_down()
    one.hooks.start()
    create, finish, terminate = one.hooks.wait(3, upload=uid)
    assert [call.upload['Offset'] for call in (create, finish, terminate)] == [0, 10, 10]
    assert finish.request['Method'] == 'PATCH'
    assert finish.upload['Storage']['Path'] == str(one.store.path / uid)
    assert terminate.request['Method'] == 'DELETE'


def test_two_endpoints_wait_apart(hook_server, httpd):
    """One that is down holds back its own events only."""
    down, up = hook_server(), hook_server()
    down.stop()
    one = Teller(httpd, down, f'TusHook {up.url} {ALL_POST}')
    uid = one.live()
    wait_told(up, uid, *POST)
    one.wait_down()
    wait_until(lambda: len(spool.files(one.server)) == len(POST), 'what was told to be gone')
    assert sorted(spool.read(path).type for path in spool.files(one.server)) == sorted(POST)
    down.start()
    wait_told(down, uid, *POST)
    assert told_types(up)[uid] == list(POST)


def test_created_anew_under_the_same_id(hook_server, httpd):
    names = hook_server([{'answer': {'ChangeFileInfo': {'ID': 'same'}}}])
    hooks = hook_server()
    hooks.stop()
    one = Teller(httpd, hooks, f'TusHook {names.url} pre-create')
    for _ in range(3):
        assert one.live() == 'same'
    one.wait_down()
    hooks.start()
    wait_until(lambda: len(told(hooks)) == 9, 'all to be told', timeout=30)
    calls = told(hooks)
    assert [call.type for call in calls] == list(POST) * 3
    assert len({call.get('webhook-id') for call in calls}) == 9


def test_stop_upload_terminates(teller):
    one = teller('TusHookProgressInterval 10ms', events=f'post-receive {ALL_POST}')
    one.hooks.script = [{'Type': 'post-receive', 'answer': {'StopUpload': True}}]
    url = one.tus.new(100)
    with one.tus.hold(url, 0, 100, b'') as holder:
        for _ in range(90):
            time.sleep(0.02)
            holder.send(b'x')
            if one.hooks.of('post-receive'):
                break
        assert holder.response().status == 400
    wait_told(one.hooks, upload_id(url), 'post-create', 'post-terminate')
    assert one.tus.head(url).status == 404


def test_neither_told_nor_spooled_without_a_cause(teller):
    """What is refused or goes wrong has not happened."""
    one = teller()
    assert one.tus.create('x').status == 400
    url = one.tus.new(10, b'hello')
    assert one.tus.patch(url, 1, b'x').status == 409
    assert one.tus.delete('/files/' + '0' * 32).status == 404
    assert one.tus.patch(url, 5, b'helloworld').status == 413
    wait_told(one.hooks, upload_id(url), 'post-create')
    spool.wait_empty(one.server)
    assert len(one.hooks.of()) == 1


# -- one that hangs --------------------------------------------------------------------------------

def times_to(hooks, live, count):
    """How long after each of so many lives all of it was told."""
    late = []
    for _ in range(count):
        uid = live()
        began = time.monotonic()
        wait_told(hooks, uid, *POST)
        late.append(time.monotonic() - began)
    return late


@pytest.mark.parametrize('known', [False, True], ids=['from the start', 'all at once'])
def test_one_that_hangs_delays_no_other(hook_server, httpd, known):
    """It takes each call and never answers, and has much to be told of."""
    hole, up = hook_server(), hook_server()
    one = Teller(httpd, hole, f'TusHook {up.url} {ALL_POST}', 'TusHookTimeout 15s')
    one.server.allow_log(DOWN)
    if known:
        uid = one.live()
        wait_told(hole, uid, *POST)
        wait_told(up, uid, *POST)
    hole.script = [{'until': threading.Event()}]
    for _ in range(200):
        one.live()
    late = times_to(up, one.live, 40)
    print(f'told after {min(late):.3f} to {max(late):.3f} s')
    assert sorted(late)[len(late) // 2] < 2
    assert max(late) < 5


def test_many_that_hang_delay_no_other(hook_server, httpd):
    """Each has its own hook; those that are left are for the one that answers."""
    holes, up = [hook_server() for _ in range(12)], hook_server()
    lines = [f'TusHook {hole.url} {ALL_POST}' for hole in holes[1:]]
    one = Teller(httpd, holes[0], *lines, f'TusHook {up.url} {ALL_POST}', 'TusHookTimeout 15s')
    one.server.allow_log(DOWN)
    uid = one.live()
    for hooks in (*holes, up):
        wait_told(hooks, uid, *POST)
    for hole in holes:
        hole.script = [{'until': threading.Event()}]
    for _ in range(30):
        one.live()
    late = times_to(up, one.live, 20)
    print(f'told after {min(late):.3f} to {max(late):.3f} s')
    assert sorted(late)[len(late) // 2] < 2


def test_one_customer_with_many_that_hang(hook_server, httpd):
    """The hooks of one .htaccess have a share of the calls; nobody was reached before."""
    hole, good = hook_server(), hook_server()
    hole.script = [{'until': threading.Event()}]
    server = httpd()
    path = server.make_dir(server.htdocs / 'up')
    theirs = Store(server.make_dir(path / 'store'))
    (path / '.htaccess').write_text('\n'.join([
        'TusEngine On', 'TusStore file store', 'TusHookTimeout 1mi',
        *(f'TusHook "{hole.url}?{number}" post-create' for number in range(60)), '']))
    store = server.make_store()
    server.start(f'<Directory "{server.htdocs}">\nAllowOverride All\nTusAllowHook {hole.url}\n'
                 '</Directory>\n'
                 + endpoint('Location /files', store, f'TusHook {good.url} post-create'))
    for _ in range(60):
        Tus(server, '/up/', theirs).new(5)
    seen = [0]

    def is_steady():
        seen.append(len(hole.of()))
        return seen[-1] and seen[-100:].count(seen[-1]) == 100

    wait_until(is_steady, 'no more to be called', 40)
    Tus(server, store=store).new(5)
    good.wait(1)
    server.allow_log(DOWN)


def shard_ids(count):
    """Ids that are in one shard, as a hook may name them."""
    ids = (f'{n:032x}' for n in itertools.count())
    return itertools.islice((uid for uid in ids if spool.shard_of(uid) == '00'), count)


def run_flood(hook_server, httpd, events):
    """All in one shard, for an endpoint that hangs; and beside them those of another."""
    naming = iter([])
    names = hook_server([{'answer': lambda _: {'ChangeFileInfo': {'ID': next(naming)}}}])
    hole, up = hook_server(), hook_server()
    one = Teller(httpd, hole, f'TusHook {up.url} {ALL_POST}', f'TusHook {names.url} pre-create',
                 'TusHookTimeout 15s', 'TusExpire off')
    one.server.allow_log(DOWN)
    hole.stop()
    naming = shard_ids(1)
    uid = one.live()
    wait_told(up, uid, *POST)
    one.wait_down()
    one.server.stop()
    hole.script = [{'until': threading.Event()}]
    hole.start()
    spool.multiply(spool.files(one.server)[0], itertools.islice(shard_ids(events + 100), 100, None))
    one.server.start(one.configuration(f'TusHook {up.url} {ALL_POST}',
                                       f'TusHook {names.url} pre-create', 'TusHookTimeout 15s'))
    naming = itertools.islice(shard_ids(100), 1, None)
    hole.wait(1, timeout=30)
    used = spent(one.server)
    began = time.monotonic()
    late = times_to(up, one.live, 20)
    time.sleep(max(0, began + 10 - time.monotonic()))
    share = (spent(one.server) - used) / (time.monotonic() - began)
    print(f'{events} events: told after {min(late):.3f} to {max(late):.3f} s; CPU {share:.1%}')
    assert sorted(late)[len(late) // 2] < 2
    assert len(hole.of()) < 20


def spent(server):
    """Seconds of CPU that its children used."""
    ticks = 0
    for pid in server.children():
        fields = Path(f'/proc/{pid}/stat').read_text().rsplit(')', 1)[1].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf('SC_CLK_TCK')


def test_a_flood_in_one_shard(hook_server, httpd):
    """More than a batch of names."""
    run_flood(hook_server, httpd, 5000)


@pytest.mark.reliability
def test_a_huge_flood_in_one_shard(hook_server, httpd):
    run_flood(hook_server, httpd, 100_000)


# -- the endpoint goes and comes -------------------------------------------------------------------

@pytest.mark.parametrize('rule', [{'status': 500}, {'status': 503}, {'status': 404},
                                  {'status': 302, 'headers': {'Location': 'http://127.0.0.1/'}},
                                  {'drop': 'close'}, {'drop': 'reset'},
                                  {'raw': b'nonsense\r\n\r\n'}], ids=str)
def test_no_success_is_tried_again(teller, rule):
    one = teller()
    one.hooks.script = [{**rule, 'times': 3}]
    ids = [one.live() for _ in range(3)]
    wait_told(one.hooks, ids, *POST)
    one.server.allow_log(DOWN)


def test_the_endpoint_comes_back(teller):
    one = teller()
    for _ in range(3):
        one.hooks.stop()
        ids = [one.live() for _ in range(5)]
        one.wait_down()
        assert len(spool.files(one.server)) == 15
        one.hooks.start()
        wait_told(one.hooks, ids, *POST)
        one.server.wait_log('answers again')
        one.server.audit()
        spool.wait_empty(one.server)


def test_one_that_is_down_is_left_in_peace(teller):
    """It is said once, and not each event is tried in turn."""
    one = teller()
    one.hooks.script = [{'status': 503}]
    for _ in range(60):
        one.live()
    wait_until(lambda: len(one.hooks.of()) >= 6, 'some tries')
    assert len(one.hooks.of()) < 12
    one.hooks.script = []
    one.hooks.wait(180, timeout=60)
    spool.wait_empty(one.server)
    loud = [line for line in one.server.error_log.loud_lines() if 'not told' in line]
    assert len(loud) == 1, loud
    one.server.expect_log(DOWN)


def test_in_order_whatever_fails(teller):
    one = teller()
    dice = random.Random(6)

    def whim(_call):
        return {}

    one.hooks.script = [rule for _ in range(150) for rule in (
        {'times': 1, **dice.choice([{'status': 404}, {'status': 500}, {'drop': 'reset'}])},
        {'times': dice.choice([1, 2, 5]), 'answer': whim})]
    ids = [one.live() for _ in range(40)]
    wait_told(one.hooks, ids, *POST, timeout=60)
    one.server.allow_log(DOWN)


# -- the server goes and comes ---------------------------------------------------------------------

def kill_courier(one):
    one.server.allow_log(KILLED)
    pid = wait_until(lambda: spool.courier_of(one.server, one.hooks.port), 'somebody to tell')
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not alive(pid), 'the courier to be gone')


def kill_all(one):
    one.server.allow_log(UNCLEAN)
    one.server.kill()
    one.server.start(one.configuration())


def stop_and_start(one):
    one.server.stop()
    one.server.start(one.configuration())


ENDS = {'graceful': lambda one: one.server.graceful(), 'restart': lambda one: one.server.restart(),
        'stop': stop_and_start, 'kill -9 of the courier': kill_courier,
        'kill -9 of all': kill_all}


@pytest.mark.parametrize('end', ENDS.values(), ids=ENDS)
def test_nothing_is_lost_at_an_end(teller, mpm, end):
    """At the end, calls are under way, have no answer yet, and others wait behind them."""
    one = teller(mpm=mpm)
    one.server.allow_log(DOWN)
    wait_told(one.hooks, one.live(), *POST)     # else it is tried by one call alone
    one.hooks.forget()
    gate = threading.Event()
    one.hooks.script = [{'until': gate}]
    ids = [one.live() for _ in range(10)]
    one.hooks.wait(3)
    one.hooks.script = []
    end(one)
    gate.set()
    wait_told(one.hooks, ids, *POST, timeout=40)
    later = one.live()
    wait_told(one.hooks, later, *POST)
    spool.wait_empty(one.server)


def test_the_parent_dies_alone(teller):
    """Its children go on serving: what they spool is told by them, or by the next server."""
    one = teller()
    one.hooks.stop()
    ids = [one.live() for _ in range(5)]
    one.wait_down()
    one.server.allow_log('.')
    children = one.server.children()
    one.server.process.kill()
    one.server.process.wait()
    one.server.process = None
    ids += [one.live() for _ in range(5)]
    for pid in children:
        if alive(pid):
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in children), 'the children to end')
    one.server.start(one.configuration())
    one.hooks.start()
    wait_told(one.hooks, ids, *POST)


def test_both_sides_come_and_go(teller, mpm):
    """Uploads all the time, while courier and endpoint are killed."""
    one = teller(mpm=mpm)
    one.server.allow_log(DOWN)
    one.server.allow_log(KILLED)
    done, ids, open_ids = threading.Event(), [], []

    def client():
        while not done.is_set():
            try:
                url = one.tus.new(10, b'hello')
                open_ids.append(upload_id(url))
                one.tus.append(url, 5, b'world')
                assert one.tus.delete(url).status == 204
                ids.append(upload_id(url))
            except (Disconnected, OSError):
                pass
            time.sleep(0.01)    # not a test of how many

    threads = [threading.Thread(target=client) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for turn in range(6):
            count = len(one.hooks.of())
            wait_until(lambda: len(one.hooks.of()) > count + 5, 'calls', 30)
            if turn % 2:
                one.hooks.stop()
                one.hooks.start()
            else:
                kill_courier(one)
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert len(ids) >= 10
    wait_told(one.hooks, ids, *POST, timeout=60)
    spool.wait_empty(one.server)
    found = told_types(one.hooks)
    assert not [uid for uid in open_ids if 'post-create' not in found[uid]]


# -- between spooling and confirming ---------------------------------------------------------------

class Deaths:
    """Requests that die, or meet an error, at each call in turn that they make on disk."""

    def __init__(self, one, faults):
        self.one = one
        self.faults = faults
        self.asked = set()      # ids whose termination a client asked for

    def run(self, prepare, request, how):
        """request(prepare()) again and again, the n-th time with a fault at its n-th call."""
        action, last, error, kinds = how
        n, hit = 1, True
        while hit:
            ready = prepare()
            with self.faults.armed(action, n, last, error, kinds):
                try:
                    request(ready)
                except (Disconnected, OSError):
                    pass
                hit = self.faults.hit
            self.go_on()
            n += 1
        return n

    def go_on(self):
        """As clients do: what is full is finished, what was to be removed is removed."""
        for name in self.one.store.uploads():
            if name.startswith('.'):
                continue
            url = f'/files/{name}'
            if name in self.asked:
                wait_until(lambda: self.one.tus.delete(url).status in (204, 404, 410), 'a DELETE')
            else:
                wait_until(lambda: self.one.tus.head(url).status in (200, 404), 'a HEAD')

    def check(self):
        """What is told is what happened, by the records."""
        spool.wait_empty(self.one.server, 90)   # the courier meets errors too, and rests a minute
        by_id = told_types(self.one.hooks)
        there = {path.name[:-5] for path in self.one.store.path.glob('*.info')}
        for uid in there:
            finished = self.one.store.finished(f'/files/{uid}')
            wanted = ['post-create'] + ['post-finish'] * bool(finished)
            assert by_id.get(uid) == wanted, f'{uid}: {by_id.get(uid)}, not {wanted}'
        for uid in set(by_id) - there:
            types = by_id[uid]
            assert types[0] == 'post-create' and types[-1] == 'post-terminate', f'{uid}: {types}'
            assert types == [type for type in POST if type in types], f'{uid}: {types}'
        return by_id


HOW = {'death': (DIE_AFTER, None, 0, KINDS), 'EIO once': (FAIL, None, errno.EIO, ALL),
       'ENOSPC from then on': (FAIL, EVER, errno.ENOSPC, ROOM)}


@pytest.fixture
def deaths(hook_server, httpd):
    """Under prefork a child that dies takes nobody with it."""
    hooks = hook_server()
    server = httpd(mpm='prefork')
    faults = Faults(server.root, [])
    server.environment.update(faults.environment)
    one = Teller(lambda: server, hooks)
    one.tus.upload(b'warm')
    faults.watch(one.store.path, server.state_dir)
    server.allow_log('.')
    return Deaths(one, faults)


@pytest.mark.reliability
@pytest.mark.parametrize('how', HOW.values(), ids=HOW)
def test_told_if_and_only_if_it_happened(deaths, how):
    tus = deaths.one.tus
    tries = deaths.run(lambda: None, lambda _: tus.create(10), how)
    tries += deaths.run(lambda: None, lambda _: tus.create(10, b'helloworld'), how)
    tries += deaths.run(lambda: tus.new(10, b'hello'),
                        lambda url: tus.patch(url, 5, b'world'), how)

    def doomed(data):
        url = tus.new(10, data)
        deaths.asked.add(upload_id(url))
        return url

    tries += deaths.run(lambda: doomed(b'hello'), tus.delete, how)
    tries += deaths.run(lambda: doomed(b'helloworld'), tus.delete, how)
    by_id = deaths.check()
    assert deaths.asked <= set(by_id)
    print(f'{tries} tries, {len(by_id)} uploads')
    assert tries > 40


# -- told by others than the request ---------------------------------------------------------------

def die_full(deaths):
    """An upload whose last bytes were stored, and then its process died; its URL."""
    url = deaths.one.tus.new(10, b'hello')
    with deaths.faults.armed(DIE_AFTER, kinds=('write',), suffix=upload_id(url)):
        with pytest.raises((Disconnected, OSError)):
            deaths.one.tus.patch(url, 5, b'world')
    return url


def test_finished_by_head(deaths):
    url = die_full(deaths)
    with without_sweep(state_of_store(deaths.one.server)):    # it would finish it, too
        wait_told(deaths.one.hooks, upload_id(url), 'post-create')
        assert deaths.one.tus.offset(url) == 10
    wait_told(deaths.one.hooks, upload_id(url), 'post-create', 'post-finish')
    call = deaths.one.hooks.of('post-finish', upload=upload_id(url))[0]
    assert (call.request['Method'], call.upload['Offset']) == ('HEAD', 10)


def test_finished_by_the_sweep(deaths):
    url = die_full(deaths)
    deaths.one.server.restart()
    wait_told(deaths.one.hooks, upload_id(url), 'post-create', 'post-finish')
    assert deaths.one.store.finished(url)
    call = deaths.one.hooks.of('post-finish', upload=upload_id(url))[0]
    assert call.upload['Offset'] == 10


# -- age -------------------------------------------------------------------------------------------

def is_told(one):
    """One more upload: where the endpoint rests a while yet, it is too old then and goes aside."""
    uid = one.live()
    spool.wait_empty(one.server)
    return told_types(one.hooks)[uid] == list(POST)


@pytest.mark.parametrize('rule', [None, {'status': 500}, {'status': 400}], ids=str)
def test_too_old_is_moved_aside(teller, rule):
    one = teller('TusHookMaxAge 1s')
    if rule:
        one.hooks.script = [rule]
    else:
        one.hooks.stop()
    ids = [one.live() for _ in range(10)]
    one.server.expect_log(DOWN)
    one.server.expect_log(AGED)
    wait_until(lambda: len(spool.files(one.server, failed=True)) == 30, 'all to be moved aside', 60)
    assert not spool.files(one.server)
    aside = [spool.read(path) for path in spool.files(one.server, failed=True)]
    assert Counter(event.id for event in aside) == {uid: 3 for uid in ids}
    for event in aside:
        one.server.wait_log(rf'hook {event.type} of upload {event.id} '
                            rf'\(event {event.fields["event-id"]}\) {AGED}.*TusHookMaxAge')
    one.hooks.script = []
    if not rule:
        one.hooks.start()
    one.hooks.forget()
    wait_until(lambda: is_told(one), 'one to be told', 60)
    assert not {call.upload['ID'] for call in one.hooks.of()} & set(ids)


def pending_of(one, text):
    """A server that is down, and the post-create that nobody confirmed of an upload with that
    ID.info."""
    one.hooks.stop()
    url = one.tus.new(10, b'hello')
    one.wait_down()
    one.server.stop()
    one.hooks.start()
    path, = spool.files(one.server)
    one.store.info_path(url).write_bytes(text)
    return path.rename(f'{path}.new')


def test_pending_without_a_record_that_was_written(teller):
    """After a loss of power: to clients there is no such upload, and there was none to tell of."""
    one = teller(events='post-create')
    one.server.allow_log('UploadLost')
    pending_of(one, bytes(500))
    one.server.start(one.configuration(events='post-create'))
    spool.wait_empty(one.server)
    assert not one.hooks.of() and not spool.files(one.server, failed=True)


def test_a_termination_that_the_sweep_completes(teller):
    """Whoever died over it had removed the data alone: it is told once the record is gone too."""
    one = teller(events='post-terminate')
    url = one.tus.new(10, b'hello')
    record = one.store.info_path(url).read_bytes()
    one.hooks.stop()
    assert one.tus.delete(url).status == 204
    one.wait_down()
    one.server.stop()
    path, = spool.files(one.server)
    spool.make_due(path, -10)
    path.rename(f'{path}.new')
    one.store.info_path(url).write_bytes(record)
    give_to_user(one.store.info_path(url))
    one.hooks.start()
    one.server.start(one.configuration(events='post-terminate'))
    wait_told(one.hooks, upload_id(url), 'post-terminate')
    one.store.assert_only()


def test_pending_beside_a_damaged_record(teller):
    """It waits for better, and not for ever."""
    one = teller(events='post-create')
    path = pending_of(one, b'{')
    one.server.start(one.configuration(events='post-create'))
    other = one.tus.new(5)
    wait_told(one.hooks, upload_id(other), 'post-create')
    wait_until(lambda: path.stat().st_mtime > time.time() - 2, 'it to be looked at')
    wait_until(lambda: spool.files(one.server) == [path], 'the other to be gone')
    one.server.expect_log(AGED)
    spool.edit(path, at=int(time.time() - 8 * 86400) * 10**6)
    wait_until(lambda: spool.files(one.server, failed=True), 'it to be moved aside')
    assert not spool.files(one.server)
    assert {call.upload['ID'] for call in one.hooks.of()} == {upload_id(other)}


def test_young_enough_is_not(teller):
    one = teller('TusHookMaxAge 1h')
    one.hooks.script = [{'times': 10, 'status': 400}]
    uid = one.live()
    one.server.allow_log(DOWN)
    wait_told(one.hooks, uid, *POST, timeout=60)
    assert not spool.files(one.server, failed=True)


# -- the configuration changes ---------------------------------------------------------------------

@pytest.mark.parametrize('how', ['graceful', 'stop'])
def test_a_new_url_is_followed(hook_server, httpd, how):
    old, new = hook_server(), hook_server()
    one = Teller(httpd, old)
    old.stop()
    ids = [one.live() for _ in range(5)]
    one.wait_down()
    if how == 'graceful':
        one.server.graceful(one.configuration(url=new.url))
    else:
        one.server.stop()
        one.server.start(one.configuration(url=new.url))
    old.start()
    wait_told(new, ids, *POST)
    assert not old.of()


def test_the_old_generation_tells_no_more(hook_server, httpd):
    """A child that an upload keeps alive has the old configuration."""
    old, new = hook_server(), hook_server()
    one = Teller(httpd, old)
    wait_told(old, one.live(), *POST)
    url = one.tus.new(10)
    wait_told(old, upload_id(url), 'post-create')
    with one.tus.hold(url, 0, 10, b'hello') as holder:
        one.server.graceful(one.configuration(url=new.url))
        old.forget()
        ids = [one.live() for _ in range(5)]
        wait_told(new, ids, *POST)
        try:
            holder.finish(b'world')
        except OSError:
            pass
    assert one.tus.append(url, one.tus.offset(url), b'helloworld'[one.tus.offset(url):]) == 10
    wait_told(new, upload_id(url), 'post-finish')
    assert not old.of()


def test_a_hook_that_is_gone(teller):
    """Its events wait, are told if it comes back, and moved aside when they are too old."""
    one = teller()
    one.hooks.stop()
    first, second = one.live(), one.live()
    one.wait_down()
    one.server.stop()
    one.hooks.start()
    for path in spool.files(one.server):
        if spool.read(path).id == first:
            spool.age(path, 8 * 24 * 3600)
        else:
            spool.make_due(path)
    one.server.start(one.configuration(events=None))
    wait_until(lambda: len(spool.files(one.server, failed=True)) == 3, 'the old to be moved aside')
    one.server.expect_log(rf'upload {first} .*{AGED}.*no TusHook takes it any more')
    assert {event.id for event in spool.waiting(one.server)} == {second}
    one.server.stop()
    for path in spool.files(one.server):
        spool.make_due(path)
    one.server.start(one.configuration())
    wait_told(one.hooks, second, *POST)
    assert not told_types(one.hooks)[first]


def orphans(one, count):
    """The server runs with so many events that nobody takes; it has looked at them."""
    one.hooks.stop()
    uid = one.live()
    one.wait_down()
    one.server.stop()
    if count > 3:
        spool.multiply(spool.files(one.server)[0], (f'{n:032x}' for n in range(count - 3)))
    for path in spool.files(one.server):
        spool.make_due(path)
    one.server.start(one.configuration(events=None))
    one.hooks.start()
    other = one.tus.new(5)
    one.server.wait_access(f'id={upload_id(other)}')
    return uid


@pytest.mark.parametrize('how', ['graceful', 'restart', 'stop'])
def test_a_hook_that_is_back_is_told_at_once(teller, how):
    """Whoever looked at its events in between has not put them off for others."""
    one = teller()
    uid = orphans(one, 3)
    time.sleep(6)       # a patrol, which cannot be seen
    assert len(spool.files(one.server)) == 3
    if how == 'stop':
        one.server.stop()
        one.server.start(one.configuration())
    else:
        getattr(one.server, how)(one.configuration())
    wait_told(one.hooks, uid, *POST)


@pytest.mark.reliability
def test_many_orphans_cost_nothing(teller):
    """They are passed by, by their names alone; also when the courier starts anew."""
    one = teller()
    orphans(one, 100_000)
    for turn in range(3):
        before, began = spent(one.server), time.monotonic()
        time.sleep(10)
        share = (spent(one.server) - before) / (time.monotonic() - began)
        print(f'100,000 orphans: CPU {share:.1%}')
        if turn == 1:
            one.server.graceful()
    assert len(spool.files(one.server)) == 100_000


# -- nobody to tell ---------------------------------------------------------------------------------

@pytest.fixture(scope='module')
def without_watchdog(tmp_path_factory):
    """A library that hides mod_watchdog's functions from others, as where it is not loaded: it may
    be linked into httpd, and then it is always there."""
    directory = tmp_path_factory.mktemp('hide')
    (directory / 'hide.c').write_text("""
        #define _GNU_SOURCE
        #include <dlfcn.h>
        #include <string.h>
        void *apr_dynamic_fn_retrieve(const char *name)
        {
            void *(*real)(const char *) = dlsym(RTLD_NEXT, "apr_dynamic_fn_retrieve");
            return strncmp(name, "ap_watchdog_", 12) == 0 ? 0 : real(name);
        }
    """)
    library = directory / 'hide.so'
    subprocess.run([program('cc', 'gcc'), '-shared', '-fPIC', '-o', library, directory / 'hide.c',
                    '-ldl'], check=True)
    return {'LD_PRELOAD': str(library)}


FIX = 'add: LoadModule watchdog_module modules/mod_watchdog.so'


@pytest.mark.parametrize('events', ['post-create', 'post-finish', 'post-terminate', ''], ids=str)
def test_no_watchdog_and_a_hook_to_be_told(httpd, without_watchdog, events):
    server = httpd(environment=without_watchdog)
    section = endpoint('Location /files', server.make_store(),
                       f'TusHook http://127.0.0.1:1/told {events}')
    code, said = server.configtest(section)
    assert code, said
    assert 'TusHook http://127.0.0.1:1/told takes post-* events' in said
    assert FIX in said
    with pytest.raises(HttpdError):
        server.start(section)
    server.expect_log(FIX)
    server.allow_log('AH00016|AH00020')


@pytest.mark.parametrize('lines', [[], ['TusHook http://127.0.0.1:1/ pre-create pre-finish'],
                                   ['TusHook http://127.0.0.1:1/ post-receive']], ids=str)
def test_no_watchdog_and_nothing_to_be_told(httpd, without_watchdog, lines):
    server = httpd(environment=without_watchdog)
    section = endpoint('Location /files', server.make_store(), *lines)
    code, said = server.configtest(section)
    assert code == 0, said
    assert FIX in said
    server.start(section)
    server.expect_log(FIX)


def test_with_a_watchdog(teller):
    code, said = teller().server.configtest()
    assert code == 0 and 'watchdog' not in said


# -- power -----------------------------------------------------------------------------------------

def of_disk(server, calls, state_dir):
    """What a loss of power after these calls may leave of the spool: lists of its files."""
    disk = Disk([state_dir], lambda path: not (str(path) == str(state_dir) or path.startswith(
        f'{state_dir}/spool')))
    for call in calls:
        if call.kind != 'lock' and (call.path.startswith(str(server.state_dir))):
            disk.play(call)
    for state in disk.states(4000):
        yield {path: what[0] for path, what in state.items() if isinstance(what, tuple)}


@pytest.mark.parametrize('sync, types', [('finish', ['post-finish']),
                                         ('always', ['post-create', 'post-finish'])])
def test_on_stable_storage_before_the_answer(hook_server, httpd, sync, types):
    hooks = hook_server()
    hooks.stop()
    server = httpd()
    faults = Faults(server.root, [])
    server.environment.update(faults.environment)
    one = Teller(lambda: server, hooks, f'TusSync {sync}')
    faults.watch(server.root / 'stores', server.state_dir)
    with faults.recording() as calls:
        uid = upload_id(one.tus.upload(b'hello'))
    one.wait_down()
    states = list(of_disk(server, calls, state_of_store(server)))
    assert len(states) > 1
    for state in states:
        events = [spool.parse(content) for content in state.values()]
        found = {event.type for event in events if event and event.id == uid}
        assert set(types) <= found, f'left is {list(state)}'


# -- a pile-up -------------------------------------------------------------------------------------

def upload_many(one, count):
    """That many whole uploads over a kept connection; how long they took."""
    began = time.monotonic()
    with one.tus.connect() as conn:
        for _ in range(count):
            answer = one.tus.create(5, b'hello', conn=conn)
            assert answer.status == 201, answer
            if answer.closes:
                conn.close()
                conn.__init__(one.server.port)
    return time.monotonic() - began


def cost(one, faults):
    """Calls on disk of an upload, and of what the sweep does meanwhile."""
    with faults.armed(FAIL, EVER):      # none is hit, but all are counted
        one.tus.upload(b'hello')
        return faults.count


def pile_up(one, faults, events):
    """Two events an upload wait; how many calls on disk an upload makes does not grow."""
    rates, costs = [], []
    warm, slice_ = 50, events // 10 // 2
    upload_many(one, warm)
    for _ in range(10):
        costs.append(min(cost(one, faults) for _ in range(3)))
        rates.append(slice_ / upload_many(one, slice_))
    return rates, costs


def run_pile_up(one, faults, events):
    one.hooks.stop()
    one.live()
    one.wait_down()
    memory = {pid: resident(pid) for pid in one.server.children()}
    rates, costs = pile_up(one, faults, events)
    waiting = len(spool.files(one.server))
    assert waiting >= events
    grown = [resident(pid) - memory[pid] for pid in one.server.children() if pid in memory]
    print(f'{waiting} events wait; uploads/s: {" ".join(f"{rate:.0f}" for rate in rates)}; '
          f'calls on disk of one: {costs}; children grew by {max(grown) >> 10} KiB')
    assert max(costs[1:]) <= costs[0], costs
    began = time.monotonic()
    one.hooks.start()
    ids = Counter()
    while len(ids) < waiting:
        assert time.monotonic() < began + 60 + events / 50, f'{len(ids)} of {waiting} were told'
        time.sleep(0.2)
        ids.update(call.get('webhook-id') for call in one.hooks.take())
    print(f'told {waiting / (time.monotonic() - began):.0f} events/s')
    spool.wait_empty(one.server)
    grown = [resident(pid) - memory[pid] for pid in one.server.children() if pid in memory]
    print(f'children grew by {max(grown) >> 10} KiB')
    assert grown
    assert SANITIZED or max(grown) < 24 << 20
    ids.update(call.get('webhook-id') for call in one.hooks.take())
    assert len(ids) == waiting
    assert sum(ids.values()) <= waiting + 20, 'nobody is told twice without need'


@pytest.fixture
def pile(hook_server, httpd):
    server = httpd(mpm_settings='StartServers 2\nServerLimit 2\nThreadsPerChild 8\n'
                   'MinSpareThreads 1\nMaxSpareThreads 16\nMaxRequestWorkers 16\n'
                   'MaxKeepAliveRequests 0\n')
    faults = Faults(server.root, [])
    server.environment.update(faults.environment)
    one = Teller(lambda: server, hook_server(), 'TusSync none')
    faults.watch(one.store.path, server.state_dir)
    return one, faults


def test_a_pile_up(pile):
    run_pile_up(*pile, 10_000)


@pytest.mark.reliability
def test_a_huge_pile_up(pile):
    run_pile_up(*pile, 100_000)
