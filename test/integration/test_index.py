"""TusStateDir: the journal folded into the index by the watchdog, and the index healed."""
import contextlib
import json
import os
import signal
import stat

import pytest

from testenv.damage import cut, emptied, removed
from testenv.httpd import endpoint
from testenv.index import dump, index_files, state_of_store
from testenv.store import upload_id
from testenv.tus import OCTETS, Tus
from testenv.util import give_to_user, pattern, run_user, wait_until


@pytest.fixture
def tus(httpd):
    server = httpd()
    store = server.make_store()
    return Tus(server.start(endpoint('Location /files', store)), store=store)


def assert_indexed(tus, finished=(), unfinished=(), driver='sdbm'):
    """Within a few seconds the index holds just these."""
    want = {**{upload_id(url): True for url in finished},
            **{upload_id(url): False for url in unfinished}}

    def have():
        return {uid: entry['state'] == 'finished'
                for uid, entry in dump(state_of_store(tus.server), driver).items()}

    try:
        wait_until(lambda: have() == want, 'the index to be up to date', timeout=20)
    except AssertionError:
        assert have() == want


def test_the_state_directory_is_the_servers_alone(tus):
    tus.upload(b'hello')
    for path in (tus.server.state_dir, state_of_store(tus.server)):
        status = path.stat()
        assert stat.S_IMODE(status.st_mode) == 0o700
        assert status.st_uid == run_user().pw_uid
    for path in state_of_store(tus.server).iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0 or path.is_dir()


def test_nothing_of_it_lies_in_the_store(tus):
    url = tus.upload(b'hello')
    assert_indexed(tus, [url])
    tus.store.assert_only(url)


def test_uploads_are_indexed(httpd, mpm):
    server = httpd(mpm=mpm)
    store = server.make_store()
    tus = Tus(server.start(endpoint('Location /files', store)), store=store)
    finished = [tus.upload(pattern(size)) for size in range(20)]
    unfinished = [tus.new(100, pattern(size)) for size in range(20)]
    deferred = tus.new(headers=[('Upload-Defer-Length', '1')])
    gone = [tus.upload(b'x'), tus.new(5)]
    for url in gone:
        tus.delete(url)
    assert_indexed(tus, finished, [*unfinished, deferred])
    entries = dump(state_of_store(server))
    assert entries[upload_id(finished[7])]['size'] == 7
    assert entries[upload_id(unfinished[7])]['size'] == 100


def test_what_changes_is_indexed_again(tus):
    url = tus.new(10, b'hello')
    assert_indexed(tus, [], [url])
    tus.append(url, 5, b'world')
    assert_indexed(tus, [url])
    tus.delete(url)
    assert_indexed(tus)


def test_index_files_have_the_drivers_names(tus):
    url = tus.upload(b'hello')
    assert_indexed(tus, [url])
    names = {path.name for path in state_of_store(tus.server).iterdir()}
    assert {'index.sdbm.pag', 'index.sdbm.dir'} <= names


def test_a_held_upload_is_indexed_when_it_is_released(tus):
    """Its line outlives the folds that meet it while it is held."""
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello') as holder:
        others = [tus.upload(b'x')]
        wait_until(lambda: upload_id(others[0]) in dump(state_of_store(tus.server)), 'a fold')
        others.append(tus.upload(b'y'))
        wait_until(lambda: upload_id(others[1]) in dump(state_of_store(tus.server)), 'another fold')
        assert holder.finish(b'world').status == 204
    assert_indexed(tus, [url, *others])


# -- damage ----------------------------------------------------------------------------------------

def scribble(path):
    path.write_bytes(pattern(max(path.stat().st_size, 4096)))


@pytest.mark.parametrize('damage', [removed, scribble, cut, emptied],
                         ids=['deleted', 'scribbled over', 'cut in half', 'emptied'])
def test_damage_is_healed(tus, damage):
    urls = [tus.upload(b'hello'), tus.upload(b'world')]
    half = tus.new(10, b'abc')
    assert_indexed(tus, urls, [half])
    assert index_files(tus.server)
    tus.server.allow_log(r'\[tus:warn\]')
    for path in index_files(tus.server):
        with contextlib.suppress(FileNotFoundError):    # the server has met the damage by now
            damage(path)
    urls.append(tus.upload(b'more'))        # the next fold meets the damage
    assert_indexed(tus, urls, [half])
    assert tus.get(urls[0]).body == b'hello'


def test_one_file_of_the_index_lost(tus):
    urls = [tus.upload(b'hello')]
    assert_indexed(tus, urls)
    tus.server.allow_log(r'\[tus:warn\]')
    index_files(tus.server)[0].unlink()
    urls.append(tus.upload(b'world'))
    assert_indexed(tus, urls)


def test_the_whole_state_lost(tus):
    """With the server down: all is found again by a scan."""
    urls = [tus.upload(b'hello')]
    half = tus.new(10, b'abc')
    assert_indexed(tus, urls, [half])
    tus.server.stop()
    for path in state_of_store(tus.server).iterdir():
        if path.is_file():
            path.unlink()
    tus.server.start(endpoint('Location /files', tus.store))
    urls.append(tus.upload(b'more'))
    assert_indexed(tus, urls, [half])


