"""docs/examples/php, as it stands, on a server with PHP-FPM and on one with mod_php."""
import re
import shutil
from pathlib import Path

import pytest

from testenv import spool
from testenv.http import Connection
from testenv.httpd import Httpd
from testenv.store import Store, upload_id
from testenv.tus import Tus, metadata, patch_fields
from testenv.util import pattern, wait_until

EXAMPLE = Path(__file__).resolve().parents[2] / 'docs' / 'examples' / 'php'
METRICS = '<Location /metrics>\n    SetHandler tus-metrics\n    TusStatus On\n</Location>\n'
LOGIN = '<?php session_start(); $_SESSION["user"] = "ann"; echo session_id();'
DATA = pattern(200_000, 3)
NAME = [('Upload-Metadata', metadata(filename='report.pdf', user='root'))]


def mod_php():
    """The path of Debian's libphp."""
    found = sorted(Path(Httpd.path_of('LIBEXECDIR')).glob('libphp*.so'))
    assert found, 'this test needs mod_php (Debian: apt-get install libapache2-mod-php)'
    return found[-1]


class Site:
    """A customer's web space: htdocs has the example, and documents/ lies beside it."""

    def __init__(self, server, php_config):
        self.server = server
        shutil.copytree(EXAMPLE, server.htdocs, dirs_exist_ok=True)
        (server.htdocs / 'login.php').write_text(LOGIN)
        sessions = server.make_dir(server.root / 'sessions')
        (server.htdocs / '.user.ini').write_text(f'session.save_path={sessions}\n')
        self.store = Store(server.make_dir(server.htdocs / 'files' / 'store'))
        self.documents = server.make_dir(server.root / 'documents')
        server.start(METRICS + php_config.format(sessions=sessions)
                     + f'<Directory "{server.htdocs}">\nAllowOverride FileInfo\n</Directory>\n')
        self.session = self.log_in()

    def log_in(self):
        with Connection(self.server.port) as conn:
            answer = conn.request('GET', '/login.php')
        assert answer.status == 200, answer
        return answer.body.decode()

    def tus(self, *cookies):
        cookie = [('Cookie', '; '.join(cookies))] if cookies else []
        return Tus(self.server, '/files/', self.store, headers=cookie)

    def told(self):
        """How often post-finish was."""
        with Connection(self.server.port) as conn:
            page = conn.request('GET', '/metrics').body.decode()
        return int(re.search(r'tus_hook_invocations_total\{hook="post-finish"\} (\d+)', page)[1])

    def wait_document(self, data=DATA, name='report.pdf'):
        path = self.documents / 'ann' / name
        wait_until(path.exists, f'{path} to be there')
        spool.wait_empty(self.server)
        assert path.read_bytes() == data
        return path


@pytest.fixture(params=['fpm', 'mod_php'])
def site(request, httpd):
    if request.param == 'mod_php':
        # Without the machine's extensions: opcache and AddressSanitizer exclude each other.
        plain = httpd(mpm='prefork', environment={'PHP_INI_SCAN_DIR': ''})
        return Site(plain, f'LoadModule php_module "{mod_php()}"\n'
                    '<FilesMatch "\\.php$">\nSetHandler application/x-httpd-php\n</FilesMatch>\n'
                    'php_value session.save_path {sessions}\n')
    php = request.getfixturevalue('php')
    return Site(httpd(modules=['proxy', 'proxy_fcgi']), '<FilesMatch "\\.php$">\n'
                f'SetHandler "proxy:fcgi://127.0.0.1:{php.port}"\n</FilesMatch>\n')


def test_an_upload(site):
    tus = site.tus('a=b', f'PHPSESSID={site.session}', 'c=d')
    url = tus.new(len(DATA), DATA[:1000], NAME)
    assert tus.append(url, 1000, DATA[1000:]) == len(DATA)
    site.wait_document()
    assert site.told() == 1
    assert not site.store.data_path(url).exists()
    assert site.store.info(url)['MetaData'] == {'filename': 'report.pdf', 'user': 'ann'}
    assert tus.offset(url) == len(DATA), 'a client that asks once more need not send it again'


def test_the_last_answer_is_cut_off(site):
    """The client asks how far it is, and has nothing left to do."""
    tus = site.tus(f'PHPSESSID={site.session}')
    url = tus.new(len(DATA), DATA[:1000], NAME)
    with tus.connect() as conn:
        fields = [*tus.headers, *patch_fields(1000), ('Content-Length', len(DATA) - 1000)]
        conn.send_head('PATCH', url, fields)
        conn.send(DATA[1000:])
        wait_until(lambda: site.store.finished(url), 'it to be finished')
        conn.reset()
    assert tus.offset(url) == len(DATA)
    assert tus.append(url, len(DATA), b'') == len(DATA)
    site.wait_document()
    assert tus.offset(url) == len(DATA)
    assert site.told() == 1
    assert [path.name for path in (site.documents / 'ann').iterdir()] == ['report.pdf']


