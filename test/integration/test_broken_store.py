"""A store that cannot be written: missing, not permitted, full. It stops nothing but itself."""
import os
import shutil
import stat

import pytest

from testenv.httpd import endpoint
from testenv.store import Store, upload_id
from testenv.tus import Tus, assert_error
from testenv.util import AS_ROOT, give_to_user, pattern, run_user

KIB = 1024


class Broken:
    """A server with a good endpoint /good, and /files whose store `make(path)` makes (or not)."""

    def __init__(self, server, make):
        self.server = server
        self.path = server.root / 'stores' / 'broken'
        make(self.path)
        self.good = Tus(server, '/good/', server.make_store('good'))
        self.bad = Tus(server, '/files/', Store(self.path))
        self.config = (endpoint('Location /good', self.good.store)
                       + endpoint('Location /files', self.path))


def missing(path):
    pass


def forbidden(path):
    """The account of the children may look but not write; root may both."""
    path.mkdir()
    give_to_user(path)
    path.chmod(0o500)


def of_root(path):
    """Nobody but its owner may even look. (As an ordinary user: not writable by anybody.)"""
    path.mkdir(mode=0o700)
    if os.geteuid():
        path.chmod(0o000)


def a_file(path):
    path.write_text('no directory')


def below_a_wall(path):
    """The directory is fine; one on the way to it is not."""
    wall = path.with_name('wall')
    (wall / 'inner').mkdir(parents=True)
    give_to_user(wall / 'inner')
    path.symlink_to(wall / 'inner')
    wall.chmod(0o000 if os.geteuid() else 0o700)


KINDS = {'missing': (missing, 'No such file or directory'),
         'forbidden': (forbidden, 'Permission denied'), 'of root': (of_root, 'Permission denied'),
         'a file': (a_file, 'Not a directory'), 'below a wall': (below_a_wall, 'Permission denied')}


@pytest.fixture(params=KINDS.values(), ids=KINDS.keys())
def broken(request, httpd):
    make, why = request.param
    broken = Broken(httpd(), make)
    broken.why = why
    yield broken
    for entry in os.scandir(broken.path.parent):
        if entry.is_dir(follow_symlinks=False):
            os.chmod(entry.path, 0o700)


def complaint(broken):
    """Path, uid and the system's own words, in one line."""
    uid = run_user().pw_uid
    path = str(broken.path)
    return rf'(?=.*{path})(?=.*\b{uid}\b)(?=.*{broken.why})'


def test_configtest_warns(broken):
    code, said = broken.server.configtest(broken.config)
    assert code == 0, 'a store is no syntax'
    assert 'Syntax OK' in said
    lines = [line for line in said.splitlines() if str(broken.path) in line]
    assert lines and '[tus:warn]' in lines[0], said
    assert broken.why in lines[0] and str(run_user().pw_uid) in lines[0]
    assert str(broken.good.store) not in said, 'the good one is not complained of'


def test_start_graceful_and_restart_go_on(broken):
    broken.server.expect_log(r'\[tus:warn\].*' + complaint(broken))
    broken.server.start(broken.config)
    assert broken.good.upload(b'hello')
    broken.server.graceful()
    assert broken.good.upload(b'hello')
    broken.server.restart()
    assert broken.good.upload(b'hello')


def test_every_request_is_500_with_a_line_that_tells_why(broken):
    broken.server.allow_log(r'\[tus:warn\].*' + complaint(broken))
    broken.server.start(broken.config)
    broken.server.audit()
    unknown = '/files/' + '0' * 32
    for request in (lambda: broken.bad.create(5), lambda: broken.bad.create(5, b'hello'),
                    lambda: broken.bad.patch(unknown, 0, b'x'), lambda: broken.bad.delete(unknown),
                    lambda: broken.bad.get(unknown)):
        broken.server.expect_log(r'\[tus:error\].*' + complaint(broken))
        answer = request()
        if broken.why == 'Permission denied' and answer.status == 404:
            continue    # it may be read: what is not there is not there
        assert_error(answer, 500, 'ERR_INTERNAL_SERVER_ERROR')
        assert str(broken.path).encode() not in answer.body, 'the client is not told of paths'
    broken.server.allow_log(r'\[tus:error\].*' + complaint(broken))
    assert broken.bad.options().status == 200
    assert broken.good.upload(b'hello')


@pytest.mark.parametrize('make', [missing, forbidden], ids=['missing', 'forbidden'])
def test_it_works_as_soon_as_it_is_mended(httpd, make):
    """Nobody has to restart a server because a disk was mounted late."""
    broken = Broken(httpd(), make)
    broken.server.allow_log(r'\[tus:(warn|error)\]')
    broken.server.start(broken.config)
    assert broken.bad.create(5).status == 500
    broken.path.mkdir(exist_ok=True)
    broken.path.chmod(0o770)
    give_to_user(broken.path)
    url = broken.bad.upload(b'hello')
    assert broken.bad.store.data(url) == b'hello'


