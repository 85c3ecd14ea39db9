"""docs/hooks.md, done as it says: what it shows was sent, its recipes work, its examples too."""
import base64
import hmac
import json
import os
import re
import shutil
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest

from testenv import spool
from testenv.hooked import EVENTS, Hooked, start
from testenv.hookserver import TYPES
from testenv.http import Connection, Disconnected
from testenv.httpd import endpoint
from testenv.store import upload_id
from testenv.tus import metadata
from testenv.util import free_port, give_to_user, program, wait_until

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / 'docs'
EXAMPLES = DOCS / 'examples'
TEXT = (DOCS / 'hooks.md').read_text('utf-8')

DOWN = 'not told, to be tried again'
AGED = 'was never told and is moved aside'


def section(heading):
    """The text under a heading, without that of the next of any level."""
    return re.search(rf'(?ms)^#+ {re.escape(heading)}\n(.*?)(?=^#+ |\Z)', uncommented(TEXT))[1]


def uncommented(text):
    """Without what looks like a heading, and is a comment in a listing."""
    return re.sub(r'(?m)^# (.*\.htaccess|Uploads go)', r' # \1', text)


def listings(text, *languages):
    return re.findall(rf'(?ms)^```(?:{"|".join(languages)})\n(.*?)^```$', text)


# -- the events ------------------------------------------------------------------------------------

class Story:
    """What docs/hooks.md shows of an event: {'call': JSON, 'answer': JSON, 'client': text}."""

    def __init__(self, type):
        text = section(type)
        self.call, self.answer = map(json.loads, listings(text, 'json'))
        self.client = (listings(text, 'http') or [None])[-1]
        self.rule = {'Type': type, 'answer': self.answer, 'times': 1}


def neutral(value):
    """Without ids, times, ports and the store's place, which are others each time."""
    text = json.dumps(value, sort_keys=True)
    text = re.sub(r'/[^"]*/stores/files|/srv/uploads', 'STORE', text)
    text = re.sub(r'(127\.0\.0\.1):\d+', r'\1', text)
    return re.sub(r'\b[0-9a-f]{32}\b', 'HEX', text)


def shown(answer):
    """As the page has it."""
    fields = ''.join(f'{name}: {value}\n' for name, value in answer.headers
                     if name not in ('Date', 'Server'))
    body = f'\n{answer.body.decode()}\n' if answer.body else ''
    return f'HTTP/1.1 {answer.status} {answer.reason}\n{fields}{body}'


def live(tus, stories):
    """The two lives that the page tells of; {event: what the client got}."""
    got = {}
    tus.hooks.script = [stories[type].rule for type in stories if type != 'post-receive']
    answer = tus.create(11, headers=[('Upload-Metadata', metadata(filename='report.pdf'))])
    url = answer.get('Location')
    tus.append(url, 0, b'hello ')
    got['pre-create'] = answer
    got['pre-finish'] = tus.patch(url, 6, b'world')
    got['pre-terminate'] = tus.delete(url)
    assert tus.delete(url).status == 204
    spool.wait_empty(tus.server)
    tus.hooks.forget('post-receive')
    tus.hooks.script = [stories['post-receive'].rule]
    with tus.told_of_progress(tus.new(1000), 1000) as patch:
        got['post-receive'] = patch.response()
    return got


def test_the_events_are_as_shown(hook_server, httpd):
    stories = {type: Story(type) for type in TYPES}
    hooks = hook_server(path='/hooks')
    server = httpd()
    store = server.make_store()
    server.start(endpoint('Location /files', store, f'TusHook {hooks.url} {EVENTS}',
                          'TusHookProgressInterval 20ms'))
    tus = Hooked(server, hooks, store=store, headers=[('Host', 'www.example')])
    got = live(tus, stories)
    for type, story in stories.items():
        call = hooks.of(type)[0].event
        if type == 'post-receive':
            assert 0 < call['Event']['Upload']['Offset'] < 1000
            call['Event']['Upload']['Offset'] = story.call['Event']['Upload']['Offset']
        assert neutral(call) == neutral(story.call), type
        assert (type in got) == bool(story.client and not story.client.startswith('POST')), type
        if type in got:
            assert shown(got[type]) == story.client, type