def test_an_unclean_stop(tus):
    """kill -9 of everything: the index is made anew, whatever the journal says."""
    urls = [tus.upload(b'hello') for _ in range(10)]
    tus.server.kill()
    tus.server.allow_log('AH00098')     # httpd finds the pid file of the server that was killed
    tus.server.start(endpoint('Location /files', tus.store))
    urls.append(tus.upload(b'more'))
    assert_indexed(tus, urls)


def test_a_rebuild_finds_what_tusd_left(tus):
    uid = 'b63f0d9da5422902698fb31f464848e6'
    tus.upload(b'hello')
    tus.server.stop()
    record = {'ID': uid, 'Size': 10, 'SizeIsDeferred': False, 'Offset': 0, 'MetaData': {},
              'IsPartial': False, 'IsFinal': False, 'PartialUploads': None,
              'Storage': {'Type': 'filestore', 'Path': f'/x/{uid}', 'InfoPath': f'/x/{uid}.info'}}
    tus.store.info_path(uid).write_text(json.dumps(record))
    tus.store.data_path(uid).write_bytes(b'hello')
    give_to_user(tus.store.info_path(uid))
    give_to_user(tus.store.data_path(uid))
    for path in [*state_of_store(tus.server).glob('index.*'), state_of_store(tus.server) / 'clean']:
        path.unlink(missing_ok=True)
    tus.server.start(endpoint('Location /files', tus.store))
    done = tus.store.uploads() - {uid}
    assert_indexed(tus, [*done, tus.upload(b'x')], [uid])


# -- orphans, and files that are none --------------------------------------------------------------

def test_an_orphan_of_a_killed_child_is_removed(tus):
    """A creation that died before it had a record leaves nothing for ever."""
    before = tus.store.uploads()
    with tus.connect() as conn:
        conn.send_head('POST', '/files/', [('Tus-Resumable', '1.0.0'), ('Upload-Length', 100),
                                           ('Content-Type', OCTETS), ('Content-Length', 100)])
        conn.send(b'hello')
        uid = tus.store.wait_new(before)
        wait_until(lambda: tus.store.size(uid) == 5, 'the first bytes')
        for pid in tus.server.children():
            os.kill(pid, signal.SIGKILL)
    wait_until(lambda: tus.store.data_path(uid).exists() == tus.store.info_path(uid).exists(),
               'the orphan to be removed, or to be a whole upload', timeout=30)


def test_foreign_files_are_never_removed(tus):
    """Not by a rebuild, nor by a sweep, however they are named."""
    foreign = {'notes.txt', '0' * 32, '1' * 32 + '.info', '.hidden'}
    for name in foreign:
        (tus.store.path / name).write_text('mine')
        give_to_user(tus.store.path / name)
    tus.server.allow_log(r'\[tus:warn\]')
    urls = [tus.upload(b'hello')]
    assert_indexed(tus, urls)
    for path in index_files(tus.server):
        path.unlink(missing_ok=True)
    urls.append(tus.upload(b'world'))
    assert_indexed(tus, urls)
    assert foreign <= tus.store.files()


# -- which directory belongs to which store --------------------------------------------------------

def test_two_stores_two_directories(httpd):
    server = httpd()
    one, two = server.make_store('one'), server.make_store('two')
    server.start(endpoint('Location /one', one) + endpoint('Location /two', two))
    Tus(server, '/one/').upload(b'hello')
    Tus(server, '/two/').upload(b'hello')
    assert len([path for path in server.state_dir.iterdir() if path.is_dir()]) == 2


def test_two_endpoints_one_directory(httpd):
    server = httpd()
    store = server.make_store()
    server.start(endpoint('Location /one', store) + endpoint('Location /two', store))
    Tus(server, '/one/').upload(b'hello')
    Tus(server, '/two/').upload(b'hello')
    state_of_store(server)


def test_a_renamed_store_finds_its_directory_again(tus):
    urls = [tus.upload(b'hello')]
    assert_indexed(tus, urls)
    state = state_of_store(tus.server)
    moved = tus.store.path.with_name('moved')
    tus.store.path.rename(moved)
    tus.store.path = moved
    tus.server.graceful(endpoint('Location /files', moved))
    urls.append(tus.upload(b'world'))
    assert state_of_store(tus.server) == state
    assert_indexed(tus, urls)


def test_a_copied_store_finds_its_directory_again(tus):
    """Restored from a backup: another inode at the same path, with the same owner."""
    urls = [tus.upload(b'hello')]
    assert_indexed(tus, urls)
    state = state_of_store(tus.server)
    old = tus.store.path.with_name('old')
    tus.store.path.rename(old)
    tus.server.make_store()
    for path in old.iterdir():
        copy = tus.store.path / path.name
        copy.write_bytes(path.read_bytes())
        give_to_user(copy)
    tus.server.graceful()
    urls.append(tus.upload(b'world'))
    assert_indexed(tus, urls)
    assert state_of_store(tus.server) == state


@pytest.mark.parametrize('driver', ['gdbm', 'db'])
def test_other_drivers(httpd, driver):
    server = httpd()
    store = server.make_store()
    config = endpoint('Location /files', store, f'TusMetadata dbm:{driver}')
    code, said = server.configtest(config)
    if code:
        assert driver in said
        return
    tus = Tus(server.start(config), store=store)
    assert_indexed(tus, [tus.upload(b'hello')], [tus.new(5)], driver)
