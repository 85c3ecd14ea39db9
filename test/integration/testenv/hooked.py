"""An endpoint of uploads with hooks, and what an application makes of them."""
import base64
import contextlib
import hmac
import re
from pathlib import Path

from . import spool
from .httpd import endpoint
from .store import upload_id
from .tus import Tus, assert_error
from .util import wait_until

EVENTS = ('pre-create post-create post-receive pre-finish post-finish pre-terminate '
          'post-terminate')
TOLD = ('post-create', 'post-finish', 'post-terminate')

DIRECTIVES = Path(__file__).resolve().parents[3] / 'docs/directives.md'
RECIPE = re.search('## TusHookSecret\n.*?```python\n(.*?)```', DIRECTIVES.read_text('utf-8'),
                   re.S)[1]


class Hooked(Tus):
    """A Tus whose uploads `hooks`, a HookServer, is asked and told of."""

    at_least_once = False   # who is killed may have told without anybody knowing

    def __init__(self, server, hooks, base='/files/', store=None, **options):
        super().__init__(server, base, store, **options)
        self.hooks = hooks

    def answers(self, *rules):
        """What the endpoint does from now on; what it was asked before is forgotten."""
        self.hooks.script = rules
        self.hooks.forget('pre-create', 'pre-finish', 'pre-terminate', 'post-receive')

    def begin(self):
        """All that was told so far is forgotten, and all consents."""
        self.hooks.script = []
        spool.wait_empty(self.server)
        self.hooks.forget()

    def asked(self):
        """The types of the pre-* that came, in their order."""
        return [type for type in self.hooks.types() if type.startswith('pre-')]

    @contextlib.contextmanager
    def told_of_progress(self, url, length):
        """A PATCH that is held, and of which a post-receive told."""
        with self.hold(url, 0, length, b'') as patch:
            patch.sent = 0
            self.trickle(patch, lambda: self.hooks.of('post-receive', upload=upload_id(url)))
            yield patch

    @staticmethod
    def trickle(patch, condition):
        """Byte for byte until the condition is true."""
        def step():
            if condition():
                return True
            patch.send(b'x')
            patch.sent += 1
            return False

        wait_until(step, 'progress')

    def says(self, type, answer=None, **rule):
        self.answers({'Type': type, 'answer': {} if answer is None else answer, **rule})

    def told(self, upload, *types):
        """Wait for these post-*, in this order, and for no others of the upload."""
        wait_until(lambda: len(self._told(upload)) >= len(types), f'{types} of {upload}')
        assert self._told(upload) == list(types)

    def _told(self, upload):
        calls = self.hooks.of(*TOLD, upload=upload)
        if self.at_least_once:
            calls = {call.get('webhook-id'): call for call in reversed(calls)}.values()
            calls = reversed(list(calls))
        return [call.type for call in calls]

    def assert_nothing_made(self):
        assert not self.store.files()


def start(server, hooks, *lines, events=EVENTS, store=None, extra='', retry='1'):
    """An endpoint at /files."""
    store = store or server.make_store()
    server.start(extra + endpoint('Location /files', store, f'TusHook {hooks.url} {events}',
                                  f'TusHookRetry {retry} 10ms', 'TusHookProgressInterval 20ms',
                                  *lines))
    return Hooked(server, hooks, store=store)


def failed(server, what, hook='pre-create', status='0', why='.*'):
    """The log's line on a hook that failed: which, its URL, where it was said, status and time."""
    server.expect_log(rf'hook {hook} {what} \(\S+:\d+\) failed: status {status} '
                      rf'after \d+ ms: {why}')


def assert_failed(answer):
    assert_error(answer, 502, 'ERR_HOOK_FAILED')


def verify(call, secret):
    """The signature of a call, verified as docs/directives.md says; that is for whsec_."""
    if not secret.startswith('whsec_'):
        secret = 'whsec_' + base64.b64encode(secret.encode()).decode()
    names = {'base64': base64, 'hmac': hmac, 'secret': secret, 'body': call.body,
             'id': call.get('webhook-id'), 'timestamp': call.get('webhook-timestamp'),
             'signature': call.get('webhook-signature')}
    exec(RECIPE, names)
    return names['genuine']


def noted(server):
    """The ids in all journals of TusStateDir."""
    ids = set()
    for path in server.state_dir.glob('*/journal*'):
        with contextlib.suppress(FileNotFoundError):    # a sweep went through it meanwhile
            ids |= set(re.findall(rb'^[+=](.+)$', path.read_bytes(), re.M))
    return ids
