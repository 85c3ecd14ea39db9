"""What the metadata index holds, as the dump tool prints it."""
import contextlib
import fcntl
import json
import os
import subprocess
from pathlib import Path

from .store import upload_id
from .util import give_to_user, wait_until

BESIDE = Path(__file__).resolve().parents[2] / 'tus_index_dump'
TOOL = Path(os.environ.get('TUS_INDEX_DUMP', BESIDE))


# What the names begin with of files that are changed in the background.
OF_THE_INDEX = ('index', 'journal', 'clean', 'fold.lock', 'rebuild')


def state_of_store(server):
    """The one directory that TusStateDir has for the one store of a server."""
    found = [path for path in server.state_dir.iterdir() if path.is_dir()]
    assert len(found) == 1, f'in {server.state_dir}: {[path.name for path in found]}'
    return found[0]


def index_files(server):
    return sorted(state_of_store(server).glob('index.*'))


def dump(state, driver='sdbm'):
    """The entries by id. An index that does not exist yet has none."""
    assert TOOL.exists(), f'{TOOL} is missing: build it, or set TUS_INDEX_DUMP'
    result = subprocess.run([TOOL, state, driver], capture_output=True, text=True, check=False)
    assert result.returncode in (0, 1), f'{TOOL.name}: {result.stderr}'
    entries = [json.loads(line) for line in result.stdout.splitlines()]
    by_id = {entry['id']: entry for entry in entries}
    assert len(by_id) == len(entries), 'an id twice'
    return by_id


def is_noted(state, url):
    """Whether a sweep is going to look at an upload: for the journal, or to make the index anew."""
    for path in state.iterdir():
        with contextlib.suppress(FileNotFoundError):    # the sweep is through with it
            if path.name.startswith(('journal', 'rebuild')) and upload_id(url) in path.read_text():
                return True
    return False


def wait_indexed(state, url):
    """Until the index holds an upload, and no sweep has reason to look at it again."""
    wait_until(lambda: upload_id(url) in dump(state) and not is_noted(state, url), 'the index')


@contextlib.contextmanager
def without_sweep(state):
    """The server's sweep leaves the store alone, as while another server works its journal off.

    mod_watchdog may be linked into httpd, as on Debian; so it cannot be left out.
    """
    path = state / 'fold.lock'
    path.touch()
    give_to_user(path)
    with path.open('rb') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
