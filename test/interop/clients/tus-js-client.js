// tus-js-client in Node.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import tus from 'tus-js-client';
import { MiB, ROOT } from '../../e2e/lib/files.js';
import { until } from '../../e2e/lib/process.js';
import { stallingProxy } from '../../e2e/lib/stalling-proxy.js';
import { assertUploaded, records, stalled } from '../lib.js';

export const name = 'tus-js-client';

export const version = () => (
  JSON.parse(readFileSync(join(ROOT, 'node_modules/tus-js-client/package.json'), 'utf8')).version);

/** A tus.Upload with the methods of its requests and a promise of its end. */
export function prepare(endpoint, file, options = {}) {
  const methods = [];
  let settle;
  const finished = new Promise((resolve, reject) => {
    settle = { resolve, reject };
  });
  const upload = new tus.Upload(readFileSync(file), {
    endpoint,
    retryDelays: null,
    metadata: { filename: 'interop.bin' },
    onSuccess: () => settle.resolve(),
    onError: settle.reject,
    onAfterResponse: (request) => methods.push(request.getMethod()),
    ...options,
  });
  return { upload, methods, finished };
}

export async function uploaded(endpoint, file, options) {
  const { upload, finished } = prepare(endpoint, file, options);
  upload.start();
  await finished;
  return upload.url;
}

/** Starts an upload through a proxy that stalls it, aborts it there, and finishes it anew. */
async function interrupted({ scope, httpd, directory, file }, connections, options) {
  const proxy = await stallingProxy(scope, httpd.port, MiB, connections);
  const remembered = {
    urlStorage: new tus.FileUrlStorage(join(directory, 'urls.json')),
    fingerprint: async () => file,
    ...options,
  };
  const first = prepare(proxy.endpoint, file, remembered);
  first.upload.start();
  await stalled(proxy, httpd, MiB / 2, connections);
  const [previous] = await until(async () => {
    const found = await first.upload.findPreviousUploads();
    return found.length && found;
  }, 'the URL to be remembered');
  await first.upload.abort();
  const second = prepare(proxy.endpoint, file, remembered);
  second.upload.resumeFromPreviousUpload(previous);
  second.upload.start();
  await second.finished;
  await assertUploaded(httpd, second.upload.url, file);
  return second.methods;
}

export const checks = [
  { what: 'upload in chunks',
    run: async ({ httpd, file }) => (
      assertUploaded(httpd, await uploaded(httpd.endpoint, file, { chunkSize: MiB }), file)) },
  { what: 'data with the creation',
    run: async ({ httpd, file }) => {
      const options = { uploadDataDuringCreation: true, chunkSize: 2 * MiB };
      await assertUploaded(httpd, await uploaded(httpd.endpoint, file, options), file);
    } },
  { what: 'deferred length',
    run: async ({ httpd, file }) => {
      const options = { uploadLengthDeferred: true, chunkSize: 2 * MiB };
      await assertUploaded(httpd, await uploaded(httpd.endpoint, file, options), file);
    } },
  { what: 'resumption after an interruption',
    run: async (check) => assert.deepEqual(await interrupted(check, 1, {}), ['HEAD', 'PATCH']) },
  { what: 'parallelUploads: 3',
    run: async ({ httpd, file }) => {
      const url = await uploaded(httpd.endpoint, file, { parallelUploads: 3 });
      await assertUploaded(httpd, url, file);
      assert.equal(records(httpd.store).filter((record) => record.IsPartial).length, 3);
    } },
  { what: 'parallelUploads: 3, resumption of all parts',
    run: async (check) => {
      const methods = await interrupted(check, 3, { parallelUploads: 3 });
      assert.equal(methods.filter((method) => method === 'POST').length, 1, 'only the final');
    } },
  { what: 'termination',
    run: async ({ httpd, file }) => {
      const url = await uploaded(httpd.endpoint, file);
      await tus.Upload.terminate(url);
      assert.deepEqual(records(httpd.store), []);
    } },
];
