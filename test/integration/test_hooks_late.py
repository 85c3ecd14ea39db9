"""pre-finish where no request is there to wait for it: the sweep asks, last of all that it does."""
import contextlib
import threading
import time

import pytest

from testenv.hooked import Hooked, failed, start
from testenv.http import Disconnected
from testenv.httpd import endpoint
from testenv.index import state_of_store, without_sweep
from testenv.store import upload_id
from testenv.tus import Tus, assert_error
from testenv.util import wait_until

FINISHED = ('post-create', 'post-finish')
EVENTS = 'post-create pre-finish post-finish'
LATER = 'upload .* is not finished, which is tried again later'
NOBODY = {'Method': '', 'URI': '', 'RemoteAddr': '', 'Header': {}}

# A child that dies takes no other request with it, and the sweep is most often another's.
PREFORK = {'mpm': 'prefork', 'mpm_settings': 'StartServers 4\nServerLimit 16\nMinSpareServers 4\n'
           'MaxSpareServers 8\nMaxRequestWorkers 16'}


@pytest.fixture
def hooks(hook_server):
    return hook_server()


def serve(httpd, hooks, *lines, events=EVENTS, **options):
    server = httpd(**{**PREFORK, **options})
    server.allow_log('exit signal Killed')
    tus = start(server, hooks, *lines, events=events)
    tus.at_least_once = True
    return tus


def die(tus, send, count=1):
    """A request whose process is killed while pre-finish is asked; what it asked then."""
    never = threading.Event()
    with contextlib.ExitStack() as stack:
        with tus.hooks.saying({'Type': 'pre-finish', 'until': never}), tus.connect() as conn:
            send(conn)
            call = tus.hooks.wait(count, 'pre-finish')[-1]
            stack.enter_context(without_sweep(state_of_store(tus.server)))    # it asks as well
            tus.kill_holder(f'/files/{call.upload["ID"]}')
            with pytest.raises((Disconnected, OSError)):
                conn.response('POST')
        never.set()
        tus.hooks.forget('pre-finish')
    return call


def leave(tus):
    """An upload that has all its bytes, and whose process died; its URL."""
    url = tus.new(10, b'hello')
    tus.hooks.forget()
    die(tus, lambda conn: conn.send_request('PATCH', url, [
        ('Tus-Resumable', '1.0.0'), ('Content-Type', 'application/offset+octet-stream'),
        ('Upload-Offset', 5)], b'world'))
    assert not tus.store.finished(url)
    return url


def wait_finished(tus, url):
    wait_until(lambda: tus.store.finished(url), f'{url} to be finished', 60)


def late_calls(tus):
    return [call for call in tus.hooks.of('pre-finish') if call.request == NOBODY]


# -- asked -----------------------------------------------------------------------------------------

def test_the_sweep_asks(hooks, httpd):
    """Nobody hears what it says to a client."""
    tus = serve(httpd, hooks)
    tus.says('pre-finish', {'HTTPResponse': {'StatusCode': 418, 'Body': 'x', 'Header': {'A': 'b'}},
                            'RejectUpload': True, 'StopUpload': True,
                            'ChangeFileInfo': {'ID': 'other'}})
    url = leave_beside(tus)
    wait_finished(tus, url)
    [call] = late_calls(tus)
    assert (call.upload['ID'], call.upload['Offset'], call.upload['Size']) == \
        (upload_id(url), 10, 10)
    assert call.upload['Storage']['Path'] == str(tus.store.data_path(url))
    ours = call.event['Event']['ModTus']
    assert (ours['User'], ours['Scheme'], ours['Host']) == ('', '', '')
    assert call.get('webhook-id') == ours['EventID']
    tus.told(upload_id(url), *FINISHED)
    assert tus.get(url).body == b'helloworld'


def leave_beside(tus):
    """An upload as a request leaves it that dies after its last byte."""
    url = tus.new(10, b'hello')
    with tus.store.data_path(url).open('ab') as data:
        data.write(b'world')
    return note(tus, url)


def note(tus, url):
    """Its id is in the journal of its store; the URL."""
    stores = (tus.server.state_dir / 'stores').read_text().splitlines()
    [line] = [line for line in stores if str(tus.store.path) in line]
    [journal] = [path for path in tus.server.state_dir.glob('*/journal')
                 if path.parent.name in line]
    with journal.open('ab') as lines:
        lines.write(b'=%s\n' % upload_id(url).encode())
    return url


def test_killed_while_it_is_asked(hooks, httpd):
    tus = serve(httpd, hooks)
    url = leave(tus)
    wait_finished(tus, url)
    assert len(late_calls(tus)) == len(hooks.of('pre-finish')) == 1
    tus.told(upload_id(url), *FINISHED)


