"""Shared hosting: what an .htaccess may name, and what may lie in a store in place of an upload."""
import json
import os
import select
import shutil
import stat
import subprocess

import pytest

from testenv.http import Connection
from testenv.httpd import SANITIZED, endpoint, resident
from testenv.store import Store, upload_id
from testenv.tus import OCTETS, Tus, patch_fields
from testenv.util import give_to_user, program, wait_until

VERSION = ('Tus-Resumable', '1.0.0')
SECRET = b'root:x:0:0: not yours'


class Site:
    """One customer's directory below htdocs; its .htaccess is all that he can write."""

    def __init__(self, server, *server_lines):
        self.server = server
        self.path = server.make_dir(server.htdocs / 'customer' / 'up')
        self.outside = server.make_dir(server.root / 'outside')
        self.outside.chmod(0o777)
        server.start(f'<Directory "{server.htdocs}">\nAllowOverride FileInfo\n'
                     'Options FollowSymLinks\n' + '\n'.join(server_lines) + '\n</Directory>\n')

    def htaccess(self, *lines):
        (self.path / '.htaccess').write_text('\n'.join(['TusEngine On', *lines, '']))

    def make(self, path):
        path.mkdir(parents=True)
        path.chmod(0o777)
        return give_to_user(path)

    def create(self):
        """A creation with five bytes; the bare answer."""
        with Connection(self.server.port) as conn:
            return conn.request('POST', '/customer/up/', [
                VERSION, ('Upload-Length', 5), ('Content-Type', OCTETS)], b'hello')

    def assert_refused(self, *places):
        """500 with a line in the error log, and not one file anywhere it should not be."""
        self.server.expect_log(r'TusStore|TusAllowStore')
        answer = self.create()
        assert answer.status == 500, answer
        for place in (self.outside, *places):
            assert not [path for path in place.rglob('*') if path.is_file()], place
        assert b'/outside' not in answer.body, 'the answer tells no paths'


@pytest.fixture
def site(httpd):
    return Site(httpd())


# -- TusAllowStore ---------------------------------------------------------------------------------

@pytest.mark.parametrize('name', ['store', './store', 'store/', 'a/b/store', '{path}/store'])
def test_a_store_in_the_htaccess_own_tree(site, name):
    name = name.format(path=site.path)
    store = site.make(site.path / name)
    site.htaccess(f'TusStore file {name}')
    answer = site.create()
    assert answer.status == 201
    assert Store(store).data(answer.get('Location')) == b'hello'


@pytest.mark.parametrize('name', [
    '{outside}', '..', '../', '../..', '../sibling', 'store/../..', 'store/../../sibling',
    '{path}/../sibling', '{htdocs}', '{htdocs}/customer', '{path}-other', '/', '/tmp', '{state}'])
def test_a_store_elsewhere(site, name):
    site.make(site.path / 'store')
    sibling = site.make(site.path.parent / 'sibling')
    other = site.make(site.path.parent / 'up-other')
    site.htaccess('TusStore file ' + name.format(
        outside=site.outside, path=site.path, htdocs=site.server.htdocs,
        state=site.server.state_dir))
    tmp = set(os.listdir('/tmp'))
    site.assert_refused(sibling, other)
    assert not {name for name in set(os.listdir('/tmp')) - tmp if name.endswith('.info')}


@pytest.mark.parametrize('section', ['Files "*"', 'If "true"', 'IfModule tus_module',
                                     'FilesMatch "."', 'IfDefine !X'])
@pytest.mark.parametrize('name', ['{outside}', '../sibling', '{path}/../sibling'])
def test_a_store_elsewhere_in_a_section(site, section, name):
    """A section inside an .htaccess is still an .htaccess."""
    sibling = site.make(site.path.parent / 'sibling')
    name = name.format(outside=site.outside, path=site.path)
    site.htaccess(f'<{section}>', f'TusStore file {name}', f'</{section.split()[0]}>')
    site.assert_refused(sibling)


@pytest.mark.parametrize('section', ['Files "*"', 'If "true"', 'FilesMatch "."'])
def test_a_store_in_a_section_is_refused(site, section):
    """For requests outside the section it would be no store, and be served as files."""
    store = site.make(site.path / 'store')
    site.htaccess(f'<{section}>', 'TusStore file store', f'</{section.split()[0]}>')
    site.assert_refused(store)


