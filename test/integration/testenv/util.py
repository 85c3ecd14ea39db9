"""Small things that every test file needs."""
import os
import pwd
import random
import shutil
import socket
import time

AS_ROOT = os.geteuid() == 0


def run_user():
    """The account httpd's children run as: an unprivileged one for root, else oneself."""
    if not AS_ROOT:
        return pwd.getpwuid(os.geteuid())
    for name in ('www-data', 'apache', 'nobody'):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise AssertionError('no account to run httpd as: www-data, apache and nobody are all missing')


def give_to_user(path):
    """Make the account of httpd's children the owner of path."""
    if AS_ROOT:
        user = run_user()
        os.chown(path, user.pw_uid, user.pw_gid, follow_symlinks=False)
    return path


def wait_until(condition, what, timeout=15):
    """Poll until condition() is true and return its value; fail with `what` otherwise."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise AssertionError(f'waited {timeout} s in vain: {what}')
        time.sleep(0.01)


def program(*names):
    """Path of the first program that exists; fails when none does."""
    path = os.environ['PATH'] + ':/usr/sbin:/sbin'
    for name in names:
        found = shutil.which(name, path=path)
        if found:
            return found
    raise AssertionError(f'this test needs one of: {", ".join(names)}; none is installed')


_taken = set()


def port_range():
    """Below the ports that outgoing connections are given. Workers of pytest-xdist share it out."""
    first, end = 10000, 32000
    workers = int(os.environ.get('PYTEST_XDIST_WORKER_COUNT', '1'))
    number = int(os.environ.get('PYTEST_XDIST_WORKER', 'gw0').removeprefix('gw')) % workers
    share = (end - first) // workers
    return first + number * share, first + (number + 1) * share


def free_port():
    """A port nobody listens on, and that was not given out before."""
    while True:
        port = random.randrange(*port_range())
        if port in _taken:
            continue
        with socket.socket() as probe:
            try:
                probe.bind(('127.0.0.1', port))
            except OSError:
                continue
        _taken.add(port)
        return port


def pattern(size, seed=0):
    """`size` bytes that differ everywhere and are the same for the same seed."""
    return random.Random(seed).randbytes(size)