@pytest.mark.reliability
def test_the_sweep_is_killed_while_it_asks(hooks, httpd):
    """Another one asks again."""
    tus = serve(httpd, hooks)
    url = leave(tus)
    never = threading.Event()
    tus.says('pre-finish', until=never, times=1)
    hooks.wait(1, 'pre-finish', timeout=60)
    tus.kill_holder(url)
    wait_finished(tus, url)
    never.set()
    assert len(late_calls(tus)) == 2
    tus.told(upload_id(url), *FINISHED)


def test_a_final_that_the_sweep_joins(hooks, httpd):
    """Once its parts are there: and they were asked about too."""
    tus = serve(httpd, hooks)
    parts = [tus.partial(5, b'hello'), tus.partial(5)]
    final = tus.final(parts)
    hooks.forget()
    die(tus, lambda conn: conn.send_request('PATCH', parts[1], [
        ('Tus-Resumable', '1.0.0'), ('Content-Type', 'application/offset+octet-stream'),
        ('Upload-Offset', 0)], b'world'))
    wait_finished(tus, parts[1])
    wait_finished(tus, final)
    asked = [call.upload['ID'] for call in late_calls(tus)]
    assert asked == [upload_id(parts[1]), upload_id(final)]
    assert late_calls(tus)[1].upload['Offset'] == 10
    assert tus.get(final).body == b'helloworld'
    wait_until(lambda: 'post-finish' in hooks.types(upload_id(final)), 'post-finish')


def test_a_final_whose_join_died(hooks, httpd):
    tus = serve(httpd, hooks)
    parts = [tus.partial(5, b'hello'), tus.partial(5, b'world')]
    hooks.forget()
    call = die(tus, lambda conn: conn.send_request('POST', '/files/', [
        ('Tus-Resumable', '1.0.0'), ('Upload-Concat', 'final;' + ' '.join(parts))], b''))
    assert call.upload['IsFinal']
    url = f'/files/{call.upload["ID"]}'
    wait_finished(tus, url)
    assert len(late_calls(tus)) == 1
    assert tus.get(url).body == b'helloworld'


def finish_in_htaccess(hooks, httpd, events):
    """An upload that the sweep finishes, where an .htaccess says a hook for these events."""
    server = httpd(**PREFORK)
    up = server.make_dir(server.htdocs / 'up')
    store = server.make_store()
    (up / '.htaccess').write_text(f'TusHook {hooks.url} {events}\n')
    server.start(endpoint(f'Directory "{up}"', store, 'AllowOverride All',
                          f'TusAllowHook {hooks.url}'))
    tus = Hooked(server, hooks, '/up/', store)
    url = leave_beside(tus)
    wait_finished(tus, url)
    return tus, url


def test_a_hook_of_an_htaccess(hooks, httpd):
    """One that takes no other event is known all the same, and is asked for nothing else."""
    finish_in_htaccess(hooks, httpd, 'pre-finish')
    assert [call.type for call in hooks.of()] == ['pre-finish']
    assert hooks.of()[0].request == NOBODY


def test_a_hook_of_an_htaccess_without_pre_finish(hooks, httpd):
    tus, url = finish_in_htaccess(hooks, httpd, 'post-create')
    tus.told(upload_id(url), 'post-create')
    assert hooks.types() == ['post-create']


# -- no answer -------------------------------------------------------------------------------------

def test_the_endpoint_goes_and_comes(hooks, httpd):
    tus = serve(httpd, hooks)
    url = leave(tus)
    hooks.stop()
    failed(tus.server, hooks.url, 'pre-finish', why=f'.*gave no answer.*{LATER}')
    tus.server.wait_log(LATER, 60)
    assert not tus.store.finished(url)
    tus.server.allow_log('not told, to be tried again')
    hooks.start()
    wait_finished(tus, url)
    tus.told(upload_id(url), *FINISHED)


@pytest.mark.reliability
@pytest.mark.parametrize('rule', [{'status': 500}, {'status': 404}, {'body': b'garbage'}],
                         ids=str)
def test_it_waits_longer_each_time(hooks, httpd, rule):
    tus = serve(httpd, hooks)
    url = leave(tus)
    failed(tus.server, hooks.url, 'pre-finish', r'\d+', why=f'.*{LATER}')
    tus.answers({'Type': 'pre-finish', **rule})
    times = []
    for count in (1, 2, 3):
        hooks.wait(count, 'pre-finish', timeout=60)
        times.append(time.monotonic())
    pauses = [after - before for before, after in zip(times, times[1:])]
    assert pauses[0] > 0.5 and pauses[1] > 1.5, pauses
    assert not tus.store.finished(url)
    tus.answers()
    wait_finished(tus, url)


def test_no_event_is_lost_with_the_key_of_the_seals(hooks, httpd):
    """Gone while pre-finish is asked, it is not there when post-finish is to be spooled."""
    tus = serve(httpd, hooks)
    url = leave(tus)
    unknown = f'upload {upload_id(url)} cannot be compared with their seal'
    tus.server.allow_log(unknown)
    [key] = tus.server.state_dir.glob('*/seal')
    away = tus.server.root / 'seal'
    with asking(tus, url):
        key.rename(away)
    tus.server.wait_log(unknown, 60)
    assert not tus.store.finished(url)
    away.rename(key)
    wait_finished(tus, url)
    tus.told(upload_id(url), *FINISHED)


