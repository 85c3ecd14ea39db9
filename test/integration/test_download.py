"""GET: httpd's own file machinery, and nothing that an uploader smuggled into header or page."""
import contextlib
import os
import re
import time
from pathlib import Path
from urllib.parse import unquote_to_bytes

import pytest

from testenv.httpd import SANITIZED, endpoint, one_child, resident
from testenv.tus import Tus, assert_error, metadata
from testenv.util import pattern, wait_until


@pytest.fixture(scope='module')
def tus(shared_httpd):
    server = shared_httpd()
    store = server.make_store()
    server.start('EnableSendfile On\nEnableMMAP On\n' + endpoint('Location /files', store)
                 + 'AddOutputFilterByType DEFLATE text/plain\n')
    return Tus(server, store=store)


def uploaded(tus, data=b'hello world', **pairs):
    return tus.upload(data, [('Upload-Metadata', metadata(**pairs))] if pairs else [])


# -- a finished upload -----------------------------------------------------------------------------

def test_get(tus):
    url = uploaded(tus)
    answer = tus.get(url)
    assert (answer.status, answer.body) == (200, b'hello world')
    assert answer.get('Content-Length') == '11'
    assert answer.get('Accept-Ranges') == 'bytes'
    assert answer.get('ETag')
    assert answer.get('Last-Modified')
    assert answer.get('Upload-Offset') is None


@pytest.mark.parametrize('version', ['1.0.0', '0.2.2', 'garbage'])
def test_get_needs_no_version(tus, version):
    assert tus.get(uploaded(tus), [('Tus-Resumable', version)]).status == 200


def test_get_of_many_megabytes(tus):
    data = pattern(8 << 20)
    url = tus.upload(data)
    assert tus.get(url).body == data
    assert tus.get(url, [('Range', 'bytes=4194303-4194304')]).body == data[4194303:4194305]
    tus.delete(url)


@pytest.mark.parametrize('ranges, content_range, body', [
    ('bytes=0-0', 'bytes 0-0/11', b'h'), ('bytes=6-', 'bytes 6-10/11', b'world'),
    ('bytes=-5', 'bytes 6-10/11', b'world'), ('bytes=6-100', 'bytes 6-10/11', b'world')])
def test_a_range(tus, ranges, content_range, body):
    answer = tus.get(uploaded(tus), [('Range', ranges)])
    assert (answer.status, answer.body) == (206, body)
    assert answer.get('Content-Range') == content_range


def test_several_ranges(tus):
    answer = tus.get(uploaded(tus), [('Range', 'bytes=0-1,6-7')])
    assert answer.status == 206
    assert answer.get('Content-Type').startswith('multipart/byteranges')
    assert b'Content-range: bytes 0-1/11\r\n\r\nhe\r\n' in answer.body
    assert b'Content-range: bytes 6-7/11\r\n\r\nwo\r\n' in answer.body


def test_a_range_behind_the_end(tus):
    assert tus.get(uploaded(tus), [('Range', 'bytes=11-')]).status == 416


def test_validators(tus):
    url = uploaded(tus)
    first = tus.get(url)
    etag, modified = first.get('ETag'), first.get('Last-Modified')
    for condition in (('If-None-Match', etag), ('If-None-Match', f'"x", {etag}'),
                      ('If-Modified-Since', modified)):
        answer = tus.get(url, [condition])
        assert (answer.status, answer.body) == (304, b''), condition
    assert tus.get(url, [('If-None-Match', '"other"')]).status == 200
    assert tus.get(url, [('If-Match', '"other"')]).status == 412
    assert tus.get(url, [('If-Range', '"other"'), ('Range', 'bytes=0-0')]).status == 200
    assert tus.get(url, [('If-Range', etag), ('Range', 'bytes=0-0')]).status in (200, 206)
    assert tus.get(uploaded(tus)).get('ETag') != etag, 'another upload, another ETag'


