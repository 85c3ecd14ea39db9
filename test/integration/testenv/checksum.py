"""Upload-Checksum as a client computes it, by other code than the server's."""
import base64
import hashlib
import zlib

ALGORITHMS = ('sha1', 'sha256', 'sha512', 'md5', 'crc32', 'crc32c')


def _table():
    table = []
    for value in range(256):
        for _ in range(8):
            value = value >> 1 ^ (0x82f63b78 if value & 1 else 0)
        table.append(value)
    return table


_CRC32C = _table()


def crc32c(data):
    """CRC-32C (Castagnoli), RFC 3720."""
    crc = 0xffffffff
    for byte in data:
        crc = crc >> 8 ^ _CRC32C[(crc ^ byte) & 0xff]
    return crc ^ 0xffffffff


def digest(algorithm, data):
    if algorithm == 'crc32':
        return zlib.crc32(data).to_bytes(4, 'big')
    if algorithm == 'crc32c':
        return crc32c(data).to_bytes(4, 'big')
    return hashlib.new(algorithm, data).digest()


def checksum(data, algorithm='sha1'):
    """The value of Upload-Checksum."""
    return f'{algorithm} {base64.b64encode(digest(algorithm, data)).decode("ascii")}'


def with_checksum(data, algorithm='sha1'):
    """The header fields of a request with this body."""
    return [('Upload-Checksum', checksum(data, algorithm))]