@pytest.mark.parametrize('section', ['IfModule tus_module', 'IfDefine !X'])
def test_a_store_in_a_section_of_the_configuration(site, section):
    site.make(site.path / 'store')
    site.htaccess(f'<{section}>', 'TusStore file store', f'</{section.split()[0]}>')
    assert site.create().status == 201


def test_an_htaccess_in_a_symlinked_directory(site):
    """The document root of many a site is a symlink: no matter, it leads to the .htaccess."""
    real = site.make(site.server.root / 'home' / 'up')
    store = site.make(real / 'store')
    (real / '.htaccess').write_text('TusEngine On\nTusStore file store\n')
    (site.server.htdocs / 'linked').symlink_to(real)
    tus = Tus(site.server, '/linked/', Store(store))
    assert tus.store.data(tus.upload(b'hello')) == b'hello'


def test_a_store_that_is_the_endpoints_directory(site):
    site.path.chmod(0o777)
    site.htaccess('TusStore file .')
    site.server.expect_log('TusStore')
    assert site.create().status == 500
    assert os.listdir(site.path) == ['.htaccess']


@pytest.mark.parametrize('link', ['store', 'a'])
def test_a_symlink_in_the_path(site, link):
    """As the store itself, and as a directory on the way to it."""
    site.make(site.outside / 'store')
    target = site.outside / 'store' if link == 'store' else site.outside
    (site.path / link).symlink_to(target)
    site.htaccess('TusStore file ' + ('store' if link == 'store' else 'a/store'))
    site.assert_refused()


def test_a_symlink_that_stays_inside(site):
    site.make(site.path / 'real')
    (site.path / 'store').symlink_to('real')
    site.htaccess('TusStore file store')
    site.assert_refused(site.path / 'real')


@pytest.mark.parametrize('swapped', ['store', 'a'])
def test_a_directory_swapped_for_a_symlink_later(site, swapped):
    name = 'store' if swapped == 'store' else 'a/store'
    store = site.make(site.path / name)
    site.htaccess(f'TusStore file {name}')
    assert site.create().status == 201
    url = '/customer/up/' + next(iter(Store(store).uploads()))

    shutil.rmtree(site.path / swapped)
    target = site.outside
    if swapped == 'a':
        site.make(site.outside / 'store')
    (site.path / swapped).symlink_to(target)
    victim = site.outside / ('store' if swapped == 'a' else '.') / upload_id(url)
    site.assert_refused()
    victim.write_bytes(SECRET)
    victim.with_name(victim.name + '.info').write_text(json.dumps(record(upload_id(url), 100)))
    site.server.allow_log('TusStore|TusAllowStore')
    with Connection(site.server.port) as conn:
        answer = conn.request('GET', url)
        assert answer.status >= 400
        assert SECRET not in answer.body
    with Connection(site.server.port) as conn:
        assert conn.request('PATCH', url, patch_fields(len(SECRET)), b'x').status >= 400
    with Connection(site.server.port) as conn:
        assert conn.request('DELETE', url, [VERSION]).status >= 400
    assert victim.read_bytes() == SECRET


def reads(server, path):
    """Whether some child has this file open."""
    names = []
    for pid in server.children():
        for descriptor in os.scandir(f'/proc/{pid}/fd'):
            try:
                names.append(os.readlink(descriptor.path))
            except FileNotFoundError:       # closed in the meantime
                continue
    return str(path) in names


def is_answered(conn):
    readable, _, _ = select.select([conn.sock], [], [], 0)
    return bool(readable)


def test_a_directory_swapped_while_its_htaccess_is_read(site):
    """The identity that counts is that of the directory in which the .htaccess was found."""
    victim = site.make(site.outside / 'store')
    own = site.make(site.path / 'store')
    site.htaccess(*(f'SetEnvIf User-Agent "x{number}" y' for number in range(20_000)),
                  'TusStore file store')
    away = site.path.with_name('away')
    site.server.expect_log('up was replaced while this was read')
    site.server.allow_log(r'TusStore|\[tus:error\]')
    for _ in range(5):
        with Connection(site.server.port) as conn:
            conn.send_request('POST', '/customer/up/', [
                VERSION, ('Upload-Length', 5), ('Content-Type', OCTETS)], b'hello')
            wait_until(lambda: reads(site.server, site.path / '.htaccess') or is_answered(conn),
                       'the .htaccess to be read')
            site.path.rename(away)
            site.path.symlink_to(site.outside)
            answer = conn.response('POST')
        assert not os.listdir(victim), answer
        assert answer.status in (201, 500), answer
        site.path.unlink()
        away.rename(site.path)
    assert site.create().status == 201
    assert Store(own).uploads()


