"""What hostile clients, owners of stores and bad luck must not bring about."""
import json

import pytest

from testenv import modules
from testenv.expiry import backdate
from testenv.httpd import endpoint, resident
from testenv.index import dump, state_of_store
from testenv.store import upload_id
from testenv.tus import OCTETS, Tus, b64, metadata
from testenv.util import give_to_user, wait_until

PATIENCE = 30   # seconds that the watchdog may take, on a machine with other work
MIB = 1 << 20


@pytest.fixture
def server(httpd):
    return httpd(mpm='worker')


def peak(server):
    """The most memory that a child ever had."""
    return max(resident(pid, 'VmHWM') for pid in server.children())


def put(path, text):
    path.write_text(text)
    give_to_user(path)
    path.chmod(0o660)


def put_record(store, ident, data='', **members):
    """An upload as another program leaves it, or the owner of the store."""
    record = {'ID': ident, 'Size': len(data), 'SizeIsDeferred': False, 'Offset': 0, 'MetaData': {},
              'IsPartial': False, 'IsFinal': False, 'PartialUploads': None, 'Storage': None}
    put(store.path / ident, data)
    put(store.path / f'{ident}.info', json.dumps(record | members, separators=(',', ':')))


def wait_sweep(server, store):
    """Return when an upload at /soon has come and gone: what was noted before it is settled."""
    url = Tus(server, '/soon/', store).new(100, b'sentinel')
    wait_until(lambda: not store.info_path(url).exists(), 'the sweep', PATIENCE)


# -- memory ----------------------------------------------------------------------------------------

def test_the_parts_of_another_servers_final(server):
    """Upload-Concat of a HEAD is made of the record's parts: not once more for each of them."""
    store = server.make_store()
    tus = Tus(server.start(endpoint('Location /files', store)), store=store)
    put_record(store, 'final', 'abc', IsFinal=True, PartialUploads=['part'] * 5000)
    head = tus.head('/files/final')
    assert head.get('Upload-Concat') == 'final;' + ' '.join(['/files/part'] * 5000)
    assert peak(server) < 64 * MIB


def test_a_final_with_parts_that_have_large_records(server):
    """Of each part little is needed: the records are not kept all at once."""
    store = server.make_store()
    tus = Tus(server.start(endpoint('Location /files', store)), store=store)
    parts = [f'part{i}' for i in range(100)]
    for part in parts:
        put_record(store, part, IsPartial=True, Size=1, MetaData={'key': 'x' * 900000})
    put_record(store, 'final', IsFinal=True, SizeIsDeferred=True, PartialUploads=parts)
    assert tus.head('/files/final').get('Upload-Length') == '100'
    assert peak(server) < 64 * MIB


def test_many_finals_that_wait_for_one_part(server):
    """They are joined one after the other, and what one of them took is given back."""
    store = server.make_store()
    tus = Tus(server.start(endpoint('Location /files', store)), store=store)
    note = [('Upload-Metadata', metadata(note='x' * 5000))]
    parts = [upload_id(tus.partial(1, b'a', note)) for _ in range(120)]
    last = tus.partial(1)
    finals = [tus.final([last, *parts], [('Upload-Metadata', metadata(number=str(i)))])
              for i in range(50)]
    before = peak(server)
    tus.append(last, 0, b'b')
    wait_until(lambda: all(store.finished(url) for url in finals), 'the joins', PATIENCE)
    assert peak(server) - before < 64 * MIB


# -- what was said is true -------------------------------------------------------------------------

