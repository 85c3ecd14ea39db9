"""What the server removes by itself, and all that it must leave alone."""
import contextlib
import json
import os
import shutil
import signal
import socket
import time

import pytest

from testenv.expiry import modified
from testenv.httpd import MPMS, alive, endpoint
from testenv.index import dump, state_of_store
from testenv.store import Store, upload_id
from testenv.tus import Tus, assert_error
from testenv.util import give_to_user, wait_until

PATIENCE = 30   # seconds that the watchdog may take, on a machine with other work


@pytest.fixture(scope='module')
def server(shared_httpd):
    """Uploads live 1.5 s at /files and 0.1 s at /soon, on one store."""
    server = shared_httpd()
    server.store = server.make_store()
    return server.start(endpoint('Location /files', server.store, 'TusExpire 1500ms')
                        + endpoint('Location /ever', server.store)
                        + endpoint('Location /soon', server.store, 'TusExpire 100ms'))


@pytest.fixture
def tus(server):
    return Tus(server, store=server.store)


@pytest.fixture
def fresh(httpd):
    """A server of one's own, whose stores can be changed while it is down."""
    server = httpd()
    store = server.make_store()
    server.configuration = (endpoint('Location /files', store, 'TusExpire 2s')
                            + endpoint('Location /soon', store, 'TusExpire 100ms'))
    return Tus(server.start(server.configuration), store=store)


def start_again(tus):
    tus.server.start(tus.server.configuration)


def gone(store, url):
    return not store.data_path(url).exists() and not store.info_path(url).exists()


def wait_gone(store, *urls):
    wait_until(lambda: all(gone(store, url) for url in urls), 'the sweep to forget', PATIENCE)


def wait_sweeps(tus):
    """Return when one more upload has come and gone: all that was due before has been seen."""
    wait_gone(tus.store, Tus(tus.server, '/soon/', tus.store).new(100, b'sentinel'))


def wait_expiry(tus, url, seconds):
    wait_until(lambda: time.time() > modified(tus, url) + seconds, 'the expiry')


# -- the life of an expired upload -----------------------------------------------------------------

def test_nobody_has_to_ask(tus):
    urls = [tus.new(100), tus.new(100, b'hello'), tus.new(headers=[('Upload-Defer-Length', 1)]),
            tus.partial(5, b'hell')]
    kept = [tus.upload(b'hello'), tus.new(0), tus.partial(5, b'hello')]
    wait_gone(tus.store, *urls)
    for url in urls:
        assert tus.head(url).status == 404
        tus.server.wait_log(rf'[Ee]xpired.*{upload_id(url)}')
    for url in kept:
        assert tus.head(url).status == 200
    wait_until(lambda: not {upload_id(url) for url in urls} & set(dump(state_of_store(tus.server))),
               'the index to forget')


def test_first_gone_then_not_found(tus):
    """200, then 410, then 404, whatever the sweep has done by then; the data goes first."""
    url = tus.new(100, b'hello')
    over = modified(tus, url) + 1.5
    seen = []
    while not seen or seen[-1] != 404:
        before = time.time()
        status = tus.head(url).status
        after = time.time()
        if not seen or seen[-1] != status:
            seen.append(status)
        assert status != 200 or before <= over, 'it has expired'
        assert status == 200 or after >= over, 'it has not expired'
        assert status != 404 or after >= over + 1.5, 'it is remembered as long again'
        data, info = tus.store.data_path(url).exists(), tus.store.info_path(url).exists()
        assert data or time.time() >= over, 'its data is gone early'
        assert info or time.time() >= over + 1.5, 'its record is gone early'
        assert before < over + PATIENCE
    assert seen in ([200, 410, 404], [200, 404]), 'a machine that stands still may not see one'
    wait_gone(tus.store, url)


