"""HTTP/2 by real clients: curl and nghttp."""
import re
import subprocess

from .http import Response, parse_head
from .tus import patch_fields
from .util import program


def curl_command(*arguments):
    return [program('curl'), '--silent', '--show-error', '--insecure', '--include',
            '--max-time', '60', *map(str, arguments)]


def curl(*arguments, data=b''):
    """Run curl with --include; the answer. Fails when curl does.

    Not for an HTTP/2 request that is answered before its body was read: mod_http2 then resets the
    stream behind the whole answer, as it may, and curl 7.88 loses the answer. Use nghttp.
    """
    result = subprocess.run(curl_command(*arguments), input=data, capture_output=True, check=False)
    assert result.returncode == 0, f'curl: exit {result.returncode}: {result.stderr.decode()}'
    return parse_output(result.stdout)


def parse_output(output):
    interim = []
    while True:
        head, blank, rest = output.partition(b'\r\n\r\n')
        assert blank, f'no answer: {output!r}'
        answer = Response(*parse_head(head), body=rest)
        if answer.status >= 200:
            answer.interim = interim
            return answer
        interim.append(answer)
        output = rest


class CurlPatch:
    """A PATCH by curl whose body is written to it piece by piece."""

    def __init__(self, url, offset, *arguments):
        fields = [part for name, value in patch_fields(offset)
                  for part in ('-H', f'{name}: {value}')]
        self.process = subprocess.Popen(
            curl_command('-X', 'PATCH', *fields, '-H', 'Expect:', '-T', '-', *arguments, url),
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()

    def send(self, data):
        self.process.stdin.write(data)
        self.process.stdin.flush()

    def response(self):
        """End the body; the answer."""
        output, errors = self.process.communicate(timeout=60)
        assert output, f'curl: {errors.decode()}'
        return parse_output(output)


def nghttp(*arguments):
    """Run nghttp -v; its answers, without bodies, in the order of their arrival."""
    streams = {}
    for stream, name, value in re.findall(r'recv \(stream_id=(\d+)\) (:?[^:]+): (.*)',
                                          run_nghttp('-v', *arguments).decode('latin-1')):
        streams.setdefault(stream, []).append((name, value))
    return [Response(int(fields[0][1]), '', fields[1:]) for fields in streams.values()]


def nghttp_with_body(*arguments):
    """The same for one request, which is made twice, as nghttp shows either fields or bodies."""
    answers = nghttp(*arguments)
    assert len(answers) == 1, answers
    answers[0].body = run_nghttp(*arguments)
    return answers[0]


def run_nghttp(*arguments):
    result = subprocess.run(
        [program('nghttp'), '--no-dep', '--no-verify-peer', *map(str, arguments)],
        capture_output=True, timeout=60, check=False)
    said = (result.stdout + result.stderr)[-500:]
    assert result.returncode == 0 and b'not processed' not in result.stderr, f'nghttp: {said}'
    return result.stdout