def test_a_creation_that_cannot_be_finished(server):
    """All bytes came, but not the end of the body; and then the record cannot be written."""
    store = server.make_store()
    tus = Tus(server.start(endpoint('Location /files', store)), store=store)
    fields = [('Tus-Resumable', '1.0.0'), ('Upload-Length', 5), ('Content-Type', OCTETS),
              ('Transfer-Encoding', 'chunked')]
    with tus.connect() as conn:
        conn.send_head('POST', '/files/', fields)
        wait_until(lambda: any(name.endswith('.info') for name in store.files()), 'the record')
        ident, = store.uploads()
        obstacle = store.path / f'.{ident}.info.tmp'
        obstacle.mkdir()
        conn.send(b'5\r\nhello\r\n')
        wait_until(lambda: store.size(ident) == 5, 'the bytes')
        server.expect_log(f'cannot write the record of upload {ident}')
        conn.half_close()
        answer = conn.response('POST')
    assert answer.status == 500 and not answer.get('Upload-Offset'), answer
    assert not any(name in store.files() for name in (ident, f'{ident}.info'))
    obstacle.rmdir()


@pytest.mark.parametrize('rest', [b'5\r\nworld\r\n0\r\n\r\n', b'zz\r\n'])
def test_a_creation_that_is_refused_after_its_last_byte(server, rest):
    """Nobody hears that an upload was finished that is taken back with the same request."""
    store = server.make_store()
    tus = Tus(server.start(endpoint('Location /files', store)), store=store)
    fields = [('Tus-Resumable', '1.0.0'), ('Upload-Length', 5), ('Content-Type', OCTETS),
              ('Transfer-Encoding', 'chunked')]
    with tus.connect() as conn:
        conn.send_head('POST', '/files/', fields)
        conn.send(b'5\r\nhello\r\n' + rest)
        answer = conn.response('POST')
    assert answer.status in (400, 413), answer
    server.wait_log('UploadInterrupted')
    assert ('UploadFinished' in server.log_tail()) == bool(store.uploads())


def test_an_id_that_is_used_again_after_a_crash(server):
    """The mark of unverified bytes goes with them: it is not for the next upload of that id."""
    store = server.make_store()
    server.start(modules.load('tus_observer') + endpoint('Location /files', store)
                 + endpoint('Location /soon', store, 'TusExpire 100ms'))
    tus = Tus(server, store=store)
    name = ('Upload-Metadata', metadata(rename='chosen'))
    with tus.connect() as conn:
        conn.send_head('POST', '/files/', [
            ('Tus-Resumable', '1.0.0'), ('Upload-Length', 5), ('Content-Type', OCTETS), name,
            ('Content-Length', 5), ('Upload-Checksum', 'sha1 ' + b64(bytes(20)))])
        conn.send(b'he')
        wait_until(lambda: 'chosen' in store.files() and store.size('chosen') == 2, 'the bytes')
        server.allow_log('exit signal Killed')
        tus.kill_holder('chosen')
    wait_until(lambda: 'chosen' not in store.files(), 'the data to be removed', PATIENCE)
    wait_sweep(server, store)
    answer = tus.create(10, b'hello', [name])
    assert (answer.status, answer.get('Upload-Offset')) == (201, '5'), answer
    assert tus.offset('/files/chosen') == 5
    assert store.data('chosen') == b'hello'


def test_why_a_waiting_final_cannot_be_joined(server):
    """It says so in words, as where the client is told."""
    store = server.make_store()
    tus = Tus(server.start(endpoint('Location /files', store)), store=store)
    parts = [tus.partial(5, b'hello'), tus.partial(1)]
    tus.final(parts)
    store.data_path(parts[0]).rename(store.path / 'elsewhere')
    store.data_path(parts[0]).symlink_to('elsewhere')
    server.expect_log('cannot be joined: .*no regular file')
    assert tus.append(parts[1], 0, b'!') == 1
    assert 'APR does not understand' not in server.log_tail()


# -- the sweep -------------------------------------------------------------------------------------

