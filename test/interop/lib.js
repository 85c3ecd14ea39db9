// What every client's checks need.
import assert from 'node:assert/strict';
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { connect, createServer } from 'node:net';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { sha256, sha256OfFile } from '../e2e/lib/files.js';
import { until } from '../e2e/lib/process.js';

/** Packages that are installed for this alone, below build/. */
export const INTEROP = new URL('../../build/interop/', import.meta.url).pathname;

/** What a check opens, closed in the opposite order; stands in for node:test's context. */
export class Scope {
  #cleanups = [];

  after(cleanup) {
    this.#cleanups.push(cleanup);
  }

  async close() {
    for (const cleanup of this.#cleanups.reverse()) await cleanup();
  }
}

/** A client or server that runs as a process of its own. */
export class Program {
  said = '';
  complained = '';

  constructor(scope, program, args) {
    this.child = spawn(program, args, { stdio: ['ignore', 'pipe', 'pipe'] });
    this.child.stdout.on('data', (data) => {
      this.said += data;
    });
    this.child.stderr.on('data', (data) => {
      this.complained += data;
    });
    this.over = new Promise((resolve) => {
      this.child.once('close', resolve);
      this.child.once('error', (error) => {
        this.complained += error.message;
        resolve();
      });
    });
    scope.after(() => this.kill());
  }

  /** What it said, once it has ended well. */
  async finish() {
    await this.over;
    assert.equal(this.child.exitCode, 0, this.complained.trim().split('\n').slice(-3).join(' '));
    return this.said.trim();
  }

  async kill(signal = 'SIGKILL') {
    this.child.kill(signal);
    await this.over;
  }
}

/** All records of a store. */
export function records(store) {
  return readdirSync(store).filter((name) => name.endsWith('.info'))
    .map((name) => JSON.parse(readFileSync(join(store, name), 'utf8')));
}

/** The upload is finished, and its bytes are those of the file: on disk and when downloaded. */
export async function assertUploaded(httpd, url, file) {
  const id = new URL(url).pathname.slice('/files/'.length);
  const expected = await sha256OfFile(file);
  assert.equal(await sha256OfFile(join(httpd.store, id)), expected, 'the bytes in the store');
  const response = await fetch(url);
  assert.equal(response.status, 200, 'GET');
  assert.equal(await sha256(Readable.fromWeb(response.body)), expected, 'the downloaded bytes');
  const head = await fetch(url, { method: 'HEAD', headers: { 'Tus-Resumable': '1.0.0' } });
  assert.equal(head.headers.get('Upload-Offset'), String(statSync(file).size), 'Upload-Offset');
  assert.equal(head.headers.get('Upload-Offset'), head.headers.get('Upload-Length'));
}

/** Waits until the proxy has stalled that many uploads, and httpd has stored what came through. */
export async function stalled(proxy, httpd, bytes, uploads = 1) {
  const reached = () => records(httpd.store).filter(
    ({ ID }) => statSync(join(httpd.store, ID)).size >= bytes);
  await until(() => proxy.stalls() >= uploads && reached().length >= uploads, 'a stall');
}

/** A TCP proxy that changes one byte, once, in the middle of what a connection sends. */
export async function corruptingProxy(scope, port, after) {
  const sockets = new Set();
  let corrupted = 0;
  const server = createServer((client) => {
    const upstream = connect(port, '127.0.0.1');
    let sent = 0;
    for (const socket of [client, upstream]) {
      sockets.add(socket);
      socket.on('error', () => {});
      socket.on('close', () => {
        client.destroy();
        upstream.destroy();
      });
    }
    upstream.pipe(client);
    client.on('end', () => upstream.end());
    client.on('data', (data) => {
      sent += data.length;
      if (!corrupted && sent > after) {
        corrupted += 1;
        data[data.length - 1] ^= 1;
      }
      if (!upstream.write(data)) {
        client.pause();
        upstream.once('drain', () => client.resume());
      }
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  scope.after(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return {
    endpoint: `http://127.0.0.1:${server.address().port}/files/`,
    corrupted: () => corrupted,
  };
}