def test_bytes_keep_it_alive(tus):
    """Each byte gives it another second and a half."""
    def outlive_it():
        url = tus.new(1000, b'x')
        born = time.time()
        offset = 1
        with contextlib.suppress(FileNotFoundError):    # this machine paused for too long
            while time.time() < born + 2:
                wait_expiry(tus, url, 0.3)
                if tus.patch(url, offset, b'x').status == 410:
                    assert time.time() > modified(tus, url) + 1.5
                    return None
                offset += 1
            return url
        return None

    wait_gone(tus.store, wait_until(outlive_it, 'bytes to come in time', PATIENCE))


def test_a_running_patch_is_left_alone(tus):
    """It began before the expiry, and ends long after: all of it counts."""
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello') as holder:
        wait_expiry(tus, url, 1.5)
        wait_sweeps(tus)
        assert holder.finish(b'world').status == 204
    assert tus.get(url).body == b'helloworld'
    assert tus.store.finished(url)


def test_a_running_creation_is_left_alone(tus):
    before = tus.store.uploads()
    with tus.connect() as conn:
        conn.send_head('POST', '/files/', [
            ('Tus-Resumable', '1.0.0'), ('Upload-Length', 10), ('Content-Length', 10),
            ('Content-Type', 'application/offset+octet-stream')])
        conn.send(b'hello')
        uid = tus.store.wait_new(before)
        wait_until(lambda: tus.store.size(uid) == 5, 'the first bytes')
        wait_expiry(tus, uid, 1.5)
        wait_sweeps(tus)
        conn.send(b'world')
        assert conn.response('POST').status == 201
    assert tus.store.data(uid) == b'helloworld'


def test_a_head_of_an_expired_upload_interrupts_nobody(tus):
    """While its bytes still come it has not expired for good."""
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello') as holder:
        wait_expiry(tus, url, 1.6)
        status = tus.head(url).status
        assert status in (200, 410)
        if status == 410:
            assert holder.finish(b'world').status == 204
            assert tus.store.data(url) == b'helloworld'
        else:
            assert_error(holder.response(), 503, 'ERR_UPLOAD_INTERRUPTED')


def test_without_TusExpire_all_stay(tus):
    ever = Tus(tus.server, '/ever/', tus.store)
    url = ever.new(10, b'hello')
    os.utime(ever.store.data_path(url), (0, 0))
    wait_sweeps(tus)
    assert ever.offset(url) == 5


def test_a_waiting_final_expires_like_any_other(tus):
    part = tus.partial(5, b'hell')
    final = tus.final([part])
    wait_gone(tus.store, part, final)
    assert tus.head(final).status == 404


# -- across the server's own life ------------------------------------------------------------------

@pytest.mark.parametrize('how', ['stop', 'kill', 'restart', 'graceful'])
def test_the_sweep_goes_on_after(fresh, how):
    """Nobody asks for anything any more."""
    urls = [fresh.new(100, b'hello'), fresh.new(100)]
    kept = fresh.upload(b'hello')
    getattr(fresh.server, how)()
    if how in ('stop', 'kill'):
        if how == 'kill':
            fresh.server.allow_log('AH00098')   # the pid file of the server that was killed
        start_again(fresh)
    wait_gone(fresh.store, *urls)
    fresh.store.assert_only(kept)


@pytest.mark.parametrize('mpm', MPMS)
def test_the_process_that_sweeps_dies(httpd, mpm):
    """mod_watchdog hands the work to another child."""
    server = httpd(mpm=mpm)
    store = server.make_store()
    tus = Tus(server.start(endpoint('Location /files', store, 'TusExpire 1s')), store=store)
    wait_gone(store, tus.new(100, b'hello'))
    urls = [tus.new(100, b'hello') for _ in range(5)]
    old = server.children()
    for pid in old:
        os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not any(alive(pid) for pid in old), 'the children to be gone')
    wait_gone(store, *urls)
    wait_gone(store, tus.new(100, b'hello'))


def test_what_expired_while_the_server_was_down(fresh):
    urls = [fresh.new(100, b'hello') for _ in range(3)]
    fresh.server.stop()
    for url in urls:
        os.utime(fresh.store.data_path(url), (1e9, 1e9))
    start_again(fresh)
    wait_gone(fresh.store, *urls)


