"""Hooks that are asked: what they hear, what they can change, and what they cannot."""
import base64
import contextlib
import os
import re
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from testenv.expiry import backdate
from testenv.h2 import H2Connection
from testenv.hooked import EVENTS, Hooked, assert_failed, failed, start, verify
from testenv.hookserver import HookServer
from testenv.httpd import endpoint, one_child
from testenv.store import Store, upload_id
from testenv.tus import Tus, assert_error, metadata, patch_fields
from testenv.util import give_to_user, wait_until

CREATED = ('post-create',)
FINISHED = ('post-create', 'post-finish')
GONE = ('post-create', 'post-terminate')
ALL = ('post-create', 'post-finish', 'post-terminate')

# A refusal that a client could take for a success is given as 400.
REFUSALS = [(403, 403), (401, 401), (599, 599), (460, 460), (200, 400), (302, 400), (204, 400),
            (0, 400), (None, 400)]


@pytest.fixture(scope='module')
def shared(shared_httpd):
    with HookServer() as hooks:
        tus = start(shared_httpd(modules=['authn_anon']), hooks)
        yield tus
        tus.server.stop()


@pytest.fixture
def tus(shared):
    """One server for all; nothing is left of the test before."""
    shared.begin()
    for path in sorted(shared.store.path.rglob('*'), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink(missing_ok=True)
    return shared


def response(status=None, body=None, **headers):
    """An HTTPResponse of a hook."""
    said = {'StatusCode': status, 'Body': body,
            'Header': {name.replace('_', '-'): value for name, value in headers.items()}}
    return {name: value for name, value in said.items() if value}


def change(**changes):
    return {'ChangeFileInfo': changes}


def at_path(tus, relative):
    return tus.store.path / relative


# -- the whole life --------------------------------------------------------------------------------

def test_a_life_in_order(hook_server, httpd, mpm):
    hooks = hook_server()
    tus = start(httpd(mpm=mpm), hooks)
    url = tus.new(10, b'hello')
    assert tus.append(url, 5, b'world') == 10
    assert tus.delete(url).status == 204
    tus.told(upload_id(url), *ALL)
    asked = [call for call in hooks.of() if call.type.startswith('pre-')]
    assert [call.type for call in asked] == ['pre-create', 'pre-finish', 'pre-terminate']
    assert [call.upload['ID'] for call in asked] == ['', upload_id(url), upload_id(url)]
    assert [call.upload['Offset'] for call in asked] == [0, 10, 10]
    assert [call.request['Method'] for call in asked] == ['POST', 'PATCH', 'DELETE']


def test_what_is_left_out_is_not_asked(hook_server, httpd):
    """A URL without names has tusd's five events."""
    hooks = hook_server()
    tus = start(httpd(), hooks, events='')
    url = tus.upload(b'hello')
    tus.delete(url)
    tus.told(upload_id(url), *ALL)
    hooks.wait(1, 'post-receive')
    assert not hooks.of('pre-finish', 'pre-terminate')
    assert len(hooks.of('pre-create')) == 1


def test_nothing_is_asked_of_what_is_refused_anyway(tus):
    assert_error(tus.create(), 400, 'ERR_INVALID_UPLOAD_LENGTH')
    assert_error(tus.create(5, headers=[('Upload-Metadata', 'a b c')]), 400, 'ERR_INVALID_METADATA')
    assert_error(tus.delete('/files/nosuch'), 404, 'ERR_UPLOAD_NOT_FOUND')
    url = tus.new(5)
    tus.answers()
    assert_error(tus.patch(url, 3, b'lo'), 409, 'ERR_MISMATCHED_OFFSET')
    tus.options()
    tus.head(url)
    assert not tus.asked() and not tus.hooks.of('post-receive')


# -- pre-create ------------------------------------------------------------------------------------

def test_nothing_is_made_before_it_consents(tus):
    consent = threading.Event()
    tus.says('pre-create', until=consent)
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(tus.create, 5, b'hello')
        tus.hooks.wait(1, 'pre-create')
        tus.assert_nothing_made()
        consent.set()
        assert answer.result().status == 201
    assert tus.store.data(answer.result().get('Location')) == b'hello'


@pytest.mark.parametrize('status, answered', REFUSALS)
@pytest.mark.parametrize('body', [b'', b'hello'])
def test_a_refused_creation(tus, status, answered, body):
    tus.says('pre-create', {'RejectUpload': True, 'HTTPResponse': response(status, 'no')})
    answer = tus.create(5, body)
    assert (answer.status, answer.body) == (answered, b'no')
    assert answer.get('Content-Type') == 'text/plain; charset=utf-8'
    assert answer.get('Location') is None
    tus.assert_nothing_made()
    assert tus.asked() == ['pre-create']


def test_a_refused_creation_without_a_response(tus):
    tus.says('pre-create', {'RejectUpload': True})
    assert_error(tus.create(5, b'hello'), 400, 'ERR_UPLOAD_REJECTED')
    tus.assert_nothing_made()


def test_a_refusal_is_whole(tus):
    tus.says('pre-create', {'RejectUpload': True, 'HTTPResponse': response(
        507, '{}', Content_Type='application/problem+json', Retry_After='9', Set_Cookie='a=b')})
    answer = tus.create(5)
    assert (answer.status, answer.body) == (507, b'{}')
    assert answer.get('Content-Type') == 'application/problem+json'
    assert (answer.get('Retry-After'), answer.get('Set-Cookie')) == ('9', 'a=b')


def test_a_refused_final(tus):
    part = tus.partial(3, b'one')
    tus.says('pre-create', {'RejectUpload': True})
    assert_error(tus.concat([part]), 400, 'ERR_UPLOAD_REJECTED')
    [call] = tus.hooks.wait(1, 'pre-create')
    assert (call.upload['IsFinal'], call.upload['PartialUploads'], call.upload['Size']) \
        == (True, [upload_id(part)], 3)
    tus.store.assert_only(part)


def test_a_refusal_leaves_the_connection(tus):
    tus.says('pre-create', {'RejectUpload': True, 'HTTPResponse': response(403)})
    with tus.connect() as conn:
        assert tus.create(5, b'hello', conn=conn).status == 403
        tus.answers()
        assert tus.create(5, b'hello', conn=conn).status == 201


@pytest.mark.parametrize('uid', ['report', 'user-7/report.pdf', 'a/b/c/d', 'x' * 200, 'A-Z._~09'])
def test_an_id(tus, uid):
    tus.says('pre-create', change(ID=uid))
    url = tus.new(10, b'hello')
    assert url == f'/files/{uid}'
    assert tus.offset(url) == 5
    assert tus.append(url, 5, b'world') == 10
    assert tus.get(url).body == at_path(tus, uid).read_bytes() == b'helloworld'
    assert tus.delete(url).status == 204
    assert not at_path(tus, uid).exists() and not at_path(tus, f'{uid}.info').exists()
    tus.told(uid, *ALL)
    assert {call.upload['Storage']['Path'] for call in tus.hooks.of(upload=uid)} \
        == {str(at_path(tus, uid))}


def test_an_id_of_another_upload(tus):
    tus.says('pre-create', change(ID='taken'))
    url = tus.new(10, b'hello')
    before = tus.store.snapshot()
    taken(tus, "the id 'taken'")
    assert_failed(tus.create(10, b'other'))
    assert tus.store.snapshot() == before
    assert tus.append(url, 5, b'world') == 10
    assert_failed(tus.create(10, b'other'))
    assert tus.get(url).body == b'helloworld'


def taken(tus, what):
    failed(tus.server, tus.hooks.url, status=200, why=f'it sets {re.escape(what)}, which is taken')


@pytest.mark.parametrize('uid', ['taken/below', 'above'])
def test_an_id_that_another_is_in_the_way_of(tus, uid):
    for there in ('taken', 'above/it'):
        tus.says('pre-create', change(ID=there))
        tus.new(10, b'hello')
    before = everything(tus)
    taken(tus, f"the id '{uid}'")
    tus.says('pre-create', change(ID=uid))
    assert_failed(tus.create(10, b'other'))
    assert everything(tus) == before


def everything(tus):
    return {path: path.is_file() and path.read_bytes() for path in tus.store.path.rglob('*')}


def test_an_id_of_an_upload_that_runs(tus):
    tus.says('pre-create', change(ID='runs'))
    url = tus.new(10)
    taken(tus, "the id 'runs'")
    with tus.hold(url, 0, 10, b'hello') as patch:
        assert_failed(tus.create(10, b'other'))
        assert patch.finish(b'world').status == 204
    assert tus.get(url).body == b'helloworld'


def test_an_id_of_another_final(tus):
    parts = [tus.partial(3, b'one')]
    tus.says('pre-create', change(ID='whole'))
    final = tus.final(parts)
    taken(tus, "the id 'whole'")
    assert_failed(tus.concat(parts, [('Upload-Metadata', metadata(a='b'))]))
    assert tus.get(final).body == b'one'


@pytest.mark.parametrize('uid', [
    '../out', '/etc/passwd', 'a/../../b', 'a//b', 'a/', '.', '..', '.hidden', 'a/.b', 'x.info',
    'x.INFO', 'a b', 'a%2fb', 'a\\b', 'naïve', 'a\nb', 'x' * 5000, 'a\0b', 'a?b', 'a#b'])
def test_an_id_that_no_upload_can_have(tus, uid):
    failed(tus.server, tus.hooks.url, status=200)
    tus.says('pre-create', change(ID=uid))
    assert_failed(tus.create(5, b'hello'))
    tus.assert_nothing_made()
    assert tus.asked() == ['pre-create']


def test_an_empty_id_is_none(tus):
    tus.says('pre-create', change(ID='', MetaData={'a': 'b'}))
    assert re.fullmatch('/files/[0-9a-f]{32}', tus.new(5))


@pytest.mark.parametrize('said, header', [
    ({'filename': 'r.pdf', 'n': ''}, metadata(filename='r.pdf', n=None)),
    ({'filename': 'naïve "x",\n\0'}, metadata(filename='naïve "x",\n\0')), ({}, None)])
def test_metadata_is_replaced(tus, said, header):
    tus.says('pre-create', change(MetaData=said))
    url = tus.new(5, headers=[('Upload-Metadata', metadata(filename='a', gone='b'))])

    def pairs(value):
        return sorted(pair.strip() for pair in (value or '').split(','))

    assert pairs(tus.head(url).get('Upload-Metadata')) == pairs(header)
    [call] = tus.hooks.wait(1, 'post-create')
    assert call.upload['MetaData'] == said
    assert tus.store.info(url)['MetaData'] == said


def test_metadata_stays_where_it_is_not_said(tus):
    tus.says('pre-create', change(ID='a', MetaData=None))
    url = tus.new(5, headers=[('Upload-Metadata', metadata(filename='a'))])
    assert tus.head(url).get('Upload-Metadata') == metadata(filename='a')


@pytest.mark.parametrize('said', [{'a b': 'c'}, {'': 'c'}, {'a\nb': 'c'}, {'a,b': 'c'}])
def test_metadata_that_no_header_can_have(tus, said):
    failed(tus.server, tus.hooks.url, status=200, why='it sets metadata')
    tus.says('pre-create', change(MetaData=said))
    assert_failed(tus.create(5))
    tus.assert_nothing_made()


@pytest.mark.parametrize('path', ['place.bin', 'sub/place.bin', 'a/b/c/d e.bin', 'naïve.bin'])
def test_a_place(tus, path):
    tus.says('pre-create', change(Storage={'Path': path}))
    url = tus.new(10, b'hello')
    assert re.fullmatch('/files/[0-9a-f]{32}', url)
    assert tus.append(url, 5, b'world') == 10
    assert tus.get(url).body == at_path(tus, path).read_bytes() == b'helloworld'
    tus.told(upload_id(url), *FINISHED)
    storage = tus.hooks.of('post-finish')[0].upload['Storage']
    assert storage == {'InfoPath': str(tus.store.info_path(url)), 'Path': str(at_path(tus, path)),
                       'Type': 'filestore'}
    assert tus.delete(url).status == 204
    assert not at_path(tus, path).exists()


def test_a_place_and_an_id(tus):
    tus.says('pre-create', change(ID='u/1', Storage={'Path': 'd/1.bin'}))
    assert tus.upload(b'hello') == '/files/u/1'
    assert at_path(tus, 'd/1.bin').read_bytes() == b'hello' and at_path(tus, 'u/1.info').exists()


@pytest.mark.parametrize('path', [
    '../out', 'a/../../out', '/etc/passwd', '{root}/out', 'a/..', '.', '..', 'x.info', 'a//b',
    'a/', '.hidden', 'a\0b'])
def test_a_place_out_of_the_store(tus, path):
    failed(tus.server, tus.hooks.url, status=200)
    tus.says('pre-create', change(Storage={'Path': path.format(root=tus.server.root)}))
    assert_failed(tus.create(5, b'hello'))
    tus.assert_nothing_made()
    assert not (tus.server.root / 'out').exists()


def test_a_place_behind_a_symbolic_link(tus):
    outside = tus.server.make_dir(tus.server.root / 'outside')
    os.symlink(outside, at_path(tus, 'link'))
    taken(tus, "Storage.Path 'link/x'")
    tus.says('pre-create', change(Storage={'Path': 'link/x'}))
    assert_failed(tus.create(5, b'hello'))
    assert not list(outside.iterdir()) and tus.store.files() == {'link'}


def test_the_place_of_another_upload(tus):
    """Neither its bytes nor its record are written over."""
    tus.says('pre-create', change(ID='first'))
    tus.upload(b'first')
    before = tus.store.snapshot()
    taken(tus, "Storage.Path 'first'")
    taken(tus, "the id 'second' and Storage.Path 'first'")
    failed(tus.server, tus.hooks.url, status=200, why="it sets the storage_path 'first.info'")
    for said in ({'Storage': {'Path': 'first'}}, {'Storage': {'Path': 'first.info'}},
                 {'ID': 'second', 'Storage': {'Path': 'first'}}):
        tus.says('pre-create', change(**said))
        assert_failed(tus.create(5, b'other'))
        assert tus.store.snapshot() == before


def test_creation_takes_what_the_hook_adds(tus):
    tus.says('pre-create', {'HTTPResponse': response(202, 'made', X_From='hook',
                                                     Content_Type='text/x')})
    answer = tus.create(5)
    assert (answer.status, answer.body) == (202, b'made')
    assert (answer.get('X-From'), answer.get('Content-Type')) == ('hook', 'text/x')
    assert tus.offset(answer.get('Location')) == 0


@pytest.mark.parametrize('body', [b'', b'hello'])
def test_an_answer_that_says_nothing(tus, body):
    for said in (b'', b' \r\n', b'null', b'{}', b'{"HTTPResponse":null,"Other":[1,{"a":2}]}'):
        tus.answers({'body': said, 'headers': {'Content-Type': 'text/plain'}})
        assert tus.create(5, body).status == 201
    for status in (201, 202, 204, 299):
        tus.answers({'status': status, 'body': b''})
        assert tus.create(5, body).status == 201


def test_the_words_of_others_change_nothing(tus):
    """RejectTermination, StopUpload and ChangeFileInfo belong to other events."""
    tus.answers({'Type': 'pre-create', 'answer': {'RejectTermination': True, 'StopUpload': True}},
                {'Type': 'pre-finish', 'answer': {'RejectUpload': True, 'StopUpload': True,
                                                  **change(ID='x')}},
                {'Type': 'pre-terminate', 'answer': {'RejectUpload': True, 'StopUpload': True}},
                {'answer': {'RejectUpload': True, 'RejectTermination': True, **change(ID='x')}})
    url = tus.upload(b'hello')
    assert tus.delete(url).status == 204
    tus.told(upload_id(url), *ALL)


# -- pre-finish ------------------------------------------------------------------------------------

def test_all_bytes_are_there_before_it_is_asked(tus):
    seen = []

    def look(call):
        path = call.upload['Storage']['Path']
        seen.append((open(path, 'rb').read(), tus.store.finished(call.upload['ID'])))
        return {}

    tus.says('pre-finish', look)
    url = tus.new(10, b'hello')
    assert not seen
    tus.append(url, 5, b'world')
    assert seen == [(b'helloworld', None)]
    assert tus.store.finished(url)
    tus.told(upload_id(url), *FINISHED)


@pytest.mark.parametrize('length, body, status', [(5, b'hello', 201), (0, b'', 201)])
def test_it_adds_to_a_creation(tus, length, body, status):
    """What pre-create says, too."""
    tus.answers({'Type': 'pre-create', 'answer': {'HTTPResponse': response(
                    202, 'created', X_One='a', X_Both='first')}},
                {'Type': 'pre-finish', 'answer': {'HTTPResponse': response(
                    None, 'finished', X_Two='b', X_Both='second')}})
    answer = tus.create(length, body)
    assert (answer.status, answer.body) == (202, b'finished')
    assert (answer.get('X-One'), answer.get('X-Two')) == ('a', 'b')
    assert answer.get('X-Both') == 'second'
    tus.answers()
    assert tus.create(length, body).status == status


def test_it_adds_to_a_patch(tus):
    tus.says('pre-finish', {'HTTPResponse': response(200, '{"url":"/7"}', X_A='b',
                                                     Content_Type='application/json')})
    url = tus.new(10)
    answer = tus.patch(url, 0, b'hello')
    assert (answer.status, answer.get('X-A')) == (204, None)
    answer = tus.patch(url, 5, b'world')
    assert (answer.status, answer.body, answer.get('Upload-Offset')) == (200, b'{"url":"/7"}', '10')
    assert (answer.get('Content-Type'), answer.get('X-A')) == ('application/json', 'b')


def test_a_body_without_a_status_that_has_one(tus):
    """204 has no body, and the connection stays in step."""
    tus.says('pre-finish', {'HTTPResponse': response(None, 'done', X_A='b')})
    url = tus.new(5)
    with tus.connect() as conn:
        answer = tus.patch(url, 0, b'hello', conn=conn)
        assert (answer.status, answer.body, answer.get('X-A')) == (204, b'', 'b')
        assert answer.get('Content-Length') is None
        assert tus.head(url, conn=conn).status == 200


def test_an_upload_that_cannot_be_finished_yet(tus):
    """It keeps its bytes, and the next request that ends it asks again."""
    url = tus.new(10, b'hello')
    failed(tus.server, tus.hooks.url, 'pre-finish', 503)
    tus.says('pre-finish', status=503)
    assert_failed(tus.patch(url, 5, b'world'))
    assert tus.store.data(url) == b'helloworld' and not tus.store.finished(url)
    assert_failed(tus.patch(url, 10, b''))
    tus.answers()
    assert tus.patch(url, 10, b'').status == 204
    assert tus.offset(url) == 10
    assert len(tus.hooks.of('pre-finish')) == 1 and tus.store.finished(url)
    tus.told(upload_id(url), *FINISHED)


def test_a_creation_that_cannot_be_finished(tus):
    """Its client never hears of it, so nothing stays; who heard of it hears that it is gone."""
    failed(tus.server, tus.hooks.url, 'pre-finish', 500)
    for length, body in ((5, b'hello'), (0, b'')):
        tus.says('pre-finish', status=500)
        assert_failed(tus.create(length, body))
        tus.assert_nothing_made()
        [asked] = tus.hooks.of('pre-finish')
        told = [call.type for call in tus.hooks.of(upload=asked.upload['ID'])
                if call.type.startswith('post-') and call.type != 'post-receive']
        assert told in ([], ['post-create'], list(GONE)), told
        if body:
            tus.told(asked.upload['ID'], *GONE)


def test_a_final_is_finished_too(tus):
    parts = [tus.partial(3, b'one'), tus.partial(3, b'two')]
    tus.says('pre-finish', {'HTTPResponse': response(200, 'joined')})
    answer = tus.concat(parts)
    assert (answer.status, answer.body) == (200, b'joined')
    [call] = tus.hooks.of('pre-finish')
    assert (call.upload['IsFinal'], call.upload['Size'], call.upload['Offset']) == (True, 6, 6)
    tus.told(upload_id(answer.get('Location')), *FINISHED)


# -- pre-terminate ---------------------------------------------------------------------------------

@pytest.mark.parametrize('status, answered', REFUSALS)
def test_a_refused_termination(tus, status, answered):
    url = tus.upload(b'hello')
    tus.says('pre-terminate', {'RejectTermination': True,
                               'HTTPResponse': response(status, 'kept', X_A='b')})
    answer = tus.delete(url)
    assert (answer.status, answer.body, answer.get('X-A')) == (answered, b'kept', 'b')
    assert tus.get(url).body == b'hello'
    assert tus.hooks.of('post-terminate') == []


def test_a_refused_termination_without_a_response(tus):
    url = tus.new(5)
    tus.says('pre-terminate', {'RejectTermination': True})
    assert_error(tus.delete(url), 400, 'ERR_UPLOAD_TERMINATION_REJECTED')
    assert_error(tus.request('POST', url, [('Tus-Resumable', '1.0.0'),
                                           ('X-HTTP-Method-Override', 'DELETE')], b''),
                 400, 'ERR_UPLOAD_TERMINATION_REJECTED')
    assert tus.append(url, 0, b'hello') == 5


def test_a_termination_that_nobody_answers(tus):
    url = tus.new(5)
    failed(tus.server, tus.hooks.url, 'pre-terminate', 500)
    tus.says('pre-terminate', status=500)
    assert_failed(tus.delete(url))
    assert tus.append(url, 0, b'hello') == 5
    tus.answers()
    assert tus.delete(url).status == 204
    tus.told(upload_id(url), *ALL)


def test_nothing_is_asked_of_what_has_expired(hook_server, httpd):
    hooks = hook_server()
    tus = start(httpd(), hooks, 'TusExpire 1h')
    url = tus.new(10, b'hello')
    backdate(tus, url, 5400)
    assert_error(tus.delete(url), 410, 'ERR_UPLOAD_GONE')
    assert tus.asked() == ['pre-create']


def test_a_termination_takes_what_the_hook_adds(tus):
    url = tus.new(5)
    tus.says('pre-terminate', {'HTTPResponse': response(200, 'gone', X_A='b')})
    answer = tus.delete(url)
    assert (answer.status, answer.body, answer.get('X-A')) == (200, b'gone', 'b')


# -- post-receive ----------------------------------------------------------------------------------

def test_progress_is_told_while_bytes_flow(tus):
    url = tus.new(1000)
    with tus.told_of_progress(url, 1000) as patch:
        tus.trickle(patch, lambda: len(tus.hooks.of('post-receive')) >= 3)
        assert patch.finish(b'x' * (1000 - patch.sent)).status == 204
    offsets = [call.upload['Offset'] for call in tus.hooks.of('post-receive')]
    assert offsets == sorted(set(offsets)) and offsets[0] > 0


def test_progress_is_told_at_the_end(tus):
    url = tus.new(10)
    for offset, body in ((0, b'hello'), (5, b''), (5, b'world')):
        tus.append(url, offset, body)
        if body:
            wait_until(lambda: offset + 5 in offsets_told(tus.hooks, url), 'progress')
    tus.told(upload_id(url), *FINISHED)
    assert set(offsets_told(tus.hooks, url)) == {5, 10}


def test_progress_is_told_of_what_an_interrupted_request_brought(tus):
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'abc'):
        pass
    wait_until(lambda: [call for call in tus.hooks.of('post-receive')
                        if call.upload['Offset'] == 3], 'progress')


