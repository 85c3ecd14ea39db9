"""Hooks over https: whose certificate counts, and what nobody on the way can do about it."""
import contextlib
import socket
import threading

import pytest

from testenv import spool
from testenv.ca import Authority
from testenv.hooked import assert_failed, failed, start
from testenv.httpd import endpoint, one_child
from testenv.mounts import with_mount
from testenv.store import upload_id
from testenv.tus import Tus
from testenv.util import free_port



@pytest.fixture(scope='module')
def authority():
    authority = Authority()
    yield authority
    authority.remove()


@pytest.fixture(scope='module')
def stranger():
    authority = Authority('stranger')
    yield authority
    authority.remove()


@pytest.fixture
def trusting(httpd, authority):
    """A factory of servers on whose system the authority is trusted."""
    def make(**options):
        return httpd(prefix=with_mount(authority.mount()), **options)
    return make


@pytest.fixture
def https(hook_server, authority):
    return hook_server(tls=authority.sign('DNS:localhost,IP:127.0.0.1'))


def refuses(tus, url, why, hook='pre-create'):
    failed(tus.server, url, hook, why=f'.*{why}')
    assert_failed(tus.create(5))
    assert not tus.hooks.calls and not tus.store.files()


# -- certificates ----------------------------------------------------------------------------------

def test_an_authority_that_the_system_trusts(https, trusting, mpm):
    tus = start(trusting(mpm=mpm), https)
    url = tus.upload(b'hello')
    tus.told(upload_id(url), 'post-create', 'post-finish')
    assert tus.asked() == ['pre-create', 'pre-finish']


def test_an_address(https, trusting):
    """That the certificate names."""
    server = trusting()
    store = server.make_store()
    server.start(endpoint('Location /files', store,
                          f'TusHook https://127.0.0.1:{https.port}/hook pre-create'))
    Tus(server, store=store).new(5)
    assert https.wait(1)[0].get('Host') == f'127.0.0.1:{https.port}'


def test_an_address_that_the_certificate_does_not_name(hook_server, authority, trusting):
    hooks = hook_server(tls=authority.sign('DNS:localhost'))
    server = trusting()
    store = server.make_store()
    url = f'https://127.0.0.1:{hooks.port}/hook'
    server.start(endpoint('Location /files', store, f'TusHook {url} pre-create', 'TusHookRetry 0'))
    failed(server, url, why='.*does not match|.*no alternative')
    assert_failed(Tus(server).create(5))
    assert not hooks.calls and not store.files()


def test_nobody_signed_it(hook_server, trusting):
    hooks = hook_server(tls=True)
    refuses(start(trusting(), hooks, events='pre-create'), hooks.url, 'certificate')


def test_an_authority_that_nobody_knows(hook_server, stranger, trusting):
    hooks = hook_server(tls=stranger.sign('DNS:localhost'))
    refuses(start(trusting(), hooks, events='pre-create'), hooks.url, 'certificate')


def test_an_authority_that_is_not_trusted_here(https, httpd):
    """The same certificate, on a system whose store does not have its authority."""
    refuses(start(httpd(), https, events='pre-create'), https.url, 'certificate')


def test_another_name(hook_server, authority, trusting):
    hooks = hook_server(tls=authority.sign('DNS:other.test,DNS:localhost.other.test'))
    refuses(start(trusting(), hooks, events='pre-create'), hooks.url, 'does not match|no alternat')


def test_an_expired_one(hook_server, authority, trusting):
    hooks = hook_server(tls=authority.sign('DNS:localhost', days=-1))
    refuses(start(trusting(), hooks, events='pre-create'), hooks.url, 'expired')


def test_environment_makes_nobody_trusted(https, httpd, authority):
    """The system's store it is, not what variables of OpenSSL and curl say."""
    server = httpd(environment={
        name: authority.certificate for name in ('SSL_CERT_FILE', 'CURL_CA_BUNDLE')})
    refuses(start(server, https, events='pre-create'), https.url, 'certificate')


def test_what_waits_for_a_certificate_that_is_renewed(hook_server, authority, trusting):
    """post-* of an endpoint whose certificate has expired are not lost, and not told before."""
    hooks = hook_server(tls=authority.sign('DNS:localhost', days=-1))
    tus = start(trusting(), hooks, events='post-create post-finish')
    tus.server.expect_log('not told, to be tried again.*expired')
    url = tus.upload(b'hello')
    tus.server.wait_log('not told, to be tried again.*expired')
    assert not hooks.calls and len(spool.files(tus.server)) == 2
    hooks.present(authority.sign('DNS:localhost'))
    tus.told(upload_id(url), 'post-create', 'post-finish')
    spool.wait_empty(tus.server)


# -- TusHookVerify Off -----------------------------------------------------------------------------

@pytest.mark.parametrize('names, days', [('DNS:localhost', 2), ('DNS:other.test', 2),
                                         ('DNS:localhost', -1)])
