#!/usr/bin/python3
"""How long a newer request waits for an older one to let go: for each pair of protocols.

    test/bench/takeover.py [ROUNDS]

Each round holds an upload by a stalled PATCH in one process of httpd's, and asks for its offset by
a HEAD that another process serves. What is measured is the time from the HEAD's last byte sent to
the first byte of its answer, on a connection that was made before. The last column says in how
many rounds two processes took part, as the access log has it.
"""
import itertools
import re
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'test' / 'integration'))

from testenv.httpd import Httpd, endpoint                       # noqa: E402
from testenv.transport import CONFIG, PROTOCOLS, Transport      # noqa: E402
from testenv.tus import Tus                                     # noqa: E402
from testenv.util import program                                # noqa: E402

# One thread each: the two requests are never in one process.
MPM_SETTINGS = ('StartServers 8\nServerLimit 24\nThreadsPerChild 1\nMinSpareThreads 2\n'
                'MaxSpareThreads 24\nMaxRequestWorkers 24\nH2MinWorkers 4\nH2MaxWorkers 8')
LENGTH = 1 << 20


def time_head(transport, url):
    """(seconds, status, offset)"""
    if not transport.is_h2:
        with transport.tus.connect() as conn:
            begun = time.perf_counter()
            conn.send_head('HEAD', url, [('Tus-Resumable', '1.0.0')])
            answer = conn.response('HEAD')
            return time.perf_counter() - begun, answer.status, answer.get('Upload-Offset')
    result = subprocess.run(
        [program('curl'), '--silent', '--insecure', transport.option, '--head',
         '-H', 'Tus-Resumable: 1.0.0', '--write-out', '%{time_pretransfer} %{time_starttransfer}',
         transport.origin + url], capture_output=True, text=True, check=True)
    before, after = map(float, result.stdout.splitlines()[-1].split())
    offset = re.search(r'upload-offset: (\d+)', result.stdout)
    return after - before, int(result.stdout.split()[1]), offset and offset[1]


def take_over(tus, old, new):
    url = tus.new(LENGTH)
    with old.hold(url, 0, LENGTH, b'x' * 1000):
        seconds, *told = time_head(new, url)
    assert told == [200, '1000'], told
    return seconds, url


def crossed(server, urls):
    """How many of these uploads were held in one process and asked for in another."""
    log = server.access_log()
    number = 0
    for url in urls:
        pids = {method: pid for pid, method in re.findall(rf' (\d+) "(PATCH|HEAD) {url} ', log)}
        number += len(set(pids.values())) == 2
    return number


def take_overs(rounds):
    """For each pair of protocols: (held by, asked for by, seconds in order, rounds crossed)."""
    server = Httpd(mpm='worker', modules=['http2'], tls=True, mpm_settings=MPM_SETTINGS)
    try:
        store = server.make_store()
        server.start(CONFIG + 'RequestReadTimeout body=0\n' + endpoint('Location /files', store)
                     + server.tls_vhost())
        tus = Tus(server, store=store)
        for older, newer in itertools.product(PROTOCOLS, PROTOCOLS):
            old, new = Transport(tus, older), Transport(tus, newer)
            results = [take_over(tus, old, new) for _ in range(rounds)]
            yield (older, newer, sorted(seconds for seconds, _ in results),
                   crossed(server, [url for _, url in results]))
        server.stop()
    finally:
        if server.process:
            server.kill()
        server.remove()


def main():
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    print(f'{rounds} take-overs each, in ms'.ljust(33)
          + 'min  median     p99     max   across processes')
    for older, newer, seconds, number in take_overs(rounds):
        times = [1000 * each for each in seconds]
        print(f'held by {older:4} asked for by {newer:4}   {times[0]:7.2f} '
              f'{times[rounds // 2]:7.2f} {times[int(rounds * .99)]:7.2f} '
              f'{times[-1]:7.2f}   {number}', flush=True)


if __name__ == '__main__':
    main()
