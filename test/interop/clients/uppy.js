// Uppy in Chromium.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MiB, ROOT } from '../../e2e/lib/files.js';
import { stallingProxy } from '../../e2e/lib/stalling-proxy.js';
import { placeUppyPage, uploadWithUppy } from '../../e2e/lib/uppy.js';
import { assertUploaded, records } from '../lib.js';

export const name = 'Uppy in Chromium';

export const version = () => (
  JSON.parse(readFileSync(join(ROOT, 'node_modules/uppy/package.json'), 'utf8')).version);

/** Uploads from a page that httpd serves, perhaps through a proxy that leads to it. */
async function upload({ scope, httpd, file }, endpoint, options) {
  placeUppyPage(httpd.htdocs);
  const { origin } = new URL(endpoint);
  const { url } = await uploadWithUppy(scope, origin, file, { endpoint, ...options });
  await assertUploaded(httpd, url, file);
}

export const checks = [
  { what: 'upload', run: (check) => upload(check, check.httpd.endpoint, {}) },
  { what: 'parallelUploads: 3',
    run: async (check) => {
      await upload(check, check.httpd.endpoint, { parallelUploads: 3 });
      assert.equal(records(check.httpd.store).filter((record) => record.IsPartial).length, 3);
    } },
  { what: 'parallelUploads: 3, one part is cut off and resumes',
    directives: ['RequestReadTimeout body=2'],
    run: async (check) => {
      const proxy = await stallingProxy(check.scope, check.httpd.port, MiB);
      await upload(check, proxy.endpoint, { parallelUploads: 3, retryDelays: [0, 100, 1000] });
      assert.equal(proxy.stalls(), 1);
      assert.equal(records(check.httpd.store).length, 4, 'no part is made twice');
    } },
];
