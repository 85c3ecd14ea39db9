"""What is measured beside servers: programs that do one thing each time they are told to."""
import shutil
import subprocess
import sys

from subjects import Server


class Tool(Server):
    """Reads a number a line, and answers how many seconds it took."""

    code = ''

    def start(self):
        self.process = subprocess.Popen([sys.executable, '-c', self.code], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, cwd=self.store)

    def tell(self, number):
        print(number, file=self.process.stdin, flush=True)
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
    """cp of four files of so many bytes each."""

    def copy(self, sizes, _):
        return self.tell(sizes.part)

    def clear(self):
        shutil.rmtree(self.store / 'copy')

    code = '''
import os, subprocess, sys, time
parts = ['part%d' % number for number in range(4)]
for line in sys.stdin:
    for part in parts:
        if not os.path.exists(part):
            with open(part, 'wb') as file:
                for _ in range(int(line) >> 20):
                    file.write(bytes(1 << 20))
            os.sync()
    os.mkdir('copy')
    begun = time.perf_counter()
    subprocess.run(['cp', '--reflink=auto', *parts, 'copy'], check=True)
    seconds = time.perf_counter() - begun
    print(seconds, flush=True)
'''
