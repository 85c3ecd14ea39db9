"""CGI and PHP scripts that answer hooks, and note what they were called with."""
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from .util import give_to_user, wait_until

# Of a shell, so that the environment is the one that httpd made.
CGI = '''\
#!/bin/sh
place='{place}'
n=$(mktemp "$place/XXXXXX")
env > "$n.env"
cat > "$n.body"
mv "$n.body" "$n.call"
test -f "$place/wait" && while test -f "$place/wait"; do sleep 0.05; done
printf 'Content-Type: application/json\\n\\n'
cat "$place/answer"
'''

PHP = '''\
<?php
$n = tempnam('{place}', 'php');
$text = '';
foreach ($_SERVER as $name => $value)
    if (is_string($value)) $text .= "$name=$value\\n";
file_put_contents("$n.env", $text);
file_put_contents("$n.body", file_get_contents('php://input'));
rename("$n.body", "$n.call");
header('Content-Type: application/json');
readfile('{place}/answer');
'''


@dataclass
class ScriptCall:
    environment: dict
    body: bytes

    @property
    def event(self):
        return json.loads(self.body)

    @property
    def type(self):
        return self.event['Type']

    @property
    def is_hook(self):
        """Whether the module says that the call is its own."""
        return self.environment.get('TUS_HOOK') == '1'


class Script:
    """A script at `path`; what it was called with is below `place`."""

    def __init__(self, path, place, text=CGI):
        self.place = Path(place)
        self.place.mkdir(exist_ok=True)
        self.place.chmod(0o777)
        give_to_user(self.place)
        self.answer({})
        Path(path).write_text(text.format(place=self.place))
        os.chmod(path, 0o755)

    def answer(self, what):
        (self.place / 'answer').write_text(json.dumps(what))

    def hold(self):
        """It answers nobody until let_go()."""
        (self.place / 'wait').touch()

    def let_go(self):
        (self.place / 'wait').unlink()

    def calls(self, type=None):
        """In the order in which they came."""
        found = sorted(self.place.glob('*.call'), key=lambda path: path.stat().st_mtime_ns)
        calls = [ScriptCall(read_environment(path.with_suffix('.env')), path.read_bytes())
                 for path in found]
        return [call for call in calls if type is None or (call.body and call.type == type)]

    def wait(self, count, type=None, timeout=20):
        wait_until(lambda: len(self.calls(type)) >= count, f'{count} calls of {type or "any"}',
                   timeout)
        return self.calls(type)


def read_environment(path):
    return dict(re.findall(r'(?m)^(\w+)=(.*)$', path.read_text('utf-8', 'replace')))
