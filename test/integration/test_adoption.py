"""A store that tusd left is served and continued as it is; what mod_tus writes reads as tusd's.

test/data/tusd/store is the directory of a real tusd 2. The paths that it recorded say
/srv/uploads, as if it had been moved since.
"""
import json
import os
import re
import shutil
from pathlib import Path

import pytest

from testenv.httpd import endpoint
from testenv.index import dump, state_of_store
from testenv.tus import Tus, b64, metadata
from testenv.util import give_to_user, wait_until

RECORDED = Path(__file__).resolve().parents[1] / 'data/tusd/store'
RECORDED_AT = '/srv/uploads'

HALF = 'b63f0d9da5422902698fb31f464848e6'
DONE = 'ce7859083b913ec8ab3c3e5463d16046'
EMPTY = 'f4c8f3fb4d7bd04700c7a92d41e71b08'
DECLARED = '28438efde51276685452e566fb21cbe0'
DEFERRED = 'eb60e1131120daa699892c0a54077da0'
PARTS = ['057fac39129352266d720b3bd3f525b8', '77ec6d493348f3eae9d1584093f3cc56']
FINAL = 'ec51914a29d19cee4c965a4c6a33a0a9'
SLASHES = 'user-7/report.pdf'
PLACED = 'e4e92bade41afb419c6fb7467790894f'     # its Storage.Path is sub/place.bin
ALL = {HALF, DONE, EMPTY, DECLARED, DEFERRED, *PARTS, FINAL, SLASHES, PLACED}

SECRET = b'not yours'
METADATA = {'filename': 'naïve "x".txt', 'filetype': 'text/plain', 'note': 'a\nb', 'empty': ''}


def give_all_to_user(path):
    for each in [path, *path.rglob('*')]:
        each.chmod(0o770 if each.is_dir() else 0o660)
        give_to_user(each)


class Adopted:
    """An endpoint on a copy of the recorded store."""

    def __init__(self, server, *lines, change=lambda path: None):
        self.server = server
        self.path = server.root / 'stores' / 'adopted'
        shutil.copytree(RECORDED, self.path)
        change(self.path)
        give_all_to_user(self.path)
        server.start(endpoint('Location /files', self.path, *lines))
        self.tus = Tus(server)

    def data(self, name):
        return (self.path / name).read_bytes()

    def info(self, uid):
        return json.loads(self.data(uid + '.info'))

    def tree(self):
        return {str(path.relative_to(self.path)): path.read_bytes()
                for path in self.path.rglob('*') if path.is_file()}

    def assert_told(self, uid, offset, length, **fields):
        head = self.tus.head(url(uid))
        assert head.status == 200, head
        assert head.get('Upload-Offset') == str(offset)
        assert head.get('Upload-Length') == (None if length is None else str(length))
        assert head.get('Upload-Defer-Length') == ('1' if length is None else None)
        for name, value in fields.items():
            assert head.get(name.replace('_', '-')) == value
        return head

    def assert_reads_as_tusds(self, uid, data=None, **changed):
        """All members that tusd knows are as they were but for these and the true paths."""
        info = self.info(uid)
        ours = info.pop('ModTus')
        assert info == recorded(uid) | changed | {'Storage': {
            'Type': 'filestore', 'Path': f'{self.path}/{data or uid}',
            'InfoPath': f'{self.path}/{uid}.info'}}
        return ours


def url(uid):
    return f'/files/{uid}'


def recorded(uid):
    return json.loads((RECORDED / f'{uid}.info').read_text('utf-8'))


def pairs(header):
    """Upload-Metadata as a dict of its pairs, the values still in Base64."""
    return dict((pair.strip().split(' ', 1) + [''])[:2] for pair in header.split(','))


@pytest.fixture
def adopted(httpd):
    return Adopted(httpd())


def test_the_recording_has_what_the_tests_are_about():
    assert {str(path.relative_to(RECORDED))[:-len('.info')]
            for path in RECORDED.rglob('*.info')} == ALL
    for uid in ALL:
        assert recorded(uid)['Storage']['InfoPath'] == f'{RECORDED_AT}/{uid}.info'
    assert recorded(PLACED)['Storage']['Path'] == f'{RECORDED_AT}/sub/place.bin'


# -- served ----------------------------------------------------------------------------------------

