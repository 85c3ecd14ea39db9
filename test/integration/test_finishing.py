"""A request that is finishing runs on: what the others get meanwhile, and what none is told.

The file-system call that it is at is held up for as long as a test likes, so whoever is answered
meanwhile has not waited for it.
"""
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from testenv.faults import WAIT, Faults
from testenv.httpd import MPMS, endpoint
from testenv.index import state_of_store, without_sweep
from testenv.modules import load
from testenv.store import upload_id
from testenv.tus import Tus, assert_error
from testenv.util import wait_until

pytestmark = pytest.mark.reliability

SYNCS = ('sync', 'datasync')
LOCK_TIMEOUT = 1
VERSION = ('Tus-Resumable', '1.0.0')


@pytest.fixture(scope='module', params=MPMS)
def tus(request, shared_httpd):
    """At /files others wait a second, at /patient as long as it takes, at /always all is synced."""
    server = shared_httpd(mpm=request.param)
    store = server.make_store()
    notes = server.make_dir(server.root / 'notes')
    tus = Tus(server, store=store)
    tus.faults = Faults(server.root, [store.path, notes])
    server.environment.update(tus.faults.environment)
    server.start(
        load('tus_observer') + f'TusObserverLog "{notes}/observed"\n'
        + endpoint('Location /files', store, f'TusLockTimeout {LOCK_TIMEOUT}s')
        + endpoint('Location /patient', store, 'TusLockTimeout 10mi')
        + endpoint('Location /always', store, f'TusLockTimeout {LOCK_TIMEOUT}s', 'TusSync always'))
    tus.upload(b'x')
    with without_sweep(state_of_store(server)):    # it finishes for others as well
        yield tus


@contextlib.contextmanager
def finishing(tus, deed, kinds=SYNCS, suffix=''):
    """deed() is at its first such call; what it returned stands in the list at the end."""
    answers = []
    with ThreadPoolExecutor(1) as pool:
        with tus.faults.armed(WAIT, kinds=kinds, suffix=suffix):
            running = pool.submit(deed)
            wait_until(lambda: tus.faults.hit or running.done(), 'the call')
            assert not running.done(), running.result()
            yield answers
            assert not running.done()
        answers.append(running.result())


def assert_locked(answer):
    if answer.body:     # HEAD has none
        assert_error(answer, 423, 'ERR_UPLOAD_LOCKED')
    assert (answer.status, answer.get('Upload-Offset')) == (423, None), answer


def assert_others_wait(tus, url, offset):
    """Each as long as TusLockTimeout says, then 423; what is refused anyway and GET do not."""
    stored = tus.store.data(url)
    newer = (lambda: tus.head(url), lambda: tus.patch(url, offset, b''), lambda: tus.delete(url),
             lambda: tus.request('POST', url, [VERSION, ('X-HTTP-Method-Override', 'DELETE')]))
    with ThreadPoolExecutor(len(newer)) as pool:
        for answer, seconds in pool.map(timed, newer):
            assert_locked(answer)
            assert seconds >= LOCK_TIMEOUT * 0.9, 'it was waited for'
    answer = tus.patch(url, offset - 1, b'x')
    assert_error(answer, 409, 'ERR_MISMATCHED_OFFSET')
    assert str(offset) not in answer.body.decode(), answer
    assert tus.request('DELETE', url).status == 412
    for _ in range(2):
        answer = tus.get(url)
        assert (answer.status, answer.body) == (200, stored), answer
        assert answer.get('Upload-Offset') is None
        assert answer.get('Cache-Control') == 'no-store'
    assert not tus.store.finished(url)


def timed(ask):
    begun = time.monotonic()
    return ask(), time.monotonic() - begun


def assert_complete(tus, url, answer, status=204):
    assert (answer.status, answer.get('Upload-Offset')) == (status, '10'), answer
    head = tus.head(url)
    assert head.get('Upload-Offset') == head.get('Upload-Length') == '10', head
    assert tus.store.finished(url)
    assert tus.get(url).body == b'helloworld'


# -- which calls -----------------------------------------------------------------------------------

def test_a_slow_sync_of_the_data(tus):
    url = tus.new(10, b'hello')
    with finishing(tus, lambda: tus.patch(url, 5, b'world'), suffix=upload_id(url)) as answers:
        assert_others_wait(tus, url, 10)
    assert_complete(tus, url, answers[0])


def test_a_slow_sync_of_the_record(tus):
    url = tus.new(10, b'hello')
    with finishing(tus, lambda: tus.patch(url, 5, b'world'),
                   suffix=f'{upload_id(url)}.info.tmp') as answers:
        assert_others_wait(tus, url, 10)
    assert_complete(tus, url, answers[0])


def test_a_slow_hook(tus):
    """HEAD finishes what another left, and a module thinks about it: pre_finish."""
    url = left_by_the_dead(tus)
    with finishing(tus, lambda: tus.head(url), kinds=['write'], suffix='/observed') as answers:
        assert_others_wait(tus, url, 10)
    assert_complete(tus, url, answers[0], 200)