def offsets_told(hooks, url):
    return [call.upload['Offset'] for call in hooks.of('post-receive', upload=upload_id(url))]


def test_progress_is_told_of_a_client_that_stalls(tus):
    """Once, however long it is silent, and not again when its request ends."""
    url, clock = tus.new(10), tus.new(1000)
    with tus.hold(url, 0, 10, b'abc'):
        tus.hooks.wait(1, 'post-receive', upload=upload_id(url))
        with tus.told_of_progress(clock, 1000) as other:
            tus.trickle(other, lambda: len(offsets_told(tus.hooks, clock)) >= 5)
        assert tus.store.is_held(url), 'it ended before it was told'
    tus.append(url, 3, b'defghij')
    wait_until(lambda: 10 in offsets_told(tus.hooks, url), 'the end to be told')
    assert offsets_told(tus.hooks, url) == [3, 10]


def test_progress_is_told_once_the_call_before_has_ended(tus):
    slow = threading.Event()
    tus.answers({'Type': 'post-receive', 'times': 1, 'until': slow})
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'a') as patch:
        tus.hooks.wait(1, 'post-receive')
        patch.send(b'b')
        wait_until(lambda: tus.store.size(url) == 2, 'it to be stored')
        assert offsets_told(tus.hooks, url) == [1]
        slow.set()
        tus.hooks.wait(2, 'post-receive')
        assert offsets_told(tus.hooks, url) == [1, 2]


