"""TusSync: what is on stable storage before it is acknowledged, as httpd's own calls show."""
import os
import subprocess
from pathlib import Path

import pytest

from testenv.httpd import endpoint
from testenv.tus import Tus
from testenv.util import program

SOURCE = Path(__file__).resolve().parent / 'testenv' / 'syncspy.c'


def build_spy(directory):
    library = directory / 'syncspy.so'
    subprocess.run([program('cc', 'gcc'), '-shared', '-fPIC', '-O', '-o', library, SOURCE, '-ldl'],
                   check=True)
    return library


class Spied:
    """An endpoint and the list of what its server has synced and renamed in the store."""

    def __init__(self, httpd, sync):
        server = httpd()
        self.log = server.root / 'sync.log'
        self.log.touch()
        self.log.chmod(0o666)
        server.environment.update(SYNCSPY=str(self.log), LD_PRELOAD=str(build_spy(server.root)))
        self.store = server.make_store()
        server.start(endpoint('Location /files', self.store, f'TusSync {sync}'))
        self.tus = Tus(server, store=self.store)

    def calls(self):
        """Those since the last look that concern the store, with the store's path left out."""
        lines = self.log.read_text().splitlines()
        self.log.write_text('')
        path = str(self.store.path)
        seen = []
        for line in lines:
            call, _, what = line.partition(' ')
            if what == path:
                seen.append((call, '.'))
            elif what.startswith(path + '/'):
                seen.append((call, os.path.basename(what)))
        return seen


@pytest.fixture
def spied(httpd):
    return lambda sync: Spied(httpd, sync)


def assert_finish_is_durable(calls, url):
    """First the data, then the record, then its name in the directory."""
    uid = url.rsplit('/', 1)[-1]
    assert ('sync', uid) in calls, calls
    renamed = max(number for number, call in enumerate(calls) if call == ('rename', uid + '.info'))
    record = [number for number, (call, what) in enumerate(calls)
              if call == 'sync' and what not in ('.', uid)]
    assert record and calls.index(('sync', uid)) < renamed, calls
    assert min(record) < renamed, calls
    assert ('sync', '.') in calls[renamed:], calls


def test_none_syncs_nothing(spied):
    spied = spied('none')
    url = spied.tus.new(10, b'hello')
    spied.tus.append(url, 5, b'world')
    assert not [call for call in spied.calls() if call[0] == 'sync']


def test_finish_syncs_at_the_finish(spied):
    spied = spied('finish')
    url = spied.tus.new(10)
    spied.calls()
    spied.tus.append(url, 0, b'hello')
    assert not [call for call in spied.calls() if call[0] == 'sync']
    spied.tus.append(url, 5, b'world')
    assert_finish_is_durable(spied.calls(), url)


def test_finish_in_the_creating_request(spied):
    spied = spied('finish')
    url = spied.tus.upload(b'hello')
    assert_finish_is_durable(spied.calls(), url)


def test_finish_is_the_default(spied):
    spied = spied('default')
    url = spied.tus.upload(b'hello')
    assert_finish_is_durable(spied.calls(), url)


def test_always_syncs_each_answer(spied):
    spied = spied('always')
    url = spied.tus.new(10)
    uid = url.rsplit('/', 1)[-1]
    calls = spied.calls()
    assert ('sync', '.') in calls, 'the names of a new upload'
    for offset in (0, 3):
        spied.tus.append(url, offset, b'abc')
        assert ('sync', uid) in spied.calls()
    spied.tus.append(url, 6, b'defg')
    assert_finish_is_durable(spied.calls(), url)
