"""Fixtures: servers that end with their test or test file, and the audit of their error logs."""
import tempfile
from pathlib import Path

import pytest

from testenv.fulldisk import FullDisk
from testenv.hookserver import HookServer
from testenv.httpd import MPMS, Httpd
from testenv.php import PhpFpm

_servers = []

# What takes longest, the longest first: where several workers run the tests they begin with these.
LONGEST = ['test_expiration_sweep.py', 'test_checksum_crash.py', 'test_review.py', 'test_limits.py',
           'test_mpm.py', 'test_concatenation_waiting.py', 'test_index.py', 'test_torture.py']


class Factory:
    """Makes servers and, at the end of its scope, stops, audits and removes them."""

    def __init__(self):
        self._made = []

    def __call__(self, **options):
        server = Httpd(**options)
        self._made.append(server)
        _servers.append(server)
        return server

    def close(self):
        problems = []
        for server in reversed(self._made):
            for step in (server.stop, lambda: server.audit(late=True)):
                try:
                    step()
                except AssertionError as problem:
                    problems.append(str(problem))
            _servers.remove(server)
            server.remove()
        assert not problems, '\n'.join(problems)


@pytest.fixture
def httpd():
    """A factory of servers that belong to one test."""
    factory = Factory()
    yield factory
    factory.close()


@pytest.fixture(scope='module')
def shared_httpd():
    """A factory of servers that the tests of a file share."""
    factory = Factory()
    yield factory
    factory.close()


@pytest.fixture
def hook_server():
    """A factory of hook endpoints that belong to one test. Ask for it before httpd: what they are
    told at the end counts too."""
    made = []

    def make(*arguments, **options):
        made.append(HookServer(*arguments, **options))
        return made[-1]

    yield make
    for server in made:
        server.close()


@pytest.fixture
def full_disk():
    """Ask for it before httpd: it has to outlive the server."""
    disk = FullDisk()
    yield disk
    disk.remove()


@pytest.fixture
def scratch():
    """A directory for very many small files, in memory where there is a place for that."""
    memory = '/dev/shm' if Path('/dev/shm').is_dir() else None
    with tempfile.TemporaryDirectory(prefix='mod_tus-', dir=memory) as name:
        yield Path(name)


@pytest.fixture(scope='module')
def php():
    fpm = PhpFpm()
    yield fpm
    fpm.stop()


@pytest.fixture(params=MPMS)
def mpm(request):
    return request.param


def pytest_collection_modifyitems(config, items):
    if hasattr(config, 'workerinput'):
        ranks = {name: rank for rank, name in enumerate(LONGEST)}
        items.sort(key=lambda item: ranks.get(item.path.name, len(ranks)))


@pytest.hookimpl(hookwrapper=True)
def pytest_pyfunc_call(pyfuncitem):
    """A test passes only when its servers logged nothing that it did not declare."""
    outcome = yield
    if outcome.excinfo is None:
        for server in _servers:
            server.audit()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """Show what the servers logged during a test that failed."""
    outcome = yield
    report = outcome.get_result()
    if report.failed:
        for server in _servers:
            report.sections.append((f'error log of {server.root}', server.log_tail()))
            server.forget()