def test_a_store_that_goes_away(httpd):
    """Unmounted while the server runs, and mounted again."""
    server = httpd()
    store = server.make_store()
    other = server.make_store('other')
    server.start(endpoint('Location /files', store) + endpoint('Location /other', other))
    tus = Tus(server, store=store)
    url = tus.new(10, b'hello')
    away = store.path.with_name('away')
    store.path.rename(away)
    server.expect_log(rf'\[tus:error\].*{store.path}.*No such file')
    assert_error(tus.patch(url, 5, b'world'), 500, 'ERR_INTERNAL_SERVER_ERROR')
    assert tus.head(url).status == 500, '404 would make a client begin again'
    assert tus.create(5).status == 500
    assert Tus(server, '/other/').upload(b'hello')
    away.rename(store.path)
    assert tus.offset(url) == 5
    assert tus.append(url, 5, b'world') == 10


def test_a_store_that_was_replaced(httpd):
    """Deleted and made anew with another inode: new uploads go there."""
    server = httpd()
    store = server.make_store()
    server.start(endpoint('Location /files', store))
    tus = Tus(server, store=store)
    url = tus.new(10, b'hello')
    shutil.rmtree(store.path)
    server.make_store()
    server.allow_log(r'\[tus:(warn|error)\]')
    assert tus.head(url).status == 404
    fresh = tus.upload(b'hello')
    assert tus.store.data(fresh) == b'hello'


def test_the_state_directory_cannot_be_made(httpd):
    """That is a mistake in the server's own configuration: it says so."""
    server = httpd()
    store = server.make_store()
    server.state_dir = server.root / 'mime.types' / 'state'
    server.settled = False
    code, said = server.configtest(endpoint('Location /files', store))
    assert code == 0 or 'TusStateDir' in said
    if code == 0:
        server.allow_log(r'\[tus:\w+\]|AH\d+')
        try:
            server.start(endpoint('Location /files', store))
        except AssertionError as problem:
            assert 'mime.types/state' in str(problem)
        else:
            server.expect_log('mime.types/state')
            assert Tus(server).create(5).status == 500


def test_a_state_directory_of_somebody_else(httpd):
    """It is neither taken nor opened to anybody: that may be /var/lib, by a slip of the pen."""
    server = httpd()
    store = server.make_store()
    server.state_dir.mkdir()
    server.state_dir.chmod(0o755)
    foreign = server.state_dir / 'foreign'
    foreign.write_text('not yours')
    before = server.state_dir.stat()
    if AS_ROOT:
        server.expect_log(rf'\[tus:warn\].*TusStateDir {server.state_dir} .*Permission denied')
    server.start(endpoint('Location /files', store))
    after = server.state_dir.stat()
    assert (after.st_uid, after.st_gid) == (before.st_uid, before.st_gid)
    assert stat.S_IMODE(after.st_mode) == 0o755
    assert foreign.read_text() == 'not yours'
    if not AS_ROOT:
        return      # it is ours then, and may be used
    server.expect_log(r'\[tus:error\].*Permission denied.*TusStateDir')
    assert_error(Tus(server).create(5), 500, 'ERR_INTERNAL_SERVER_ERROR')
    assert not store.files()
    assert os.listdir(server.state_dir) == ['foreign']


# -- full ------------------------------------------------------------------------------------------

def on_tiny_disk(full_disk, httpd, *lines):
    """An endpoint whose store is a disk of 2 MiB of its own."""
    server = httpd(prefix=full_disk.command)
    server.start(endpoint('Location /files', full_disk.path, *lines))
    full_disk.attach(server)
    tus = Tus(server, store=Store(full_disk.inside))
    tus.disk = full_disk
    return tus


@pytest.fixture
def tiny(full_disk, httpd):
    return on_tiny_disk(full_disk, httpd)


def test_a_patch_fills_the_disk(tiny):
    """507; what fitted is kept and is what HEAD says; with room again it goes on."""
    data = pattern(3 << 20)
    url = tiny.new(len(data))
    tiny.server.expect_log(r'\[tus:error\].*No space left')
    assert_error(tiny.patch(url, 0, data), 507, 'ERR_INSUFFICIENT_STORAGE')
    offset = tiny.offset(url)
    assert 1 << 20 < offset < 2 << 20
    assert tiny.store.data(url) == data[:offset]
    assert tiny.delete(url).status == 204

    tiny.disk.fill(leave=64 * KIB)
    url = tiny.new(256 * KIB)
    tiny.server.expect_log(r'\[tus:error\].*No space left')
    answer = tiny.patch(url, 0, data[:256 * KIB], chunked=True)
    assert_error(answer, 507, 'ERR_INSUFFICIENT_STORAGE')
    offset = tiny.offset(url)
    assert 0 < offset < 256 * KIB
    assert tiny.store.data(url) == data[:offset]
    tiny.disk.make_room()
    assert tiny.append(url, offset, data[offset:256 * KIB]) == 256 * KIB
    assert tiny.store.data(url) == data[:256 * KIB]
    assert tiny.store.finished(url)


