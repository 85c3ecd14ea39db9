"""A stream of bytes without end that tells of every byte where it belongs."""
from .util import pattern

BLOCK = 4096
MIB = 1 << 20

_FILLING = pattern(BLOCK - 8, 'stream')


def stretch(start, end):
    """The bytes from start to end. Each block begins with its own offset."""
    first = start - start % BLOCK
    data = b''.join(at.to_bytes(8, 'big') + _FILLING for at in range(first, end, BLOCK))
    return data[start - first:end - first]


def assert_stretch(path, size):
    """The file is the first `size` bytes of the stream: none lost, doubled or out of place."""
    assert path.stat().st_size == size
    with path.open('rb') as file:
        for start in range(0, size, MIB):
            end = min(start + MIB, size)
            assert file.read(end - start) == stretch(start, end), f'between {start} and {end}'
