"""tusd, exchange by exchange: what a real one answered, and what mod_tus answers to the same.

test/data/tusd/exchanges.json is a recording of tusd 2 on loopback (-max-size 1000000), without the
exchanges that its hooks shaped and those of the IETF's protocol. DIFFERENCES is the whole list of
what is meant to differ: one that is not there fails, and so does one that no longer occurs.
"""
import json
import re
from dataclasses import dataclass
from pathlib import Path

import pytest

from testenv.httpd import endpoint
from testenv.tus import Tus, assert_error

EXCHANGES = json.loads(
    (Path(__file__).resolve().parents[1] / 'data/tusd/exchanges.json').read_text('utf-8'))
NAMES = [exchange['name'] for exchange in EXCHANGES]

# What httpd says of the connection and of itself; the recording leaves it out.
OF_HTTPD = {'date', 'server', 'connection', 'keep-alive'}

OPTIONS = [each['name'] for each in EXCHANGES if each['request']['method'] == 'OPTIONS']
CREATED = [each['name'] for each in EXCHANGES if each['answer']['status'] == 201]
HEADS = [each['name'] for each in EXCHANGES
         if each['request']['method'] == 'HEAD' and each['answer']['status'] == 200]
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
        if name not in self.where or field != self.field.lower():
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
    differs(UNFINISHED, 'status', '400', '201',
            'concatenation-unfinished is offered'),
    differs(UNFINISHED, 'code', 'ERR_UPLOAD_NOT_FINISHED', None,
            'concatenation-unfinished is offered'),
    differs(UNFINISHED, 'text', '.*', None,
            'concatenation-unfinished is offered'),
    differs(UNFINISHED, 'Content-Type', 'text/plain; charset=utf-8', None,
            'concatenation-unfinished is offered'),
    differs(UNFINISHED, 'Content-Length', None, '0',
            'concatenation-unfinished is offered'),
    differs(UNFINISHED, 'Location', None, '/files/[0-9a-f]{32}',
            'concatenation-unfinished is offered'),

    # There is more.
    differs(OPTIONS, 'Tus-Extension',
            'creation,creation-with-upload,termination,concatenation,creation-defer-length',
            'creation,creation-with-upload,creation-defer-length,termination,concatenation,'
            'concatenation-unfinished,checksum,checksum-trailer',
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
    differs(CREATED, 'Location', f'{re.escape(HOST)}(/files/[0-9a-f]+)', '{1}',
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

    def __init__(self, tus):
        self.tus = tus
        self.ids = {}
        self.recorded = {}
        self.answered = {}

    def ours(self, text):
        for theirs, ours in self.ids.items():
            text = text.replace(theirs, ours)
        return text

    def run(self, exchange):
        request, recorded = exchange['request'], exchange['answer']
        headers = [('Host', 'uploads.example:8080')]
        headers += [(name, self.ours(value)) for name, value in request['headers'].items()
                    if name != 'Content-Length']
        body = request.get('body', '').encode() if 'Content-Length' in request['headers'] else None
        with self.tus.connect() as connection:
            answer = connection.request(request['method'], self.ours(request['path']), headers,
                                        body)
        if 'Location' in recorded['headers'] and answer.get('Location'):
            theirs = recorded['headers']['Location'].rsplit('/', 1)[-1]
            self.ids[theirs] = answer.get('Location').rsplit('/', 1)[-1]
        name = exchange['name']
        self.recorded[name] = fields(
            recorded['status'],
            [(each, self.ours(value)) for each, value in recorded['headers'].items()],
            recorded.get('body', ''))
        self.answered[name] = fields(answer.status, answer.headers, answer.body.decode())

    def differences(self, name):
        """(field, theirs, ours) for each field that is not the same."""
        theirs, ours = self.recorded[name], self.answered[name]
        return [(field, theirs.get(field), ours.get(field))
                for field in sorted(theirs.keys() | ours.keys())
                if theirs.get(field) != ours.get(field)]


@pytest.fixture(scope='module')
def replay(shared_httpd):
    server = shared_httpd()
    store = server.make_store()
    server.start(endpoint('Location /files/', store, 'TusMaxSize 1000000', 'TusCORS On'))
    replay = Replay(Tus(server, store=store))
    for exchange in EXCHANGES:
        replay.run(exchange)
    return replay


# -- the tests -------------------------------------------------------------------------------------

def test_the_recording_is_whole():
    assert len(EXCHANGES) == 38
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_exchange(replay, name):
    unmeant = [difference for difference in replay.differences(name)
               if not any(each.covers(name, *difference) for each in DIFFERENCES)]
    assert not unmeant, '\n'.join(
        f'{field}: tusd {theirs!r}, mod_tus {ours!r}' for field, theirs, ours in unmeant)


@pytest.mark.parametrize('difference', DIFFERENCES,
                         ids=lambda each: f'{each.field}-{each.where[0]}')
def test_each_difference_still_occurs(replay, difference):
    gone = [name for name in difference.where
            if not any(difference.covers(name, *found) for found in replay.differences(name))]
    assert not gone, f'{difference.field} differs no longer, or otherwise, in: {", ".join(gone)}'


def test_a_final_of_an_unfinished_partial_where_tusds_extensions_are_all_that_is_offered(httpd):
    server = httpd()
    theirs = next(each for each in EXCHANGES if each['name'] == 'Discovery')
    names = theirs['answer']['headers']['Tus-Extension'].split(',')
    server.start(endpoint('Location /files/', server.make_store(),
                          f'TusExtensions {" ".join(names)}'))
    tus = Tus(server)
    assert set(tus.options().get('Tus-Extension').split(',')) == set(names)
    done = tus.new(3, b'one', [('Upload-Concat', 'partial')])
    open_ = tus.new(3, headers=[('Upload-Concat', 'partial')])
    answer = tus.create(headers=[('Upload-Concat', f'final;{done} {open_}')])
    assert_error(answer, 400, 'ERR_UPLOAD_NOT_FINISHED')
    assert tus.append(open_, 0, b'two') == 3
    url = tus.new(headers=[('Upload-Concat', f'final;{done} {open_}')])
    assert tus.get(url).body == b'onetwo'
