"""tusd's hooks, exchange by exchange: what a real tusd asked and told its endpoint, and what the
client then got; and mod_tus the same, with the same endpoint.

Both tables of differences are whole: one that is not there fails, and so does one that no longer
occurs. tusd sends post-* in any order, mod_tus those of an upload in the order of its life.
"""
import json
import re
import select
from collections import Counter

import pytest

from testenv import tusd
from testenv.hookserver import HookServer
from testenv.httpd import endpoint
from testenv.store import Store
from testenv.tus import Tus
from testenv.tusd import (EVENTS, EXCHANGES, UNFINISHED, Replay, assert_meant, assert_still_occurs,
                          differences, differs)

NAMES = [exchange['name'] for exchange in EXCHANGES]
TRICKLING = [exchange['name'] for exchange in EXCHANGES if 'trickles' in exchange]
TOLD = ('post-create', 'post-finish', 'post-terminate')
FAILED = ['pre-create answers 500', 'pre-create answers 404']

# The client's answers, beside what differs without hooks too.
ANSWERS = [
    *tusd.DIFFERENCES,
    differs(UNFINISHED, 'text', '.+', '.+', 'our own words'),
    differs(FAILED, 'status', '500', '502', 'it is not this server that failed'),
    differs(FAILED, 'code', 'ERR_INTERNAL_SERVER_ERROR', 'ERR_HOOK_FAILED',
            'it is not this server that failed'),
]

# What the endpoint is sent.
HOOKS = [
    differs('StopUpload by post-receive', 'post-terminate Event.Upload.Offset', '0', r'\d+',
            'as many bytes as there were; tusd says what it knew before the request'),
]


# -- an event as a dict of strings -----------------------------------------------------------------

def flat(value, path):
    """(path, value as JSON) of all that is no object, in its order; of empty objects too."""
    if not isinstance(value, dict) or not value:
        return [(path, json.dumps(value))]
    return [pair for name, inner in value.items() for pair in flat(inner, f'{path}.{name}')]


def canonical(event):
    """An event without what is another each time, and without what tusd does not have."""
    event = json.loads(json.dumps(event))
    event['Event'].pop('ModTus', None)
    address = event['Event']['HTTPRequest'].pop('RemoteAddr')
    assert re.fullmatch(r'127\.0\.0\.1:[1-9]\d{0,4}', address), address
    return event


def as_fields(events):
    """'TYPE PATH' -> value, for events of which each type may come more than once."""
    seen = Counter()
    fields = {}
    for event in events:
        number = seen[event['Type']] = seen[event['Type']] + 1
        name = event['Type'] + (f' {number}' if number > 1 else '')
        fields |= {f'{name} {path[1:]}': value for path, value in flat(canonical(event), '')}
    return fields


# -- the replay ------------------------------------------------------------------------------------

class HookReplay(Replay):
    """With an endpoint that does as tusd's did."""

    def __init__(self, tus, endpoint):
        super().__init__(tus, [('Connection', 'close')])
        self.endpoint = endpoint
        self.calls = {}
        self.current = None

    def run(self, exchange):
        """Until all that tusd told has been told here, too."""
        self.current = exchange
        self.endpoint.script = exchange.get('script', [])
        super().run(exchange)
        expected = Counter(event['Type'] for event in EVENTS.get(exchange['name'], []))
        for name in expected:
            count = 1 if name == 'post-receive' else expected[name]
            self.endpoint.wait(count, name)
        self.calls[exchange['name']] = self.endpoint.of()
        self.endpoint.forget()

    def exchange(self, connection, *request):
        if 'trickles' not in self.current:
            return super().exchange(connection, *request)
        return self.trickle(connection, *request)

    def trickle(self, connection, method, path, headers, body):
        """Byte for byte; the last ten once an event told of others, unless the answer is there."""
        connection.send_head(method, path, [*headers, ('Content-Length', len(body))])
        for at in range(len(body) - 10):
            connection.send(body[at:at + 1])
            if select.select([connection.sock], [], [], 0.015)[0]:
                return connection.response(method)
        self.endpoint.wait(1, 'post-receive')
        if not self.current.get('script'):
            connection.send(body[-10:])
        return connection.response(method)

    def theirs(self, name):
        """What tusd's endpoint was sent, with our ids and our paths."""
        text = json.dumps(EVENTS.get(name, []), ensure_ascii=False)
        return json.loads(self.ours(text).replace('/srv/uploads', str(self.tus.store)))

    def hook_differences(self, name):
        """Of what is asked and told in the order in which mod_tus does; not post-receive."""
        return differences(as_fields(in_order(self.theirs(name))),
                           as_fields(in_order([call.event for call in self.calls[name]])))


def in_order(events):
    asked = [event for event in events if event['Type'].startswith('pre-')]
    told = [event for event in events if event['Type'] in TOLD]
    return asked + sorted(told, key=lambda event: TOLD.index(event['Type']))