def test_half_done(adopted):
    adopted.assert_told(HALF, 5, 10, Upload_Metadata=metadata(filename='half.bin'))
    assert adopted.tus.append(url(HALF), 5, b'56789') == 10
    adopted.assert_told(HALF, 10, 10)
    assert adopted.data(HALF) == b'0123456789'
    assert adopted.tus.get(url(HALF)).body == b'0123456789'
    ours = adopted.assert_reads_as_tusds(HALF)
    assert ours['Created'] and ours['Finished']


def test_half_done_and_continued_byte_by_byte(adopted):
    """The first byte that mod_tus writes makes the upload its own, also before it is finished."""
    for offset in range(5, 9):
        assert adopted.tus.append(url(HALF), offset, b'0123456789'[offset:offset + 1]) == offset + 1
        adopted.assert_told(HALF, offset + 1, 10)
    assert adopted.data(HALF) == b'012345678'
    assert 'Finished' not in adopted.info(HALF).get('ModTus', {})
    assert adopted.tus.append(url(HALF), 9, b'9') == 10
    assert adopted.assert_reads_as_tusds(HALF)['Finished']


def test_a_wrong_offset_changes_nothing(adopted):
    before = adopted.tree()
    assert adopted.tus.patch(url(HALF), 4, b'x').status == 409
    assert adopted.tus.patch(url(DONE), 5, b'x').status == 413
    assert adopted.tree() == before


def test_done(adopted):
    head = adopted.assert_told(DONE, 5, 5)
    assert pairs(head.get('Upload-Metadata')) == {
        key: b64(value) for key, value in METADATA.items()}
    answer = adopted.tus.get(url(DONE))
    assert (answer.status, answer.body) == (200, b'hello')
    assert re.match(r'text/plain\b', answer.get('Content-Type'))
    assert "na%C3%AFve" in answer.get('Content-Disposition')
    ranged = adopted.tus.get(url(DONE), [('Range', 'bytes=1-3')])
    assert (ranged.status, ranged.body) == (206, b'ell')


@pytest.mark.parametrize('uid, data', [(EMPTY, b''), (DECLARED, b'abc'), (SLASHES, b'hello')])
def test_others_that_are_done(adopted, uid, data):
    adopted.assert_told(uid, len(data), len(data))
    answer = adopted.tus.get(url(uid))
    assert (answer.status, answer.body) == (200, data)
    assert adopted.tus.append(url(uid), len(data), b'') == len(data)


def test_reading_writes_nothing(adopted):
    before = adopted.tree()
    for uid in sorted(ALL):
        assert adopted.tus.head(url(uid)).status == 200
        assert adopted.tus.get(url(uid)).status in (200, 204)
    assert adopted.tree() == before


def test_deferred(adopted):
    adopted.assert_told(DEFERRED, 5, None)
    assert adopted.tus.append(url(DEFERRED), 5, b', ') == 7
    assert adopted.tus.append(url(DEFERRED), 7, b'tus', headers=[('Upload-Length', 10)]) == 10
    adopted.assert_told(DEFERRED, 10, 10)
    assert adopted.data(DEFERRED) == b'hello, tus'
    ours = adopted.assert_reads_as_tusds(DEFERRED, Size=10, SizeIsDeferred=False)
    assert ours['Finished']


def test_partial(adopted):
    for uid in PARTS:
        adopted.assert_told(uid, 3, 3, Upload_Concat='partial')
    location = adopted.tus.new(headers=[
        ('Upload-Concat', f'final;{url(PARTS[1])} {url(PARTS[0])} {url(PARTS[1])}')])
    assert adopted.tus.get(location).body == b'twoonetwo'


def test_final(adopted):
    adopted.assert_told(FINAL, 6, 6, Upload_Concat='final;' + ' '.join(map(url, PARTS)))
    assert adopted.tus.get(url(FINAL)).body == b'onetwo'
    assert adopted.tus.patch(url(FINAL), 6, b'').status == 403
    assert adopted.tus.patch(url(FINAL), 6, b'x').status == 403


def test_an_id_with_slashes(adopted):
    adopted.assert_told(SLASHES, 5, 5, Upload_Metadata=metadata(
        filename='report.pdf', filetype='application/pdf'))
    assert adopted.tus.head(url('user-7')).status == 404
    assert adopted.tus.delete(url(SLASHES)).status == 204
    assert not {name for name in adopted.tree() if name.startswith('user-7/')}
    assert adopted.tus.head(url(SLASHES)).status == 404


