"""Errors of the disk, and death, at each file-system call of each operation.

One server whose calls are seen by test/faults/; between two requests it is armed anew. n goes from
the first call of an operation to its last, until the operation no longer meets the fault.
TUS_FAULTS=full: every error, every TusSync (the torture target).
"""
import errno
import os
import re

import pytest

from testenv.faults import (ALL, DIE_AFTER, DIE_BEFORE, EVER, FAIL, KINDS, MANY_CHILDREN, ROOM,
                            SHORT, Faults)
from testenv.httpd import endpoint
from testenv.operations import OPERATIONS, left_over, remove_all
from testenv.tus import Tus
from testenv.util import give_to_user, wait_until

pytestmark = pytest.mark.reliability

FULL = os.environ.get('TUS_FAULTS') == 'full'
SYNCS = ('none', 'finish', 'always') if FULL else ('always',)

# A line of the journal was stored in part; the sweep may see that during the next test.
TORN = 'or its journal, was damaged'

FOREIGN = {'foreign': b'bytes', 'foreign.info': b'no record', '.hidden.info.tmp': b''}

# What is done to which call: the n-th alone, or from the n-th on.
ERRORS = {'EIO once': (FAIL, None, errno.EIO, ALL), 'ENOSPC': (FAIL, EVER, errno.ENOSPC, ROOM),
          'short, then ENOSPC': (SHORT, EVER, errno.ENOSPC, ('write', 'copy'))}
DEATHS = {'after': DIE_AFTER}   # which is before the next
if FULL:
    ERRORS |= {'ENOSPC once': (FAIL, None, errno.ENOSPC, ROOM),
               'EIO': (FAIL, EVER, errno.EIO, ALL),
               'EDQUOT': (FAIL, EVER, errno.EDQUOT, ROOM),
               'EINTR once': (FAIL, None, errno.EINTR, ('write', 'lock', 'copy')),
               'short once': (SHORT, None, 0, ('write', 'copy'))}
    DEATHS |= {'before': DIE_BEFORE}


@pytest.fixture(scope='module', params=SYNCS)
def tus(request, shared_httpd):
    server = shared_httpd(mpm_settings=MANY_CHILDREN)
    store = server.make_store()
    for name, data in FOREIGN.items():
        (store.path / name).write_bytes(data)
        give_to_user(store.path / name)
    faults = Faults(server.root, [])
    server.environment.update(faults.environment)
    server.start(endpoint('Location /files', store, f'TusSync {request.param}',
                          'TusLockTimeout 5s'))
    tus = Tus(server, store=store)
    tus.upload(b'x')
    state = [path for path in server.state_dir.iterdir() if path.is_dir()]
    faults.watch(store.path, *state)
    tus.faults = faults
    return tus


def sweep_calls(tus, operation, action, last=None, error=0, kinds=KINDS):
    """The operation, hit at its n-th call, for each n; last=EVER: and at all that follow."""
    n = 0
    hit = True
    while hit:
        n += 1
        case = operation(tus)
        with tus.faults.armed(action, n, last, error, kinds):
            answer = case.act()
            hit = tus.faults.hit
        try:
            case.check(answer, hit, action in (DIE_BEFORE, DIE_AFTER))
        except AssertionError as problem:
            raise AssertionError(f'{operation.__name__} at call {n}, {hit}: {problem}') from problem


@pytest.mark.parametrize('how', ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize('operation', OPERATIONS)
def test_errors(tus, operation, how):
    tus.server.allow_log(r'\[tus:error\]')
    tus.server.allow_log(TORN)
    sweep_calls(tus, operation, *how)


@pytest.mark.parametrize('action', DEATHS.values(), ids=DEATHS)
@pytest.mark.parametrize('operation', OPERATIONS)
def test_death(tus, operation, action):
    tus.server.allow_log(TORN)
    tus.server.allow_log('AH10392')     # many children die at a time
    sweep_calls(tus, operation, action)


def test_nothing_is_left(tus):
    """The last test: after all that the store holds what no module made, and nothing else."""
    tus.server.allow_log(TORN)
    tus.server.allow_log('AH10392')
    foreign = set(FOREIGN)
    remove_all(tus, foreign)
    wait_until(lambda: not left_over(tus, foreign), 'the sweep')
    for name, data in FOREIGN.items():
        assert (tus.store.path / name).read_bytes() == data


def test_a_file_system_that_cannot_rename_without_replacing(tus):
    """It says EINVAL (NFS does): a new record is renamed all the same, and not written again."""
    tus.server.allow_log(r'\[tus:error\]')
    hit, n = '', 0
    while not hit.startswith('rename'):
        n += 1
        with tus.faults.armed(FAIL, n, None, errno.EINVAL, ('create', 'rename')):
            answer = tus.create(5, b'hello')
            hit, count = tus.faults.hit, tus.faults.count
    assert re.fullmatch(r'rename .*/[0-9a-f]{32}\.info', hit)
    assert answer.status == 201
    assert count == n + 1
    url = answer.get('Location')
    assert tus.offset(url) == 5
    assert tus.store.info_path(url).exists()