@pytest.fixture(scope='module')
def replay(shared_httpd):
    server = shared_httpd()
    store = server.make_store()
    with HookServer() as hooks:
        server.start(endpoint(
            'Location /files/', store, 'TusMaxSize 1000000', 'TusCORS On',
            'TusExtensions -concatenation-unfinished', 'TusHookRetry 3 20ms',
            'TusHookForwardHeader Cookie Authorization', 'TusHookProgressInterval 50ms',
            f'TusHook {hooks.url} pre-create post-create post-receive pre-finish post-finish '
            'pre-terminate post-terminate'))
        server.allow_log('hook pre-create .* failed: status (500|404) after')
        replay = HookReplay(Tus(server, store=store), hooks)
        for exchange in EXCHANGES:
            replay.run(exchange)
        server.stop()
    return replay


# -- the tests -------------------------------------------------------------------------------------

def test_the_recording_is_whole():
    assert len(EXCHANGES) == 49
    assert len(set(NAMES)) == len(NAMES)
    assert set(EVENTS) < set(NAMES)
    assert sum(map(len, EVENTS.values())) == 69
    assert sum(len(exchange.get('script', [])) for exchange in EXCHANGES) == 9


@pytest.mark.parametrize('name', NAMES)
def test_the_client_is_answered_as_by_tusd(replay, name):
    assert_meant(name, replay.differences(name), ANSWERS)


@pytest.mark.parametrize('name', NAMES)
def test_the_endpoint_is_sent_the_same(replay, name):
    assert_meant(name, replay.hook_differences(name), HOOKS)


@pytest.mark.parametrize('name', EVENTS)
def test_members_are_in_the_same_order(replay, name):
    theirs = as_fields(in_order(replay.theirs(name)))
    ours = as_fields(in_order([call.event for call in replay.calls[name]]))
    assert list(theirs) == list(ours)


@pytest.mark.parametrize('name', EVENTS)
def test_in_order(replay, name):
    """pre-* as tusd does, post-* of an upload as it lived; and nothing is told before it is so."""
    ours = [call.type for call in replay.calls[name]]
    theirs = [event['Type'] for event in EVENTS[name]]

    def asked(types):
        return [each for each in types if each.startswith('pre-')]

    def told(types):
        return [each for each in types if each in TOLD]

    assert asked(ours) == asked(theirs)
    assert told(ours) == sorted(told(theirs), key=TOLD.index)
    for before, after in (('pre-create', 'post-create'), ('pre-finish', 'post-finish'),
                          ('pre-terminate', 'post-terminate')):
        if before in ours and after in ours:
            assert ours.index(before) < ours.index(after)


@pytest.mark.parametrize('name', NAMES)
def test_progress(replay, name):
    """Every event tells what tusd's told, save how far bytes are that trickle."""
    theirs = [event for event in replay.theirs(name) if event['Type'] == 'post-receive']
    ours = [call.event for call in replay.calls[name] if call.type == 'post-receive']
    offsets = [event['Event']['Upload']['Offset'] for event in ours]
    if name in TRICKLING:
        assert offsets == sorted(set(offsets)) and offsets[0] > 0
        for event in theirs + ours:
            del event['Event']['Upload']['Offset']
    assert bool(ours) == bool(theirs)
    for event in ours:
        assert canonical(event) == canonical(theirs[0])


def test_header_fields_are_forwarded(replay):
    """All calls that the creation led to have them; tusd's had a Cookie and an Authorization."""
    for call in replay.calls['Creation']:
        assert (call.get('Cookie'), call.get('Authorization')) == ('sid=1', 'Basic eDp5')
        assert call.get('Content-Type') == 'application/json'
    for call in replay.calls['Creation with data']:
        assert (call.get('Cookie'), call.get('Authorization')) == (None, None)


def test_what_a_stopped_upload_leaves(replay):
    """Nothing; and of what a hook named, what tusd would have left."""
    store = replay.tus.store
    assert replay.ids['a9dfd85ab0b20166d822553cc540a5b5'] not in store.files()
    assert Store(store.path / 'user-7').data('report.pdf') == b'hello'
    assert (store.path / 'sub' / 'place.bin').read_bytes() == b''


@pytest.mark.parametrize('difference', ANSWERS,
                         ids=lambda each: f'{each.field}-{each.where[0]}')
def test_each_difference_of_answers_still_occurs(replay, difference):
    assert_still_occurs(difference, {name: replay.differences(name) for name in NAMES})


@pytest.mark.parametrize('difference', HOOKS, ids=lambda each: each.field)
def test_each_difference_of_hooks_still_occurs(replay, difference):
    assert_still_occurs(difference, {name: replay.hook_differences(name) for name in NAMES})