def test_a_strong_etag_allows_if_range_later(tus):
    """httpd makes an ETag weak while the file is younger than a second."""
    url = uploaded(tus)
    os.utime(tus.store.data_path(url), (1_000_000_000, 1_000_000_000))
    answer = tus.get(url)
    assert answer.get('Last-Modified') == 'Sun, 09 Sep 2001 01:46:40 GMT'
    assert tus.get(url, [('If-Range', answer.get('ETag')), ('Range', 'bytes=0-0')]).status == 206


def test_conditions_do_not_touch_the_protocol(tus):
    """Only downloads have preconditions: an upload goes on whatever its ETag is."""
    url = tus.new(5, b'abc')
    assert tus.patch(url, 3, b'de', [('If-None-Match', '*')]).status == 204
    assert tus.head(url, [('Range', 'bytes=0-0')]).status == 200


# -- an unfinished one -----------------------------------------------------------------------------

def test_get_of_what_is_there_so_far(tus):
    url = tus.new(11, b'hello')
    answer = tus.get(url)
    assert (answer.status, answer.body) == (200, b'hello')
    assert answer.get('Cache-Control') == 'no-store'
    assert answer.get('ETag') is None
    tus.append(url, 5, b' world')
    assert tus.get(url).body == b'hello world'
    assert tus.get(url).get('ETag')


def test_get_at_offset_0(tus):
    answer = tus.get(tus.new(11))
    assert (answer.status, answer.body) == (204, b'')
    assert answer.get('Cache-Control') == 'no-store'


def test_get_does_not_disturb_a_running_patch(tus):
    url = tus.new(11)
    with tus.hold(url, 0, 11, b'hello') as patch:
        assert tus.get(url).body == b'hello'
        assert patch.finish(b' world').status == 204


# -- what became of it -----------------------------------------------------------------------------

def test_a_finished_file_may_be_taken_away(tus):
    url = uploaded(tus)
    tus.store.data_path(url).unlink()
    head = tus.head(url)
    assert (head.status, head.get('Upload-Offset'), head.get('Upload-Length')) == (200, '11', '11')
    assert_error(tus.get(url), 410, 'ERR_UPLOAD_GONE')
    tus.patch(url, 11, b'')
    assert tus.patch(url, 0, b'hello world').status in (409, 410)
    assert not tus.store.data_path(url).exists(), 'it is never made again'
    assert tus.head(url).get('Upload-Offset') == '11'
    assert tus.delete(url).status == 204
    assert not tus.store.info_path(url).exists()


@pytest.mark.parametrize('encoding', ['gzip', 'identity'], ids=['read', 'sendfile'])
def test_a_file_cut_short_during_its_download_kills_no_child(tus, encoding):
    """With a mapped file the child would die of SIGBUS; the audit would see that."""
    url = uploaded(tus, pattern(64 << 20), filetype='text/plain')
    children = tus.server.children()
    tus.server.allow_log('AH10298')
    with tus.connect() as conn:
        conn.send_head('GET', url, [('Accept-Encoding', encoding), ('Connection', 'close')])
        conn.sock.recv(1)
        with tus.store.data_path(url).open('r+b') as data:
            data.truncate(1)
        while conn.sock.recv(1 << 16):
            pass
    assert tus.offset(tus.new(5, b'abc')) == 3
    assert tus.server.children() == children
    tus.delete(url)


# -- Content-Type and Content-Disposition ----------------------------------------------------------

@pytest.mark.parametrize('filetype', [
    'text/plain', 'image/png', 'image/jpeg', 'image/gif', 'image/webp', 'image/bmp',
    'audio/wav', 'audio/ogg', 'audio/webm', 'video/webm', 'video/ogg'])
def test_what_a_browser_may_show(tus, filetype):
    answer = tus.get(uploaded(tus, filename='x', filetype=filetype))
    assert answer.get('Content-Type').split(';')[0] == filetype
    assert not answer.get('Content-Disposition').startswith('attachment')


@pytest.mark.parametrize('filetype', [
    'text/html', 'image/svg+xml', 'application/pdf', 'application/xhtml+xml', 'text/xml',
    'application/javascript', 'text/javascript', 'application/octet-stream', 'text/css',
    'IMAGE/SVG+XML', 'message/rfc822', 'multipart/x-mixed-replace'])
