"""The log tells an upload's story: one info line an event, and notes for LogFormat."""
import re

import pytest

from testenv.httpd import endpoint
from testenv.store import upload_id
from testenv.tus import Tus
from testenv.util import wait_until

EVENTS = ('UploadCreated', 'UploadFinished', 'UploadInterrupted', 'UploadTerminated')


@pytest.fixture(scope='module')
def tus(shared_httpd):
    server = shared_httpd()
    store = server.make_store()
    server.start('LogLevel warn tus:info\nRequestReadTimeout body=3\n'
                 + endpoint('Location /files', store))
    return Tus(server, store=store)


def story(tus, url):
    """The events logged of one upload, in order: [(name, {key: value})]."""
    events = []
    for line in tus.server.error_log.unread().splitlines():
        match = re.search(rf'\[tus:info\].*? ({"|".join(EVENTS)}) (.*)', line)
        if match:
            values = dict(re.findall(r'(\w+)=("[^"]*"|[^\s,]+)', match[2]))
            if values.get('id') == upload_id(url):
                events.append((match[1], values))
    return events


def wait_story(tus, url, *names):
    """The story once it consists of these events."""
    return wait_until(lambda: [name for name, _ in story(tus, url)] == list(names)
                      and [values for _, values in story(tus, url)],
                      f'the story {names}, not {story(tus, url)}')


def test_created_and_finished(tus):
    url = tus.new(10)
    tus.append(url, 0, b'hello')
    tus.append(url, 5, b'world')
    created, finished = wait_story(tus, url, 'UploadCreated', 'UploadFinished')
    assert created['size'] == finished['size'] == '10'


def test_created_and_finished_at_once(tus):
    url = tus.upload(b'hello')
    wait_story(tus, url, 'UploadCreated', 'UploadFinished')
    empty = tus.new(0)
    wait_story(tus, empty, 'UploadCreated', 'UploadFinished')


def test_terminated(tus):
    url = tus.new(10, b'hello')
    tus.delete(url)
    wait_story(tus, url, 'UploadCreated', 'UploadTerminated')


def test_interrupted_by_a_client_that_went_away(tus):
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello'):
        pass
    _, interrupted = wait_story(tus, url, 'UploadCreated', 'UploadInterrupted')
    assert interrupted['offset'] == '5'
    assert interrupted['reason']


def test_interrupted_by_a_newer_request(tus):
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello') as patch:
        tus.offset(url)
        patch.response()
    _, by_request = wait_story(tus, url, 'UploadCreated', 'UploadInterrupted')
    assert by_request['offset'] == '5'

    stalled = tus.new(10)
    with tus.hold(stalled, 0, 10, b'hel') as patch:
        patch.response()
    _, by_timeout = wait_story(tus, stalled, 'UploadCreated', 'UploadInterrupted')
    assert by_timeout['offset'] == '3'
    assert by_timeout['reason'] != by_request['reason'], 'the reasons can be told apart'


def test_what_is_refused_is_no_event(tus):
    url = tus.new(10, b'hello')
    tus.patch(url, 4, b'x')
    tus.patch(url, 5, b'x' * 6)
    tus.create('x')
    wait_story(tus, url, 'UploadCreated')


def test_one_line_an_event_whatever_the_metadata(tus):
    url = tus.new(5, headers=[('Upload-Metadata', 'filename YQpbdHVzOmluZm9dIFVwbG9hZENyZWF0ZWQ=')])
    wait_story(tus, url, 'UploadCreated')


def test_notes_for_the_access_log(tus):
    answer = tus.create(10, b'hel')
    url = answer.get('Location')
    uid = upload_id(url)
    tus.server.wait_access(rf'"POST /files/ HTTP/1.1" 201 \d+ \d+ id={uid} offset=3\n')
    tus.append(url, 3, b'lo')
    tus.server.wait_access(rf'"PATCH {url} HTTP/1.1" 204 \d+ \d+ id={uid} offset=5\n')
    tus.head(url)
    tus.server.wait_access(rf'"HEAD {url} HTTP/1.1" 200 \d+ \d+ id={uid} offset=5\n')
    tus.delete(url)
    tus.server.wait_access(rf'"DELETE {url} HTTP/1.1" 204 \d+ \d+ id={uid} ')
    tus.options()
    tus.server.wait_access(r'"OPTIONS /files/ HTTP/1.1" 200 \d+ \d+ id=- offset=-\n')


def test_the_note_of_an_interrupted_patch(tus):
    url = tus.new(10)
    with tus.hold(url, 0, 10, b'hello'):
        pass
    tus.server.wait_access(rf'"PATCH {url} HTTP/1.1" \d+ \d+ \d+ id={upload_id(url)} offset=5\n')


def test_bytes_received_are_counted(tus):
    """%I of mod_logio is right for a body that mod_tus stored."""
    url = tus.new(100_000)
    tus.append(url, 0, bytes(100_000))
    received = int(tus.server.wait_access(rf'"PATCH {url} HTTP/1.1" 204 (\d+)')[1])
    assert 100_000 < received < 101_000


def test_capabilities_are_logged_at_start(httpd):
    server = httpd()
    server.start('LogLevel warn tus:info\n' + endpoint('Location /files', server.make_store()))
    server.wait_log(r'\[tus:(info|notice)\].*creation-defer-length', timeout=5)


def test_the_clients_faults_are_no_warnings(tus):
    """An administrator is not woken for what any client can provoke."""
    url = tus.new(10, b'hello')
    tus.patch(url, 4, b'x')
    tus.create('x')
    tus.create(5, headers=[('Upload-Metadata', '!!!')])
    tus.request('PATCH', url)
    tus.head('/files/' + '0' * 32)
    with tus.hold(url, 5, 5, b'w') as patch:
        patch.conn.reset()
    wait_until(lambda: tus.offset(url) == 6, 'the bytes')
    assert not tus.server.error_log.loud_lines()