def test_progress_is_told_at_each_interval(hook_server, httpd, mpm):
    """Not at each read: the bytes come one by one, each when the one before is stored."""
    interval = 0.3
    hooks, server = hook_server(), httpd(mpm=mpm)
    store = server.make_store()
    server.start(endpoint('Location /files', store, f'TusHook {hooks.url} post-receive',
                          f'TusHookProgressInterval {interval * 1000:.0f}ms'))
    tus = Hooked(server, hooks, store=store)
    url = tus.new(100000)
    begin = time.monotonic()
    with tus.hold(url, 0, 100000, b'x') as patch:
        patch.sent = 1
        while len(hooks.of()) < 3:
            patch.send(b'x')
            patch.sent += 1
            wait_until(lambda: store.size(url) == patch.sent, 'it to be stored')
        count = len(hooks.of())
    assert count <= (time.monotonic() - begin) / interval


def test_progress_of_others_is_told_while_an_endpoint_hangs(hook_server, httpd):
    """What hooks of .htaccess files never answer takes neither other directories' threads nor the
    server's, nor does it keep the server's own hook from being told of the same upload."""
    bad, good, other = hook_server(), hook_server(), hook_server()
    bad.script = [{'until': threading.Event()}]
    server = httpd(mpm_settings='StartServers 1\nServerLimit 1\nThreadsPerChild 32\n'
                                'MinSpareThreads 1\nMaxSpareThreads 32\nMaxRequestWorkers 32')
    store = server.make_store()
    server.start(f'<Directory "{server.htdocs}">\nAllowOverride FileInfo\n'
                 f'TusAllowHook {bad.url} {other.url}\nTusHook {good.url} post-receive\n'
                 'TusHookProgressInterval 20ms\n</Directory>\n'
                 + endpoint('Location /files', store, f'TusHook {good.url} post-receive',
                            'TusHookProgressInterval 20ms'))

    def directory(name, hooks):
        path = server.make_dir(server.htdocs / name)
        own = Store(server.make_dir(path / 'store'))
        (path / '.htaccess').write_text('TusEngine On\nTusStore file store\nTusHookTimeout 1mi\n'
                                        f'TusHook {hooks.url} post-receive\n')
        return Tus(server, f'/{name}/', own)

    def told(place):
        url = place.new(10)
        place.patch(url, 0, b'hello')
        return good.wait(1, 'post-receive', upload=upload_id(url))

    customers = [directory(f'bad{i}', bad) for i in range(5)]
    for i, customer in enumerate(customers):
        for _ in range(6 if i else 20):
            told(customer)
        bad.wait((4, 8, 9, 10, 11)[i])
    told(directory('other', other))
    other.wait(1)
    told(Tus(server, store=store))
    assert len(bad.of()) == 11