def test_the_server_allows_a_place(httpd):
    server = httpd()
    allowed = server.root / 'outside'
    site = Site(server, f'TusAllowStore "{allowed}"')
    store = site.make(allowed / 'customer')
    site.htaccess(f'TusStore file {store}')
    answer = site.create()
    assert answer.status == 201
    assert Store(store).data(answer.get('Location')) == b'hello'


def test_the_server_allows_several_places_and_nothing_else(httpd):
    server = httpd()
    one, two = server.root / 'one', server.root / 'two'
    site = Site(server, f'TusAllowStore "{one}" "{two}"')
    for place in (one, two):
        site.htaccess(f'TusStore file {site.make(place / "customer")}')
        assert site.create().status == 201
    site.htaccess(f'TusStore file {site.make(site.path / "store")}')
    site.assert_refused(site.path / 'store')
    site.htaccess(f'TusStore file {one}/../outside')
    site.assert_refused()
    other = site.make(server.root / 'one-other')
    site.htaccess(f'TusStore file {other}')
    site.assert_refused(other)


def test_a_symlink_below_an_allowed_place(httpd):
    server = httpd()
    allowed = server.make_dir(server.root / 'allowed')
    site = Site(server, f'TusAllowStore "{allowed}"')
    (allowed / 'customer').symlink_to(site.outside)
    site.htaccess(f'TusStore file {allowed}/customer')
    site.assert_refused()


def test_the_servers_own_stores_need_no_permission(httpd):
    """TusAllowStore bounds .htaccess files, not the administrator."""
    server = httpd()
    store = server.make_store()
    server.start('TusAllowStore /nowhere\n' + endpoint('Location /files', store))
    assert Tus(server).new(5, b'hello')


def test_an_htaccess_cannot_say_what_it_may(site):
    for line in ('TusAllowStore /', 'TusAllowMaxSize 1G', 'TusStateDir /tmp', 'TusMetadata dbm:db',
                 'TusLockTimeout 1s'):
        site.make(site.path / line.split()[0])
        site.htaccess(f'TusStore file {line.split()[0]}', line)
        site.server.expect_log(f'{line.split()[0]} not allowed here')
        assert site.create().status == 500


def test_one_broken_htaccess_harms_no_other(httpd):
    server = httpd()
    good = server.make_dir(server.htdocs / 'good')
    store = give_to_user(server.make_dir(good / 'store'))
    (good / '.htaccess').write_text('TusEngine On\nTusStore file store\n')
    site = Site(server)
    site.htaccess('TusStore file /etc')
    site.assert_refused()
    tus = Tus(server, '/good/', Store(store))
    assert tus.store.data(tus.upload(b'hello')) == b'hello'
    site.server.allow_log('TusStore|TusAllowStore')
    server.graceful()
    assert tus.upload(b'hello')


@pytest.mark.parametrize('lines', [
    ['TusStore'], ['TusStore file'], ['TusStore nosuch x'], ['TusStore file ""'],
    ['TusStore file a b c'], ['TusMaxSize -1'], ['TusEngine Perhaps'], ['TusFileMode 99']], ids=str)
def test_a_mistake_in_an_htaccess_is_a_500_and_a_line(site, lines):
    site.htaccess(*lines)
    site.server.expect_log(r'\.htaccess: ' + lines[0].split()[0])
    assert site.create().status == 500


def test_an_endpoint_without_a_store(site):
    site.htaccess()
    site.server.expect_log('TusStore')
    assert site.create().status == 500


# -- what lies in the place of ID and of ID.info ---------------------------------------------------

def record(uid, size=10, path=None, **changes):
    return {'ID': uid, 'Size': size, 'SizeIsDeferred': False, 'Offset': 0, 'MetaData': {},
            'IsPartial': False, 'IsFinal': False, 'PartialUploads': None,
            'Storage': {'Type': 'filestore', 'Path': path or uid, 'InfoPath': f'{uid}.info'},
            **changes}