def test_not_verified(hook_server, httpd, stranger, names, days):
    hooks = hook_server(tls=stranger.sign(names, days))
    tus = start(httpd(), hooks, 'TusHookVerify Off')
    url = tus.upload(b'hello')
    tus.told(upload_id(url), 'post-create', 'post-finish')


def test_not_verified_at_all(hook_server, httpd):
    """A certificate that nobody signed."""
    hooks = hook_server(tls=True)
    tus = start(httpd(), hooks, 'TusHookVerify Off')
    url = tus.upload(b'hello')
    tus.told(upload_id(url), 'post-create', 'post-finish')


def test_a_kept_connection_that_nobody_verified_is_not_taken(hook_server, httpd, stranger):
    """Who does verify gets a connection of its own, and with it an error."""
    hooks = hook_server(tls=stranger.sign('DNS:localhost'))
    server = httpd(mpm_settings=one_child(8))
    store = server.make_store()
    where = f'TusHook {hooks.url} pre-create'
    server.start(endpoint('Location /off', store, where, 'TusHookVerify Off')
                 + endpoint('Location /on', store, where, 'TusHookRetry 0'))
    off, on = Tus(server, '/off/', store), Tus(server, '/on/', store)
    for _ in range(2):
        off.new(5)
        failed(server, hooks.url, why='.*certificate')
        assert_failed(on.create(5))
    off.new(5)
    assert len(hooks.of()) == 3
    assert {call.connection for call in hooks.of()} == {0}, 'it was there all the time'


# -- connections -----------------------------------------------------------------------------------

def test_connections_are_kept(https, trusting):
    """One handshake does for many calls, of pre-* and of post-*."""
    tus = start(trusting(mpm_settings=one_child(8)), https, events='pre-create')
    for _ in range(10):
        tus.new(5)
    assert len(https.of()) == 10 and https.connections == 1


def test_connections_are_kept_by_who_tells(https, trusting):
    tus = start(trusting(), https, events='post-create')
    for count in range(1, 11):
        tus.new(5)
        https.wait(count)
    spool.wait_empty(tus.server)
    assert len(https.of()) == 10 and https.connections == 1


def test_a_kept_connection_that_ended(https, trusting):
    """While nobody used it, and just before it is used: nobody notices."""
    tus = start(trusting(), https, events='pre-create')
    tus.new(5)
    https.stop()
    https.start()
    assert tus.create(5).status == 201
    tus.answers({'Type': 'pre-create', 'close': True})
    for _ in range(5):
        assert tus.create(5).status == 201


@pytest.mark.parametrize('status', [301, 302, 307, 308])
@pytest.mark.parametrize('up', [True, False], ids=['to https', 'to http'])
def test_no_redirect_to_another_scheme(hook_server, https, trusting, status, up):
    plain = hook_server()
    asked, other = (plain, https) if up else (https, plain)
    tus = start(trusting(), asked, events='pre-create post-create')
    failed(tus.server, asked.url, status=status)
    tus.answers({'Type': 'pre-create', 'status': status, 'headers': {'Location': other.url}})
    assert_failed(tus.create(5))
    assert not tus.store.files()
    tus.answers({'Type': 'post-create', 'times': 1, 'status': status,
                 'headers': {'Location': other.url}})
    tus.server.allow_log('not told, to be tried again')
    tus.new(5)
    tus.hooks.wait(2, 'post-create')
    spool.wait_empty(tus.server)
    assert other.connections == 0


def test_without_an_end_of_the_answer(hook_server, httpd):
    """Over TLS a body that ends with the connection may have been cut off by anybody."""
    hooks = hook_server([{'raw': b'HTTP/1.1 200 OK\r\n\r\n{}'}], tls=True)
    tus = start(httpd(), hooks, 'TusHookVerify Off', events='pre-create')
    failed(tus.server, hooks.url, why='.*no word of where the answer ends')
    assert_failed(tus.create(5))


# -- what is no TLS --------------------------------------------------------------------------------

def answer_in_plain(listener, heard):
    with contextlib.suppress(OSError):
        while True:
            with listener.accept()[0] as sock, contextlib.suppress(OSError):
                sock.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}')
                heard.append(sock.recv(65536))


def test_a_port_that_speaks_no_tls(httpd):
    """What is said there in plain is nothing."""
    server = httpd()
    store = server.make_store()
    heard = []
    with socket.create_server(('127.0.0.1', free_port())) as listener:
        thread = threading.Thread(target=answer_in_plain, args=(listener, heard), daemon=True)
        thread.start()
        where = f'https://localhost:{listener.getsockname()[1]}/'
        server.start(endpoint('Location /files', store, f'TusHook {where} pre-create',
                              'TusHookRetry 1'))
        failed(server, where)
        assert_failed(Tus(server).create(5))
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert heard and not any(b'POST' in text for text in heard)
    assert not store.files()
