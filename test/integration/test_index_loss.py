"""The index and its journal damaged while the server serves: nothing is lost, and nobody dies."""
import os
import random
import re
import threading
from contextlib import suppress

import pytest

from testenv.damage import cut, emptied, removed
from testenv.httpd import endpoint
from testenv.index import dump, index_files, state_of_store, without_sweep
from testenv.store import upload_id
from testenv.tus import Tus, roundtrip
from testenv.util import pattern, wait_until

pytestmark = pytest.mark.reliability

def started(server, driver):
    store = server.make_store()
    config = endpoint('Location /files', store, f'TusMetadata dbm:{driver}')
    code, said = server.configtest(config)
    if code:
        assert driver in said and driver != 'sdbm', said
        pytest.skip(f'APR-util has no {driver}')
    tus = Tus(server.start(config), store=store)
    tus.driver = driver
    assert_indexed(tus, [tus.upload(b'hello')])
    return tus


@pytest.fixture(scope='module')
def tus(shared_httpd):
    return started(shared_httpd(), 'sdbm')


def journal(tus):
    return state_of_store(tus.server) / 'journal'


def assert_indexed(tus, urls):
    want = {upload_id(url) for url in urls}

    def missing():
        return want - set(dump(state_of_store(tus.server), tus.driver))

    wait_until(lambda: not missing(), 'all uploads to be in the index', timeout=15)


def no_fold(tus):
    """Nobody opens the index meanwhile: gdbm and db cannot stand damage to a file that is open."""
    return without_sweep(state_of_store(tus.server))


def made_anew(tus):
    """How often the log says so, of damage."""
    return len(re.findall(r'\[tus:warn\].* is made anew', tus.server.error_log.text()))


# -- what is done to a file ------------------------------------------------------------------------

def scribbled(path):
    """In place and within its size, so that no driver sees it by the size alone."""
    size = min(path.stat().st_size, 1 << 16)
    with path.open('r+b') as file:
        file.write(pattern(size))


DAMAGES = [removed, emptied, cut, scribbled]


@pytest.mark.parametrize('driver, damage', [
    ('sdbm', scribbled), ('gdbm', cut), ('gdbm', scribbled), ('db', emptied), ('db', scribbled)])
def test_the_index_while_serving(httpd, driver, damage):
    """It is made anew, and that is logged once, while uploads go on."""
    tus = started(httpd(), driver)
    children = set(tus.server.children())
    urls = [tus.upload(b'hello') for _ in range(5)]
    assert_indexed(tus, urls)
    assert made_anew(tus) == 0, 'the first index replaces none'
    tus.server.allow_log(r'\[tus:warn\] .* is made anew')
    half = tus.new(10)
    with tus.hold(half, 0, 10, b'hello') as holder:
        with no_fold(tus):
            for path in index_files(tus.server):
                damage(path)
        urls += [tus.upload(b'world') for _ in range(5)]
        assert holder.finish(b'world').status == 204
    assert_indexed(tus, [*urls, half])
    assert made_anew(tus) == 1
    assert children <= set(tus.server.children())
    for url in urls:
        assert tus.get(url).status == 200


@pytest.mark.parametrize('damage', DAMAGES)
def test_the_journal_while_serving(tus, damage):
    """What it had noted is found again; an upload is in the index whatever became of its line."""
    tus.server.allow_log(r'\[tus:warn\] .* is made anew')
    before = made_anew(tus)
    with no_fold(tus):
        urls = [tus.upload(b'hello') for _ in range(5)]
        half = tus.new(10, b'hello')
        damage(journal(tus))
        urls.append(tus.upload(b'world'))
    assert_indexed(tus, [*urls, half])
    assert made_anew(tus) - before == 1
    roundtrip(tus)
    assert_indexed(tus, [tus.upload(b'and on')])
    assert made_anew(tus) - before == 1


def test_damage_at_any_instant(tus):
    """All of the state directory's files, again and again, under uploads. (With sdbm: gdbm and db
    crash on files that change while they are open.)
    """
    children = set(tus.server.children())
    tus.server.allow_log(r'\[tus:(warn|error)\]')
    over = threading.Event()
    dice = random.Random(7)

    def vandal():
        while not over.wait(0.02):
            files = [path for path in state_of_store(tus.server).iterdir() if path.is_file()]
            if files:
                with suppress(OSError):     # it is gone already
                    dice.choice(DAMAGES)(dice.choice(sorted(files)))

    thread = threading.Thread(target=vandal)
    thread.start()
    try:
        urls = []
        for seed in range(150):
            data = pattern(2000, seed)
            url = tus.new(2000, data[:1000])
            assert tus.append(url, 1000, data[1000:]) == 2000
            urls.append(url)
    finally:
        over.set()
        thread.join()
    for seed, url in enumerate(urls):
        assert tus.store.data(url) == pattern(2000, seed)
        assert tus.store.finished(url)
    assert children <= set(tus.server.children()), 'a child died'
    for path in index_files(tus.server):
        path.unlink(missing_ok=True)    # the sweep may have removed it as damaged
    assert_indexed(tus, [*urls, tus.upload(b'x')])


def test_a_rebuild_holds_nobody_up(httpd):
    """Many records to be read again: requests are answered meanwhile."""
    tus = started(httpd(), 'sdbm')
    with tus.connect() as conn:
        urls = [tus.new(5, conn=conn) for _ in range(90)]
        for number in range(500):
            copy_of(tus, urls[number % 90], number)
    assert_indexed(tus, urls)
    tus.server.allow_log(r'\[tus:warn\]')
    with no_fold(tus):
        for path in index_files(tus.server):
            removed(path)
    for _ in range(20):
        roundtrip(tus, b'x' * 1000)
    wait_until(lambda: len(dump(state_of_store(tus.server))) >= 590, 'the rebuild', timeout=60)


def copy_of(tus, url, number):
    """One more upload, put there as a restored backup puts it."""
    name = f'{number:032x}'
    for path, suffix in ((tus.store.data_path(url), ''), (tus.store.info_path(url), '.info')):
        target = tus.store.path / (name + suffix)
        text = path.read_bytes().replace(upload_id(url).encode(), name.encode())
        target.write_bytes(text)
        os.chown(target, path.stat().st_uid, path.stat().st_gid)
