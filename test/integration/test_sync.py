"""TusSync: what is on stable storage before it is acknowledged, as httpd's own calls show."""
import os

import pytest

from testenv.checksum import with_checksum
from testenv.faults import Faults
from testenv.httpd import endpoint
from testenv.tus import Tus


class Spied:
    """An endpoint and the list of what its server has synced and renamed in the store."""

    def __init__(self, httpd, sync):
        server = httpd()
        self.store = server.make_store()
        self.faults = Faults(server.root, [self.store.path, server.state_dir])
        server.environment.update(self.faults.environment)
        server.start(endpoint('Location /files', self.store, f'TusSync {sync}'))
        self.tus = Tus(server, store=self.store)
        self.faults.record()
        self._seen = 0

    def _look(self, directory):
        """Syncs and renames below it since the last look."""
        calls = self.faults.recorded()
        new, self._seen = calls[self._seen:], len(calls)
        return [('sync' if call.kind == 'datasync' else call.kind, call.path) for call in new
                if call.kind in ('sync', 'datasync', 'rename')
                and (call.path + '/').startswith(f'{directory}/')]

    def marks(self):
        """Whether anything but the index was synced in the state directory since the last look."""
        return [path for kind, path in self._look(self.tus.server.state_dir)
                if kind == 'sync' and 'index' not in path]

    def calls(self):
        """Those since the last look that concern the store, with the store's path left out."""
        path = str(self.store.path)
        return [(kind, '.' if what == path else os.path.basename(what))
                for kind, what in self._look(path)]


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


@pytest.mark.parametrize('sync, durable', [('none', False), ('finish', False), ('always', True)])
def test_a_chunk_is_marked_as_durably_as_its_bytes(spied, sync, durable):
    """What is synced and not yet verified must not count after a loss of power."""
    spied = spied(sync)
    url = spied.tus.new(10)
    spied.tus.append(spied.tus.new(1), 0, b'x', headers=with_checksum(b'x'))
    spied.marks()
    with spied.tus.hold(url, 0, 5, b'hell', headers=with_checksum(b'hello')) as holder:
        assert bool(spied.marks()) == durable
        assert holder.finish(b'o').status == 204
