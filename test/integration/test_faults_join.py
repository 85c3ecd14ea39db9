"""Errors while the parts of a final are shared, copied or carried into it.

What is no way to copy is followed by the next way; what is an error leaves the final unfinished and
empty, and whoever meets it next joins it. The sweep is kept out, so that it is known who that is.
"""
import errno
import os
import shutil
import tempfile

import pytest

from testenv.deeds import Deeds
from testenv.faults import EVER, FAIL, SHORT, Faults
from testenv.httpd import endpoint
from testenv.index import state_of_store, without_sweep
from testenv.operations import assert_complete
from testenv.store import Store
from testenv.tus import Tus, assert_error
from testenv.util import pattern

pytestmark = pytest.mark.reliability

PART = 100_000
DATA = pattern(2 * PART, 11)

NO_WAY = [errno.EXDEV, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS, errno.EPERM]
ERRORS = [errno.EIO, errno.ENOSPC, errno.EDQUOT]
STATUS = {errno.EIO: (500, 'ERR_INTERNAL_SERVER_ERROR'),
          errno.ENOSPC: (507, 'ERR_INSUFFICIENT_STORAGE'),
          errno.EDQUOT: (507, 'ERR_INSUFFICIENT_STORAGE')}


def name_of(code):
    return errno.errorcode[code] if isinstance(code, int) else None


@pytest.fixture(scope='module')
def tus(shared_httpd):
    server = shared_httpd()
    store = server.make_store()
    faults = Faults(server.root, [])
    server.environment.update(faults.environment)
    server.start(endpoint('Location /files', store))
    tus = Tus(server, store=store)
    tus.upload(b'x')
    state = state_of_store(server)
    faults.watch(store.path, state)
    tus.faults = faults
    with without_sweep(state):
        yield tus


def make_parts(tus):
    return [tus.partial(PART, DATA[:PART]), tus.partial(PART, DATA[PART:])]


def make_waiting(tus):
    """A final that waits for its last part, which lacks one byte."""
    parts = [tus.partial(PART, DATA[:PART]), tus.partial(PART, DATA[PART:-1])]
    return tus.final(parts), parts


def finish_last(tus, parts):
    return tus.append(parts[1], PART - 1, DATA[-1:])


@pytest.mark.parametrize('n', [1, 2])
@pytest.mark.parametrize('kind, code', [('share', code) for code in NO_WAY + ERRORS + [errno.EINTR]]
                         + [('copy', code) for code in NO_WAY], ids=name_of)
def test_what_is_no_way_is_followed_by_another(tus, kind, code, n):
    """An error of sharing is none yet: what is really wrong, copying meets too."""
    parts = make_parts(tus)
    with tus.faults.armed(FAIL, n, EVER, code, (kind,)):
        url = tus.final(parts)
        assert tus.faults.hit
    assert_complete(tus, url, DATA)


@pytest.mark.parametrize('action, code', [(FAIL, errno.EINTR), (SHORT, 0)],
                         ids=['EINTR', 'short'])
@pytest.mark.parametrize('n', [1, 2])
def test_a_copy_goes_on(tus, action, code, n):
    parts = make_parts(tus)
    with tus.faults.armed(action, n, None, code, ('copy',)):
        url = tus.final(parts)
        assert tus.faults.hit
        assert tus.faults.count > 2
    assert_complete(tus, url, DATA)


def test_a_copy_that_breaks_off_is_carried_on(tus):
    """The kernel copies half of a part and then says that it cannot."""
    parts = make_parts(tus)
    with tus.faults.armed(SHORT, 1, EVER, errno.EXDEV, ('copy',)):
        url = tus.final(parts)
        assert tus.faults.hit
    assert_complete(tus, url, DATA)


def by_head(tus, url, parts):
    head = tus.head(url)
    assert (head.status, head.get('Upload-Offset')) == (200, str(len(DATA)))


def by_post(tus, url, parts):
    """The same final once more finds the one that waits; a HEAD joins it."""
    assert tus.final(parts) == url
    by_head(tus, url, parts)


def by_sweep(tus, url, parts):
    """In a copy, as test/tus_deed may run as another user than httpd."""
    with tempfile.TemporaryDirectory() as place:
        store = Store(shutil.copytree(tus.store.path, f'{place}/store', symlinks=True))
        state = shutil.copytree(state_of_store(tus.server), f'{place}/state', symlinks=True)
        with Deeds() as deeds:
            assert deeds.do('settle', store, state) == {'status': 200}
        assert store.data(url) == DATA
        assert store.finished(url)


@pytest.mark.parametrize('next_one', [by_head, by_post, by_sweep])
@pytest.mark.parametrize('code', ERRORS, ids=name_of)
@pytest.mark.parametrize('n', [1, 2])
def test_an_error_leaves_it_to_the_next(tus, next_one, code, n):
    """At the first part, or at the second when the first is there already."""
    tus.server.allow_log(rf'\[tus:error\].*{os.strerror(code)}.*cannot join the parts')
    url, parts = make_waiting(tus)
    with tus.faults.armed(FAIL, n, EVER, code, ('copy',)):
        assert finish_last(tus, parts) == PART, 'the part is finished all the same'
        assert tus.faults.hit
        assert not tus.store.finished(url)
        assert tus.store.size(url) == 0
    with tus.faults.armed(FAIL, n, EVER, code, ('copy',)):
        head = tus.head(url)
        assert head.status == STATUS[code][0]
        assert head.get('Upload-Offset') is None
    assert not tus.store.finished(url)
    next_one(tus, url, parts)
    assert_complete(tus, url, DATA)
    for part, data in zip(parts, (DATA[:PART], DATA[PART:])):
        assert_complete(tus, part, data)


@pytest.mark.parametrize('code', ERRORS, ids=name_of)
@pytest.mark.parametrize('kinds', [('copy',), ('write', 'copy', 'share')], ids=['copy', 'all'])
def test_a_final_that_cannot_be_made_is_not_there(tus, kinds, code):
    tus.server.expect_log(rf'\[tus:error\].*{os.strerror(code)}')
    parts = make_parts(tus)
    before = tus.store.files()
    with tus.faults.armed(FAIL, 1, EVER, code, kinds):
        assert_error(tus.concat(parts), *STATUS[code])
        assert tus.faults.hit
    assert tus.store.files() == before
    assert_complete(tus, tus.final(parts), DATA)
