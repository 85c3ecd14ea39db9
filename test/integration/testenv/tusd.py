"""A recording of tusd 2 on loopback, sent to mod_tus, and how what mod_tus says may differ.

test/data/tusd/exchanges.json has the requests and tusd's answers (-max-size 1000000), hooks.json
what its hooks were told. An exchange may have more: needs_hooks, if it goes otherwise without them;
script, what the endpoint of the hooks answered; trickles, if its body came bit by bit.
"""
import json
import re
from dataclasses import dataclass
from pathlib import Path

DATA = Path(__file__).resolve().parents[2] / 'data/tusd'
EXCHANGES = json.loads((DATA / 'exchanges.json').read_text('utf-8'))
# The events that tusd's hooks were told in an exchange, in the order of their arrival.
EVENTS = json.loads((DATA / 'hooks.json').read_text('utf-8'))

# What httpd says of the connection and of itself; the recording leaves it out.
OF_HTTPD = {'date', 'server', 'connection', 'keep-alive'}

OPTIONS = [each['name'] for each in EXCHANGES if each['request']['method'] == 'OPTIONS']
CREATED = [each['name'] for each in EXCHANGES if each['answer']['status'] == 201]
HEADS = [each['name'] for each in EXCHANGES
         if each['request']['method'] == 'HEAD' and each['answer']['status'] == 200]
# Of which test_tusd.py and test_hooks_tusd.py think differently.
UNFINISHED = 'Final of an unfinished partial'
REFUSED = [each['name'] for each in EXCHANGES if each['answer'].get('body', '').startswith('ERR_')]


@dataclass(frozen=True)
class Difference:
    """In these exchanges tusd says `theirs` in a field and mod_tus `ours`.

    Both are regular expressions, or None for a field that is not there; `ours` may refer to the
    groups of `theirs` by {1}, {2}.
    """

    where: tuple
    field: str
    theirs: str | None
    ours: str | None
    why: str

    def covers(self, name, field, theirs, ours):
        if name not in self.where or field.lower() != self.field.lower():
            return False
        match = fits(self.theirs, theirs)
        if not match:
            return False
        expected = self.ours
        for number, text in enumerate(match.groups() if match is not True else (), 1):
            expected = expected.replace(f'{{{number}}}', re.escape(text))
        return bool(fits(expected, ours))


def fits(expected, value):
    """The match; True where the field is not there and should not be; else None."""
    if expected is None or value is None:
        return True if expected is value else None
    return re.fullmatch(expected, value)


def differs(where, field, theirs, ours, why):
    return Difference((where,) if isinstance(where, str) else tuple(where), field, theirs, ours,
                      why)


HOST = 'http://uploads.example:8080'
IETF = 'Upload-Incomplete, Upload-Complete, Upload-Draft-Interop-Version'

DIFFERENCES = [
    # The protocol's text rules.
    differs('PATCH without Tus-Resumable', 'Tus-Version', None, r'1\.0\.0',
            'the protocol: "the Server MUST respond with 412 ... and MUST include Tus-Version"'),
    differs('PATCH, wrong type', 'status', '400', '415',
            'the protocol: "... MUST return a 415 Unsupported Media Type"'),

    # There is more.
    differs(OPTIONS, 'Tus-Extension',
            'creation,creation-with-upload,termination,concatenation,creation-defer-length',
            'creation,creation-with-upload,creation-defer-length,termination,concatenation,'
            '(concatenation-unfinished,)?checksum,checksum-trailer',
            'every extension but expiration, which needs TusExpire'),
    differs(OPTIONS, 'Tus-Checksum-Algorithm', None, 'sha1,sha256,sha512,md5,crc32,crc32c',
            'the extension checksum'),
    differs('CORS preflight', 'Access-Control-Allow-Headers', f'(.*), {IETF}',
            '{1}, Upload-Checksum', 'checksum is offered, the protocol of the IETF is not'),
    differs('Creation', 'Access-Control-Expose-Headers', f'(.*), {IETF}',
            '{1}, Upload-Expires, Tus-Checksum-Algorithm',
            'checksum and expiration are offered, the protocol of the IETF is not'),
    differs([each['name'] for each in EXCHANGES if 'Origin' not in each['request']['headers']],
            'Vary', None, 'Origin', 'a cache must not give this answer to a page of any origin'),

    # Location.
    differs(CREATED, 'Location', f'{re.escape(HOST)}(/files/.+)', '{1}',
            'a path: right whatever scheme and host a proxy in front has'),
    differs('HEAD of the final', 'Upload-Concat',
            rf'final;{HOST}(/files/[0-9a-f]+) {HOST}(/files/[0-9a-f]+)', 'final;{1} {2}',
            'as the client sent it'),

    # How httpd answers.
    differs([name for name in HEADS if name != 'HEAD, deferred'], 'Content-Length', r'\d+', None,
            'HEAD tells of the upload, not of what GET would send'),
    differs(['GET', 'GET with a range'], 'ETag', None, '(W/)?"[^"]+"',
            'made by httpd of the finished file'),
    differs(['GET', 'GET with a range'], 'Content-Disposition',
            r'inline;filename="na\xc3\xafve \\"x\\".txt"',
            r"inline; filename=\"na_ve _x_\.txt\"; filename\*=UTF-8''na%C3%AFve%20%22x%22\.txt",
            'RFC 6266: what is not ASCII stands in filename*'),
    differs('HEAD of what is gone', 'Cache-Control', None, 'no-store',
            'the protocol: "MUST prevent the client and/or proxies from caching the response"'),

    # Errors.
    differs([name for name in REFUSED if name != UNFINISHED], 'text', '.+', '.+',
            'our own words, which say what would be right'),
    differs('Unknown method', 'code', None, 'ERR_METHOD_NOT_ALLOWED', 'each error has a code'),
    differs('Unknown method', 'text', 'method not allowed', '.+', 'our own words'),
    differs('Unknown method', 'Allow', 'GET, HEAD, PATCH, DELETE',
            'OPTIONS, HEAD, PATCH, DELETE, GET', 'OPTIONS is allowed too'),
]


