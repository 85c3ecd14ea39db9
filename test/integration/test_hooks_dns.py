"""Hooks of an .htaccess that may be anywhere that is public: whatever a stranger's DNS answers, and
however often it changes its mind, no call comes to an address that is not.

In a network of their own, in which httpd asks a DNS of ours.
"""
import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from testenv import spool
from testenv.hooked import assert_failed, failed
from testenv.hookserver import HookServer
from testenv.network import Dns, Traps, own_network
from testenv.store import Store, upload_id
from testenv.tus import Tus
from testenv.util import wait_until

PUBLIC, PUBLIC6 = '93.184.216.34', '2606:2800:220:1::1'
PRIVATE = ['127.0.0.1', '127.8.9.10', '10.0.0.7', '172.16.0.7', '192.168.0.7', '100.64.0.7',
           '169.254.169.254', '::1', 'fd00::7', 'fec0::7']

# Other ways to write some of them; a connection to them is one to those.
WRAPPED = ['::ffff:127.0.0.1', '::ffff:10.0.0.7', '::ffff:169.254.169.254', '0.0.0.0', '::']
NAME = 'app.test'
ANYWHERE = 'TusAllowHook http:// https://'


@pytest.fixture(scope='module', autouse=True)
def network():
    """The first that is there, and the last that goes."""
    addresses = [address for address in (PUBLIC, PUBLIC6, *PRIVATE) if address != '::1'
                 and not address.startswith('127.')]
    with own_network(*addresses):
        yield


@pytest.fixture(scope='module')
def dns(network, tmp_path_factory):
    directory = tmp_path_factory.mktemp('dns')
    for each in (directory, directory.parent):
        each.chmod(0o755)
    dns = Dns(directory)
    yield dns
    dns.close()


class Site:
    """A directory whose .htaccess makes it an endpoint with a hook at NAME."""

    def __init__(self, httpd, dns, hooks, allow=ANYWHERE, scheme='http', events='pre-create',
                 mpm='event'):
        self.dns, self.hooks = dns, hooks
        self.url = f'{scheme}://{NAME}:{hooks.port}/hook'
        self.server = httpd(prefix=dns.prefix(), mpm=mpm)
        path = self.server.make_dir(self.server.htdocs / 'up')
        store = Store(self.server.make_dir(path / 'store'))
        (path / '.htaccess').write_text(
            f'TusEngine On\nTusStore file store\nTusHook {self.url} {events}\n'
            'TusHookRetry 1 10ms\nTusHookTimeout 5s\n')
        self.server.start(f'<Directory "{self.server.htdocs}">\nAllowOverride FileInfo\n'
                          f'TusHookVerify Off\n{allow}\n</Directory>\n')
        self.tus = Tus(self.server, '/up/', store)
        hooks.script = [{'close': True}]    # so that each call asks for the name again

    def resolves_to(self, *addresses):
        self.dns[NAME] = addresses
        self.dns.asked.clear()

    def is_called(self):
        before = len(self.hooks.of())
        self.tus.new(5)
        assert len(self.hooks.of()) == before + 1
        assert NAME in self.dns.asked

    def is_not_called(self, why='not a public address'):
        before = len(self.hooks.of())
        failed(self.server, self.url, why=f'.*{why}')
        assert_failed(self.tus.create(5))
        assert len(self.hooks.of()) == before
        assert NAME in self.dns.asked


@pytest.fixture(scope='module')
def shared(dns, shared_httpd):
    """One server for the tests that do not need one of their own: (site, what came elsewhere)."""
    with HookServer(host=PUBLIC) as hooks, Traps([*PRIVATE, PUBLIC6], hooks.port) as traps:
        site = Site(shared_httpd, dns, hooks)
        site.traps = traps
        yield site
        site.server.stop()


@pytest.fixture
def site(shared):
    yield shared
    assert not shared.traps.caught()


def test_a_public_address(site):
    """Else the tests below show nothing."""
    site.resolves_to(PUBLIC)
    site.is_called()


@pytest.mark.parametrize('private', [*PRIVATE, *WRAPPED])
def test_an_address_that_changes(site, private):
    """Public when it is looked at, private when it is called; and again, as often as it likes."""
    for _ in range(2):
        site.resolves_to(PUBLIC)
        site.is_called()
        site.resolves_to(private)
        site.is_not_called()


@pytest.mark.parametrize('private', [*PRIVATE, *WRAPPED])
def test_a_private_one_beside_a_public_one(site, private):
    """In one answer, in any order: the public one is called."""
    for both in ((PUBLIC, private), (private, PUBLIC), (private, PUBLIC, private)):
        site.resolves_to(*both)
        for _ in range(3):
            site.is_called()


