"""The audit of an error log: a test fails on every warning that it did not announce."""
import re

LINE = re.compile(r'^\[[^\]]+\] \[(?P<module>[\w-]*):(?P<level>\w+)\] \[pid (?P<pid>\d+)')
LOUD = {'warn', 'error', 'crit', 'alert', 'emerg'}
# A crash is logged at notice, and a sanitizer writes no level at all.
ALARM = re.compile(r'AddressSanitizer|LeakSanitizer|runtime error:|exit signal|Assertion .* failed')
# The machine's own business: mod_ssl was built with a newer OpenSSL than is installed.
MACHINE = re.compile(r'AH01882')


class ErrorLog:
    """Reads what was added to one log since the last audit."""

    def __init__(self, path):
        self.path = path
        self._audited = 0

    def text(self):
        return self.path.read_text('utf-8', 'replace') if self.path.exists() else ''

    def unread(self):
        return self.text()[self._audited:]

    def mark_read(self):
        self._audited = len(self.text())

    def loud_lines(self):
        """The lines not yet audited that nobody may overlook."""
        return [line for line in self.unread().splitlines() if is_loud(line)]


def is_loud(line):
    if not line.strip() or MACHINE.search(line):
        return False
    if ALARM.search(line):
        return True
    match = LINE.match(line)
    return match is None or match['level'] in LOUD


def audit(logs, expected, allowed):
    """What is wrong with the unread part of `logs`: undeclared loud lines and missing ones."""
    loud = [line for log in logs for line in log.loud_lines()]
    text = '\n'.join(log.unread() for log in logs)
    declared = [re.compile(pattern) for pattern in (*expected, *allowed)]
    problems = [f'unexpected: {line[:500]}' for line in loud
                if not any(pattern.search(line) for pattern in declared)]
    problems += [f'never logged: {pattern}' for pattern in expected if not re.search(pattern, text)]
    return problems