def test_progress_that_waits_has_the_fields_of_its_request(hook_server, httpd):
    """A field that TusHookForwardHeader names, long after its request has gone."""
    hooks = hook_server()
    tus = start(httpd(), hooks, 'TusHookForwardHeader X-Tenant', events='post-receive')
    slow = threading.Event()
    tus.says('post-receive', until=slow)
    urls = [tus.new(10) for _ in range(12)]
    for number, url in enumerate(urls):
        tus.patch(url, 0, b'hello', headers=[('X-Tenant', f'tenant-{number}')])
    hooks.wait(4)
    for _ in range(20):
        tus.patch(urls[0], 7, b'x', headers=[('X-Other', 'y' * 4000)])
    slow.set()
    for number, url in enumerate(urls):
        call = hooks.wait(1, upload=upload_id(url))[0]
        assert call.get('X-Tenant') == f'tenant-{number}'


def test_nobody_waits_for_progress(tus):
    """An endpoint that never answers, and one that is not there, disturb nothing."""
    forever = threading.Event()
    tus.says('post-receive', until=forever)
    url = tus.upload(b'hello')
    assert tus.get(url).body == b'hello'
    tus.hooks.wait(1, 'post-receive')
    forever.set()
    tus.says('post-receive', status=500)
    assert tus.get(tus.upload(b'hello')).body == b'hello'
    tus.server.wait_log('hook post-receive .* was not told: status 500 after')