@pytest.fixture(scope='module')
def tus(shared_httpd):
    server = shared_httpd()
    store = server.make_store()
    return Tus(server.start(endpoint('Location /files', store)), store=store)


@pytest.fixture
def secret(tus):
    """A file that every child may read and write, and no request may reach. It has one link."""
    path = tus.server.root / 'stores' / 'secret'
    path.unlink(missing_ok=True)
    path.write_bytes(SECRET)
    path.chmod(0o666)
    return give_to_user(path)


def make_zero_device(path):
    if os.geteuid() == 0:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 5))
        path.chmod(0o666)
        return
    made = subprocess.run([program('sudo'), '-n', 'mknod', '-m', '666', path, 'c', '1', '5'],
                          check=False)
    assert made.returncode == 0, 'only root can make a device: run this as root, or with sudo'


def replace(path, kind, secret):
    path.unlink()
    if kind == 'fifo':
        os.mkfifo(path, 0o666)
    elif kind == 'device':
        make_zero_device(path)
    elif kind == 'socket':
        os.mknod(path, stat.S_IFSOCK | 0o666)
    elif kind == 'hard link':
        os.link(secret, path)
    elif kind == 'symlink':
        path.symlink_to(secret)
    elif kind == 'dangling symlink':
        path.symlink_to(secret.with_name('born'))
    elif kind == 'directory':
        path.mkdir()
        path.chmod(0o777)
    if kind not in ('symlink', 'dangling symlink', 'device'):
        give_to_user(path)


def assert_nothing_works(tus, url, secret):
    """No method hangs, succeeds, or touches what the name leads to."""
    tus.server.allow_log(r'\[tus:(warn|error)\]')
    for method, fields, body in (('HEAD', [VERSION], None), ('GET', [], None),
                                 ('PATCH', patch_fields(3), b'defg'),
                                 ('PATCH', patch_fields(len(SECRET)), b'defg'),
                                 ('PATCH', patch_fields(0), b'defg')):
        answer = tus.request(method, url, fields, body)
        assert answer.status in (404, 409, 410, 500, 503), answer
        assert answer.get('Upload-Offset') is None
        assert SECRET not in answer.body
    answer = tus.delete(url)
    assert answer.status in (204, 404, 410, 500), answer
    assert secret.read_bytes() == SECRET
    assert not secret.with_name('born').exists()
    assert stat.S_IMODE(secret.stat().st_mode) == 0o666


KINDS = ['fifo', 'device', 'socket', 'hard link', 'symlink', 'dangling symlink', 'directory']


@pytest.mark.parametrize('kind', KINDS)
def test_in_the_place_of_the_data(tus, secret, kind):
    url = tus.new(100, b'abc')
    replace(tus.store.data_path(url), kind, secret)
    assert_nothing_works(tus, url, secret)
    assert tus.upload(b'hello')


@pytest.mark.parametrize('kind', KINDS)
def test_in_the_place_of_the_record(tus, secret, kind):
    url = tus.new(100, b'abc')
    record_bytes = tus.store.info_path(url).read_bytes()
    replace(tus.store.info_path(url), kind, secret)
    if kind in ('symlink', 'hard link'):
        secret.write_bytes(record_bytes)      # the best record there can be
        tus.server.allow_log(r'\[tus:(warn|error)\]')
        assert tus.head(url).status in (404, 410, 500)
        secret.write_bytes(SECRET)
    assert_nothing_works(tus, url, secret)
    assert tus.upload(b'hello')


def test_a_record_of_1_gb(tus):
    """It is refused for its size; no child reads it."""
    url = tus.new(100, b'abc')
    tus.server.allow_log(r'\[tus:(warn|error)\]')
    with tus.store.info_path(url).open('r+b') as info:
        info.truncate(1 << 30)
    before = {pid: resident(pid) for pid in tus.server.children()}
    for _ in range(4):
        assert tus.head(url).status in (404, 410, 500)
    growth = max(resident(pid) - size for pid, size in before.items())
    assert SANITIZED or growth < 32 << 20
    assert tus.upload(b'hello')
    tus.store.info_path(url).unlink()
    tus.store.data_path(url).unlink()


@pytest.mark.parametrize('text', [
    '', '{', 'null', '[]', '{}', '"x"', '7', '[' * 100_000, '{"a":' * 100_000, '\0' * 100,
    '\xff\xfe', '{"ID":"x"} trailing'], ids=lambda text: repr(text)[:16])
