"""What is asked of a server: by the load generator, and by curl for HTTP/2."""
import base64
import contextlib
import hashlib
import subprocess
import tempfile
from pathlib import Path

from subjects import BUILT, end_with_parent
from testenv.tus import patch_fields
from testenv.util import free_port, program, wait_until

CONNECTIONS = 32


def load(*arguments):
    """Seconds, as the load generator saw them; it fails at the first unexpected answer."""
    command = [BUILT / 'load', *arguments]
    result = subprocess.run([str(word) for word in command], capture_output=True, text=True,
                            check=False)
    if result.returncode:
        raise AssertionError(f'load {" ".join(map(str, arguments))}: {result.stderr}')
    return float(result.stdout)


# -- one large body --------------------------------------------------------------------------------

def patch(server, length, field=None):
    """One PATCH of a new upload, which server.clear() removes again."""
    path = server.create(length)
    seconds = load('patch-tls' if server.tls else 'patch', server.port, path, length,
                   *([field] if field else []))
    assert server.offset(path) == length
    server.spent.append(path)
    return seconds


def checksum_of(length):
    """The header field for what the load generator sends: zeros."""
    digest = hashlib.sha256()
    for _ in range(length >> 20):
        digest.update(bytes(1 << 20))
    return f'Upload-Checksum: sha256 {base64.b64encode(digest.digest()).decode()}'


def assert_verifies(server):
    """A server that offers checksums may still ignore them."""
    path = server.create(5)
    wrong = base64.b64encode(bytes(32)).decode()
    answer = server.request('PATCH', path, [*patch_fields(0)[1:],
                                            ('Upload-Checksum', f'sha256 {wrong}')],
                            b'hello', expect=range(200, 500))
    assert answer.status >= 400, f'{server.name} ignores Upload-Checksum'


def patch_h2(server, length, milliseconds=0):
    """The same by curl over HTTP/2."""
    path = server.create(length)
    with tempfile.NamedTemporaryFile() as body, delayed(server.port, milliseconds) as port:
        body.truncate(length)
        result = subprocess.run(
            [program('curl'), '--silent', '--show-error', '--insecure', '--http2', '-X', 'PATCH',
             *(word for name, value in patch_fields(0) for word in ('-H', f'{name}: {value}')),
             '--upload-file', body.name, '--output', '/dev/null', '--write-out',
             '%{http_code} %{http_version} %{time_pretransfer} %{time_total}',
             f'https://127.0.0.1:{port}{path}'],
            capture_output=True, text=True, check=False)
    said = result.stdout.split()
    assert said[:2] == ['204', '2'], f'{server.name}: {result.stdout} {result.stderr}'
    assert server.offset(path) == length
    server.spent.append(path)
    return float(said[3]) - float(said[2])


@contextlib.contextmanager
def delayed(port, milliseconds):
    """A port that leads to `port` and back in so much time."""
    if not milliseconds:
        yield port
        return
    near = free_port()
    with subprocess.Popen([BUILT / 'delay', str(near), str(port), str(milliseconds / 2)],
                          preexec_fn=end_with_parent) as relay:
        wait_until(lambda: is_listening(near), 'the relay to listen')
        try:
            yield near
        finally:
            relay.terminate()


def is_listening(port):
    wanted = f'0100007F:{port:04X}'
    return any(wanted in line and ' 0A ' in line
               for line in Path('/proc/net/tcp').read_text().splitlines())


# -- small requests --------------------------------------------------------------------------------

def create_small(server, count, length=4096, connections=CONNECTIONS):
    return load('create', server.port, server.base, length, count, connections)


def cycle_small(server, count, length=4096):
    return load('cycle', server.port, server.base, length, count, CONNECTIONS)


def head_any(server, paths, count, connections=CONNECTIONS):
    """HEAD of random paths of a file that lists them."""
    return load('head', server.port, paths, count, connections)


# -- concatenation and download --------------------------------------------------------------------

def make_parts(server, number, length):
    parts = [server.create(length, [('Upload-Concat', 'partial')]) for _ in range(number)]
    for part in parts:
        load('patch', server.port, part, length)
    return parts


def get(server, path):
    return load('get', server.port, path)