def test_what_a_browser_must_only_save(tus, filetype):
    answer = tus.get(uploaded(tus, b'<script>alert(1)</script>', filename='x', filetype=filetype))
    assert answer.get('Content-Disposition').startswith('attachment')
    assert answer.get('Content-Type') in ('application/octet-stream', filetype)


@pytest.mark.parametrize('filetype', [
    'text/plain, text/html', 'text/html, text/plain', 'image/png;text/html', 'garbage', '/', '',
    ' text/plain', 'text/plain ', 'text/plain\r\nX-Evil: 1', 'text/plain\n', 'text/plain\0',
    'text/"plain"', 'text/pl\u00e4in', 'a/b/c', 'image/png/../../text/html', 'x' * 3000])
def test_a_type_that_is_none(tus, filetype):
    answer = tus.get(uploaded(tus, b'<script>alert(1)</script>', filename='x', filetype=filetype))
    assert answer.status == 200
    assert answer.get('Content-Disposition').startswith('attachment')
    assert answer.get('Content-Type') == 'application/octet-stream'
    assert answer.get('X-Evil') is None


def test_without_metadata_it_is_saved(tus):
    answer = tus.get(uploaded(tus, b'<script>alert(1)</script>'))
    assert answer.get('Content-Disposition').startswith('attachment')
    assert answer.get('Content-Type') in (None, 'application/octet-stream')


def test_the_type_is_not_guessed_from_the_name(tus):
    answer = tus.get(uploaded(tus, b'<script>alert(1)</script>', filename='x.html'))
    assert answer.get('Content-Disposition').startswith('attachment')
    assert 'html' not in (answer.get('Content-Type') or '')


def disposition(answer):
    """Both file names of a Content-Disposition in RFC 6266's form: (fallback, the real one)."""
    value = answer.get('Content-Disposition')
    quoted = r'"(?P<plain>(?:[ !#-\[\]-~]|\\["\\])*)"'
    extended = r"UTF-8''(?P<real>(?:[A-Za-z0-9!#$&+.^_`|~-]|%[0-9A-F]{2})*)"
    match = re.fullmatch(rf'(?:attachment|inline); filename={quoted}(?:; filename\*={extended})?',
                         value)
    assert match, value
    plain = re.sub(r'\\(.)', r'\1', match['plain'])
    return plain, None if match['real'] is None else unquote_to_bytes(match['real'])


@pytest.mark.parametrize('filename', [
    'a.txt', 'a b.txt', 'Grüße.pdf', '你好.bin', '\U0001f600', "it's 100% (new).txt",
    'a;b=c.txt'])
def test_the_file_name(tus, filename):
    plain, real = disposition(tus.get(uploaded(tus, filename=filename, filetype='text/plain')))
    assert plain.isascii()
    assert (plain if real is None else real.decode()) == filename
    if filename.isascii():
        assert plain == filename


@pytest.mark.parametrize('filename', [
    'a"b.txt', 'a\\b.txt', '"; filename="evil.exe', '\\"', 'a\r\nX-Evil: 1', 'a\nX-Evil: 1', 'a\0b',
    'a\x7fb', '\x1b[31m', '../../etc/passwd', 'C:\\x.exe', b'\xff\xfe', b'\xc3', '%0d%0aX-Evil: 1',
    'x' * 3000, '\u202egnp.exe'],
    ids=lambda name: repr(name)[:24])
def test_a_file_name_cannot_break_out(tus, filename):
    answer = tus.get(uploaded(tus, filename=filename, filetype='text/plain'))
    assert (answer.status, answer.body) == (200, b'hello world')
    assert answer.get('X-Evil') is None
    plain, real = disposition(answer)
    for name in filter(None, (plain.encode(), real)):
        assert not re.search(rb'[\0-\x1f\x7f]', name), name


def test_other_metadata_reaches_no_header(tus):
    before = {name for name, _ in tus.get(uploaded(tus, filename='x')).headers}
    after = {name for name, _ in tus.get(uploaded(tus, filename='x', note='secret')).headers}
    assert before == after


