"""After the system was booted anew: the size of a data file proves nothing.

A test cannot boot the machine, but it can make a file older than the last boot.
"""
import json
import os
import signal
import time

import pytest

from testenv.httpd import endpoint
from testenv.index import state_of_store
from testenv.store import upload_id
from testenv.tus import Tus
from testenv.util import pattern, wait_until

MIB = 1024 * 1024
NOTED = 256 * MIB


def boot_time():
    with open('/proc/uptime', encoding='ascii') as file:
        return time.time() - float(file.read().split()[0])


def age(tus, url, by=60):
    """The data was written that many seconds before the system was booted."""
    when = boot_time() - by
    os.utime(tus.store.data_path(url), (when, when))


@pytest.fixture
def booted(httpd):
    def make(*lines):
        server = httpd()
        server.settled = False
        store = server.make_store()
        server.start(endpoint('Location /files', store, *lines))
        return Tus(server, store=store)
    return make


def note_of(tus, url):
    """What is noted as synced, or None."""
    path = state_of_store(tus.server) / 'synced' / upload_id(url)
    return int(os.readlink(path).split()[0]) if path.is_symlink() else None


@pytest.mark.parametrize('sync', ['finish', 'none'])
def test_what_is_not_noted_is_cut_off(booted, sync):
    tus = booted(f'TusSync {sync}')
    url = tus.new(10, b'hello')
    age(tus, url)
    assert tus.get(url).status == 204
    assert tus.patch(url, 5, b'world').status == 409
    assert tus.offset(url) == 0
    assert tus.store.size(url) == 0
    tus.server.wait_log(f'UploadCut id={upload_id(url)} offset=0 stored=5')
    assert tus.append(url, 0, b'HELLOWORLD') == 10
    assert tus.store.data(url) == b'HELLOWORLD'


def test_all_bytes_and_no_proof_are_no_finished_upload(booted):
    """Killed before it was finished, and then the system went down."""
    tus = booted()
    url = tus.new(10, b'hello')
    tus.server.kill()
    with tus.store.data_path(url).open('ab') as data:
        data.write(b'world')
    age(tus, url)
    tus.server.allow_log('AH00098')
    tus.server.start(endpoint('Location /files', tus.store))
    assert tus.offset(url) == 0
    assert not tus.store.finished(url)


def test_what_was_acknowledged_under_always_counts(booted):
    tus = booted('TusSync always')
    url = tus.new(10, b'hello')
    assert note_of(tus, url) == 5
    assert tus.append(url, 5, b'wo') == 7
    assert note_of(tus, url) == 7
    with tus.store.data_path(url).open('ab') as data:
        data.write(b'??')
    age(tus, url)
    assert tus.offset(url) == 7
    assert tus.store.data(url) == b'hellowo'
    assert tus.append(url, 7, b'rld') == 10
    assert tus.store.data(url) == b'helloworld'
    assert note_of(tus, url) is None


def test_finished_ones_are_not_touched(booted):
    tus = booted()
    url = tus.upload(b'hello')
    age(tus, url)
    assert tus.offset(url) == 5
    assert tus.get(url).body == b'hello'


def test_what_another_server_made_is_not_touched(booted):
    tus = booted()
    url = tus.new(10, b'hello')
    path = tus.store.info_path(url)
    info = tus.store.info(url)
    del info['ModTus']
    path.write_text(json.dumps(info))
    age(tus, url)
    assert tus.offset(url) == 5


def test_a_stop_in_good_order_settles_all(booted):
    tus = booted()
    url = tus.new(10, b'hello')
    tus.server.stop()
    settled = int((tus.server.state_dir / 'settled').read_text()) / 1e6
    assert abs(settled - time.time()) < 30
    age(tus, url)
    tus.server.start(endpoint('Location /files', tus.store))
    assert tus.offset(url) == 5
    assert tus.append(url, 5, b'world') == 10


def test_a_kill_settles_nothing(booted):
    tus = booted()
    url = tus.new(10, b'hello')
    tus.server.kill()
    assert not (tus.server.state_dir / 'settled').exists()
    age(tus, url)
    tus.server.allow_log('AH00098')
    tus.server.start(endpoint('Location /files', tus.store))
    assert tus.offset(url) == 0


def test_a_graceful_restart_settles_nothing_and_forgets_nothing(booted):
    tus = booted()
    tus.server.graceful()
    assert not (tus.server.state_dir / 'settled').exists()


@pytest.mark.parametrize('text', ['', 'x\n', '-5\n', '99999999999999999999999999\n', '5'])
def test_a_settled_file_that_says_nothing(booted, text):
    tus = booted()
    url = tus.new(10, b'hello')
    tus.server.stop()
    (tus.server.state_dir / 'settled').write_text(text)
    age(tus, url)
    tus.server.start(endpoint('Location /files', tus.store))
    assert tus.offset(url) == 0


def test_much_is_noted_while_it_arrives(booted):
    """One PATCH of 300 MiB that is cut off: 256 MiB are proven."""
    tus = booted()
    size = 300 * MIB
    url = tus.new(size + 1)
    with tus.hold(url, 0, size + 1, b'') as holder:
        piece = pattern(MIB)
        for _ in range(300):
            holder.send(piece)
        wait_until(lambda: tus.store.size(url) == size, 'the bytes to arrive')
        assert NOTED <= note_of(tus, url) < size
        noted = note_of(tus, url)
    wait_until(lambda: not tus.store.is_held(url), 'the upload to be let go')
    age(tus, url)
    assert tus.offset(url) == noted
    assert tus.store.size(url) == noted
    assert tus.delete(url).status == 204
    assert note_of(tus, url) is None


def test_many_small_requests_are_noted_too(booted):
    tus = booted()
    piece = pattern(MIB) * 60
    url = tus.new(400 * MIB)
    offset = 0
    while offset < 300 * MIB:
        offset = tus.append(url, offset, piece)
    assert note_of(tus, url) >= NOTED
    before = note_of(tus, url)
    tus.append(url, offset, b'x')
    assert note_of(tus, url) == before


def test_the_process_that_died_left_its_bytes(booted):
    """kill -9 alone is no reason for doubt."""
    tus = booted()
    url = tus.new(10, b'hello')
    for child in tus.server.children():
        os.kill(child, signal.SIGKILL)
    tus.server.allow_log('AH00052|exit signal')
    wait_until(tus.server.answers, 'new children')
    assert tus.offset(url) == 5
