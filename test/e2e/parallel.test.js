// parallelUploads: a file in parts at the same time, which the server joins (concatenation).
// Directly, and through stock proxies that keep the path or change it.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { describe, test } from 'node:test';
import tus from 'tus-js-client';
import { MiB, sha256, temporaryDirectory } from './lib/files.js';
import { Httpd } from './lib/httpd.js';
import { until } from './lib/process.js';
import { startProxy } from './lib/proxy.js';
import { stallingProxy } from './lib/stalling-proxy.js';
import { placeUppyPage, uploadWithUppy } from './lib/uppy.js';

const PARTS = 3;
const DATA = randomBytes(6 * MiB + 17);
const METADATA = { filename: 'in parts.bin', filetype: 'application/octet-stream' };
const CHANGED_PATH = '/api/uploads';

/** The records of a store. */
function records(store) {
  return readdirSync(store).filter((name) => name.endsWith('.info'))
    .map((name) => JSON.parse(readFileSync(join(store, name), 'utf8')));
}

/** Where tus-js-client cuts: PARTS of the same size, the last one with the rest. */
function slices() {
  const size = Math.floor(DATA.length / PARTS);
  return Array.from({ length: PARTS }, (_, index) => (
    DATA.subarray(index * size, index === PARTS - 1 ? DATA.length : (index + 1) * size)));
}

async function download(url) {
  const response = await fetch(url);
  assert.equal(response.status, 200);
  return sha256(Readable.fromWeb(response.body));
}

/** Parts and final are in the store, finished and right, and nothing else is. */
async function assertJoined(httpd, url, path = '/files') {
  const all = records(httpd.store);
  const finals = all.filter((record) => record.IsFinal);
  const parts = all.filter((record) => record.IsPartial);
  assert.equal(all.length, PARTS + 1);
  assert.equal(finals.length, 1);
  assert.equal(parts.length, PARTS);
  const [final] = finals;
  assert.ok(all.every((record) => record.ModTus.Finished));
  assert.equal(new URL(url).pathname, `${path}/${final.ID}`);
  assert.deepEqual([...final.PartialUploads].sort(), parts.map((part) => part.ID).sort());
  assert.equal(final.MetaData.filename, METADATA.filename);
  slices().forEach((slice, index) => (
    assert.ok(slice.equals(readFileSync(join(httpd.store, final.PartialUploads[index]))))));
  assert.ok(DATA.equals(readFileSync(join(httpd.store, final.ID))));
  assert.equal(await download(url), await sha256(Readable.from([DATA])));

  const head = await fetch(url, { method: 'HEAD', headers: { 'Tus-Resumable': '1.0.0' } });
  assert.equal(head.headers.get('Upload-Offset'), String(DATA.length));
  assert.equal(head.headers.get('Upload-Length'), String(DATA.length));
  const [kind, urls] = head.headers.get('Upload-Concat').split(';');
  assert.equal(kind, 'final');
  assert.deepEqual(urls.split(' ').map((part) => new URL(part, url).pathname),
    final.PartialUploads.map((id) => `${path}/${id}`));
}

/** A tus.Upload in parts, with a log of its requests and a promise of its end. */
function prepare(endpoint, options = {}) {
  const requests = [];
  let settle;
  const finished = new Promise((resolve, reject) => {
    settle = { resolve, reject };
  });
  const upload = new tus.Upload(DATA, {
    endpoint,
    parallelUploads: PARTS,
    metadata: METADATA,
    retryDelays: null,
    onSuccess: () => settle.resolve(),
    onError: settle.reject,
    onAfterResponse: (request, response) => {
      requests.push({
        method: request.getMethod(),
        concat: request.getHeader('Upload-Concat'),
        offset: Number(request.getHeader('Upload-Offset')),
        status: response.getStatus(),
      });
    },
    ...options,
  });
  return { upload, requests, finished };
}

async function uploadInParts(endpoint) {
  const { upload, requests, finished } = prepare(endpoint);
  upload.start();
  await finished;
  const created = requests.filter(({ method }) => method === 'POST');
  assert.equal(created.length, PARTS + 1);
  assert.ok(created.at(-1).concat.startsWith('final;http://'));
  return upload.url;
}

/** An httpd whose log has no complaint at the end. */
async function withHttpd(context, body, ...directives) {
  const httpd = await Httpd.start(context, ...directives);
  await body(httpd);
  await httpd.stop();
  assert.deepEqual(httpd.complaints(), []);
}

/** TusBaseURL where the proxy changes the path. */
const baseUrlFor = (path) => (path === '/files' ? []
  : ['<Location "/files">', `TusBaseURL ${path}/`, '</Location>']);

