"""Children that are killed at random while a test goes on."""
import os
import random
import signal
import threading
from contextlib import contextmanager, suppress

from .util import wait_until


@contextmanager
def children_killed(server, seed):
    """Ends one by SIGKILL every 50 to 150 ms; at the end some live that answer."""
    server.allow_log('AH10392')     # more of them at a time than httpd thinks usual
    stop = threading.Event()

    def kill():
        dice = random.Random(seed)
        while not stop.wait(0.05 + dice.random() / 10):
            children = server.children()
            if children:
                with suppress(ProcessLookupError):    # it was reaped meanwhile
                    os.kill(dice.choice(children), signal.SIGKILL)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
    wait_until(server.answers, 'children that live')
