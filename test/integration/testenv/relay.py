"""Many writers of one upload, each with bytes of its own, so that what two wrote at once shows."""
import os

from .http import Disconnected
from .transport import H1Patch, Pump, Transport
from .util import wait_until

CYCLE = bytes(range(251)) * 2
LENGTH = 1 << 40


def ink(writer, start, end):
    """What that writer writes between two offsets."""
    turn = (start + writer * 17) % 251
    return (CYCLE[turn:turn + 251] * ((end - start) // 251 + 1))[:end - start]


class Leg(Pump):
    """One writer: a PATCH that goes on as long as it is let, at some 16 MiB a second."""

    pause = 0.004

    def __init__(self, tus, url, writer, offset):
        self.writer, self.offset = writer, offset
        self.patch = H1Patch(Transport(tus, 'h1'), url, offset, LENGTH - offset)
        super().__init__(self.patch, offset)

    def bytes(self, start, end):
        return ink(self.writer, start, end)

    def close(self):
        self.patch.conn.close()
        self.stop()

    def status(self):
        """The status it was answered with, None when its connection was cut."""
        self.stop()
        try:
            return self.patch.conn.response('PATCH').status
        except (Disconnected, OSError):
            return None


class Relay:
    """Legs one after the other; each begins where HEAD says that the one before ended."""

    def __init__(self, tus):
        self.store = tus.store
        self.id = os.path.basename(tus.new(LENGTH))
        self.legs = []

    def url(self, tus):
        return tus.base + self.id

    def offset(self, tus):
        """What HEAD says when the leg before has let go, in time for it or not."""
        head = wait_until(lambda: (answer := tus.head(self.url(tus))).status == 200 and answer,
                          'the upload')
        return int(head.get('Upload-Offset'))

    def run(self, tus):
        """Begin a leg at that endpoint, which takes over from the one that is running."""
        leg = Leg(tus, self.url(tus), len(self.legs), self.offset(tus))
        self.legs.append(leg)
        try:
            wait_until(lambda: self.store.size(self.id) > leg.offset + 200_000, 'bytes of the leg')
        except AssertionError:
            raise AssertionError(f'the leg at {leg.offset} ended with {leg.status()}') from None
        return leg

    def close(self):
        for leg in self.legs:
            leg.close()

    def finish(self, tus):
        """End the last leg, and look at every byte."""
        self.close()
        wait_until(lambda: not self.store.is_held(self.id), 'the upload to be released')
        end = tus.offset(self.url(tus))
        data = self.store.data(self.id)
        assert len(data) == end
        ends = [leg.offset for leg in self.legs[1:]] + [end]
        for leg, end in zip(self.legs, ends):
            assert leg.offset <= end
            assert data[leg.offset:end] == ink(leg.writer, leg.offset, end), \
                f'the bytes of writer {leg.writer}, from {leg.offset} to {end}'
        assert tus.delete(self.url(tus)).status == 204