describe('parallelUploads of tus-js-client', () => {
  test('directly', (context) => withHttpd(context, async (httpd) => {
    await assertJoined(httpd, await uploadInParts(httpd.endpoint));
  }));

  const proxies = [
    { kind: 'modProxy', name: 'mod_proxy' },
    { kind: 'nginx', name: 'nginx', buffering: true },
    { kind: 'nginx', name: 'nginx with proxy_request_buffering off', buffering: false },
  ];
  for (const { kind, name, buffering } of proxies) {
    for (const path of ['/files', CHANGED_PATH]) {
      test(`through ${name}, ${path === '/files' ? 'the same path' : 'another path'}`, (context) => (
        withHttpd(context, async (httpd) => {
          const proxy = await startProxy(context, kind, httpd, { path, buffering });
          await assertJoined(httpd, await uploadInParts(proxy.endpoint), path);
          assert.deepEqual(proxy.complaints(), []);
        }, ...baseUrlFor(path))));
    }
  }

  test('goes on with all parts after an abort', (context) => withHttpd(context, async (httpd) => {
    const stalling = await stallingProxy(context, httpd.port, MiB, PARTS);
    const options = {
      urlStorage: new tus.FileUrlStorage(join(temporaryDirectory(), 'urls.json')),
      fingerprint: async () => 'the same file',
    };
    const first = prepare(stalling.endpoint, options);
    first.upload.start();
    const offsets = () => records(httpd.store).map(({ ID }) => (
      readFileSync(join(httpd.store, ID)).length));
    await until(() => stalling.stalls() === PARTS && offsets().length === PARTS
      && offsets().every((offset) => offset > MiB / 2), 'all parts to stall');
    const [previous] = await until(async () => {
      const found = await first.upload.findPreviousUploads();
      return found.length && found;
    }, 'the URLs to be remembered');
    await first.upload.abort();

    const second = prepare(stalling.endpoint, options);
    second.upload.resumeFromPreviousUpload(previous);
    second.upload.start();
    await second.finished;
    const methods = second.requests.map(({ method }) => method).sort();
    assert.deepEqual(methods, ['HEAD', 'HEAD', 'HEAD', 'PATCH', 'PATCH', 'PATCH', 'POST']);
    const patches = second.requests.filter(({ method }) => method === 'PATCH');
    assert.ok(patches.every(({ offset }) => offset > MiB / 2));
    await assertJoined(httpd, second.upload.url);
  }));

  test('a part that breaks off is tried again while the others go on', (context) => (
    withHttpd(context, async (httpd) => {
      const stalling = await stallingProxy(context, httpd.port, MiB, 1);
      const { upload, requests, finished } = prepare(stalling.endpoint, { retryDelays: [0, 100, 1000] });
      upload.start();
      await finished;
      assert.equal(requests.filter(({ status }) => status === 503).length, 1);
      await assertJoined(httpd, upload.url);
    }, 'RequestReadTimeout body=5')));
});

describe('parallelUploads of Uppy in Chromium', () => {
  /** Uploads DATA from a page at the origin whose document root is given. */
  async function uploadFrom(context, { origin, htdocs }, endpoint) {
    const file = join(temporaryDirectory(), METADATA.filename);
    writeFileSync(file, DATA);
    placeUppyPage(htdocs);
    const options = { endpoint, parallelUploads: PARTS, retryDelays: null };
    const { url, requests } = await uploadWithUppy(context, origin, file, options);
    const posts = requests.filter(({ method }) => method === 'POST');
    assert.equal(posts.length, PARTS + 1);
    return { url, requests };
  }

  test('directly', (context) => withHttpd(context, async (httpd) => {
    const page = { origin: `http://127.0.0.1:${httpd.port}`, htdocs: httpd.htdocs };
    const { url } = await uploadFrom(context, page, httpd.endpoint);
    await assertJoined(httpd, url);
  }));

  for (const path of ['/files', CHANGED_PATH]) {
    test(`through mod_proxy, ${path === '/files' ? 'the same path' : 'another path'}`, (context) => (
      withHttpd(context, async (httpd) => {
        const proxy = await startProxy(context, 'modProxy', httpd, { path });
        const { url } = await uploadFrom(context, proxy, proxy.endpoint);
        await assertJoined(httpd, url, path);
        assert.deepEqual(proxy.complaints(), []);
      }, ...baseUrlFor(path))));
  }

  test('from a page of another origin, with TusCORS On', (context) => (
    withHttpd(context, async (httpd) => {
      const elsewhere = await startProxy(context, 'nginx', httpd, { path: '/unused' });
      const { url, requests } = await uploadFrom(context, elsewhere, httpd.endpoint);
      assert.ok(requests.every((request) => request.status < 400));
      await assertJoined(httpd, url);
    }, '<Location "/files">', 'TusCORS On', '</Location>')));
});
