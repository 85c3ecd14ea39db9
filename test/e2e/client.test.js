// tus-js-client, unmodified, against a real httpd.
import assert from 'node:assert/strict';
import { randomBytes } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { PassThrough, Readable } from 'node:stream';
import { describe, test } from 'node:test';
import tus from 'tus-js-client';
import { MiB, randomFile, sha256, sha256OfFile, temporaryDirectory } from './lib/files.js';
import { Httpd } from './lib/httpd.js';
import { until } from './lib/process.js';
import { stallingProxy } from './lib/stalling-proxy.js';

const TUS = { 'Tus-Resumable': '1.0.0' };

/** A test with an httpd and a directory of its own, whose error log is empty of complaints. */
function clientTest(name, body, ...directives) {
  test(name, async (context) => {
    const directory = temporaryDirectory();
    const httpd = await Httpd.start(context, ...directives);
    await body({ httpd, endpoint: httpd.endpoint, directory, context });
    await httpd.stop();
    assert.deepEqual(httpd.complaints(), []);
  });
}

/** A tus.Upload with a log of its requests and a promise of its end. */
function prepare(endpoint, input, options = {}) {
  const requests = [];
  let current;
  let settle;
  const finished = new Promise((resolve, reject) => {
    settle = { resolve, reject };
  });
  const upload = new tus.Upload(input, {
    endpoint,
    retryDelays: null,
    onSuccess: () => settle.resolve(),
    onError: settle.reject,
    onBeforeRequest: (request) => {
      current = request;
    },
    onAfterResponse: (request, response) => {
      requests.push({
        method: request.getMethod(),
        override: request.getHeader('X-HTTP-Method-Override'),
        offset: Number(request.getHeader('Upload-Offset')),
        status: response.getStatus(),
      });
    },
    ...options,
  });
  return {
    upload,
    requests,
    finished,
    current: () => current,
    methods: () => requests.map(({ method }) => method),
  };
}

async function uploaded(endpoint, input, options) {
  const prepared = prepare(endpoint, input, options);
  prepared.upload.start();
  await prepared.finished;
  return prepared;
}

async function download(url) {
  const response = await fetch(url);
  assert.equal(response.status, 200);
  return sha256(Readable.fromWeb(response.body));
}

async function head(url) {
  const response = await fetch(url, { method: 'HEAD', headers: TUS });
  return { status: response.status, headers: response.headers };
}

/**
 * Starts an upload, and aborts it when the proxy has stalled it. Returns when the connection is
 * closed: tus-js-client takes its end for an error of a request that starts before.
 */
async function cutOff(prepared, httpd, proxy, terminate = false) {
  const { upload } = prepared;
  const before = proxy.stalls();
  upload.start();
  await until(() => proxy.stalls() > before && httpd.storedBytes(upload.url) >= MiB, 'a stall');
  const request = prepared.current().getUnderlyingObject();
  const closed = new Promise((resolve) => request.once('close', resolve));
  await upload.abort(terminate);
  await closed;
}