@pytest.mark.parametrize('said, status, body', [
    ({}, 400, b'ERR_UPLOAD_STOPPED: '), ({'HTTPResponse': response(422, 'virus')}, 422, b'virus'),
    ({'HTTPResponse': response(200, 'virus')}, 400, b'virus'),
    ({'HTTPResponse': response(None, 'virus', X_A='b')}, 400, b'virus')])
def test_a_stopped_upload(tus, said, status, body):
    url = tus.new(1000)
    tus.says('post-receive', {'StopUpload': True, **said})
    with tus.told_of_progress(url, 1000) as patch:
        answer = patch.response()
    assert (answer.status, answer.body[:len(body)]) == (status, body)
    assert answer.get('X-A') == said.get('HTTPResponse', {}).get('Header', {}).get('X-A')
    assert tus.head(url).status == 404
    tus.assert_nothing_made()
    tus.told(upload_id(url), *GONE)


def test_many_stopped_at_a_time(hook_server, httpd):
    """Each request has the answer that its own upload was stopped with, whole."""
    hooks = hook_server()
    tus = start(httpd(mpm_settings=one_child(16)), hooks)
    tus.says('post-receive', lambda call: {
        'StopUpload': True,
        'HTTPResponse': response(422, 50 * call.upload['ID'], **{'X-Stopped': call.upload['ID']})})

    def stopped(_):
        url = tus.new(1000)
        with tus.told_of_progress(url, 1000) as patch:
            answer = patch.response()
        return upload_id(url), answer

    with ThreadPoolExecutor(8) as pool:
        for uid, answer in pool.map(stopped, range(100)):
            assert (answer.status, answer.body) == (422, 50 * uid.encode())
            assert answer.get('X-Stopped') == uid


@pytest.mark.parametrize('delay', [0, 0.5])
def test_a_client_that_stalls_is_stopped(hook_server, httpd, mpm, delay):
    """It sends nothing more, and its request has its answer long before Timeout."""
    hooks = hook_server()
    tus = start(httpd(mpm=mpm), hooks)
    tus.says('post-receive', {'StopUpload': True, 'HTTPResponse': response(422, 'virus')},
             delay=delay)
    url = tus.new(1000)
    with tus.hold(url, 0, 1000, b'') as patch:
        patch.send(b'x' * 100)
        answer = patch.response()
    assert (answer.status, answer.body) == (422, b'virus')
    assert offsets_told(hooks, url) == [100]
    tus.told(upload_id(url), *GONE)


def test_the_first_of_two_hooks_stops_it(hook_server, httpd):
    """Each is told on its own; one that does not answer keeps no other one from stopping it."""
    first, second = hook_server(path='/first'), hook_server(path='/second')
    first.script = [{'Type': 'post-receive', 'until': threading.Event()}]
    second.script = [{'Type': 'post-receive', 'answer': {
        'StopUpload': True, 'HTTPResponse': response(422, 'virus')}}]
    tus = start(httpd(), first, f'TusHook {second.url} post-receive')
    with tus.hold(tus.new(1000), 0, 1000, b'') as patch:
        patch.send(b'x')
        answer = patch.response()
    assert (answer.status, answer.body) == (422, b'virus')


def test_stopped_in_its_process(hook_server, httpd, mpm):
    """The request that the event told of gets the answer of the hook."""
    hooks = hook_server()
    tus = start(httpd(mpm=mpm), hooks)
    tus.says('post-receive', {'StopUpload': True, 'HTTPResponse': response(422, 'virus')})
    url = tus.new(1000)
    with tus.told_of_progress(url, 1000) as patch:
        answer = patch.response()
    assert (answer.status, answer.body) == (422, b'virus')
    tus.told(upload_id(url), *GONE)
    assert tus.head(url).status == 404
    tus.assert_nothing_made()


def test_stopped_in_another_process(hook_server, httpd, mpm):
    """The client came again, and another request holds the upload when the answer comes."""
    hooks = hook_server()
    tus = start(httpd(mpm=mpm), hooks)
    verdict = threading.Event()
    tus.answers({'Type': 'post-receive', 'times': 1, 'until': verdict,
                 'answer': {'StopUpload': True, 'HTTPResponse': response(422, 'virus')}})
    url = tus.new(1000)
    with tus.told_of_progress(url, 1000) as first:
        holder = tus.holder(url)
        with taken_over(tus, url, first, holder) as conn:
            assert tus.holder(url) != holder
            verdict.set()
            answer = conn.response('PATCH')
    assert_error(answer, 400, 'ERR_UPLOAD_STOPPED')
    tus.told(upload_id(url), *GONE)
    assert tus.head(url).status == 404


@contextlib.contextmanager
def taken_over(tus, url, patch, holder):
    """Requests for the upload, one after the other, until one is in another process."""
    sent = patch.sent
    with contextlib.ExitStack() as stack:
        for _ in range(100):
            wait_until(lambda: tus.store.size(url) == sent, 'the bytes to be stored')
            conn = stack.enter_context(tus.connect())
            conn.send_head('PATCH', url, [*patch_fields(sent), ('Content-Length', 1000 - sent)])
            conn.send(b'y')
            sent += 1
            wait_until(lambda: tus.store.size(url) == sent, 'the newer request to hold it')
            if tus.holder(url) != holder:
                yield conn
                return
        raise AssertionError('all requests come to one process')


# -- several hooks ---------------------------------------------------------------------------------

@pytest.fixture
def two(hook_server, httpd):
    """An endpoint with two hooks, each with events of its own."""
    first, second = hook_server(path='/first'), hook_server(path='/second')
    tus = start(httpd(), first, f'TusHook {second.url} pre-create pre-finish post-finish',
                events='pre-create post-create pre-terminate')
    tus.second = second
    return tus


def test_each_hears_of_its_own_events(two):
    url = two.upload(b'hello')
    two.delete(url)
    two.hooks.wait(3)
    two.second.wait(3)
    assert sorted(two.hooks.types()) == ['post-create', 'pre-create', 'pre-terminate']
    assert sorted(two.second.types()) == ['post-finish', 'pre-create', 'pre-finish']
    assert {call.path for call in two.second.of()} == {'/second'}


