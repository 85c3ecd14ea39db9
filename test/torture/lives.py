"""Clients that upload over a server that keeps dying, and believe nothing.

A life is one upload from its creation to its end. Whatever an answer acknowledged binds: an offset
never goes back, no byte counts that was not sent, what failed its checksum counts for nothing.
"""
import random
import time

from testenv.checksum import with_checksum
from testenv.http import Disconnected
from testenv.tus import patch_fields

LARGEST = 120_000
BROKEN = (Disconnected, OSError, AssertionError)    # the harness asserts what HTTP must look like
PATIENCE = 60       # seconds that a server may take to come back


class Loss(Exception):
    """The server broke a promise."""


class Upload:
    """One upload and what is known of it."""

    def __init__(self, client, data, base):
        self.client = client
        self.data = data
        self.base = base
        self.url = None
        self.acknowledged = 0
        self.sent = 0           # no byte from here on was ever sent as part of it
        self.known = None       # offsets that it may have, where more is known than that
        self.stale = False      # a request that was broken off may still be on its way

    def learn(self, offset):
        """An answer told this offset."""
        if offset < self.acknowledged:
            raise Loss(f'{self.url}: {self.acknowledged} bytes were acknowledged, and now {offset}')
        if offset > self.sent:
            raise Loss(f'{self.url}: {self.sent} bytes were sent, and {offset} count')
        if self.known and offset not in self.known and not self.stale:
            raise Loss(f'{self.url}: at {offset}, and can only be at one of {self.known}')
        self.acknowledged = offset
        self.known = None


class Client:
    """Requests that are tried until they are answered, and one life after the other."""

    def __init__(self, number, seed, tus, stop, tally):
        self.seed = f'{seed}-{number}'
        self.tus = tus
        self.stop = stop
        self.tally = tally
        self.dice = None

    def run(self):
        number = 0
        while not self.stop.is_set():
            self.dice = random.Random(f'{self.seed}-{number}')
            number += 1
            life = self.dice.choices(LIVES, WEIGHTS)[0]
            try:
                life(self)
            except Loss as loss:
                self.tally.lose(f'{life.__name__}, client {self.seed}, life {number}: {loss}')
            except Exception as error:      # one of ours
                self.tally.lose(f'{life.__name__}, client {self.seed}: {error!r}')

    # -- requests ------------------------------------------------------------------------------

    def attempt(self, request, expected):
        """The answer if there is one that says something, else None: it died, or was busy."""
        try:
            answer = request()
        except BROKEN as problem:
            if isinstance(problem, AssertionError) and 'endpoint' in str(problem):
                raise
            time.sleep(0.01)
            return None
        if answer.status in (423, 503):
            time.sleep(0.02)
            return None
        if answer.status not in expected:
            raise Loss(f'unexpected answer {answer.status} {answer.body[:200]!r}')
        return answer

    def insist(self, request, expected):
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            answer = self.attempt(request, expected)
            if answer:
                return answer
        raise Loss(f'no answer within {PATIENCE} s')

    def create(self, upload, length=None, body=b'', fields=()):
        """Until there is one; those whose answer was lost are nobody's."""
        upload.sent = max(upload.sent, len(body))
        chunked = bool(body) and self.dice.random() < 0.2
        answer = self.insist(lambda: self.tus.create(length, body, fields, url=upload.base,
                                                     chunked=chunked), (201,))
        upload.url = answer.get('Location')
        upload.sent = len(body)
        offset = int(answer.get('Upload-Offset') or 0)
        upload.learn(offset)
        return upload

    def offset(self, upload):
        answer = self.insist(lambda: self.tus.head(upload.url), (200,))
        if answer.get('Upload-Offset') is None:
            return None
        upload.learn(int(answer.get('Upload-Offset')))
        return upload.acknowledged

    def append(self, upload, piece, fields=(), wrong=False, checksummed=False):
        """One PATCH at the acknowledged offset, whatever comes of it; then the offset is asked."""
        start = upload.acknowledged
        end = start + len(piece)
        upload.known = {start} if wrong else {start, end} if checksummed else None
        upload.sent = max(upload.sent, start if wrong else end)
        checksum = with_checksum(upload.data[start:end]) if wrong or checksummed else ()
        headers = [*fields, *checksum]
        chunked = self.dice.random() < 0.3
        if piece and not headers and self.dice.random() < 0.2:
            upload.stale = True
            self.break_off(upload, start, piece, headers)
            answer = None
        else:
            answer = self.attempt(lambda: self.tus.patch(upload.url, start, piece, headers,
                                                         chunked=chunked), (204, 460, 409))
        if answer and answer.status == 409 and not upload.stale:
            raise Loss(f'{upload.url}: 409 at the acknowledged offset {start}')
        if answer and answer.status != 409 and (answer.status == 460) != wrong:
            raise Loss(f'{upload.url}: {answer.status} for a checksum that is '
                       f'{"wrong" if wrong else "right or none"}')
        if answer and answer.status == 204:
            upload.learn(int(answer.get('Upload-Offset')))
            if upload.acknowledged != end:
                raise Loss(f'{upload.url}: 204 at {upload.acknowledged} for bytes up to {end}')
        else:
            self.offset(upload)

    def break_off(self, upload, start, piece, headers):
        """The client dies in the middle of its body."""
        try:
            with self.tus.connect() as conn:
                conn.send_head('PATCH', upload.url, [*patch_fields(start), *headers,
                                                     ('Content-Length', len(piece))])
                conn.send(piece[:self.dice.randrange(len(piece))])
                conn.reset() if self.dice.random() < 0.5 else conn.close()
        except BROKEN:
            pass

    def fill(self, upload, wrong=0.0, checksummed=0.0, fields=()):
        """All that is missing; `fields` go with each request."""
        while upload.acknowledged < len(upload.data):
            start = upload.acknowledged
            piece = upload.data[start:start + self.dice.randint(1, 50_000)]
            if self.dice.random() < wrong:
                damaged = bytes([piece[0] ^ 1]) + piece[1:]
                self.append(upload, damaged, wrong=True)
            else:
                self.append(upload, piece, fields, checksummed=self.dice.random() < checksummed)

    def data(self, largest=LARGEST):
        return self.dice.randbytes(self.dice.randint(1, largest))

    def upload(self, data=None, base='/files/'):
        return Upload(self, data or self.data(), base)

    def finish(self, upload):
        """Full: it must be known as such, and is looked at again at the end."""
        if self.offset(upload) != len(upload.data):
            raise Loss(f'{upload.url}: full, and at {upload.acknowledged}')
        self.tally.keep(upload)