def test_a_creation_on_a_full_disk(tiny):
    tiny.disk.fill()
    before = tiny.store.files()
    tiny.server.expect_log(r'\[tus:error\].*No space left')
    assert_error(tiny.create(5), 507, 'ERR_INSUFFICIENT_STORAGE')
    assert_error(tiny.create(5, b'hello'), 507, 'ERR_INSUFFICIENT_STORAGE')
    assert tiny.store.files() == before, 'no half of an upload stays'
    tiny.disk.make_room()
    assert tiny.upload(b'hello')


@pytest.mark.parametrize('sync', ['none', 'finish', 'always'])
def test_a_full_disk_at_the_finish(full_disk, httpd, sync):
    """All bytes are there but the record cannot be written: no answer calls that finished."""
    tiny = on_tiny_disk(full_disk, httpd, f'TusSync {sync}')
    url = tiny.new(10, b'hello')
    tiny.disk.fill()
    tiny.server.expect_log(r'\[tus:error\].*No space left.*cannot write the record')
    assert_error(tiny.patch(url, 5, b'world'), 507, 'ERR_INSUFFICIENT_STORAGE')
    assert tiny.store.data(url) == b'helloworld'
    assert not tiny.store.finished(url)
    head = tiny.head(url)
    assert head.status == 507
    assert head.get('Upload-Offset') is None
    tiny.disk.make_room()
    assert tiny.offset(url) == 10
    assert tiny.store.finished(url)
    assert tiny.store.files() == {upload_id(url), upload_id(url) + '.info'}


def test_a_length_that_cannot_be_written_down(tiny):
    url = tiny.new(None, b'hello', [('Upload-Defer-Length', 1)])
    tiny.disk.fill()
    tiny.server.expect_log(r'\[tus:error\].*No space left.*cannot write the record')
    assert_error(tiny.patch(url, 5, b'wo', [('Upload-Length', 10)]), 507,
                 'ERR_INSUFFICIENT_STORAGE')
    head = tiny.head(url)
    assert (head.get('Upload-Offset'), head.get('Upload-Defer-Length')) == ('7', '1')
    tiny.disk.make_room()
    assert tiny.append(url, 7, b'rld', headers=[('Upload-Length', 10)]) == 10
    assert tiny.store.data(url) == b'helloworld'
    assert tiny.store.finished(url)


def test_reading_goes_on_when_the_disk_is_full(tiny):
    url = tiny.upload(b'hello')
    half = tiny.new(10, b'hello')
    tiny.disk.fill()
    assert tiny.get(url).body == b'hello'
    assert tiny.offset(half) == 5
    assert tiny.delete(half).status == 204


# -- a full TusStateDir ----------------------------------------------------------------------------

@pytest.fixture
def stateless(full_disk, httpd):
    """An endpoint whose TusStateDir, never used before, is on a disk of 2 MiB of its own."""
    server = httpd(prefix=full_disk.command)
    server.state_dir = full_disk.path / 'state'
    server.settled = False
    store = server.make_store()
    server.start(endpoint('Location /files', store))
    full_disk.attach(server)
    server.allow_log(r'\[tus:error\].*No space left|or its journal, was damaged')
    tus = Tus(server, store=store)
    tus.disk = full_disk
    tus.state = full_disk.inside / 'state'
    return tus


def test_the_first_use_with_a_full_state_directory(stateless):
    stateless.disk.fill()
    for _ in range(3):
        assert_error(stateless.create(5, b'hello'), 507, 'ERR_INSUFFICIENT_STORAGE')
    assert not stateless.store.files()
    assert not os.listdir(stateless.state), 'nothing is left of what could not be made'
    stateless.disk.make_room()
    url = stateless.upload(b'hello')
    assert stateless.store.data(url) == b'hello'


def test_a_state_directory_that_got_full(stateless):
    """What has to be noted first is refused, and changes nothing; the rest goes on."""
    finished = stateless.upload(b'hello')
    half = stateless.new(10, b'hello')
    stateless.disk.fill()
    for _ in range(500):    # there is room in the last page of the journal
        known = stateless.store.files()
        answer = stateless.create(5)
        if answer.status != 201:
            break
    assert_error(answer, 507, 'ERR_INSUFFICIENT_STORAGE')
    assert stateless.store.files() == known
    assert stateless.get(finished).body == b'hello'
    assert stateless.offset(half) == 5
    assert stateless.append(half, 5, b'wo') == 7, 'bytes in the middle are noted nowhere'
    assert_error(stateless.patch(half, 7, b'rld'), 507, 'ERR_INSUFFICIENT_STORAGE')
    assert stateless.offset(half) == 7
    assert_error(stateless.delete(finished), 507, 'ERR_INSUFFICIENT_STORAGE')
    assert stateless.get(finished).body == b'hello'
    stateless.disk.make_room()
    assert stateless.append(half, 7, b'rld') == 10
    assert stateless.store.data(half) == b'helloworld'
    assert stateless.store.finished(half)
    assert stateless.delete(finished).status == 204
    assert stateless.upload(b'hello')