def test_data_that_lies_elsewhere_in_the_store(adopted):
    adopted.assert_told(PLACED, 0, 5)
    assert adopted.tus.append(url(PLACED), 0, b'he') == 2
    assert adopted.tus.append(url(PLACED), 2, b'llo') == 5
    assert adopted.data('sub/place.bin') == b'hello'
    assert not (adopted.path / PLACED).exists()
    assert adopted.tus.get(url(PLACED)).body == b'hello'
    assert adopted.assert_reads_as_tusds(PLACED, data='sub/place.bin')['Finished']
    assert adopted.tus.delete(url(PLACED)).status == 204
    assert not (adopted.path / 'sub/place.bin').exists()
    assert not (adopted.path / f'{PLACED}.info').exists()


@pytest.mark.parametrize('uid', sorted(ALL - {SLASHES, PLACED}))
def test_termination(adopted, uid):
    assert adopted.tus.delete(url(uid)).status == 204
    assert adopted.tus.head(url(uid)).status == 404
    left = adopted.tree()
    assert uid not in left and f'{uid}.info' not in left
    assert len(left) == 2 * len(ALL) - 2


def test_a_record_whose_data_is_gone(httpd):
    adopted = Adopted(httpd(), change=lambda path: (path / HALF).unlink())
    before = adopted.tree()
    for answer in (adopted.tus.head(url(HALF)), adopted.tus.get(url(HALF)),
                   adopted.tus.patch(url(HALF), 0, b'0'), adopted.tus.patch(url(HALF), 5, b'5')):
        assert answer.status in (404, 410), answer
    assert adopted.tree() == before


# -- over time -------------------------------------------------------------------------------------

def test_all_are_indexed(adopted):
    adopted.tus.upload(b'the store is known by now')
    wait_until(lambda: set(dump(state_of_store(adopted.server))) >= ALL, 'the index to know all')


def test_nothing_of_tusds_expires(httpd):
    """They were made under no TusExpire; only what mod_tus has written to has one."""
    def age(path):
        for each in path.rglob('*'):
            os.utime(each, (0, 0))

    adopted = Adopted(httpd(), 'TusExpire 1s', change=age)
    before = adopted.tree()
    fresh = adopted.tus.new(10, b'hello')
    wait_until(lambda: not (adopted.path / fresh.rsplit('/', 1)[1]).exists(), 'the sweep')
    wait_until(lambda: set(dump(state_of_store(adopted.server))) >= ALL, 'the index to know all')
    after = adopted.tree()
    assert {name: after.get(name) for name in before} == before
    adopted.assert_told(HALF, 5, 10, Upload_Expires=None)
    assert adopted.tus.append(url(HALF), 5, b'56789') == 10


def test_what_is_continued_expires(httpd):
    adopted = Adopted(httpd(), 'TusExpire 1s')
    answer = adopted.tus.patch(url(HALF), 5, b'5')
    assert answer.status == 204 and answer.get('Upload-Expires'), answer
    wait_until(lambda: not (adopted.path / HALF).exists(), 'the sweep')
    assert adopted.tus.head(url(HALF)).status in (404, 410)
    assert (adopted.path / DONE).exists() and (adopted.path / 'sub/place.bin').exists()


def test_a_graceful_restart_and_a_lost_state_directory(httpd):
    adopted = Adopted(httpd())
    assert adopted.tus.append(url(HALF), 5, b'5') == 6
    adopted.server.stop()
    shutil.rmtree(adopted.server.state_dir)
    adopted.server.start(endpoint('Location /files', adopted.path))
    adopted.tus = Tus(adopted.server)
    adopted.assert_told(HALF, 6, 10)
    assert adopted.tus.append(url(HALF), 6, b'6789') == 10
    assert adopted.data(HALF) == b'0123456789'


def test_moved_again(httpd):
    """What mod_tus wrote is as movable as what tusd wrote."""
    adopted = Adopted(httpd())
    assert adopted.tus.append(url(PLACED), 0, b'he') == 2
    assert adopted.tus.append(url(HALF), 5, b'5') == 6
    final = adopted.tus.new(headers=[('Upload-Concat', 'final;' + ' '.join(map(url, PARTS)))])
    adopted.server.stop()
    adopted.path = adopted.path.rename(adopted.path.with_name('elsewhere'))
    adopted.server.start(endpoint('Location /files', adopted.path))
    adopted.tus = Tus(adopted.server)
    adopted.assert_told(PLACED, 2, 5)
    assert adopted.tus.append(url(PLACED), 2, b'llo') == 5
    assert adopted.data('sub/place.bin') == b'hello'
    assert adopted.tus.append(url(HALF), 6, b'6789') == 10
    adopted.assert_reads_as_tusds(HALF)
    adopted.assert_reads_as_tusds(PLACED, data='sub/place.bin')
    assert adopted.tus.get(final).body == b'onetwo'


