"""A few seconds of test/torture; `make -f Makefile.apxs torture` goes on for longer."""
import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.reliability

TORTURE = Path(__file__).resolve().parents[1] / 'torture' / 'torture.py'


def test_nothing_is_lost():
    run = subprocess.run([sys.executable, TORTURE, '--seconds', '9'], capture_output=True,
                         text=True, check=False, timeout=300)
    said = run.stdout + run.stderr
    print(said)
    assert run.returncode == 0, said
    assert said.endswith('\n0 losses\n')
    for killed, servers, finished in re.findall(
            r'^\w+: (\d+) children killed .*, (\d+) times the server; (\d+) uploads', said, re.M):
        assert int(killed) and int(servers) and int(finished), said