def test_the_first_no_is_the_answer(two):
    two.says('pre-create', {'RejectUpload': True, 'HTTPResponse': response(403, 'first')})
    two.second.script = [{'answer': {'RejectUpload': True}}]
    assert (answer := two.create(5)).status == 403 and answer.body == b'first'
    assert not two.second.of()
    two.says('pre-create')
    assert_error(two.create(5), 400, 'ERR_UPLOAD_REJECTED')
    two.assert_nothing_made()


def test_what_a_later_one_says_stands_before(two):
    two.says('pre-create', {**change(ID='a', MetaData={'a': '1'}),
                            'HTTPResponse': response(202, 'one', X_A='1', X_Both='1',
                                                     Content_Type='text/one')})
    two.second.script = [{'Type': 'pre-create', 'answer': {
        **change(ID='b'), 'HTTPResponse': response(None, 'two', X_B='2', X_Both='2')}}]
    answer = two.create(5)
    assert (answer.status, answer.body, answer.get('Location')) == (202, b'two', '/files/b')
    assert two.head('/files/b').get('Upload-Metadata') == metadata(a='1')
    assert (answer.get('X-A'), answer.get('X-B'), answer.get('X-Both')) == ('1', '2', '2')


def test_who_chose_what_is_taken(two):
    """The log blames those who set something, not who only was asked."""
    two.says('pre-create', change(ID='a'))
    two.new(5)
    failed(two.server, two.hooks.url, status=200, why="it sets the id 'a', which is taken")
    assert_failed(two.create(5))
    assert f'{two.second.url} ' not in '\n'.join(two.server.error_log.loud_lines())


@pytest.mark.parametrize('name', ['X-Both', 'Cache-Control', 'Set-Cookie', 'Vary', 'ETag',
                                  'WWW-Authenticate', 'Retry-After', 'Content-Language'])
def test_the_last_of_three_has_the_word(hook_server, httpd, name):
    """Whatever the case of its letters, and whatever httpd has set beside it."""
    hooks = [hook_server([{'Type': 'pre-create', 'answer': {'HTTPResponse': {'Header': {
        spelled: value, 'X-Own': value}}}}])
        for spelled, value in ((name, 'one'), (name.upper(), 'two'), (name.lower(), 'three'))]
    tus = start(httpd(modules=['headers']), hooks[0],
                *(f'TusHook {each.url} pre-create' for each in hooks[1:]), events='pre-create')
    answer = tus.create(5)
    assert (answer.status, answer.get('X-Own')) == (201, 'three')
    values = [value.strip() for each in answer.all(name) for value in each.split(',')]
    assert [value for value in values if value != 'Origin'] == ['three'], answer


@pytest.mark.parametrize('name', ['Cache-Control', 'Content-Language', 'X-Frame-Options'])
@pytest.mark.parametrize('refused', [False, True])
def test_no_field_is_there_twice(hook_server, httpd, name, refused):
    """What the configuration sets has the last word."""
    hooks = hook_server([{'Type': 'pre-create', 'answer': {
        'RejectUpload': refused, 'HTTPResponse': {'Header': {name: 'hook'}}}}])
    tus = start(httpd(modules=['headers']), hooks, f'Header set {name} server',
                events='pre-create')
    answer = tus.create(5)
    assert answer.status == (400 if refused else 201)
    assert answer.get(name) == 'server'


def test_vary_adds_up(tus):
    """What CORS says of it stays, and is said once."""
    for said, answered in (('Cookie', ['Origin', 'Cookie']), ('Origin', ['Origin'])):
        tus.says('pre-create', {'HTTPResponse': {'Header': {'Vary': said}}})
        assert re.split(', *', tus.create(5).get('Vary')) == answered


def test_the_type_is_there_once(hook_server, httpd):
    first = hook_server([{'answer': {'HTTPResponse': response(None, 'one', CONTENT_TYPE='a/a')}}])
    second = hook_server([{'answer': {'HTTPResponse': response(None, 'two', content_type='b/b')}}])
    tus = start(httpd(), first, f'TusHook {second.url} pre-create', 'ForceType text/x',
                events='pre-create')
    answer = tus.create(5)
    assert (answer.body, answer.get('Content-Type')) == (b'two', 'b/b')


def test_one_that_fails_is_enough(two):
    two.second.stop()
    failed(two.server, two.second.url)
    assert_failed(two.create(5))
    two.assert_nothing_made()


def test_inheritance(hook_server, httpd):
    """Lines add up from the server inwards; none drops what was said outside."""
    outer, inner = hook_server(path='/outer'), hook_server(path='/inner')
    server = httpd()
    store = server.make_store()
    server.start(
        f'TusHook {outer.url} pre-create\n' + endpoint('Location /plain', store)
        + endpoint('Location /both', store, f'TusHook {inner.url} pre-create')
        + endpoint('Location /none', store, 'TusHook none')
        + endpoint('Location /new', store, 'TusHook none', f'TusHook {inner.url} pre-create')
        + endpoint('Location /twice', store, f'TusHook {inner.url} pre-create', 'TusHook none'))
    for name, asked in (('plain', (1, 0)), ('both', (1, 1)), ('none', (0, 0)), ('new', (0, 1)),
                        ('twice', (0, 0))):
        outer.forget()
        inner.forget()
        Tus(server, f'/{name}/').new(5)
        assert (len(outer.of()), len(inner.of())) == asked, name


OUTER, INNER = 'TusHook {outer} pre-create\n', 'TusHook {inner} pre-create\n'
NONE, DEFAULT = 'TusHook none\n', 'TusHook default\n'


@pytest.mark.parametrize('outside, lines, cases', [
    ('', [OUTER, 'TusAllowHook {origin}/'],
     {NONE: (1, 0), DEFAULT: (1, 0), INNER: (1, 1), INNER + NONE: (1, 0)}),
    (OUTER, [NONE, 'TusAllowHook {inner}'],
     {'': (0, 0), INNER: (0, 1), NONE: (0, 0), DEFAULT: (0, 0)}),
], ids=['said', 'dropped'])
def test_inheritance_of_an_htaccess(hook_server, httpd, outside, lines, cases):
    """It drops nothing that the server's own files say; what they dropped stays so, whatever it
    adds."""
    outer, inner = hook_server(path='/outer'), hook_server(path='/inner')
    urls = {'outer': outer.url, 'inner': inner.url, 'origin': inner.url.rpartition('/')[0]}
    server = httpd()
    up = server.make_dir(server.htdocs / 'up')
    conf = outside + endpoint(f'Directory "{up}"', server.make_store(), 'AllowOverride All', *lines)
    server.start(conf.format(**urls))
    for text, asked in cases.items():
        (up / '.htaccess').write_text(text.format(**urls))
        outer.forget()
        inner.forget()
        Tus(server, '/up/').new(5)
        assert (len(outer.of()), len(inner.of())) == asked, text


# -- how they are called ---------------------------------------------------------------------------

