"""What is measured beside servers: programs that do one thing each time they are told to."""
import shutil
import subprocess
import sys

from subjects import Server


class Tool(Server):
    """Reads a line on what to do, and answers how many seconds it took."""

    code = ''

    def start(self):
        self.process = subprocess.Popen([sys.executable, '-c', self.code], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, cwd=self.store)

    def tell(self, what):
        print(what, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def stop(self):
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


class Hashing(Tool):
    """SHA-256 of so many bytes, by the library that mod_tus uses."""

    def hash(self, sizes, _):
        return self.tell(sizes.big)

    code = '''
import hashlib, sys, time
block = bytes(1 << 18)
for line in sys.stdin:
    begun, digest = time.perf_counter(), hashlib.sha256()
    for _ in range(int(line) >> 18):
        digest.update(block)
    print(time.perf_counter() - begun, flush=True)
'''


class Copying(Tool):
    """cp of files."""

    def copy(self, _sizes, paths):
        return self.tell(' '.join(map(str, paths)))

    def clear(self):
        shutil.rmtree(self.store / 'copy')

    code = '''
import os, subprocess, sys, time
for line in sys.stdin:
    os.mkdir('copy')
    begun = time.perf_counter()
    subprocess.run(['cp', '--reflink=auto', *line.split(), 'copy'], check=True)
    seconds = time.perf_counter() - begun
    print(seconds, flush=True)
'''