# -- lives -----------------------------------------------------------------------------------------

def plain(client):
    upload = client.upload()
    first = upload.data[:client.dice.choice([0, 0, 1000, len(upload.data)])]
    client.create(upload, len(upload.data), first)
    client.fill(upload)
    client.finish(upload)


def checksummed(client):
    upload = client.upload()
    first = upload.data[:client.dice.choice([0, 1000, len(upload.data)])]
    client.create(upload, len(upload.data), first, with_checksum(first) if first else ())
    client.fill(upload, checksummed=0.8)
    client.finish(upload)


def mismatched(client):
    upload = client.create(client.upload(), None, fields=[('Upload-Defer-Length', 1)])
    length = [('Upload-Length', len(upload.data))]
    client.fill(upload, wrong=0.5, checksummed=0.5)
    declare(client, upload, length)
    client.finish(upload)


def deferred(client):
    upload = client.upload()
    client.create(upload, None, fields=[('Upload-Defer-Length', 1)])
    length = [('Upload-Length', len(upload.data))]
    client.fill(upload, checksummed=0.2, fields=length if client.dice.random() < 0.5 else ())
    declare(client, upload, length)
    client.finish(upload)


def declare(client, upload, length):
    """Until the length is known, as it may not be if a request died that brought it."""
    while client.insist(lambda: client.tus.head(upload.url), (200,)).get('Upload-Defer-Length'):
        client.append(upload, b'', length)


def concatenated(client):
    parts = [client.upload() for _ in range(client.dice.randint(1, 4))]
    whole = client.upload(b''.join(part.data for part in parts))
    early = client.dice.random() < 0.5
    for part in parts:
        client.create(part, len(part.data), fields=[('Upload-Concat', 'partial')])
    if early:
        join(client, whole, parts)
    client.dice.shuffle(order := list(parts))
    for part in order:
        client.fill(part, checksummed=0.3)
    if not early:
        join(client, whole, parts)
    whole.sent = len(whole.data)
    deadline = time.monotonic() + PATIENCE
    while client.offset(whole) != len(whole.data):
        if time.monotonic() > deadline:
            raise Loss(f'{whole.url}: not joined within {PATIENCE} s')
        time.sleep(0.02)
    for part in parts:
        client.tally.keep(part)
    client.tally.keep(whole)


def join(client, whole, parts):
    answer = client.insist(lambda: client.tus.concat([part.url for part in parts]), (201,))
    whole.url = answer.get('Location')


def terminated(client):
    upload = client.create(client.upload(), LARGEST)
    while upload.acknowledged < len(upload.data) and client.dice.random() < 0.5:
        client.append(upload, upload.data[upload.acknowledged:upload.acknowledged + 20_000])
    client.insist(lambda: client.tus.delete(upload.url), (204, 404, 410))
    client.insist(lambda: client.tus.head(upload.url), (404, 410))
    client.tally.remove(upload)


def expired(client):
    upload = client.create(client.upload(base='/soon/'), LARGEST)
    answer = client.attempt(lambda: client.tus.patch(upload.url, 0, upload.data),
                            (204, 404, 410, 409))
    if answer and answer.status == 409:
        raise Loss(f'{upload.url}: 409 at offset 0')
    client.tally.leave(upload)


LIVES = (plain, checksummed, mismatched, deferred, concatenated, terminated, expired)
WEIGHTS = (4, 3, 2, 2, 2, 2, 1)