def test_header_fields_are_forwarded(hook_server, httpd):
    """Those that are named, to all calls; what is secret is in the JSON of pre-* only, or named."""
    hooks = hook_server()
    tus = start(httpd(), hooks, 'TusHookForwardHeader X-Token Cookie X-Absent Mod-Tus-Token')
    sent = [('X-Token', 'a, b'), ('Cookie', 'sid=1'), ('Authorization', 'Bearer t'),
            ('Proxy-Authorization', 'Basic cA=='), ('webhook-id', 'forged'), ('X-Other', 'c'),
            ('Mod-Tus-Token', 'guess')]
    url = tus.new(5, b'hello', sent)
    tus.told(upload_id(url), *FINISHED)
    for call in hooks.of():
        assert (call.get('X-Token'), call.get('Cookie')) == ('a, b', 'sid=1')
        for name in ('X-Absent', 'Authorization', 'X-Other', 'Mod-Tus-Token'):
            assert call.get(name) is None
        assert call.get('webhook-id') == call.event['Event']['ModTus']['EventID']
        header = call.request['Header']
        assert header['X-Token'] == ['a, b'] and header['Cookie'] == ['sid=1']
        asked = call.type.startswith('pre-') or call.type == 'post-receive'
        assert ('Authorization' in header) == ('Proxy-Authorization' in header) == asked, call.type
        assert 'Mod-Tus-Token' not in header


def test_a_call_is_a_plain_request(tus):
    tus.new(5)
    [call] = tus.hooks.of('pre-create')
    assert call.path == '/hook' and call.get('Host') == f'127.0.0.1:{tus.hooks.port}'
    assert call.get('Content-Type') == 'application/json'
    assert call.get('Expect') is None and call.get('User-Agent') == 'mod_tus'


def test_connections_are_kept(tus):
    before = tus.hooks.connections
    with tus.connect() as conn:
        for _ in range(10):
            tus.new(5, conn=conn)
    asked = tus.hooks.of('pre-create')
    assert len(asked) == 10 and len({call.connection for call in asked}) <= 4
    assert tus.hooks.connections - before < 10


def test_timeout(hook_server, httpd):
    hooks = hook_server()
    tus = start(httpd(), hooks, 'TusHookTimeout 100ms')
    never = threading.Event()
    tus.says('pre-create', until=never)
    failed(tus.server, hooks.url, why='.*(?i:time)')
    assert_failed(tus.create(5))
    never.set()
    tus.assert_nothing_made()
    match = tus.server.wait_log(r'failed: status 0 after (\d+) ms')
    assert 100 <= int(match[1]) < 5000


@pytest.mark.parametrize('type', ['pre-create', 'pre-finish', 'pre-terminate'])
def test_one_that_fails_is_an_error_in_the_log(tus, type):
    """Seen with httpd's own LogLevel, and once for all tries."""
    url = tus.new(5)
    failed(tus.server, tus.hooks.url, type, 404)
    tus.says(type, status=404)
    deed = {'pre-create': lambda: tus.create(5), 'pre-terminate': lambda: tus.delete(url),
            'pre-finish': lambda: tus.patch(url, 0, b'hello')}[type]
    assert_failed(deed())
    lines = re.findall(rf'\[tus:(\w+)\] .*hook {type} .* failed:', tus.server.error_log.unread())
    assert lines == ['error']


@pytest.mark.parametrize('rule', [
    {'status': 500}, {'status': 503}, {'status': 429}, {'drop': 'close'}, {'drop': 'reset'},
    {'raw': b'HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf'}], ids=str)
def test_so_often_it_is_tried(hook_server, httpd, rule):
    hooks = hook_server()
    tus = start(httpd(), hooks, retry='4', events='pre-create')
    tus.answers(rule)
    failed(tus.server, hooks.url, status=rule.get('status', 0))
    assert_failed(tus.create(5))
    assert len(hooks.of()) == 4
    assert len({call.get('webhook-id') for call in hooks.of()}) == 1
    assert len({call.body for call in hooks.of()}) == 1
    tus.answers({**rule, 'times': 3})
    assert tus.create(5).status == 201
    assert len(hooks.of()) == 4


@pytest.mark.parametrize('rule', [
    {'status': 404}, {'status': 400}, {'status': 302}, {'body': b'garbage'}], ids=str)
def test_what_would_be_the_same_again_is_not_tried_again(hook_server, httpd, rule):
    hooks = hook_server()
    tus = start(httpd(), hooks, retry='4', events='pre-create')
    tus.answers(rule)
    failed(tus.server, hooks.url, status=rule.get('status', 200))
    assert_failed(tus.create(5))
    assert len(hooks.of()) == 1


@pytest.mark.parametrize('retry, tries', [('0', 1), ('1', 1), ('2', 2)])
def test_tries(httpd, hook_server, retry, tries):
    hooks = hook_server([{'status': 500}])
    tus = start(httpd(), hooks, retry=retry, events='pre-create')
    failed(tus.server, hooks.url, status=500)
    assert_failed(tus.create(5))
    assert len(hooks.of()) == tries


def test_tries_end_with_the_time_of_a_request(hook_server, httpd):
    """Timeout, of the whole server: what an .htaccess wants does not hold a worker for days."""
    hooks = hook_server([{'status': 500}])
    server = httpd()
    store = server.make_store()
    server.start('Timeout 3\n' + endpoint('Location /files', store,
                                          f'TusHook {hooks.url} pre-create',
                                          'TusHookRetry 100 600ms'))
    failed(server, hooks.url, status=500)
    assert_failed(Tus(server).create(5))
    assert len(hooks.of()) == 3


def test_nobody_tries_again_for_a_client_that_is_gone(hook_server, httpd):
    hooks = hook_server([{'status': 500}])
    tus = start(httpd(), hooks, 'TusHookRetry 5 20s', events='pre-create')
    failed(tus.server, hooks.url, status=500)
    with tus.connect() as conn:
        conn.send_request('POST', '/files/', [('Tus-Resumable', '1.0.0'), ('Upload-Length', 5)],
                          b'')
        hooks.wait(1)
    tus.server.wait_log('hook pre-create .* failed: status 500')
    assert len(hooks.of()) == 1


@pytest.mark.parametrize('tls', [False, True])
@pytest.mark.parametrize('how', ['close', 'reset', 'half_close'])
def test_nobody_tries_again_however_the_client_goes(hook_server, httpd, how, tls):
    """In the midst of a pause. One that says it will send no more counts as gone, too."""
    hooks = hook_server([{'status': 500}])
    server = httpd(tls=tls)
    tus = start(server, hooks, 'TusHookRetry 2 50s', events='pre-create',
                extra='Timeout 300\n' + (server.tls_vhost() if tls else ''))
    tus.tls = tls
    failed(server, hooks.url, status=500)
    with tus.connect() as conn:
        conn.send_request('POST', '/files/', [('Tus-Resumable', '1.0.0'), ('Upload-Length', 5)],
                          b'')
        hooks.wait(1)
        getattr(conn, how)()
        server.wait_log('hook pre-create .* failed: status 500')
    assert len(hooks.of()) == 1