# -- other shapes ----------------------------------------------------------------------------------

@pytest.mark.parametrize('storage', [
    None, {}, {'Type': 'filestore', 'Path': f'{RECORDED_AT}/{HALF}'},
    {'Type': 'filestore', 'Path': f'data/{HALF}', 'InfoPath': f'data/{HALF}.info'},
    {'Type': 'filestore', 'Path': HALF, 'InfoPath': f'{HALF}.info'}],
    ids=['none', 'empty', 'without InfoPath', 'relative', 'bare'])
def test_other_shapes_of_storage(httpd, storage):
    """InfoPath is there since tusd 2.5; a program in Go may have given its store a relative path."""
    def rewrite(path):
        info = recorded(HALF) | {'Storage': storage}
        (path / f'{HALF}.info').write_text(json.dumps(info))

    adopted = Adopted(httpd(), change=rewrite)
    adopted.assert_told(HALF, 5, 10)
    assert adopted.tus.append(url(HALF), 5, b'56789') == 10
    assert adopted.data(HALF) == b'0123456789'
    adopted.assert_reads_as_tusds(HALF)


# -- out of the store ------------------------------------------------------------------------------

def outside_absolute(path, outside):
    return {'Path': str(outside), 'InfoPath': f'{RECORDED_AT}/{HALF}.info'}


def outside_true_paths(path, outside):
    return {'Path': str(outside), 'InfoPath': f'{path}/{HALF}.info'}


def outside_dots(path, outside):
    return {'Path': f'{RECORDED_AT}/../{outside.name}', 'InfoPath': f'{RECORDED_AT}/{HALF}.info'}


def outside_dots_deeper(path, outside):
    return {'Path': f'{RECORDED_AT}/sub/../../{outside.name}',
            'InfoPath': f'{RECORDED_AT}/{HALF}.info'}


def outside_relative(path, outside):
    return {'Path': f'../{outside.name}'}


def outside_prefix(path, outside):
    """/srv/uploads-secret begins with /srv/uploads."""
    return {'Path': f'{RECORDED_AT}-{outside.name}', 'InfoPath': f'{RECORDED_AT}/{HALF}.info'}


def outside_info_path_lies(path, outside):
    """InfoPath says that the store was where the secret is."""
    return {'Path': str(outside), 'InfoPath': f'{outside.parent}/{HALF}.info'}


def outside_symlink(path, outside):
    (path / 'link').symlink_to(outside)
    return {'Path': f'{RECORDED_AT}/link', 'InfoPath': f'{RECORDED_AT}/{HALF}.info'}


def outside_symlinked_directory(path, outside):
    (path / 'dir').symlink_to(outside.parent)
    return {'Path': f'{RECORDED_AT}/dir/{outside.name}', 'InfoPath': f'{RECORDED_AT}/{HALF}.info'}


def outside_hard_link(path, outside):
    os.link(outside, path / 'hard')
    return {'Path': f'{RECORDED_AT}/hard', 'InfoPath': f'{RECORDED_AT}/{HALF}.info'}


def a_record_of_another(path, outside):
    return {'Path': f'{RECORDED_AT}/{DONE}.info', 'InfoPath': f'{RECORDED_AT}/{HALF}.info'}


def a_hidden_file(path, outside):
    shutil.copy(outside, path / '.htaccess')
    return {'Path': f'{RECORDED_AT}/.htaccess', 'InfoPath': f'{RECORDED_AT}/{HALF}.info'}


def a_directory(path, outside):
    return {'Path': f'{RECORDED_AT}/sub', 'InfoPath': f'{RECORDED_AT}/{HALF}.info'}


def the_store_itself(path, outside):
    return {'Path': RECORDED_AT, 'InfoPath': f'{RECORDED_AT}/{HALF}.info'}


WAYS = [outside_absolute, outside_true_paths, outside_dots, outside_dots_deeper, outside_relative,
        outside_prefix, outside_symlink, outside_symlinked_directory, outside_hard_link,
        a_record_of_another, a_hidden_file, a_directory, the_store_itself]
# Read relative to InfoPath, that is a name in the store; there is no such file.
ALL_WAYS = [*WAYS, outside_info_path_lies]


