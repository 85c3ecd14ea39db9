#!/usr/bin/env python3
"""An endpoint that acts on each post-* once, however often it is told. python3 once.py 9000 FILE"""
import contextlib
import json
import sqlite3
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

TABLES = '''
CREATE TABLE IF NOT EXISTS seen (id TEXT PRIMARY KEY, at TEXT DEFAULT CURRENT_TIMESTAMP);
CREATE TABLE IF NOT EXISTS documents (upload TEXT, name TEXT, size INTEGER);
'''


def act_once(database, call):
    """The id and what comes of the event are written together, or not at all."""
    upload = call['Event']['Upload']
    with database:  # BEGIN ... COMMIT; ROLLBACK if anything below fails, and it is told again
        new = database.execute('INSERT INTO seen (id) VALUES (?) ON CONFLICT DO NOTHING',
                               [call['Event']['ModTus']['EventID']]).rowcount
        if new and call['Type'] == 'post-finish':
            database.execute('INSERT INTO documents VALUES (?, ?, ?)',
                             [upload['ID'], upload['MetaData'].get('filename'), upload['Size']])


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'

    def do_POST(self):
        call = json.loads(self.rfile.read(int(self.headers['Content-Length'])))
        if call['Type'].startswith('post-'):
            with contextlib.closing(sqlite3.connect(sys.argv[2], timeout=10)) as database:
                act_once(database, call)
        self.send_response(200)
        self.send_header('Content-Length', '0')
        self.end_headers()

    def log_message(self, *_):
        pass


if __name__ == '__main__':
    with contextlib.closing(sqlite3.connect(sys.argv[2])) as tables:
        tables.executescript(TABLES)
    ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