@pytest.mark.parametrize('private', [*PRIVATE, *WRAPPED])
def test_a_private_one_when_the_public_one_refuses(site, private):
    """libcurl goes on to the next address of a name; but not to that one."""
    site.hooks.stop()
    for both in ((PUBLIC, private), (private, PUBLIC)):
        site.resolves_to(*both)
        site.is_not_called('(not a public address|gave no answer)')
    site.hooks.start()


def test_all_of_them_at_once(site):
    site.resolves_to(*PRIVATE, *WRAPPED)
    site.is_not_called()


def test_no_address_at_all(site):
    site.resolves_to()
    site.is_not_called('gave no answer')


def test_https(dns, httpd, hook_server):
    """Not so much as a handshake."""
    hooks = hook_server(tls=True, host=PUBLIC)
    with Traps([*PRIVATE, PUBLIC6], hooks.port) as traps:
        site = Site(httpd, dns, hooks, scheme='https')
        for private in PRIVATE:
            site.resolves_to(PUBLIC)
            site.is_called()
            site.resolves_to(private)
            site.is_not_called()
            site.resolves_to(private, PUBLIC)
            site.is_called()
        assert not traps.caught()


def test_over_ipv6(dns, httpd, hook_server):
    hooks = hook_server(host=PUBLIC)
    with Traps([PUBLIC6], hooks.port) as reached, Traps(PRIVATE, hooks.port) as traps:
        site = Site(httpd, dns, hooks)
        site.resolves_to('::1')
        site.is_not_called()
        assert not reached.caught()
        site.resolves_to(PUBLIC6)
        site.server.expect_log('failed')
        assert_failed(site.tus.create(5))   # nobody answers it there
        assert reached.caught() == [PUBLIC6] and not traps.caught()


def test_names_that_are_this_host_without_a_dns(dns, httpd, hook_server):
    hooks = hook_server(host=PUBLIC)
    with Traps(PRIVATE, hooks.port) as traps:
        site = Site(httpd, dns, hooks)
        path = site.server.htdocs / 'up' / '.htaccess'
        text = path.read_text()
        for name in ('localhost', 'app.localhost', 'LOCALHOST'):
            path.write_text(text.replace(NAME, name))
            site.server.expect_log('failed: status 0')
            assert_failed(site.tus.create(5))
        assert not traps.caught()


def test_what_is_told_later(dns, httpd, hook_server):
    """The address that a name has when an event is told is judged then."""
    hooks = hook_server(host=PUBLIC)
    with Traps([*PRIVATE, PUBLIC6], hooks.port) as traps:
        site = Site(httpd, dns, hooks, events='post-create post-finish')
        site.server.expect_log('not told, to be tried again')
        site.server.expect_log('hook .* answers again')
        hooks.stop()
        site.resolves_to(PUBLIC)
        url = site.tus.new(5, b'hello')
        site.server.wait_log('not told')
        for private in ('127.0.0.1', '::1', '169.254.169.254', '10.0.0.7'):
            site.resolves_to(private)
            site.server.wait_log(f'not told, .*not a public address, {private}', timeout=60)
        assert len(spool.files(site.server)) == 2
        hooks.start()
        site.resolves_to(PUBLIC)
        calls = hooks.wait(2, timeout=60)
        assert [call.type for call in calls] == ['post-create', 'post-finish']
        assert {call.upload['ID'] for call in calls} == {upload_id(url)}
        assert not traps.caught()


def most_threads(server):
    return max(len(os.listdir(f'/proc/{pid}/task')) for pid in server.children())


def test_who_waits_for_a_name_takes_no_signal(dns, httpd, hook_server):
    """A thread of libcurl's: prefork's handler ends the child, and in two threads crashes it."""
    site = Site(httpd, dns, hook_server(host=PUBLIC), mpm='prefork')
    site.resolves_to(PUBLIC)
    dns.is_silent = True
    at_rest = most_threads(site.server)
    with ThreadPoolExecutor() as pool:
        created = pool.submit(site.tus.create, 5)
        try:
            wait_until(lambda: NAME in dns.asked, 'somebody to look it up')
            assert most_threads(site.server) > at_rest
            assert not site.server.threads_that_take_signals()
        finally:
            dns.is_silent = False
        assert created.result().status == 201


@pytest.mark.parametrize('private', ['127.0.0.1', '10.0.0.7', '169.254.169.254'])
def test_a_prefix_that_names_the_host(dns, httpd, hook_server, private):
    """The administrator's word: wherever that host is; also beside one that names none."""
    hooks = hook_server(host=private)
    for allow in (f'TusAllowHook http://{NAME}:{hooks.port}/',
                  f'TusAllowHook https:// http:// http://{NAME}:{hooks.port}/hook',
                  f'TusAllowHook http://{NAME}:{hooks.port} http://'):
        site = Site(httpd, dns, hooks, allow)
        site.resolves_to(private)
        site.is_called()
    site = Site(httpd, dns, hooks, f'TusAllowHook http:// http://other.test:{hooks.port}/')
    site.resolves_to(private)
    site.is_not_called()
