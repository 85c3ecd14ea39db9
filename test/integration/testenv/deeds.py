"""test/tus_deed: what ring 3 makes of a store, without a server."""
import json
import os
import subprocess
from pathlib import Path

BESIDE = Path(__file__).resolve().parents[2] / 'tus_deed'
TOOL = Path(os.environ.get('TUS_DEED', BESIDE))


class Deeds:
    """One process that does any number of them; to be closed."""

    def __init__(self, boot='this', environment=()):
        assert TOOL.exists(), f'{TOOL} is missing: build it, or set TUS_DEED'
        self._process = subprocess.Popen([TOOL, boot], stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE,
                                         env={**os.environ, **dict(environment)})

    def do(self, deed, store, state, uid='-'):
        """The answer, a dict; None if the process died over it."""
        try:
            self._process.stdin.write(f'{deed} {store} {state} {uid}\n'.encode())
            self._process.stdin.flush()
        except BrokenPipeError:
            return None
        line = self._process.stdout.readline()
        return json.loads(line) if line else None

    def close(self):
        self._process.stdin.close()
        self._process.stdout.close()
        return self._process.wait()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
