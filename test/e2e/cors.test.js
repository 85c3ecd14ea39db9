// A page of another origin in Chromium, which uploads with tus-js-client as its maker ships it.
import assert from 'node:assert/strict';
import { readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { describe, test } from 'node:test';
import { launchBrowser } from './lib/browser.js';
import { MiB, randomFile, sha256OfFile, temporaryDirectory } from './lib/files.js';
import { Httpd } from './lib/httpd.js';

const CLIENT = join(dirname(createRequire(import.meta.url).resolve('tus-js-client/package.json')), 'dist/tus.min.js');
const PAGE = '<!doctype html><title>Elsewhere</title><input type="file"><script src="tus.min.js"></script>';

const USER = `Basic ${Buffer.from('joe:secret').toString('base64')}`;
const USERS = 'joe:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n';

/** A web server without httpd, on a port of its own; its origin. */
async function serveElsewhere(test) {
  const server = createServer((request, response) => {
    const isScript = request.url === '/tus.min.js';
    response.setHeader('Content-Type', isScript ? 'text/javascript' : 'text/html');
    response.end(isScript ? readFileSync(CLIENT) : PAGE);
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  test.after(() => {
    server.close();
    server.closeAllConnections();
  });
  return `http://127.0.0.1:${server.address().port}`;
}

/** An httpd whose endpoint wants a user, and says this about other origins. */
async function startPrivate(test, ...lines) {
  const directory = temporaryDirectory();
  const users = join(directory, 'users');
  const include = join(directory, 'private.conf');
  const modules = ['auth_basic', 'authn_core', 'authn_file', 'authz_user'].map((name) =>
    `LoadModule ${name}_module "\${MODULES}/mod_${name}.so"`);
  writeFileSync(users, USERS);
  writeFileSync(include, [
    ...modules, '<Location "/files">', 'AuthType Basic', 'AuthName "uploads"', 'AuthBasicProvider file',
    `AuthUserFile "${users}"`, 'Require valid-user', ...lines, '</Location>', '',
  ].join('\n'));
  return Httpd.start(test, `Include "${include}"`);
}

async function visit(test, url) {
  const context = await launchBrowser(join(temporaryDirectory(), 'profile'));
  test.after(() => context.close());
  const page = context.pages()[0];
  await page.goto(url);
  return page;
}

/** Uploads the file from the page in two PATCHes; what the page was told. */
async function upload(page, endpoint, file, withCredentials) {
  await page.setInputFiles('input', file);
  return page.evaluate(({ endpoint, user, withCredentials, chunkSize }) => new Promise((resolve) => {
    const told = [];
    const upload = new tus.Upload(document.querySelector('input').files[0], {
      endpoint,
      chunkSize,
      retryDelays: null,
      headers: { Authorization: user },
      onBeforeRequest: (request) => {
        request.getUnderlyingObject().withCredentials = withCredentials;
      },
      onAfterResponse: (request, response) => {
        told.push([request.getMethod(), response.getStatus(), response.getHeader('Tus-Resumable')]);
      },
      onError: (error) => resolve({ told, error: error.message }),
      onSuccess: () => resolve({ told, url: upload.url }),
    });
    upload.start();
  }), { endpoint, user: USER, withCredentials, chunkSize: MiB });
}

describe('a page of another origin', () => {
  test('uploads, though the endpoint wants a user', async (context) => {
    const elsewhere = await serveElsewhere(context);
    const httpd = await startPrivate(context, 'TusCORS On', 'TusCORSAllowCredentials On',
      `TusCORSAllowOrigin "^${elsewhere.replaceAll('.', '\\.')}$"`);
    const page = await visit(context, elsewhere);
    const file = randomFile(join(temporaryDirectory(), 'film.bin'), 2 * MiB);

    const stranger = await fetch(httpd.endpoint, { method: 'POST', headers: { 'Tus-Resumable': '1.0.0', 'Upload-Length': '1' } });
    assert.equal(stranger.status, 401);

    const { told, url, error } = await upload(page, httpd.endpoint, file, true);
    assert.equal(error, undefined);
    assert.deepEqual(told, [['POST', 201, '1.0.0'], ['PATCH', 204, '1.0.0'], ['PATCH', 204, '1.0.0']]);
    assert.ok(url.startsWith(httpd.endpoint), url);
    assert.equal(await sha256OfFile(join(httpd.store, url.split('/').pop())), await sha256OfFile(file));

    // An error that another module makes, too, can be read by the page.
    const refused = await page.evaluate(async (url) => {
      const response = await fetch(url, { method: 'HEAD', headers: { 'Tus-Resumable': '1.0.0' } });
      return [response.status, response.headers.get('Tus-Resumable')];
    }, url);
    assert.deepEqual(refused, [401, '1.0.0']);
    await httpd.stop();
    assert.deepEqual(httpd.complaints(), []);
  });

  for (const [what, lines, withCredentials] of [
    ['TusCORS is Off', ['TusCORS Off'], false],
    ['its origin is another', ['TusCORS On', 'TusCORSAllowOrigin "^https://app\\.example$"'], false],
    ['it wants to send credentials and may not', ['TusCORS On'], true],
  ]) {
    test(`uploads nothing where ${what}`, async (context) => {
      const page = await visit(context, await serveElsewhere(context));
      const httpd = await startPrivate(context, ...lines);
      const file = randomFile(join(temporaryDirectory(), 'film.bin'), 1000);
      const { told, error } = await upload(page, httpd.endpoint, file, withCredentials);
      assert.match(error, /failed to create upload/);
      assert.deepEqual(told, []);
    });
  }
});