def test_a_record_that_is_no_record(tus, secret, text):
    url = tus.new(100, b'abc')
    tus.store.info_path(url).write_text(text, 'latin-1')
    assert_nothing_works(tus, url, secret)
    assert tus.upload(b'hello')


@pytest.mark.parametrize('changes', [
    {'Size': 'x'}, {'Size': -1}, {'Size': 2**63}, {'Size': 1e300}, {'Size': None}, {'Size': 10.5},
    {'Size': []}, {'SizeIsDeferred': 'no'}, {'MetaData': []}, {'MetaData': {'a': 7}},
    {'MetaData': {'a b': 'x'}}, {'MetaData': {'a\r\nX-Evil: 1': 'x'}}, {'ID': '0' * 32},
    {'ID': '../x'}, {'ID': None}, {'ModTus': 7}, {'ModTus': {'UploadMetadata': 'a\r\nX-Evil: 1'}},
    {'ModTus': {'Finished': 7}}, {'ModTus': {'UploadMetadata': {}}}, {'IsFinal': 7},
    {'PartialUploads': ['../../etc/passwd']}, {'Storage': None}, {'Storage': {'Type': 's3store'}}],
    ids=str)
def test_a_record_with_odd_values(tus, changes):
    """Served in some honest way or refused: never a header of somebody else's making, no crash."""
    tus.server.allow_log(r'\[tus:(warn|error)\]')
    url = tus.new(100, b'abc')
    tus.store.info_path(url).write_text(json.dumps(record(upload_id(url), 100, **changes)))
    for answer in (tus.head(url), tus.get(url), tus.patch(url, 3, b'd'), tus.delete(url)):
        assert answer.status < 600
        assert answer.get('X-Evil') is None
        length = answer.get('Upload-Length')
        assert length is None or 0 <= int(length) < 2**63
    assert tus.upload(b'hello')


@pytest.mark.parametrize('path', [
    '{secret}', '../secret', 'x/../../secret', '/etc/passwd', '{store}/../secret', '', '/', '.',
    '..', 'link', '{store}', 'a\0b'])
def test_a_record_whose_data_lies_elsewhere(tus, secret, path):
    """Storage.Path leads to nothing outside of the store, and through no symlink."""
    url = tus.new(100, b'abc')
    data = tus.store.data_path(url)
    link = tus.store.path / 'link'
    link.symlink_to(secret)
    path = path.format(secret=secret, store=tus.store)
    tus.store.info_path(url).write_text(json.dumps(record(upload_id(url), 100, path)))
    tus.server.allow_log(r'\[tus:(warn|error)\]')
    passwd = open('/etc/passwd', 'rb').read()
    for method, fields, body in (('HEAD', [VERSION], None), ('GET', [], None),
                                 ('PATCH', patch_fields(len(SECRET)), b'defg'),
                                 ('PATCH', patch_fields(len(passwd)), b''),
                                 ('DELETE', [VERSION], None)):
        answer = tus.request(method, url, fields, body)
        assert SECRET not in answer.body and b'root:' not in answer.body
        assert answer.get('Upload-Offset') in (None, '3')
    assert secret.read_bytes() == SECRET
    assert open('/etc/passwd', 'rb').read() == passwd
    assert link.is_symlink()
    link.unlink()
    data.unlink(missing_ok=True)
    tus.store.info_path(url).unlink(missing_ok=True)


def test_foreign_files_in_a_store_are_left_alone(tus):
    """They are no uploads either."""
    foreign = {'notes.txt': b'mine', '0' * 32: b'no record', '1' * 32 + '.info': b'{}'}
    for name, content in foreign.items():
        give_to_user_file(tus.store.path / name, content)
        tus.server.allow_log(r'\[tus:(warn|error)\]')
        url = '/files/' + name
        assert tus.head(url).status in (400, 404, 410, 500)
        assert tus.delete(url).status in (400, 404, 410, 500)
        assert tus.patch(url, 0, b'x').status in (400, 404, 410, 500)
    tus.delete(tus.upload(b'hello'))
    for name, content in foreign.items():
        assert (tus.store.path / name).read_bytes() == content
        (tus.store.path / name).unlink()


def give_to_user_file(path, content):
    path.write_bytes(content)
    path.chmod(0o666)
    give_to_user(path)