def test_all_bytes_but_no_record_of_it(fresh):
    """Finished by the sweep, however old, and not removed."""
    url = fresh.new(10, b'hello')
    fresh.server.stop()
    with fresh.store.data_path(url).open('ab') as data:
        data.write(b'world')
    os.utime(fresh.store.data_path(url), (1e9, 1e9))
    start_again(fresh)
    wait_until(lambda: fresh.store.finished(url), 'the sweep to finish it', PATIENCE)
    assert fresh.get(url).body == b'helloworld'


def test_a_lost_index(fresh):
    """Found again by a scan, and removed."""
    urls = [fresh.new(100, b'hello') for _ in range(3)]
    fresh.server.stop()
    for path in state_of_store(fresh.server).iterdir():
        if path.is_file():
            path.unlink()
    start_again(fresh)
    wait_gone(fresh.store, *urls)


# -- what is not ours ------------------------------------------------------------------------------

def old(path):
    os.utime(path, (1e9, 1e9), follow_symlinks=False)
    return give_to_user(path)


def tusd_record(store, uid, size=100, path=None):
    return json.dumps({
        'ID': uid, 'Size': size, 'SizeIsDeferred': False, 'Offset': 0, 'MetaData': {},
        'IsPartial': False, 'IsFinal': False, 'PartialUploads': None,
        'Storage': {'Type': 'filestore', 'Path': path or f'{store}/{uid}',
                    'InfoPath': f'{store}/{uid}.info'}})


def fill_with_foreign_files(store, outside):
    """Whatever may lie in a directory that somebody made a store."""
    path = store.path
    for name in ('notes.txt', '0' * 32, '1' * 32, '.hidden', 'a.info', '2' * 32 + '.info.tmp',
                 '.' + '2' * 32 + '.info.tmp', 'x' * 200, 'index.html'):
        (path / name).write_text('mine')
    (path / ('1' * 32)).chmod(0o1660)                       # sticky, as data that is being born
    (path / ('3' * 32)).write_text('mine, with a record that is none')
    (path / ('3' * 32 + '.info')).write_text('{}')
    (path / ('4' * 32 + '.info')).write_text('no JSON at all')
    (path / ('5' * 32)).write_text('half an upload of tusd')
    (path / ('5' * 32 + '.info')).write_text(tusd_record(store, '5' * 32))
    (path / ('6' * 32 + '.info')).write_text(tusd_record(store, '6' * 32))
    (path / ('7' * 32)).mkdir()
    (path / ('7' * 32) / ('8' * 32)).write_text('mine')
    (path / ('7' * 32) / ('8' * 32 + '.info')).write_text(
        tusd_record(store, '7' * 32 + '/' + '8' * 32))
    (path / ('7' * 32) / 'empty').mkdir()
    (path / ('9' * 32)).symlink_to(outside)
    (path / ('a' * 32)).symlink_to(path / 'notes.txt')
    os.link(path / 'notes.txt', path / ('b' * 32))
    os.mkfifo(path / ('c' * 32))
    os.mkfifo(path / ('d' * 32 + '.info'))
    directory = os.open(path, os.O_RDONLY)
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(f'/proc/self/fd/{directory}/' + 'e' * 32)     # a socket's path is short
    os.close(directory)
    for root, directories, files in os.walk(path):
        for name in [*directories, *files]:
            old(path / root / name)


def tree(path):
    """Everything below a directory: kind, inode, time and bytes."""
    seen = {}
    for root, directories, files in os.walk(path):
        for name in [*directories, *files]:
            entry = os.path.join(root, name)
            status = os.lstat(entry)
            data = open(entry, 'rb').read() if os.path.isfile(entry) else None
            seen[os.path.relpath(entry, path)] = (status.st_ino, status.st_mode, status.st_nlink,
                                                  status.st_mtime, data)
    return seen


def assert_untouched(before, path):
    after = tree(path)
    changed = [name for name in before if before[name] != after.get(name)]
    assert not changed


