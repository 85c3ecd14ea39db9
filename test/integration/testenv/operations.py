"""What a client can do to an upload, each from a fresh start, and what is true however it ends.

An operation is a class: it is made ready by its constructor, act() is the request, and check() is
called with its answer, or None if the server died over it.
"""
from .checksum import with_checksum
from .http import Disconnected
from .index import state_of_store
from .util import pattern, wait_until

DATA = pattern(30_000, 5)
HALF = 15_000
FAILED = (500, 507)


class Operation:
    """One request at an upload that has the first `start` bytes of DATA."""

    succeeds = 204

    def __init__(self, tus):
        self.tus = tus
        self.url = None
        self.prepare()

    def prepare(self):
        pass

    def request(self):
        raise NotImplementedError

    def act(self):
        try:
            return self.request()
        except (Disconnected, OSError):
            return None

    def check(self, answer, hit, died):
        """`hit`: a fault was met, and it `died` of it. Without one it must have succeeded."""
        status = answer and answer.status
        if not hit:
            assert status == self.succeeds, status
        elif died:
            assert status is None, status
        else:
            assert status in (self.succeeds, *FAILED), status
        self.settle(status == self.succeeds)

    def settle(self, succeeded):
        """Look at what has become of it, and go on as a client would."""
        raise NotImplementedError

    def offset(self):
        status, offset, _ = state(self.tus, self.url)
        assert status == 200, status
        return int(offset)


def state(tus, url):
    """(status, Upload-Offset, Upload-Length); a final that is just being joined is waited for."""
    def look():
        head = tus.head(url)
        return ((head.status, head.get('Upload-Offset'), head.get('Upload-Length'))
                if head.status != 200 or head.get('Upload-Offset') else None)
    return wait_until(look, 'an offset')


def assert_complete(tus, url, data=DATA):
    assert state(tus, url) == (200, str(len(data)), str(len(data)))
    assert tus.store.data(url) == data
    assert tus.store.finished(url)
    wait_until(lambda: not tus.store.is_held(url), 'the upload to be let go')


def complete(tus, url, offset, deferred=False):
    """Send the rest, as a client does that knows the offset."""
    fields = [('Upload-Length', len(DATA))] if deferred else []
    if offset < len(DATA) or deferred:
        assert tus.append(url, offset, DATA[offset:], headers=fields) == len(DATA)
    assert_complete(tus, url)


class Creation(Operation):
    succeeds = 201
    body = b''
    length = len(DATA)
    fields = ()

    def request(self):
        answer = self.tus.create(self.length, self.body, self.fields)
        self.url = answer.get('Location')
        return answer

    def settle(self, succeeded):
        assert bool(self.url) == succeeded, self.url
        if not succeeded:
            self.request()  # there is no trace of the first that could be in the way
        offset = self.offset()
        assert offset == len(self.body), offset
        assert self.tus.store.data(self.url) == self.body
        complete(self.tus, self.url, offset, self.length is None)


class Create(Creation):
    pass


class CreateDeferred(Creation):
    length = None
    fields = [('Upload-Defer-Length', 1)]


class CreateWithData(Creation):
    body = DATA[:HALF]


class CreateChecksummed(Creation):
    body = DATA[:HALF]
    fields = with_checksum(body)


class CreateWhole(Creation):
    body = DATA


class CreateWholeChecksummed(Creation):
    body = DATA
    fields = with_checksum(body)


class CreateMismatched(Creation):
    """The wrong checksum: nothing is left of it."""
    succeeds = 460
    fields = with_checksum(b'other')

    def request(self):
        return self.tus.create(self.length, DATA[:HALF], self.fields)

    def settle(self, succeeded):
        assert self.url is None


class Append(Operation):
    start = 0
    end = HALF
    fields = ()
    all_or_nothing = False
    deferred = False

    def prepare(self):
        length, fields = (None, [('Upload-Defer-Length', 1)]) if self.deferred else (len(DATA), ())
        self.url = self.tus.new(length, DATA[:self.start], fields)

    def request(self):
        return self.tus.patch(self.url, self.start, DATA[self.start:self.end], self.fields)

    def settle(self, succeeded):
        offset = self.offset()
        assert self.start <= offset <= self.end, offset
        if succeeded:
            assert offset == self.end, offset
        if self.all_or_nothing:
            assert offset in (self.start, self.end), offset
        assert self.tus.store.data(self.url) == DATA[:offset]
        unknown = self.deferred and self.tus.head(self.url).get('Upload-Defer-Length') is not None
        complete(self.tus, self.url, offset, unknown)


class AppendFirst(Append):
    pass


class AppendMiddle(Append):
    start = 5000


class AppendLast(Append):
    start, end = HALF, len(DATA)