def test_many_uploads_that_live_on(server):
    """Bytes keep them, which the index does not know; others expire all the same."""
    store = server.make_store()
    server.start(endpoint('Location /files', store, 'TusExpire 100ms'))
    tus = Tus(server, store=store)
    url = tus.new(10)
    state = state_of_store(server)
    ours = store.info(url)['ModTus']
    wait_until(lambda: not store.info_path(url).exists(), 'the sweep', PATIENCE)
    server.stop()
    (state / 'clean').unlink()
    busy = [f'busy{i}' for i in range(3000)]
    for ident in busy:
        put_record(store, ident, Size=10, ModTus=ours)
        backdate(tus, ident, -3600)
    server.start(endpoint('Location /files', store, 'TusExpire 100ms'))
    wait_until(lambda: len(dump(state)) >= len(busy), 'the index', 2 * PATIENCE)
    urls = [tus.new(10) for _ in range(10)]
    wait_until(lambda: not any(store.data_path(url).exists() for url in urls), 'the expiry',
               PATIENCE)


def test_uploads_that_were_removed_by_hand(server):
    """The index forgets them, instead of having them looked for for ever."""
    store = server.make_store()
    server.start(endpoint('Location /files', store, 'TusExpire 6s'))
    tus = Tus(server, store=store)
    url = tus.new(10)
    state = state_of_store(server)
    wait_until(lambda: upload_id(url) in dump(state), 'the index', PATIENCE)
    store.data_path(url).unlink()
    store.info_path(url).unlink()
    wait_until(lambda: not dump(state), 'the index to forget', PATIENCE)


def test_data_that_a_damaged_record_stands_for(server):
    """It may be whole again in a moment; until then nobody knows that the data is free."""
    store = server.make_store()
    server.start(endpoint('Location /files', store, 'TusExpire 2s')
                 + endpoint('Location /soon', store, 'TusExpire 100ms'))
    tus = Tus(server, store=store)
    other = tus.upload(b'hello')
    url = tus.new(10)
    ident = upload_id(url)
    info = store.info(url)
    info['Storage'] = {'Type': 'filestore', 'Path': upload_id(other), 'InfoPath': f'{ident}.info'}
    put(store.info_path(other), '{')
    put(store.info_path(url), json.dumps(info))
    backdate(tus, other, 3600)
    wait_until(lambda: not store.info_path(url).exists(), 'the sweep to forget', PATIENCE)
    assert store.data(other) == b'hello'


def test_the_permissions_of_what_the_sweep_writes(server):
    """TusFileMode holds for a record that the server writes anew by itself."""
    store = server.make_store()
    server.start(endpoint('Location /files', store, 'TusExpire 2s', 'TusFileMode 0666'))
    tus = Tus(server, store=store)
    url = tus.new(10)
    assert store.info_path(url).stat().st_mode & 0o777 == 0o666
    wait_until(lambda: not store.data_path(url).exists(), 'the expiry', PATIENCE)
    assert store.info_path(url).stat().st_mode & 0o777 == 0o666


def test_the_sweep_knows_the_limit(server):
    """A final whose length was not known when it was made is not joined beyond TusMaxSize."""
    store = server.make_store()
    server.start(endpoint('Location /files', store, 'TusMaxSize 10')
                 + endpoint('Location /soon', store, 'TusExpire 100ms'))
    tus = Tus(server, store=store)
    parts = [tus.new(headers=[('Upload-Defer-Length', 1), ('Upload-Concat', 'partial')])
             for _ in range(2)]
    final = tus.final(parts)
    server.allow_log('cannot be joined')
    for part in parts:
        assert tus.patch(part, 0, b'8 bytes!', [('Upload-Length', 8)]).status == 204
    wait_sweep(server, store)
    assert store.size(final) == 0
    assert not store.finished(final)


def test_a_final_whose_parts_are_uploaded_yet(server):
    """It is not given up as long as bytes arrive for it."""
    store = server.make_store()
    tus = Tus(server.start(endpoint('Location /files', store, 'TusExpire 1h')), store=store)
    part = tus.partial(10, b'hello')
    final = tus.final([part])
    backdate(tus, final, 2 * 3600)
    assert tus.append(part, 5, b' ') == 6
    assert tus.head(final).status == 200