describe('tus-js-client', () => {
  clientTest('uploads a file in one request', async ({ endpoint, directory }) => {
    const file = randomFile(join(directory, 'plain'), 5 * MiB + 17);
    const { upload, methods } = await uploaded(endpoint, createReadStream(file));
    assert.deepEqual(methods(), ['POST', 'PATCH']);
    assert.equal(await download(upload.url), await sha256OfFile(file));
  });

  clientTest('uploads in chunks', async ({ endpoint, directory }) => {
    const file = randomFile(join(directory, 'chunks'), 5 * MiB + 17);
    const { upload, requests } = await uploaded(endpoint, createReadStream(file), { chunkSize: 2 * MiB });
    assert.deepEqual(requests.slice(1).map(({ offset }) => offset), [0, 2 * MiB, 4 * MiB]);
    assert.equal(await download(upload.url), await sha256OfFile(file));
  });

  clientTest('uploads an empty file', async ({ endpoint }) => {
    const { upload } = await uploaded(endpoint, Buffer.alloc(0));
    const { status, headers } = await head(upload.url);
    assert.equal(status, 200);
    assert.equal(headers.get('Upload-Offset'), '0');
    assert.equal(headers.get('Upload-Length'), '0');
  });

  clientTest('resumes after an abort, at the offset that was stored', async ({ httpd, directory, context }) => {
    const proxy = await stallingProxy(context, httpd.port, 2 * MiB);
    const file = randomFile(join(directory, 'resume'), 5 * MiB);
    const options = { urlStorage: new tus.FileUrlStorage(join(directory, 'urls.json')) };
    const first = prepare(proxy.endpoint, createReadStream(file), options);
    await cutOff(first, httpd, proxy);

    const second = prepare(proxy.endpoint, createReadStream(file), options);
    const [previous] = await second.upload.findPreviousUploads();
    second.upload.resumeFromPreviousUpload(previous);
    second.upload.start();
    await second.finished;
    assert.equal(second.upload.url, first.upload.url);
    assert.deepEqual(second.methods(), ['HEAD', 'PATCH']);
    assert.ok(second.requests[1].offset >= MiB);
    assert.equal(await download(second.upload.url), await sha256OfFile(file));
  });

  clientTest('goes on after it was paused again and again', async ({ httpd, directory, context }) => {
    const proxy = await stallingProxy(context, httpd.port, 2 * MiB, 3);
    const file = randomFile(join(directory, 'paused'), 8 * MiB);
    const paused = prepare(proxy.endpoint, createReadStream(file));
    for (let times = 0; times < 3; times += 1) await cutOff(paused, httpd, proxy);
    paused.upload.start();
    await paused.finished;
    assert.equal(await download(paused.upload.url), await sha256OfFile(file));
  });

  clientTest('defers the length of a stream', async ({ endpoint }) => {
    const data = randomBytes(3 * MiB + 5);
    const input = new PassThrough();
    input.end(data);
    const { upload } = await uploaded(endpoint, input, { uploadLengthDeferred: true, chunkSize: MiB });
    assert.equal((await head(upload.url)).headers.get('Upload-Length'), String(data.length));
    assert.equal(await download(upload.url), await sha256(Readable.from([data])));
  });

  clientTest('sends data with the creation', async ({ endpoint }) => {
    const data = randomBytes(MiB + 3);
    const { upload, methods } = await uploaded(endpoint, data, { uploadDataDuringCreation: true });
    assert.deepEqual(methods(), ['POST']);
    assert.equal(await download(upload.url), await sha256(Readable.from([data])));
  });

  clientTest('sends the first chunk with the creation and the others after it', async ({ endpoint }) => {
    const data = randomBytes(3 * MiB);
    const { upload, methods } = await uploaded(endpoint, data, { uploadDataDuringCreation: true, chunkSize: MiB });
    assert.deepEqual(methods(), ['POST', 'PATCH', 'PATCH']);
    assert.equal(await download(upload.url), await sha256(Readable.from([data])));
  });

  clientTest('terminates an upload in its middle', async ({ httpd, context }) => {
    const proxy = await stallingProxy(context, httpd.port, 2 * MiB);
    const prepared = prepare(proxy.endpoint, randomBytes(5 * MiB));
    await cutOff(prepared, httpd, proxy, true);
    assert.ok([404, 410].includes((await head(prepared.upload.url)).status));
  });

  clientTest('terminates a finished upload', async ({ endpoint }) => {
    const { upload } = await uploaded(endpoint, randomBytes(1000));
    await tus.Upload.terminate(upload.url);
    assert.ok([404, 410].includes((await head(upload.url)).status));
  });

  clientTest('overrides the method', async ({ endpoint }) => {
    const data = randomBytes(3 * MiB);
    const { upload, requests } = await uploaded(endpoint, data, { overridePatchMethod: true, chunkSize: MiB });
    assert.deepEqual(requests.map(({ method }) => method), ['POST', 'POST', 'POST', 'POST']);
    assert.deepEqual(requests.slice(1).map(({ override }) => override), ['PATCH', 'PATCH', 'PATCH']);
    assert.equal(await download(upload.url), await sha256(Readable.from([data])));
  });

  clientTest('gets its metadata back, and the file name with the download', async ({ endpoint }) => {
    const metadata = { filename: 'Übung – “1”.txt', filetype: 'text/plain', empty: '' };
    const { upload } = await uploaded(endpoint, Buffer.from('hello'), { metadata });
    const said = (await head(upload.url)).headers.get('Upload-Metadata');
    const read = Object.fromEntries(said.split(',').map((pair) => {
      const [key, value = ''] = pair.trim().split(' ');
      return [key, Buffer.from(value, 'base64').toString('utf8')];
    }));
    assert.deepEqual(read, metadata);
    const response = await fetch(upload.url);
    assert.equal(await response.text(), 'hello');
    assert.match(response.headers.get('Content-Type'), /^text\/plain/);
    assert.ok(response.headers.get('Content-Disposition').includes(encodeURIComponent('Übung')));
  });

  clientTest('finishes by itself after a stall that httpd ended with 503', async ({ httpd, context }) => {
    const proxy = await stallingProxy(context, httpd.port, 2 * MiB);
    const data = randomBytes(4 * MiB);
    const { upload, requests } = await uploaded(proxy.endpoint, data, { retryDelays: [0, 100, 1000] });
    assert.deepEqual(requests.map(({ method, status }) => `${method} ${status}`),
      ['POST 201', 'PATCH 503', 'HEAD 200', 'PATCH 204']);
    assert.ok(requests[3].offset > 0);
    assert.equal(await download(upload.url), await sha256(Readable.from([data])));
  }, 'RequestReadTimeout body=5');

  clientTest('finishes by itself after a restart of httpd in its middle', async ({ httpd, context }) => {
    const proxy = await stallingProxy(context, httpd.port, 2 * MiB);
    const data = randomBytes(4 * MiB);
    const { upload, requests, finished } = prepare(proxy.endpoint, data, {
      retryDelays: [0, 100, 1000, 1000, 1000, 3000, 3000],
    });
    upload.start();
    await until(() => upload.url && httpd.storedBytes(upload.url) > MiB, 'the first bytes');
    await httpd.stop();
    await httpd.start();
    await finished;
    assert.ok(requests.at(-1).offset > 0);
    assert.equal(await download(upload.url), await sha256(Readable.from([data])));
  });
});