def left_by_the_dead(tus):
    """All bytes are there, and Finished nowhere."""
    url = tus.new(10, b'hello')
    with tus.store.data_path(url).open('ab') as data:
        data.write(b'world')
    return url


@pytest.mark.parametrize('how', ['HEAD', 'PATCH'])
def test_who_finishes_for_another(tus, how):
    """The answer that says Offset = Length waits for the finish that it has found undone."""
    url = left_by_the_dead(tus)
    deed = {'HEAD': lambda: tus.head(url), 'PATCH': lambda: tus.patch(url, 10, b'')}[how]
    with finishing(tus, deed, suffix=upload_id(url)) as answers:
        assert_others_wait(tus, url, 10)
    assert_complete(tus, url, answers[0], 200 if how == 'HEAD' else 204)


def test_a_slow_sync_between(tus):
    """With TusSync always each PATCH ends with one."""
    url = tus.new(10)
    always = url.replace('/files/', '/always/')
    with finishing(tus, lambda: tus.patch(always, 0, b'hello'), suffix=upload_id(url)) as answers:
        assert_locked(tus.head(url))
        assert_locked(tus.patch(url, 5, b'world'))
        assert_locked(tus.delete(url))
        assert tus.get(url).body == b'hello'
    assert (answers[0].status, answers[0].get('Upload-Offset')) == (204, '5')
    assert tus.append(url, 5, b'world') == 10


def test_a_creation_that_is_finishing(tus):
    """Nobody was told its URL; who guesses it finds nothing."""
    before = tus.store.uploads()
    with finishing(tus, lambda: tus.create(10, b'helloworld')) as answers:
        url = tus.base + (tus.store.uploads() - before).pop()
        for answer in (tus.head(url), tus.patch(url, 10, b''), tus.get(url), tus.delete(url)):
            assert answer.status in (404, 423), answer
            assert answer.get('Upload-Offset') is None
    assert (answers[0].status, answers[0].get('Location')) == (201, url)
    assert tus.offset(url) == 10


# -- who waits long enough -------------------------------------------------------------------------

@pytest.mark.parametrize('how', ['HEAD', 'PATCH', 'DELETE'])
def test_who_waits_is_served_after_it(tus, how):
    url = tus.new(10, b'hello')
    patient = url.replace('/files/', '/patient/')
    ask = {'HEAD': lambda: tus.head(patient), 'PATCH': lambda: tus.patch(patient, 10, b''),
           'DELETE': lambda: tus.delete(patient)}[how]
    with ThreadPoolExecutor(1) as pool:
        with finishing(tus, lambda: tus.patch(url, 5, b'world'), suffix=upload_id(url)) as answers:
            waiting = pool.submit(ask)
            assert_locked(tus.head(url))
            assert not waiting.done(), waiting.result()
        answer = waiting.result()
    assert answers[0].status == 204, 'it was not interrupted'
    if how == 'DELETE':
        assert answer.status == 204
        assert not tus.store.data_path(url).exists()
    else:
        assert_complete(tus, url, answer, 200 if how == 'HEAD' else 204)


# -- finals ----------------------------------------------------------------------------------------

def assert_joins(tus, final):
    """Nobody waits for a final but who would remove it."""
    for _ in range(3):
        head = tus.head(final)
        assert (head.status, head.get('Upload-Offset'), head.get('Upload-Length')) == \
            (200, None, '10'), head
        get = tus.get(final)
        assert (get.status, get.body) == (204, b''), get
    assert_error(tus.patch(final, 0, b'x'), 403, 'ERR_MODIFY_FINAL')
    assert_error(tus.patch(final, 10, b''), 403, 'ERR_MODIFY_FINAL')
    assert_locked(tus.delete(final))


def test_a_final_whose_join_is_slow(tus):
    part = tus.partial(5)
    final = tus.final([part, part])
    with finishing(tus, lambda: tus.patch(part, 0, b'hello'),
                   suffix=upload_id(final)) as answers:
        assert_joins(tus, final)
        head = tus.head(part)
        assert head.get('Upload-Offset') == head.get('Upload-Length') == '5'
        assert tus.store.finished(part)
        assert tus.get(part).body == b'hello'
    assert answers[0].status == 204
    assert tus.offset(final) == 10
    assert tus.get(final).body == b'hellohello'


def test_a_final_whose_creation_is_slow(tus):
    """It has its record before it is joined, so that it can be found."""
    parts = [tus.partial(5, b'hello'), tus.partial(5, b'world')]
    before = tus.store.uploads()
    with finishing(tus, lambda: tus.concat(parts)) as answers:
        final, = tus.store.uploads() - before
        assert_joins(tus, tus.base + final)
    assert (answers[0].status, answers[0].get('Location')) == (201, tus.base + final)
    assert_complete(tus, tus.base + final, tus.head(tus.base + final), 200)