def test_the_head_of_a_call_is_as_shown(hook_server, httpd):
    hooks = hook_server(path='/hooks')
    start(httpd(), hooks).new(11)
    [call] = hooks.of('pre-create')
    head, *fields = listings(section('pre-create'), 'http')[0].splitlines()
    assert head == f'POST {call.path} HTTP/1.1'
    assert [field.partition(':')[0] for field in fields] == [name for name, _ in call.headers]
    for line in fields:
        name, _, value = line.partition(': ')
        if name not in ('Host', 'webhook-id', 'Content-Length'):
            assert call.get(name) == value


# -- configurations --------------------------------------------------------------------------------

# What a reader has, and a test puts in its place.
PLACES = {'/srv/uploads': 'uploads', '/etc/apache2/tus-hook.secret': 'secret',
          '/var/lib/apache2/tus': 'tus', '/srv/customers': 'customers', '/srv/www/htdocs': 'htdocs',
          '/var/log/apache2': '.'}

HTACCESS = (EXAMPLES / 'php' / 'files' / '.htaccess').read_text('utf-8')

# Of the server's own files; the .htaccess of an example is tested where it stands.
CONFIGURATIONS = [pytest.param(text, id=f'{path.stem}-{number}')
                  for path in sorted(DOCS.glob('*.md'))
                  for number, text in enumerate(listings(path.read_text('utf-8'), 'apache'))
                  if text != HTACCESS]


@pytest.mark.parametrize('text', CONFIGURATIONS)
def test_a_configuration(httpd, text):
    """As it stands, with the modules that a Debian has."""
    server = httpd(modules=['proxy', 'proxy_fcgi'])
    for place, ours in PLACES.items():
        text = text.replace(place, str(server.root / ours))
    for ours in ('uploads', 'customers'):
        server.make_dir(server.root / ours)
    (server.root / 'secret').write_text('Djn4XvdVVdjnDfNjyUT6ixDnCoSt5MoPhBPA1Hm0QPQ=\n')
    code, said = server.configtest(text)
    assert code == 0 and 'Syntax OK' in said, said
    assert '[tus:' not in said, said


# -- signatures ------------------------------------------------------------------------------------

SECRETS = {'plain': 's3cret, and some more of it',
           'whsec': 'whsec_' + base64.b64encode(bytes(range(200, 232))).decode()}
LANGUAGES = ['py', 'mjs', 'php']


