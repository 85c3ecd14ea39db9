// tuspy, from PyPI in a virtual environment.
import assert from 'node:assert/strict';
import { join } from 'node:path';
import { MiB } from '../../e2e/lib/files.js';
import { output } from '../../e2e/lib/process.js';
import { stallingProxy } from '../../e2e/lib/stalling-proxy.js';
import { assertUploaded, corruptingProxy, INTEROP, Program, records, stalled } from '../lib.js';

const PYTHON = join(INTEROP, 'python/bin/python');
const CLIENT = new URL('../tuspy/client.py', import.meta.url).pathname;

export const name = 'tuspy';

export const version = () => output(PYTHON, '-c',
  'from importlib.metadata import version; print(version("tuspy"))');

const start = (scope, endpoint, file, ...words) => (
  new Program(scope, PYTHON, [CLIENT, endpoint, file, ...words]));

async function upload({ scope, httpd, file }, ...words) {
  await assertUploaded(httpd, await start(scope, httpd.endpoint, file, ...words).finish(), file);
}

export const checks = [
  { what: 'upload in chunks', run: (check) => upload(check) },
  { what: 'upload in chunks, asynchronous', run: (check) => upload(check, 'ASYNC') },
  { what: 'checksums (sha1)', run: (check) => upload(check, 'CHECKSUM') },
  { what: 'checksums, a chunk that is damaged on its way is sent again',
    run: async ({ scope, httpd, file }) => {
      const proxy = await corruptingProxy(scope, httpd.port, MiB / 2);
      const url = await start(scope, proxy.endpoint, file, 'CHECKSUM').finish();
      assert.equal(proxy.corrupted(), 1);
      await assertUploaded(httpd, url, file);
      assert.match(httpd.errors(), /ERR_CHECKSUM_MISMATCH/);
    } },
  { what: 'resumption after kill -9 of the client',
    run: async ({ scope, httpd, directory, file }) => {
      const proxy = await stallingProxy(scope, httpd.port, MiB / 2);
      const storage = `STORAGE=${join(directory, 'urls.json')}`;
      const first = start(scope, proxy.endpoint, file, storage);
      await stalled(proxy, httpd, MiB / 4);
      await first.kill();
      const url = await start(scope, proxy.endpoint, file, storage).finish();
      await assertUploaded(httpd, url, file);
      assert.equal(records(httpd.store).length, 1, 'no second upload');
    } },
];
