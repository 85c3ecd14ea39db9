"""A look at what mod_tus keeps on disk, past the server."""
import json
import os
from pathlib import Path

from .util import wait_until


def upload_id(url):
    """The id is the last segment of an upload's URL."""
    return url.rsplit('/', 1)[-1]


class Store:
    """The directory of a `TusStore file PATH`."""

    def __init__(self, path):
        self.path = Path(path)

    def __str__(self):
        return str(self.path)

    def data_path(self, url):
        return self.path / upload_id(url)

    def info_path(self, url):
        return self.path / (upload_id(url) + '.info')

    def data(self, url):
        return self.data_path(url).read_bytes()

    def size(self, url):
        return self.data_path(url).stat().st_size

    def info(self, url):
        return json.loads(self.info_path(url).read_text('utf-8'))

    def is_held(self, url):
        """Whether some process holds the kernel's lock on the data file."""
        inode = f':{self.data_path(url).stat().st_ino} '
        return any('FLOCK' in line and inode in line
                   for line in Path('/proc/locks').read_text().splitlines())

    def finished(self, url):
        """When the record says that the upload was finished, or None."""
        return self.info(url)['ModTus'].get('Finished')

    def files(self):
        return set(os.listdir(self.path))

    def uploads(self):
        return {name for name in self.files() if not name.endswith('.info')}

    def wait_new(self, before):
        """The id of an upload that is not one of `before`, once its data file is there."""
        return wait_until(lambda: {name for name in self.uploads() - before
                                   if not name.startswith('.')}, 'a new upload').pop()

    def snapshot(self):
        """Everything that must be as it was after a request that was refused."""
        return {path.name: (path.read_bytes(), path.stat().st_mode)
                for path in self.path.iterdir()}

    def assert_only(self, *urls):
        """The store holds these uploads and not one file more."""
        wanted = {name for url in urls for name in (upload_id(url), upload_id(url) + '.info')}
        assert self.files() == wanted, f'in the store: {sorted(self.files())}'