@pytest.mark.parametrize('cookies', [
    [], ['PHPSESSID=' + 'a' * 26], ['PHPSESSID='], ['PHPSESSID=../x'], ['XPHPSESSID={session}'],
    ['x=PHPSESSID={session}']])
def test_not_logged_in(site, cookies):
    sent = [cookie.format(session=site.session) for cookie in cookies]
    answer = site.tus(*sent).create(5, b'hello', NAME)
    assert (answer.status, answer.body) == (403, b'No.')
    assert not site.store.files()


@pytest.mark.parametrize('name, real', [
    ('../../etc/passwd', '_.._etc_passwd'), ('.htaccess', 'htaccess'), ('a b/c.txt', 'a_b_c.txt'),
    ('résumé.txt', None), ('x\0.php', 'x_.php')])
def test_names(site, name, real):
    """Whatever a client calls it, it lies in the directory of its user."""
    tus = site.tus(f'PHPSESSID={site.session}')
    tus.new(5, b'hello', [('Upload-Metadata', metadata(filename=name))])
    made = wait_until(lambda: [path for path in site.documents.rglob('*') if path.is_file()],
                      'the document')
    assert [path.parent for path in made] == [site.documents / 'ann']
    assert real is None or made[0].name == real
    spool.wait_empty(site.server)


def test_strangers(site):
    """A forged event, and a real one that was seen somewhere."""
    tus = site.tus(f'PHPSESSID={site.session}')
    url = tus.new(5, b'hell', NAME)
    forged = ('{"Type":"post-finish","Event":{"Upload":{"MetaData":{"user":"eve","filename":"x"},'
              f'"Storage":{{"Path":"{site.store.data_path(url)}"}}}},"HTTPRequest":{{}}}}}}')
    for fields in ([], [('TUS_HOOK', '1')], [('Tus-Hook', '1')], [('Mod-Tus-Token', '0' * 32)]):
        with Connection(site.server.port) as conn:
            answer = conn.request('POST', '/hook.php', [('Content-Type', 'application/json'),
                                                        *fields], forged.encode())
        assert (answer.status, answer.body) == (404, b'')
    assert site.store.data(url) == b'hell'
    assert not list(site.documents.iterdir())


def test_moved_later_where_it_cannot_be_now(site):
    """It is told again until it can."""
    blocked = site.documents / 'ann'
    blocked.write_text('in the way')
    tus = site.tus(f'PHPSESSID={site.session}')
    site.server.allow_log('PHP|AH01071')
    tus.new(5, b'hello', NAME)
    site.server.wait_log('not told, to be tried again, status 500')
    site.server.expect_log('not told, to be tried again, status 500')
    blocked.unlink()
    site.wait_document(b'hello')
    assert site.told() > 1


# -- a neighbour -----------------------------------------------------------------------------------

class Mallory:
    """Has a directory of the same virtual host, an .htaccess there, and all of its store."""

    def __init__(self, site, *lines):
        self.site = site
        self.path = site.server.make_dir(site.server.htdocs / 'mallory')
        self.store = Store(site.server.make_dir(self.path / 'store'))
        (self.path / '.htaccess').write_text('\n'.join([
            'TusEngine On', 'TusStore file store', 'TusHook /hook.php post-finish', *lines, '']))
        self.tus = Tus(site.server, '/mallory/', self.store)

    def upload(self, **said):
        return self.tus.upload(b'<?php evil();', [('Upload-Metadata', metadata(**said))])


@pytest.mark.parametrize('said', [
    {'user': '../htdocs', 'filename': 'pwn.php'},
    {'user': 'ann', 'filename': '../../htdocs/pwn.php'},
    {'user': '.', 'filename': 'pwn.php'}, {'user': '..', 'filename': 'pwn.php'},
    {'user': 'ann', 'filename': '.htaccess'}, {'user': 'ann', 'filename': 'report.pdf'},
    {'user': 'ann', 'filename': '..'}, {'user': 'ann'}, {'filename': 'pwn.php'}, {},
    {'user': '', 'filename': 'pwn.php'}, {'user': 'ann\n', 'filename': 'pwn.php\n'}])
