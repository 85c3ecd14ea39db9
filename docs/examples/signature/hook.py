#!/usr/bin/env python3
"""An endpoint that believes only what its mod_tus signed. TUS_SECRET=... python3 hook.py 9000"""
import base64
import hmac
import json
import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = os.environ['TUS_SECRET']   # as TusHookSecret has it
TOLERANCE = 300                     # seconds; both clocks must be right


def is_genuine(headers, body):
    ident, sent = headers.get('webhook-id', ''), headers.get('webhook-timestamp', '')
    if not sent.isascii() or not sent.isdigit() or abs(time.time() - int(sent)) > TOLERANCE:
        return False
    key = (base64.b64decode(SECRET[6:]) if SECRET.startswith('whsec_') else SECRET.encode())
    digest = hmac.digest(key, f'{ident}.{sent}.'.encode() + body, 'sha256')
    expected = 'v1,' + base64.b64encode(digest).decode()
    return hmac.compare_digest(expected.encode(), headers.get('webhook-signature', '').encode())


class Handler(BaseHTTPRequestHandler):
    protocol_version = 'HTTP/1.1'   # connections are kept

    def do_POST(self):
        body = self.rfile.read(int(self.headers['Content-Length']))
        if not is_genuine(self.headers, body):
            return self.answer(401, b'')
        call = json.loads(body)
        print(call['Type'], call['Event']['Upload']['ID'], flush=True)
        self.answer(200, b'{}')

    def answer(self, status, body):
        self.send_response(status)
        self.send_header('Content-Type', 'application/json')
        self.send_header('Content-Length', str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


if __name__ == '__main__':
    ThreadingHTTPServer(('127.0.0.1', int(sys.argv[1])), Handler).serve_forever()