class AppendChecksummed(Append):
    start, end = 5000, HALF
    all_or_nothing = True
    fields = with_checksum(DATA[start:end])


class AppendLastChecksummed(Append):
    start, end = HALF, len(DATA)
    all_or_nothing = True
    fields = with_checksum(DATA[start:end])


class AppendMismatched(Append):
    """The wrong checksum: whatever happens, not one byte of it counts."""
    succeeds = 460
    start, end = HALF, len(DATA)
    fields = with_checksum(DATA[start:end])

    def request(self):
        wrong = bytes(byte ^ 1 for byte in DATA[self.start:self.end])
        return self.tus.patch(self.url, self.start, wrong, self.fields)

    def settle(self, succeeded):
        assert self.offset() == self.start
        assert self.tus.store.data(self.url) == DATA[:self.start]
        complete(self.tus, self.url, self.start)


class Declare(Append):
    """The length of a deferred upload comes with bytes in its middle."""
    deferred = True
    start = 5000
    fields = [('Upload-Length', len(DATA))]


class DeclareLast(Append):
    deferred = True
    start, end = HALF, len(DATA)
    fields = [('Upload-Length', len(DATA))]


class Join(Operation):
    succeeds = 201

    def prepare(self):
        self.parts = [self.tus.partial(HALF, DATA[:HALF]),
                      self.tus.partial(len(DATA) - HALF, DATA[HALF:])]

    def request(self):
        answer = self.tus.concat(self.parts)
        self.url = answer.get('Location')
        return answer

    def settle(self, succeeded):
        assert bool(self.url) == succeeded
        assert_complete(self.tus, self.parts[0], DATA[:HALF])
        assert_complete(self.tus, self.parts[1], DATA[HALF:])
        assert_complete(self.tus, self.url or self.tus.final(self.parts))


class JoinWaiting(Operation):
    """A final waits for its last part, which comes."""

    def prepare(self):
        self.parts = [self.tus.partial(HALF, DATA[:HALF]), self.tus.partial(len(DATA) - HALF)]
        self.url = self.tus.final(self.parts)

    def request(self):
        return self.tus.patch(self.parts[1], 0, DATA[HALF:])

    def settle(self, succeeded):
        offset = self.tus.offset(self.parts[1])
        assert self.tus.store.data(self.parts[1]) == DATA[HALF:HALF + offset]
        if succeeded:
            assert offset == len(DATA) - HALF
        if HALF + offset < len(DATA):
            self.tus.append(self.parts[1], offset, DATA[HALF + offset:])
        assert_complete(self.tus, self.url)


class Delete(Operation):
    stored = DATA[:HALF]

    def prepare(self):
        self.url = self.tus.new(len(DATA), self.stored)

    def request(self):
        return self.tus.delete(self.url)

    def settle(self, succeeded):
        head = self.tus.head(self.url)
        if succeeded:
            assert head.status == 404
        if head.status == 404:
            return
        assert head.status == 200 and head.get('Upload-Offset') == str(len(self.stored))
        if self.tus.store.data_path(self.url).exists():     # else it was finished, and still is
            assert self.tus.store.data(self.url) == self.stored
        assert self.tus.delete(self.url).status == 204
        assert self.tus.head(self.url).status == 404


class DeleteFinished(Delete):
    stored = DATA


class DeletePart(Delete):
    """One that a final waits for."""

    def prepare(self):
        self.url = self.tus.partial(len(DATA), self.stored)
        self.final = self.tus.final([self.url])

    def settle(self, succeeded):
        super().settle(succeeded)
        assert self.tus.head(self.final).status == 200


OPERATIONS = (Create, CreateDeferred, CreateWithData, CreateChecksummed, CreateWhole,
              CreateWholeChecksummed, CreateMismatched, AppendFirst, AppendMiddle, AppendLast,
              AppendChecksummed, AppendLastChecksummed, AppendMismatched, Declare, DeclareLast,
              Join, JoinWaiting, Delete, DeleteFinished, DeletePart)


# -- afterwards ------------------------------------------------------------------------------------

def remove_all(tus, foreign):
    """Terminate each upload that has a record, also those that no client heard of."""
    for name in tus.store.files() - foreign:
        if name.endswith('.info') and not name.startswith('.'):
            url = tus.base + name.removesuffix('.info')
            head = tus.head(url)
            assert head.status in (200, 404)    # 404: the sweep is about to remove it
            assert tus.delete(url).status in (204, 404)


def left_over(tus, foreign):
    """Files in the store that are nobody's, and what the state directory still knows of them."""
    state = state_of_store(tus.server)
    found = tus.store.files() - foreign
    for directory in ('unverified', 'links'):
        path = state / directory
        found |= {f'{directory}/{entry.name}' for entry in path.glob('*')}
    return found