class Example:
    """A program of docs/examples that listens at `port`; what it says is in its log."""

    def __init__(self, directory, command, port, **environment):
        self.port = port
        self.log = directory / f'example-{port}.log'
        with self.log.open('wb') as log:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log,
                                            stderr=log, env={**os.environ, **environment})
        wait_until(self._answers, f'{command} to listen')

    def _answers(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            Connection(self.port).close()
        except ConnectionRefusedError:
            return False
        return True

    def post(self, body, headers):
        with Connection(self.port) as conn:
            return conn.request('POST', '/hooks', [('Content-Type', 'application/json'), *headers],
                                body).status

    def said(self):
        """(event, id) of each call that it believed."""
        return re.findall(r'(?m)((?:pre|post)-\w+) ([0-9a-f]*)$', self.log.read_text())

    def stop(self):
        self.process.kill()
        self.process.wait()


@pytest.fixture
def example(tmp_path):
    """A factory of programs, which end with the test."""
    made = []

    def run(path, *arguments, **environment):
        port = free_port()
        command = {'.py': [program('python3'), path, str(port)],
                   '.mjs': [program('node', 'nodejs'), path, str(port)],
                   '.php': [program('php'), '-d', 'display_errors=1', '-S', f'127.0.0.1:{port}',
                            path]}[path.suffix]
        made.append(Example(tmp_path, [*command, *arguments], port, **environment))
        return made[-1]

    yield run
    for each in made:
        each.stop()


def signed(secret, body, at, ident='0123456789abcdef0123456789abcdef'):
    """The fields of a call that was sent so many seconds from now, by who knows the secret."""
    key = (base64.b64decode(secret[6:]) if secret.startswith('whsec_') else secret.encode())
    sent = str(int(time.time()) + at)
    digest = hmac.digest(key, f'{ident}.{sent}.'.encode() + body, 'sha256')
    return {'webhook-id': ident, 'webhook-timestamp': sent,
            'webhook-signature': 'v1,' + base64.b64encode(digest).decode()}


@pytest.mark.parametrize('kind', SECRETS)
@pytest.mark.parametrize('language', LANGUAGES)
def test_genuine_calls_are_believed(httpd, example, language, kind):
    secret = SECRETS[kind]
    app = example(EXAMPLES / 'signature' / f'hook.{language}', TUS_SECRET=secret)
    server = httpd()
    store = server.make_store()
    (server.root / 'secret').write_text(secret + '\n')
    server.start(endpoint('Location /files', store, f'TusHookSecret "file:{server.root}/secret"',
                          f'TusHook http://127.0.0.1:{app.port}/hooks {EVENTS}'))
    tus = Hooked(server, None, store=store)
    url = tus.upload(b'hello', headers=[('Upload-Metadata', metadata(name='naïve "x"\n'))])
    assert tus.delete(url).status == 204
    spool.wait_empty(server)
    uid = upload_id(url)
    wait_until(lambda: ('post-terminate', uid) in app.said(), 'the last to be told')
    assert set(app.said()) - {('post-receive', uid)} == {
        (type, '' if type == 'pre-create' else uid) for type in TYPES if type != 'post-receive'}


@pytest.mark.parametrize('language', LANGUAGES)
def test_forged_and_replayed_calls_are_not(example, language):
    secret = SECRETS['whsec']
    app = example(EXAMPLES / 'signature' / f'hook.{language}', TUS_SECRET=secret)
    body = b'{"Type":"post-finish","Event":{"Upload":{"ID":"abc"}}}'
    good = signed(secret, body, 0)
    assert app.post(body, good.items()) == 200
    refused = {
        'nothing': {},
        'no id': {**good, 'webhook-id': ''},
        'no time': {**good, 'webhook-timestamp': ''},
        'no signature': {**good, 'webhook-signature': ''},
        'only the version': {**good, 'webhook-signature': 'v1,'},
        'another key': signed('whsec_' + base64.b64encode(b'guess' * 8).decode(), body, 0),
        'the secret as it stands': signed(secret[6:], body, 0),
        'another id': {**good, 'webhook-id': 'f' * 32},
        'another time': {**good, 'webhook-timestamp': str(int(good['webhook-timestamp']) + 1)},
        'bytes of no UTF-8': {**good, 'webhook-signature': b'v1,\xff\xfe'},
        'a time that is no number': {**good, 'webhook-timestamp': '1e9'},
        'recorded ten minutes ago': signed(secret, body, -600),
        'from the future': signed(secret, body, 600),
        'long before that': signed(secret, body, -10**9),
    }
    for what, headers in refused.items():
        assert app.post(body, headers.items()) == 401, what
    assert app.post(body.replace(b'abc', b'abd'), good.items()) == 401
    assert app.post(body + b' ', good.items()) == 401
    assert app.post(body, signed(secret, body, -200).items()) == 200
    assert app.said() == [('post-finish', 'abc')] * 2


@pytest.mark.parametrize('language', LANGUAGES)
def test_what_goes_wrong_is_no_success(example, language):
    """Else the event would count as told."""
    app = example(EXAMPLES / 'signature' / f'hook.{language}', TUS_SECRET=SECRETS['plain'])
    body = b'garbage'
    try:
        status = app.post(body, signed(SECRETS['plain'], body, 0).items())
    except Disconnected:
        return
    assert status >= 500


# -- once ------------------------------------------------------------------------------------------

def test_acted_on_once(httpd, example, hook_server, tmp_path):
    """Events that are told again, by mod_tus and by somebody who recorded them."""
    database = tmp_path / 'app.db'
    app = example(EXAMPLES / 'once.py', str(database))
    hooks = hook_server()
    server = httpd()
    store = server.make_store()
    server.start(endpoint('Location /files', store, f'TusHook {hooks.url} {EVENTS}',
                          f'TusHook http://127.0.0.1:{app.port}/hooks {EVENTS}'))
    tus = Hooked(server, hooks, store=store)
    urls = [tus.upload(b'hello', headers=[('Upload-Metadata', metadata(filename=f'{i}.txt'))])
            for i in range(3)]
    spool.wait_empty(server)
    for call in hooks.of('post-create', 'post-finish') * 2:
        assert app.post(call.body, []) == 200
    with sqlite3.connect(database) as look:
        rows = look.execute('SELECT upload, name, size FROM documents ORDER BY name').fetchall()
    assert rows == [(upload_id(url), f'{i}.txt', 5) for i, url in enumerate(urls)]


# -- recipes ---------------------------------------------------------------------------------------

class Recipes:
    """A server whose endpoint has been away for too long."""

    def __init__(self, hook_server, httpd, *lines):
        self.hooks = hook_server(path='/hooks')
        self.server = httpd()
        store = self.server.make_store()
        self.configuration = endpoint('Location /files', store, 'TusHookRetry 3 20ms', *lines,
                                      f'TusHook {self.hooks.url} post-create post-finish')
        self.server.start(self.configuration)
        self.tus = Hooked(self.server, self.hooks, store=store)
        self.hooks.stop()
        self.ids = [upload_id(self.tus.upload(b'hello')) for _ in range(5)]
        self.server.expect_log(DOWN)
        self.server.wait_log(DOWN)

    @property
    def spool(self):
        [path] = self.server.state_dir.glob('*/spool')
        return path

    def run(self, number, heading, **names):
        """A listing, with our paths, by the shell that all have."""
        text = listings(section(heading), 'sh')[number]
        names = {'/var/lib/apache2/tus/NAME/spool': self.spool,
                 '/var/lib/apache2/tus': self.server.state_dir, 'apachectl graceful': 'true',
                 'http://127.0.0.1:9000/hooks': self.hooks.url, **names}
        for name, ours in names.items():
            text = text.replace(name, str(ours))
        done = subprocess.run(['sh', '-eu', '-c', text], cwd=self.spool, capture_output=True,
                              text=True, check=False, timeout=60)
        assert done.returncode == 0, (text, done.stderr)

    def told(self):
        wait_until(lambda: len(self.hooks.of()) >= 10, 'all to be told', 60)
        spool.wait_empty(self.server)
        for uid in self.ids:
            assert self.hooks.types(uid) == ['post-create', 'post-finish']


SEND_AGAIN = 'To send again what was given up'


def test_what_was_given_up_is_sent_again(hook_server, httpd):
    """The endpoint still counts as down then, and answers a little later."""
    one = Recipes(hook_server, httpd, 'TusHookMaxAge 1s')
    one.server.expect_log(AGED)
    wait_until(lambda: len(spool.files(one.server, failed=True)) == 10, 'all to be given up', 60)
    one.server.graceful(one.configuration.replace('TusHookMaxAge 1s', 'TusHookMaxAge 1h'))
    tried = one.server.error_log.text().count(DOWN)
    one.run(0, SEND_AGAIN)
    wait_until(lambda: one.server.error_log.text().count(DOWN) > tried, 'it to be tried')
    one.hooks.start()
    one.told()
    assert not spool.files(one.server, failed=True)


def test_what_was_given_up_is_sent_by_hand(hook_server, httpd):
    one = Recipes(hook_server, httpd, 'TusHookMaxAge 1s')
    one.server.expect_log(AGED)
    wait_until(lambda: len(spool.files(one.server, failed=True)) == 10, 'all to be given up', 60)
    one.hooks.start()
    path = spool.files(one.server, failed=True)[0]
    one.run(1, SEND_AGAIN, FILE=path.name)
    [call] = one.hooks.of()
    assert call.body == spool.read(path).body


def test_what_waits_goes_out_now(hook_server, httpd):
    """Its next try is an hour away, and so is the endpoint's."""
    one = Recipes(hook_server, httpd, 'TusHookRetry 3 1h')
    one.hooks.start()
    wait_until(lambda: max(path.stat().st_mtime for path in spool.files(one.server))
               > time.time() + 300, 'the next try to be put off')
    one.run(0, 'Not to wait for the next try')
    one.server.graceful(one.configuration)
    one.told()


# -- what is shown of the examples -----------------------------------------------------------------

@pytest.mark.parametrize('path, language, heading', [
    ('signature/hook.py', 'python', 'Is it genuine?'),
    ('signature/hook.mjs', 'javascript', 'Is it genuine?'),
    ('signature/hook.php', 'php', 'Is it genuine?'),
    ('php/hook.php', 'php', 'PHP on shared hosting'),
    ('php/files/.htaccess', 'apache', 'PHP on shared hosting')])
def test_listings_are_the_files(path, language, heading):
    shown_there = listings(section(heading), language)[0]
    assert shown_there.strip() in (EXAMPLES / path).read_text('utf-8')


def test_links_lead_somewhere():
    headings = {re.sub(r'[^\w\- ]', '', line.lower()).replace(' ', '-')
                for line in re.findall(r'(?m)^#+ (.*)$', TEXT)}
    for target in re.findall(r'\]\(([^)]+)\)', TEXT):
        path, _, anchor = target.partition('#')
        if '://' in target:
            continue
        assert (DOCS / path).exists(), target
        assert path or anchor in headings, target
