"""tusd, exchange by exchange: what a real one answered, and what mod_tus answers to the same.

Without the exchanges that hooks shaped (test_hooks_tusd.py) and those of the IETF's protocol.
DIFFERENCES is the whole list of what is meant to differ: one that is not there fails, and so does
one that no longer occurs.
"""
import pytest

from testenv import tusd
from testenv.httpd import endpoint
from testenv.tus import Tus, assert_error
from testenv.tusd import UNFINISHED, Replay, assert_meant, assert_still_occurs, differs

EXCHANGES = [each for each in tusd.EXCHANGES if 'needs_hooks' not in each]
NAMES = [exchange['name'] for exchange in EXCHANGES]

DIFFERENCES = [
    *tusd.DIFFERENCES,
    differs(UNFINISHED, 'status', '400', '201', 'concatenation-unfinished is offered'),
    differs(UNFINISHED, 'code', 'ERR_UPLOAD_NOT_FINISHED', None,
            'concatenation-unfinished is offered'),
    differs(UNFINISHED, 'text', '.*', None, 'concatenation-unfinished is offered'),
    differs(UNFINISHED, 'Content-Type', 'text/plain; charset=utf-8', None,
            'concatenation-unfinished is offered'),
    differs(UNFINISHED, 'Content-Length', None, '0', 'concatenation-unfinished is offered'),
    differs(UNFINISHED, 'Location', None, '/files/[0-9a-f]{32}',
            'concatenation-unfinished is offered'),
]


@pytest.fixture(scope='module')
def replay(shared_httpd):
    server = shared_httpd()
    store = server.make_store()
    server.start(endpoint('Location /files/', store, 'TusMaxSize 1000000', 'TusCORS On'))
    replay = Replay(Tus(server, store=store))
    for exchange in EXCHANGES:
        replay.run(exchange)
    return replay


def test_the_recording_is_whole():
    assert len(EXCHANGES) == 38
    assert len(set(NAMES)) == len(NAMES)


@pytest.mark.parametrize('name', NAMES)
def test_exchange(replay, name):
    assert_meant(name, replay.differences(name), DIFFERENCES)


@pytest.mark.parametrize('difference', DIFFERENCES,
                         ids=lambda each: f'{each.field}-{each.where[0]}')
def test_each_difference_still_occurs(replay, difference):
    assert_still_occurs(difference, {name: replay.differences(name) for name in NAMES})


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