def test_another_htaccess_has_it_called(site, said):
    """It is genuine: this server calls. What it says is all Mallory's."""
    tus = site.tus(f'PHPSESSID={site.session}')
    tus.upload(DATA, NAME)
    site.wait_document()
    before = sorted(site.server.root.rglob('*.p[dh][fp]'))
    mallory = Mallory(site)
    url = mallory.upload(**said)
    spool.wait_empty(site.server)
    assert site.told() == 2
    assert mallory.store.data(url) == b'<?php evil();'
    assert sorted(site.server.root.rglob('*.p[dh][fp]')) == before
    site.wait_document()
    assert [path.name for path in site.documents.rglob('*')] == ['ann', 'report.pdf']


def test_what_he_may_say_of_his_own_store_is_not_ours(site):
    """A user and a name that are good, and a store that is named like ours."""
    mallory = Mallory(site)
    nested = site.server.make_dir(mallory.path / 'files')
    store = Store(site.server.make_dir(nested / 'store'))
    (mallory.path / '.htaccess').rename(nested / '.htaccess')
    url = Tus(site.server, '/mallory/files/', store).upload(b'evil', [
        ('Upload-Metadata', metadata(user='ann', filename='x'))])
    spool.wait_empty(site.server)
    assert site.told() == 1
    assert store.data(url) == b'evil'
    assert not list(site.documents.iterdir())


def test_a_store_that_becomes_a_link_to_ours(site):
    """An event that waits names a file; what Mallory makes of his directory meanwhile is his."""
    tus = site.tus(f'PHPSESSID={site.session}')
    anns = tus.new(len(DATA), DATA[:1000], NAME)
    hook = site.server.htdocs / 'hook.php'
    away = hook.rename(site.server.root / 'hook.php')
    mallory = Mallory(site)
    (site.server.htdocs / 'choose.php').write_text(
        '<?php echo json_encode(["ChangeFileInfo" => ["ID" => "%s"]]);' % upload_id(anns))
    htaccess = mallory.path / '.htaccess'
    htaccess.write_text(htaccess.read_text() + 'TusHook /choose.php pre-create\n')
    site.server.allow_log('PHP|AH01071|AH00128|script .* not found')
    site.server.expect_log('not told, to be tried again, status 404')
    assert upload_id(mallory.upload(user='mallory', filename='anns')) == upload_id(anns)
    site.server.wait_log('not told, to be tried again, status 404')
    mallory.store.path.rename(mallory.path / 'old')
    mallory.store.path.symlink_to(site.store.path)
    away.rename(hook)
    spool.wait_empty(site.server)
    assert site.told() > 1
    assert site.store.data(anns) == DATA[:1000]
    assert tus.append(anns, 1000, DATA[1000:]) == len(DATA)
    site.wait_document()
    assert [path.name for path in site.documents.iterdir()] == ['ann']


def test_the_user_is_that_of_the_session(site):
    """Whatever a client says, and the record keeps."""
    tus = site.tus(f'PHPSESSID={site.session}')
    url = tus.upload(b'hello', [('Upload-Metadata', metadata(user='bob', filename='report.pdf'))])
    site.wait_document(b'hello')
    assert site.store.info(url)['MetaData'] == {'filename': 'report.pdf', 'user': 'ann'}
    assert [path.name for path in site.documents.iterdir()] == ['ann']


@pytest.mark.parametrize('user', ['../htdocs', '.', 'a/b', '', ' ', 'x' * 300])
def test_a_user_that_is_no_name(site, user):
    """Some sites let people choose how they are called."""
    (site.server.htdocs / 'login.php').write_text(LOGIN.replace('ann', user))
    tus = site.tus(f'PHPSESSID={site.log_in()}')
    answer = tus.create(5, b'hello', NAME)
    assert (answer.status, answer.body) == (403, b'No.')
    assert not site.store.files()


def test_a_site_behind_a_symbolic_link(httpd, php):
    """What is ours is told by how the server calls it."""
    server = httpd(modules=['proxy', 'proxy_fcgi'])
    real = server.htdocs.rename(server.root / 'real')
    server.htdocs.symlink_to(real)
    site = Site(server, '<FilesMatch "\\.php$">\n'
                f'SetHandler "proxy:fcgi://127.0.0.1:{php.port}"\n</FilesMatch>\n')
    site.tus(f'PHPSESSID={site.session}').upload(DATA, NAME)
    site.wait_document()


def test_its_size():
    lines = (EXAMPLE / 'hook.php').read_text().splitlines()
    assert len(lines) < 30, 'it is to be understood at a glance'
    assert max(map(len, lines)) <= 100