def test_the_next_request_does_not_wait_for_that(hooks, httpd):
    tus = serve(httpd, hooks, 'TusHookTimeout 10s')
    url = leave(tus)
    failed(tus.server, hooks.url, 'pre-finish', 500, why=f'.*{LATER}')
    tus.says('pre-finish', status=500)
    tus.server.wait_log(LATER, 60)
    tus.answers()
    assert tus.offset(url) == 10
    assert tus.store.finished(url)
    assert len(hooks.of('pre-finish')) == 1
    tus.told(upload_id(url), *FINISHED)


def test_what_a_request_could_not_finish(hooks, httpd):
    """Its client does not come back."""
    tus = serve(httpd, hooks)
    url = tus.new(10, b'hello')
    failed(tus.server, hooks.url, 'pre-finish', 503)
    tus.answers({'Type': 'pre-finish', 'status': 503, 'times': 1})
    assert_error(tus.patch(url, 5, b'world'), 502, 'ERR_HOOK_FAILED')
    wait_finished(tus, url)
    assert [call.request['Method'] for call in hooks.of('pre-finish')] == ['PATCH', '']
    tus.told(upload_id(url), *FINISHED)


def test_an_endpoint_that_is_down_is_not_asked_for_each(hooks, httpd):
    """Other uploads are finished meanwhile."""
    server = httpd(**PREFORK)
    store, other_store = server.make_store(), server.make_store('other')
    server.start(endpoint('Location /files', store, f'TusHook {hooks.url} pre-finish',
                          'TusHookRetry 1 1h') + endpoint('Location /other', other_store))
    failed(server, hooks.url, 'pre-finish', 500, why=f'.*{LATER}')
    hooks.script = [{'status': 500}]
    tus, other = Tus(server, store=store), Tus(server, '/other/', other_store)
    urls = []
    for _ in range(4):
        urls.append(leave_beside(tus))
        wait_finished(other, leave_beside(other))
    assert len(hooks.of()) == 1
    assert not any(store.finished(url) for url in urls)


def test_one_that_is_refused_keeps_no_other(hooks, httpd):
    tus = serve(httpd, hooks)
    refused = leave(tus)
    failed(tus.server, hooks.url, 'pre-finish', 200, why=f'.*{LATER}')
    tus.server.allow_log(LATER)    # again, after a pause
    tus.answers({'Type': 'pre-finish',
                 'answer': lambda call: [] if call.upload['ID'] == upload_id(refused) else {}})
    tus.server.wait_log(LATER, 60)
    other = leave_beside(tus)
    wait_finished(tus, other)
    assert not tus.store.finished(refused)
    tus.server.stop()


# -- while it waits --------------------------------------------------------------------------------

@contextlib.contextmanager
def asking(tus, url):
    gate = threading.Event()
    tus.says('pre-finish', until=gate)
    tus.hooks.wait(1, 'pre-finish', upload=upload_id(url), timeout=60)
    try:
        yield gate
    finally:
        gate.set()


def test_others_wait_as_long_as_ever(hooks, httpd):
    tus = serve(httpd, hooks, 'TusLockTimeout 1s')
    url = leave(tus)
    with asking(tus, url):
        assert tus.head(url).status == 423
        assert_error(tus.patch(url, 10, b''), 423, 'ERR_UPLOAD_LOCKED')
        assert_error(tus.patch(url, 9, b''), 409, 'ERR_MISMATCHED_OFFSET')
        assert tus.get(url).body == b'helloworld'
        assert not tus.store.finished(url)
    wait_finished(tus, url)
    assert tus.offset(url) == 10


def test_the_server_is_stopped(hooks, httpd):
    """It gives up, ends at once, and asks again after its next start."""
    tus = serve(httpd, hooks, 'TusHookTimeout 10mi')
    url = leave(tus)
    with asking(tus, url):
        tus.server.stop()
    assert not tus.store.finished(url)
    tus.server._launch()
    wait_finished(tus, url)
    tus.told(upload_id(url), *FINISHED)


@pytest.mark.reliability
def test_a_graceful_restart(hooks, httpd):
    tus = serve(httpd, hooks, 'TusHookTimeout 10mi', mpm='event', mpm_settings=None)
    url = leave_beside(tus)
    with asking(tus, url):
        tus.server.graceful()
        hooks.wait(2, 'pre-finish', timeout=60)
    wait_finished(tus, url)


@pytest.mark.reliability
def test_one_that_never_answers_is_given_up(hooks, httpd):
    """Though it had ten minutes for a request."""
    tus = serve(httpd, hooks, 'TusHookTimeout 10mi')
    url = leave(tus)
    with asking(tus, url):
        tus.server.wait_log(r'cancelled; upload \S+ is not finished', 60)
    wait_finished(tus, url)