@pytest.mark.parametrize('index', ['kept', 'lost'])
def test_foreign_files_survive_every_sweep(fresh, index):
    """Also when the index is made anew from what lies there."""
    outside = fresh.server.make_dir(fresh.server.root / 'outside')
    (outside / 'f').write_text('mine')
    fill_with_foreign_files(fresh.store, outside)
    before = tree(fresh.store.path)
    fresh.server.allow_log(r'\[tus:(warn|error)\]')
    wait_sweeps(fresh)
    assert_untouched(before, fresh.store.path)
    fresh.server.stop()
    if index == 'lost':
        for path in state_of_store(fresh.server).glob('index.*'):
            path.unlink()
    start_again(fresh)
    wait_sweeps(fresh)
    assert_untouched(before, fresh.store.path)
    assert (outside / 'f').read_text() == 'mine'


def test_data_that_another_record_names(fresh):
    """It goes with the last record that stands for it, not with the first."""
    url = fresh.new(100, b'hello')
    uid = upload_id(url)
    fresh.server.stop()
    other = 'f' * 32
    info = fresh.store.info_path(other)
    info.write_text(tusd_record(fresh.store, other, 100, str(fresh.store.path / uid)))
    give_to_user(info)
    fresh.server.allow_log('or its journal, was damaged')   # if it was whole when the server ended
    for path in state_of_store(fresh.server).glob('index.*'):
        path.unlink()
    start_again(fresh)
    wait_until(lambda: not fresh.store.info_path(url).exists(), 'the upload to expire', PATIENCE)
    wait_sweeps(fresh)
    assert fresh.store.data(url) == b'hello'
    assert fresh.get('/files/' + other).body == b'hello'


def test_data_that_another_upload_of_ours_went_on_with(fresh):
    """The second record is known by its own PATCH, without a scan."""
    url = fresh.new(100, b'hello')
    other = 'f' * 32
    info = fresh.store.info_path(other)
    info.write_text(tusd_record(fresh.store, other, 10, str(fresh.store.path / upload_id(url))))
    give_to_user(info)
    assert fresh.append('/files/' + other, 5, b'world') == 10
    wait_until(lambda: not fresh.store.info_path(url).exists(), 'the upload to expire', PATIENCE)
    wait_sweeps(fresh)
    assert fresh.get('/files/' + other).body == b'helloworld'


def test_data_that_lies_elsewhere_goes_with_its_upload(fresh):
    """Of a tusd upload that we went on with; not a file that has just its name."""
    place = fresh.server.make_dir(fresh.store.path / 'sub')
    (place / 'data.bin').write_bytes(b'hello')
    give_to_user(place / 'data.bin')
    other = 'f' * 32
    fresh.store.info_path(other).write_text(
        tusd_record(fresh.store, other, 100, str(place / 'data.bin')))
    fresh.store.data_path(other).write_bytes(b'not its data')
    for path in (fresh.store.info_path(other), fresh.store.data_path(other)):
        give_to_user(path)
    assert fresh.append('/files/' + other, 5, b'world') == 10
    wait_until(lambda: not fresh.store.info_path(other).exists(), 'the upload to expire', PATIENCE)
    assert not (place / 'data.bin').exists()
    assert fresh.store.data(other) == b'not its data'


def test_a_finished_file_whose_record_was_deleted(fresh):
    """The application keeps the data and throws ID.info away: it is its file now."""
    url = fresh.upload(b'hello')
    unfinished = fresh.new(100, b'half')
    for kept in (url, unfinished):
        fresh.store.info_path(kept).unlink()
        os.utime(fresh.store.data_path(kept), (1e9, 1e9))
    wait_sweeps(fresh)
    assert fresh.store.data(url) == b'hello'
    assert fresh.store.data(unfinished) == b'half'


# -- the index is no authority ---------------------------------------------------------------------

def wait_state(server, *urls):
    """A store's directory in TusStateDir: the one whose index knows these uploads."""
    wanted = {upload_id(url) for url in urls}
    return wait_until(lambda: next((state for state in server.state_dir.iterdir()
                                    if state.is_dir() and wanted <= set(dump(state))), None),
                      'an index that knows the uploads')


