"""A network of the test's own, without any way out of it, and a DNS that says what a test wants."""
import contextlib
import ctypes
import ipaddress
import os
import selectors
import socket
import struct
import subprocess
import threading
from pathlib import Path

from .mounts import with_mount

NEW_NETWORK = 0x40000000

A, AAAA = 1, 28
NAME_ERROR = 3


def check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


@contextlib.contextmanager
def own_network(*addresses):
    """What this thread opens and starts meanwhile is in a network of nothing but a loopback
    interface, which has these addresses too. Needs root."""
    libc = ctypes.CDLL(None, use_errno=True)
    with open('/proc/thread-self/ns/net', 'rb') as before:
        check(libc.unshare(NEW_NETWORK))
        try:
            subprocess.run(['ip', 'link', 'set', 'lo', 'up'], check=True)
            for address in addresses:
                subprocess.run(['ip', 'address', 'add', address, 'dev', 'lo'], check=True)
            yield
        finally:
            check(libc.setns(before.fileno(), NEW_NETWORK))


class Dns:
    """Names, in own_network(): dns['app.test'] = an address or several.

    `asked` has each name as often as somebody asked for its IPv4 addresses, also while it
    `is_silent`; who gets no answer asks again after two seconds.
    """

    def __init__(self, directory):
        self.names = {}
        self.asked = []
        self.is_silent = False
        self.directory = Path(directory)
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(('127.0.0.1', 53))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def prefix(self):
        """For httpd(prefix=...): it asks nobody but us."""
        resolv, nsswitch = self.directory / 'resolv.conf', self.directory / 'nsswitch.conf'
        resolv.write_text('nameserver 127.0.0.1\noptions timeout:2 attempts:2\n')
        nsswitch.write_text('hosts: dns\npasswd: files\ngroup: files\n')
        for path in (resolv, nsswitch):
            path.chmod(0o644)
        return with_mount(f'mount --bind {resolv} /etc/resolv.conf && '
                          f'mount --bind {nsswitch} /etc/nsswitch.conf')

    def __setitem__(self, name, addresses):
        self.names[name] = [addresses] if isinstance(addresses, str) else list(addresses)

    def close(self):
        self._socket.sendto(b'', self._socket.getsockname())
        self._thread.join()
        self._socket.close()

    def _serve(self):
        while True:
            query, client = self._socket.recvfrom(4096)
            if not query:
                return
            answer = self._answer(query)
            if not self.is_silent:
                self._socket.sendto(answer, client)

    def _answer(self, query):
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1:at + 1 + query[at]].decode('ascii'))
            at += 1 + query[at]
        kind, = struct.unpack_from('>H', query, at + 1)
        name = '.'.join(labels).lower()
        if kind == A:
            self.asked.append(name)
        records = [record(address) for address in self.names.get(name, ())]
        found = [data for each, data in records if each == kind]
        flags = 0x8580 | (0 if records else NAME_ERROR)
        head = query[:2] + struct.pack('>HHHHH', flags, 1, len(found), 0, 0)
        return head + query[12:at + 5] + b''.join(found)


def record(address):
    """(type, the record) of an address, to be forgotten at once."""
    address = ipaddress.ip_address(address)
    kind = A if address.version == 4 else AAAA
    name_of_the_question = b'\xc0\x0c'
    return kind, (name_of_the_question + struct.pack('>HHIH', kind, 1, 0, len(address.packed))
                  + address.packed)


class Traps:
    """Listen at these addresses, where nobody is to come."""

    def __init__(self, addresses, port):
        self._sockets = []
        self._selector = selectors.DefaultSelector()
        for address in addresses:
            family = socket.AF_INET6 if ':' in address else socket.AF_INET
            trap = socket.create_server((address, port), family=family)
            self._sockets.append(trap)
            self._selector.register(trap, selectors.EVENT_READ, address)

    def caught(self):
        """At which addresses somebody came; those that wait to be accepted came."""
        return [key.data for key, _ in self._selector.select(timeout=0)]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._selector.close()
        for trap in self._sockets:
            trap.close()