# -- what is compared ------------------------------------------------------------------------------

def canonical(name, value):
    """What has no meaning is made alike: the order of metadata, and when a file was made."""
    if name == 'upload-metadata':
        return ','.join(sorted(pair.strip() for pair in value.split(',')))
    if name == 'last-modified':
        assert re.fullmatch(r'\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT', value), value
        return 'a date'
    return value


def fields(status, headers, body):
    """An answer as a dict. An error's body is its code and its text."""
    answer = {'status': str(status)}
    answer |= {name.lower(): value for name, value in headers if name.lower() not in OF_HTTPD}
    answer = {name: canonical(name, value) for name, value in answer.items()}
    if status < 400:
        return answer | ({'body': body} if body else {})
    # That follows from the text; HEAD has none.
    answer.pop('content-length', None)
    match = re.fullmatch(r'(?:(ERR_\w+): )?(.*)\n?', body)
    answer |= {'code': match[1]} if match[1] else {}
    answer |= {'text': match[2]} if match[2] else {}
    return answer


class Replay:
    """Sends what was recorded, with the ids that this server gave in the place of tusd's."""

    def __init__(self, tus, headers=()):
        self.tus = tus
        self.headers = list(headers)
        self.ids = {}
        self.recorded = {}
        self.answered = {}

    def ours(self, text):
        for theirs, ours in self.ids.items():
            text = text.replace(theirs, ours)
        return text

    def run(self, exchange):
        self._learn(exchange['answer'], answer := self._send(exchange['request']))
        self._note(exchange['name'], exchange['answer'], answer)

    def _send(self, request):
        headers = [('Host', 'uploads.example:8080'), *self.headers]
        headers += [(name, self.ours(value)) for name, value in request['headers'].items()
                    if name != 'Content-Length']
        body = request.get('body', '').encode() if 'Content-Length' in request['headers'] else None
        with self.tus.connect() as connection:
            return self.exchange(connection, request['method'], self.ours(request['path']), headers,
                                 body)

    def exchange(self, connection, *request):
        """How a request is sent."""
        return connection.request(*request)

    def _learn(self, recorded, answer):
        if 'Location' in recorded['headers'] and answer.get('Location'):
            theirs = recorded['headers']['Location'].rsplit('/', 1)[-1]
            self.ids[theirs] = answer.get('Location').rsplit('/', 1)[-1]

    def _note(self, name, recorded, answer):
        self.recorded[name] = fields(
            recorded['status'],
            [(each, self.ours(value)) for each, value in recorded['headers'].items()],
            recorded.get('body', ''))
        self.answered[name] = fields(answer.status, answer.headers, answer.body.decode())

    def differences(self, name):
        """(field, theirs, ours) for each field that is not the same."""
        return differences(self.recorded[name], self.answered[name])


def differences(theirs, ours):
    """(field, theirs, ours) for each field that is not the same in two dicts of strings."""
    return [(field, theirs.get(field), ours.get(field))
            for field in sorted(theirs.keys() | ours.keys())
            if theirs.get(field) != ours.get(field)]


def assert_meant(name, found, meant):
    """All that differs in an exchange is meant to."""
    unmeant = [each for each in found if not any(other.covers(name, *each) for other in meant)]
    assert not unmeant, '\n'.join(
        f'{field}: tusd {theirs!r}, mod_tus {ours!r}' for field, theirs, ours in unmeant)


def assert_still_occurs(difference, found):
    """`found`: what differs in each exchange that was replayed, by name."""
    gone = [name for name in difference.where
            if name in found and not any(difference.covers(name, *each) for each in found[name])]
    assert not gone, f'{difference.field} differs no longer, or otherwise, in: {", ".join(gone)}'