def test_an_index_that_was_planted(httpd):
    """It names uploads of another store, all expired; whatever has their names here stays."""
    server = httpd()
    stores = [server.make_store('one'), server.make_store('two')]
    config = (endpoint('Location /one', stores[0]) + endpoint('Location /two', stores[1]))
    server.start(config)
    one, two = Tus(server, '/one/', stores[0]), Tus(server, '/two/', stores[1])
    kept = [one.new(100, b'hello'), one.upload(b'hello')]
    victim = wait_state(server, *kept)
    ever = two.new(100)
    wait_state(server, ever)
    expiring = (endpoint('Location /one', stores[0])
                + endpoint('Location /two', stores[1], 'TusExpire 3s')
                + endpoint('Location /soon', stores[1], 'TusExpire 100ms'))
    server.graceful(expiring)
    short = [two.new(100, b'hello'), two.new(100)]
    planted = wait_state(server, ever, *short)
    server.stop()
    for path in planted.glob('index.*'):
        shutil.copy(path, victim / path.name)
        give_to_user(victim / path.name)
    for url in (*short, ever):
        stores[0].data_path(url).write_text('mine')
        old(stores[0].data_path(url))
    before = tree(stores[0].path)
    server.allow_log(r'\[tus:warn\]')
    server.start(expiring)
    wait_gone(stores[1], *short)
    wait_sweeps(two)
    assert_untouched(before, stores[0].path)
    assert one.offset(kept[0]) == 5
    assert one.get(kept[1]).body == b'hello'