# -- server-side includes --------------------------------------------------------------------------

PAGE = b'<p>1 <!--#printenv --> 2 <!--#include virtual="/secret.txt" --> 3</p>'


@pytest.fixture(scope='module')
def including(shared_httpd):
    """mod_include is on for everything, by all the ways there are to ask for it."""
    server = shared_httpd(modules=['include'])
    server.store = server.make_store()
    (server.htdocs / 'secret.txt').write_text('a secret')
    page = server.htdocs / 'page.html'
    page.write_bytes(PAGE)
    by_type = 'AddOutputFilterByType INCLUDES text/html text/plain application/octet-stream'
    return server.start(
        f'<Directory "{server.htdocs}">\nOptions +Includes\n</Directory>\n'
        f'Alias /page-by-type "{page}"\nAlias /page-set "{page}"\n'
        f'<LocationMatch "by-type">\nOptions +Includes\n{by_type}\n</LocationMatch>\n'
        '<LocationMatch "set">\nOptions +Includes\nSetOutputFilter INCLUDES\n</LocationMatch>\n'
        + endpoint('Location /by-type', server.store) + endpoint('Location /set', server.store))


@pytest.mark.parametrize('way', ['by-type', 'set'])
@pytest.mark.parametrize('filetype', ['text/html', 'text/plain', None])
def test_an_upload_is_no_page_with_includes(including, way, filetype):
    """Else whoever may upload may read every file and variable that httpd can."""
    including.allow_log('AH01374')      # the filter had to be taken away again
    tus = Tus(including, f'/{way}/', including.store)
    with tus.connect() as conn:
        assert b'a secret' in conn.request('GET', f'/page-{way}').body, 'includes are off'
    pairs = {'filename': 'page.html', 'filetype': filetype} if filetype else {}
    url = uploaded(tus, PAGE, **pairs)
    answer = tus.get(url)
    assert (answer.status, answer.body) == (200, PAGE)
    assert answer.get('Content-Length') == str(len(PAGE))
    answer = tus.get(url, [('Range', 'bytes=3-')])
    assert (answer.status, answer.body) == (206, PAGE[3:])
    unfinished = tus.new(1000, PAGE, [('Upload-Metadata', metadata(**pairs))] if pairs else [])
    assert tus.get(unfinished).body == PAGE


# -- memory ----------------------------------------------------------------------------------------

READERS = 32


def unsent(port):
    """Bytes that the kernel still has to send for connections of this port, each for itself."""
    lines = Path('/proc/net/tcp').read_text().splitlines()[1:]
    fields = [line.split() for line in lines]
    return sorted(int(each[4].split(':')[0], 16) for each in fields
                  if int(each[1].split(':')[1], 16) == port and each[3] != '0A')


def stands_still(port):
    """All are full, and nothing has moved for a moment."""
    queues = unsent(port)
    time.sleep(0.2)
    return len(queues) >= READERS and all(queues[-READERS:]) and unsent(port) == queues


@pytest.mark.parametrize('tls', [False, True], ids=['plain', 'tls'])
def test_a_reader_that_stalls_takes_little_memory(httpd, tls):
    server = httpd(mpm_settings=one_child(64), tls=tls)
    store = server.make_store()
    server.start(endpoint('Location /files', store) + (server.tls_vhost() if tls else ''))
    tus = Tus(server, store=store, tls=tls)
    data = pattern(32 << 20)
    url = tus.upload(data)
    assert tus.get(url).body == data
    child, = server.children()
    before = resident(child)
    with contextlib.ExitStack() as stack:
        readers = [stack.enter_context(tus.connect()) for _ in range(READERS)]
        for reader in readers:
            reader.send_head('GET', url)
        wait_until(lambda: stands_still(server.tls_port if tls else server.port),
                   'all readers to be stuck', 60)
        grown = (resident(child) - before) // READERS
        print(f'{grown >> 10} KiB for each reader')
        assert SANITIZED or grown < 512 << 10
        assert readers[-1].response('GET').body == data