@pytest.mark.parametrize('way', ALL_WAYS, ids=lambda way: way.__name__)
def test_a_path_that_leads_elsewhere(httpd, way):
    """It is neither read nor written nor removed, and the log says so."""
    server = httpd()
    secret = server.root / 'stores' / 'secret'
    secret.write_bytes(SECRET)
    give_to_user(secret)
    secret.chmod(0o666)

    def mislead(path):
        (path / HALF).unlink()
        storage = {'Type': 'filestore', **way(path, secret)}
        info = recorded(HALF) | {'Storage': storage, 'Size': 20}
        (path / f'{HALF}.info').write_text(json.dumps(info))

    adopted = Adopted(server, change=mislead)
    before = adopted.tree()
    for ask in (lambda: adopted.tus.head(url(HALF)), lambda: adopted.tus.get(url(HALF)),
                lambda: adopted.tus.patch(url(HALF), len(SECRET), b'x'),
                lambda: adopted.tus.patch(url(HALF), 0, b'x'),
                lambda: adopted.tus.delete(url(HALF))):
        if way in WAYS:
            server.expect_log(rf'\[tus:error\].*{HALF}')
        answer = ask()
        assert answer.status in (404, 500), answer
        assert SECRET not in answer.body
        assert str(server.root).encode() not in answer.body
    assert secret.read_bytes() == SECRET
    assert adopted.tree() == before
    assert adopted.tus.upload(b'others are not disturbed')


# -- what mod_tus writes ---------------------------------------------------------------------------

def shape(info):
    """The members that tusd knows and the types that its decoder wants."""
    return {name: shape(value) if name == 'Storage' else type(value).__name__
            for name, value in info.items() if name != 'ModTus'}


def test_each_kind_is_written_as_tusd_writes_it(httpd):
    server = httpd()
    store = server.make_store()
    server.start(endpoint('Location /files', store))
    tus = Tus(server, store=store)
    sent = metadata(**METADATA)
    parts = [tus.new(3, data, [('Upload-Concat', 'partial')]) for data in (b'one', b'two')]
    concat = ('Upload-Concat', 'final;' + ' '.join(parts))
    kinds = {
        HALF: tus.new(10, b'01234', [('Upload-Metadata', metadata(filename='half.bin'))]),
        DONE: tus.new(5, b'hello', [('Upload-Metadata', sent)]),
        EMPTY: tus.new(0),
        DEFERRED: tus.new(headers=[('Upload-Defer-Length', '1'), ('Upload-Metadata', metadata(
            filename='a.txt', filetype='text/plain'))]),
        PARTS[0]: parts[0],
        PARTS[1]: parts[1],
        FINAL: tus.new(headers=[concat, ('Upload-Metadata', sent)]),
    }
    ids = {theirs: store.info(location)['ID'] for theirs, location in kinds.items()}
    for theirs, location in kinds.items():
        expected, info = recorded(theirs), store.info(location)
        assert shape(info) == shape(expected), theirs
        path = str(store.data_path(location))
        expected |= {'ID': ids[theirs], 'Storage': {
            'Type': 'filestore', 'Path': path, 'InfoPath': f'{path}.info'}}
        if expected['PartialUploads']:
            expected['PartialUploads'] = [ids[part] for part in expected['PartialUploads']]
        info.pop('ModTus')
        info['Offset'] = 0      # tusd does not read it
        assert info == expected, theirs


def test_what_tusds_decoder_could_not_take_is_not_written(httpd):
    """Its MetaData is a map of strings, and strings are UTF-8."""
    server = httpd()
    store = server.make_store()
    server.start(endpoint('Location /files', store))
    tus = Tus(server, store=store)
    location = tus.new(3, b'abc', [('Upload-Metadata', f'raw {b64(bytes(range(256)))},bare')])
    info = json.loads(store.info_path(location).read_bytes().decode('utf-8'))
    assert set(info['MetaData']) == {'raw', 'bare'}
    assert all(isinstance(value, str) for value in info['MetaData'].values())
    assert 0 <= info['Size'] < 1 << 63


def test_a_final_that_waits(httpd):
    """tusd has none such: to it, an unfinished upload."""
    server = httpd()
    store = server.make_store()
    server.start(endpoint('Location /files', store))
    tus = Tus(server, store=store)
    parts = [tus.new(3, headers=[('Upload-Concat', 'partial')]) for _ in range(2)]
    final = tus.new(headers=[('Upload-Concat', 'final;' + ' '.join(parts))])
    info = store.info(final)
    assert shape(info) == shape(recorded(FINAL))
    assert info['IsFinal'] and not info['IsPartial']
    assert info['PartialUploads'] == [store.info(part)['ID'] for part in parts]
    assert info['SizeIsDeferred'] or info['Size'] == 6
    assert store.size(final) == 0