def damage_file(server, path, damage):
    size = path.stat().st_size
    if damage == 'scribbled over':
        path.write_bytes(os.urandom(min(max(size, 4096), 1 << 20)))
    elif damage == 'cut in half':
        os.truncate(path, size // 2)
    elif damage == 'emptied':
        os.truncate(path, 0)
    else:
        path.unlink()
        server.make_dir(path)


@pytest.mark.parametrize('damage', ['scribbled over', 'cut in half', 'emptied', 'directories'])
def test_an_index_that_was_damaged(fresh, damage):
    """Made anew; what has to go goes, and nothing else."""
    kept = fresh.upload(b'hello')
    urls = [fresh.new(100, b'hello') for _ in range(3)]
    wait_until(lambda: upload_id(kept) in dump(state_of_store(fresh.server)), 'the index')
    fresh.server.allow_log(r'\[tus:(warn|error)\]')
    for path in state_of_store(fresh.server).glob('index.*'):
        with contextlib.suppress(OSError):      # the server has met the damage by now
            damage_file(fresh.server, path, damage)
    if damage == 'directories':
        fresh.upload(b'x')
        for path in state_of_store(fresh.server).glob('index.*'):
            if path.is_dir():
                path.rmdir()
    wait_gone(fresh.store, *urls)
    assert fresh.get(kept).body == b'hello'


# -- stores that only an .htaccess names -----------------------------------------------------------

class Site:
    """A customer's directory; what the server knows of its store it knows by its requests."""

    def __init__(self, server, name):
        self.path = server.make_dir(server.htdocs / name)
        self.store = Store(server.make_dir(self.path / 'store'))
        (self.path / '.htaccess').write_text('TusEngine On\nTusStore file store\nTusExpire 2s\n')
        self.tus = Tus(server, f'/{name}/', self.store)


class Host:
    """A server with customers, and a store of its own to see its sweeps by."""

    def __init__(self, server):
        self.server = server
        self.own = server.make_store('own')
        self.configuration = (f'<Directory "{server.htdocs}">\nAllowOverride FileInfo\n'
                              'Options FollowSymLinks\n</Directory>\n'
                              + endpoint('Location /soon', self.own, 'TusExpire 100ms'))
        self.start()

    def start(self):
        self.server.start(self.configuration)

    def wait_sweeps(self):
        """Two of them, as it is not known in which order a round goes through the stores."""
        for _ in range(2):
            wait_sweeps(Tus(self.server, '/soon/', self.own))


@pytest.fixture
def host(httpd):
    return Host(httpd())


@pytest.fixture
def site(host):
    return Site(host.server, 'customer')


@pytest.mark.parametrize('how', [None, 'restart', 'stop', 'kill'])
def test_an_htaccess_store_is_swept(host, site, how):
    """Nobody ever asks for anything in it again."""
    urls = [site.tus.new(100, b'hello'), site.tus.new(100)]
    kept = site.tus.upload(b'hello')
    if how:
        getattr(host.server, how)()
    if how in ('stop', 'kill'):
        host.server.allow_log('AH00098')    # the pid file of the server that was killed
        host.start()
    wait_gone(site.store, *urls)
    site.store.assert_only(kept)


def test_an_htaccess_store_is_swept_without_its_htaccess(site):
    """What was made while it was one still goes: its record says when."""
    url = site.tus.new(100, b'hello')
    (site.path / '.htaccess').unlink()
    wait_gone(site.store, url)


def copy_of(store, place):
    """The same names, bytes and times, of the same owner."""
    shutil.copytree(store, place)
    for path in (place, *place.iterdir()):
        give_to_user(path)
    return place


def by_a_symlink(place, aside, outside):
    copy_of(aside, outside)
    place.symlink_to(outside)
    return outside


def by_another_directory(place, aside, outside):
    return copy_of(aside, place)


def by_a_file(place, aside, outside):
    place.write_text('mine')
    return copy_of(aside, outside)


def by_nothing(place, aside, outside):
    return copy_of(aside, outside)


def by_a_symlink_on_the_way(place, aside, outside):
    outside.mkdir()
    copy = copy_of(aside, outside / place.name)
    place.parent.rename(place.parent.with_name(place.parent.name + '-moved'))
    place.parent.symlink_to(outside)
    return copy


@pytest.mark.parametrize('restarted', [False, True])
def test_an_htaccess_store_that_was_swapped(host, restarted):
    """The server knows device and inode: what stands in the place of its store is none."""
    swaps = [by_a_symlink, by_another_directory, by_a_file, by_nothing, by_a_symlink_on_the_way]
    sites = [Site(host.server, swap.__name__) for swap in swaps]
    urls = [site.tus.new(100, b'hello') for site in sites]
    host.server.allow_log(r'\[tus:(warn|error)\]')
    if restarted:
        host.server.stop()
    copies = {}
    for swap, site in zip(swaps, sites):
        aside = host.server.make_dir(host.server.root / 'aside') / swap.__name__
        site.store.path.rename(aside)
        copy = swap(site.store.path, aside, host.server.root / swap.__name__)
        copies[copy] = tree(copy)
        assert copies[copy]
    if restarted:
        host.start()
    last = aside / upload_id(urls[-1])
    wait_until(lambda: time.time() > last.stat().st_mtime + 2, 'the expiry')
    host.wait_sweeps()
    for copy, before in copies.items():
        assert_untouched(before, copy)


def test_an_htaccess_store_that_comes_back(host, site):
    url = site.tus.new(100, b'hello')
    aside = site.path / 'aside'
    site.store.path.rename(aside)
    host.wait_sweeps()
    aside.rename(site.store.path)
    wait_gone(site.store, url)


def test_a_store_whose_owner_changed(host, site):
    """The inode may have been given to somebody else's directory since."""
    if os.geteuid():
        return assert_only_root_can()
    url = site.tus.new(100, b'hello')
    os.chown(site.store.path, 0, -1)
    site.store.path.chmod(0o777)
    host.server.allow_log(r'\[tus:(warn|error)\]')
    wait_expiry(site.tus, url, 2)
    host.wait_sweeps()
    assert site.store.data(url) == b'hello'


def assert_only_root_can():
    """An ordinary user cannot give a directory away: then nobody can do this to him."""
    with pytest.raises(PermissionError):
        os.chown('.', 0, -1)