@pytest.mark.parametrize('whole', [False, True])
def test_nobody_tries_again_for_a_stream_that_is_reset(hook_server, httpd, whole):
    """Other streams of that connection are asked about as ever."""
    hooks = hook_server([{'status': 500, 'times': 1}])
    server = httpd(modules=['http2'])
    tus = start(server, hooks, 'TusHookRetry 2 50s', events='pre-create',
                extra='Timeout 300\nProtocols h2c http/1.1\n')
    failed(server, hooks.url, status=500)
    create = ('POST', '/files/', [('tus-resumable', '1.0.0'), ('upload-length', '5')], b'')
    with H2Connection(server.port) as conn:
        stream = conn.open(*create)
        hooks.wait(1)
        if whole:
            conn.close()
        else:
            stream.reset()
        server.wait_log('hook pre-create .* failed: status 500')
        assert len(hooks.of()) == 1
        assert whole or conn.open(*create).response().status == 201


@pytest.mark.parametrize('end', ['stop', 'graceful'])
def test_nobody_tries_again_while_the_server_stops(hook_server, httpd, mpm, end):
    hooks = hook_server([{'status': 500}])
    tus = start(httpd(mpm=mpm), hooks, 'TusHookRetry 2 50s', events='pre-create',
                extra='Timeout 300\n')
    tus.server.allow_log('failed: status 500|AH03093')
    with tus.connect() as conn:
        conn.send_request('POST', '/files/', [('Tus-Resumable', '1.0.0'), ('Upload-Length', 5)],
                          b'')
        hooks.wait(1)
        children = tus.server.children()
        getattr(tus.server, end)()
        if end == 'graceful':
            assert_failed(conn.response('POST'))
            wait_until(lambda: not set(children) & set(tus.server.children()), 'the old to end')
    assert len(hooks.of()) == 1


# -- signatures ------------------------------------------------------------------------------------

KEY = 'whsec_' + base64.b64encode(bytes(range(32))).decode()


@pytest.mark.parametrize('how', ['plain', 'whsec', 'file', 'relative', 'exec'])
def test_signatures(hook_server, httpd, how):
    hooks = hook_server()
    server = httpd()
    (server.root / 'secret').write_text(f'{KEY}\n')
    (server.root / 'secret').chmod(0o600)
    said, secret = {'plain': ('hello', 'hello'), 'whsec': (KEY, KEY),
                    'file': (f'file:{server.root}/secret', KEY), 'relative': ('file:secret', KEY),
                    'exec': (f'"exec:/bin/echo {KEY}"', KEY)}[how]
    tus = start(server, hooks, f'TusHookSecret {said}')
    url = tus.upload(b'hello')
    tus.told(upload_id(url), *FINISHED)
    hooks.wait(1, 'post-receive')
    assert {'pre-create', 'pre-finish', 'post-receive'} <= set(hooks.types())
    for call in hooks.of():
        assert verify(call, secret) and not verify(call, 'another')
        call.body += b' '
        assert not verify(call, secret)
    assert len({call.get('webhook-signature') for call in hooks.of()}) == len(hooks.of())


def test_without_a_secret_nothing_is_signed(tus):
    tus.new(5)
    [call] = tus.hooks.of('pre-create')
    assert call.get('webhook-id') and call.get('webhook-signature') is None
    assert call.get('webhook-timestamp') is None


def test_each_try_is_signed_anew(hook_server, httpd):
    """So an endpoint may refuse what is old."""
    hooks = hook_server([{'status': 500, 'delay': 1.1, 'times': 1}])
    tus = start(httpd(), hooks, f'TusHookSecret {KEY}', retry='2', events='pre-create')
    tus.new(5)
    first, second = hooks.of()
    assert verify(first, KEY) and verify(second, KEY)
    assert first.get('webhook-id') == second.get('webhook-id')
    assert int(first.get('webhook-timestamp')) < int(second.get('webhook-timestamp'))


def test_a_secret_of_the_whole_server(hook_server, httpd):
    """It signs what is told later, too."""
    hooks = hook_server()
    tus = start(httpd(), hooks, extra=f'TusHookSecret {KEY}\n')
    url = tus.upload(b'hello')
    tus.told(upload_id(url), *FINISHED)
    assert all(verify(call, KEY) for call in hooks.of())


# -- Event.ModTus ----------------------------------------------------------------------------------

def test_what_is_ours(hook_server, httpd):
    hooks = hook_server()
    server = httpd(tls=True, modules=['authn_anon'])
    store = server.make_store()
    lines = ['AuthType Basic', 'AuthName x', 'AuthBasicProvider anon', 'Anonymous *',
             'Anonymous_LogEmail Off', 'Anonymous_MustGiveEmail Off', 'Require valid-user']
    server.start(endpoint('Location /files', store, f'TusHook {hooks.url} {EVENTS}')
                 + endpoint('Location /private', store, f'TusHook {hooks.url} {EVENTS}', *lines)
                 + server.tls_vhost())
    tus = Hooked(server, hooks, store=store)
    url = tus.new(5, headers=[('Host', 'www.example:8080')])
    tus.told(upload_id(url), *CREATED)
    assert {ours(call) for call in hooks.of()} == {('', 'http', 'www.example:8080')}
    hooks.forget()
    user = [('Authorization', 'Basic ' + base64.b64encode(b'mia:x').decode())]
    private = Hooked(server, hooks, '/private/', store, tls=True, headers=user)
    url = private.new(5, b'hello', headers=[('Host', 'localhost')])
    private.told(upload_id(url), *FINISHED)
    for call in hooks.of():
        assert ours(call) == ('mia', 'https', 'localhost'), call.type
    ids = [call.event['Event']['ModTus']['EventID'] for call in hooks.of()]
    assert len(set(ids)) == len(ids) and all(re.fullmatch('[0-9a-f]{32}', each) for each in ids)
    for call in hooks.of():
        assert call.get('webhook-id') == call.event['Event']['ModTus']['EventID']


def ours(call):
    said = call.event['Event']['ModTus']
    assert set(said) == {'EventID', 'User', 'Scheme', 'Host'}
    return said['User'], said['Scheme'], said['Host']


# -- many at once ----------------------------------------------------------------------------------

def test_many_at_once(hook_server, httpd, mpm):
    """Each gets its own answer."""
    hooks = hook_server([{'Type': 'pre-create', 'answer': lambda call: {
        'ChangeFileInfo': {'ID': f'id-{call.upload["MetaData"]["n"]}'},
        'HTTPResponse': {'Body': call.upload['MetaData']['n']}}}])
    tus = start(httpd(mpm=mpm), hooks)

    def create(number):
        answer = tus.create(5, b'hello', [('Upload-Metadata', metadata(n=str(number)))])
        return answer.status, answer.body, answer.get('Location')

    with ThreadPoolExecutor(20) as pool:
        answers = list(pool.map(create, range(100)))
    assert answers == [(201, b'%d' % number, f'/files/id-{number}') for number in range(100)]
    assert len(hooks.of('pre-create')) == len(hooks.of('pre-finish')) == 100


def test_a_place_that_the_user_made(tus):
    """A directory of the store that was there before."""
    os.mkdir(give_to_user(at_path(tus, '')) / 'sub')
    give_to_user(at_path(tus, 'sub'))
    tus.says('pre-create', change(Storage={'Path': 'sub/x'}))
    assert tus.get(tus.upload(b'hello')).body == b'hello'
