// `make -f Makefile.apxs run` from start to Ctrl-C.
import assert from 'node:assert/strict';
import { cpSync, existsSync, mkdirSync, readdirSync } from 'node:fs';
import { createServer } from 'node:http';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { isRoot, ROOT, temporaryDirectory } from './lib/files.js';
import { answers, output, until } from './lib/process.js';
import { Run } from './lib/run.js';

const TUS = { 'Tus-Resumable': '1.0.0' };
const NOBODY = ['setpriv', '--reuid=nobody', '--regid=nogroup', '--clear-groups', '--'];

async function createUpload(url) {
  const headers = { ...TUS, 'Upload-Length': '5', 'Content-Type': 'application/offset+octet-stream' };
  const response = await fetch(new URL('files/', url), { method: 'POST', headers, body: 'hello' });
  assert.equal(response.status, 201);
  return new URL(response.headers.get('Location'), url);
}

async function assertServes(run) {
  const page = await fetch(run.url);
  assert.equal(page.status, 200);
  assert.match(await page.text(), /<title>mod_tus/);
  const upload = await createUpload(run.url);
  assert.equal(await (await fetch(upload)).text(), 'hello');
}

/** Ctrl-C, and nothing is left: no process, no listener, no temporary directory. */
async function assertStops(run, signal) {
  const directory = run.directory();
  assert.ok(existsSync(directory));
  await run.interrupt(signal);
  await until(() => run.processes().length === 0, 'the end of its processes', 20);
  assert.equal(await answers(run.port), false);
  assert.equal(existsSync(directory), false);
}

describe('make run', () => {
  test('says in three lines where to go, serves, and ends with Ctrl-C', async (context) => {
    const store = join(temporaryDirectory(), 'my uploads');
    const run = await (await Run.start(context, { STORE: store })).ready();
    const lines = run.output.split('\n');    // httpd's own may come before and after
    const first = lines.findIndex((line) => line.startsWith('Upload page:'));
    assert.deepEqual(lines.slice(first, first + 3), [
      `Upload page:  ${run.url}  (Ctrl-C stops it)`,
      `tus endpoint: ${run.url}files/`,
      `Store:        ${store}`,
    ]);
    await assertServes(run);
    assert.equal(readdirSync(store).filter((name) => name.endsWith('.info')).length, 1);
    await assertStops(run, 'SIGINT');
  });

  test('ends with SIGTERM too', async (context) => {
    const run = await (await Run.start(context)).ready();
    await assertStops(run, 'SIGTERM');
  });

  test('knows the uploads of the last time', async (context) => {
    const STORE = join(temporaryDirectory(), 'uploads');
    const first = await (await Run.start(context, { STORE })).ready();
    const { pathname } = await createUpload(first.url);
    await assertStops(first);
    const second = await (await Run.start(context, { STORE })).ready();
    assert.equal(await (await fetch(new URL(pathname, second.url))).text(), 'hello');
    await assertStops(second);
  });

  test('says who holds the port', async (context) => {
    const server = createServer();
    await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
    context.after(() => server.close());
    const run = await Run.start(context, { PORT: server.address().port });
    assert.notEqual(await run.status(), 0);
    assert.match(run.output, new RegExp(`Port ${run.port} is taken by .*process ${process.pid}`));
    assert.match(run.output, /PORT=/);
  });

  for (const PORT of ['http', '0', '65536', '-1']) {
    test(`refuses PORT=${PORT}`, async (context) => {
      const run = await Run.start(context, { PORT });
      assert.notEqual(await run.status(), 0);
      assert.match(run.output, /is not a port number/);
    });
  }

  test('refuses a store that is a file', async (context) => {
    const run = await Run.start(context, { STORE: join(ROOT, 'Makefile.apxs') });
    assert.notEqual(await run.status(), 0);
    assert.match(run.output, /STORE=.*Makefile\.apxs is not a directory/);
  });

  test('refuses a store that httpd cannot write, and says how to mend it', async (context) => {
    const run = await Run.start(context, { STORE: '/usr/share' });
    assert.notEqual(await run.status(), 0);
    assert.match(run.output, /STORE=\/usr\/share is not writable for .*\n.*chown/);
  });

  test('runs as an ordinary user without sudo', { skip: !isRoot && 'this is one already' }, async (context) => {
    const cwd = join(temporaryDirectory(), 'mod_tus');
    mkdirSync(cwd);
    for (const name of ['Makefile.apxs', 'mod_tus.c', 'src', 'test', 'package.json', 'package-lock.json', 'node_modules']) {
      cpSync(join(ROOT, name), join(cwd, name), { recursive: true });
    }
    output('chown', '-R', 'nobody:nogroup', cwd);
    const run = await (await Run.start(context, {}, { cwd, prefix: NOBODY })).ready();
    assert.match(run.output, /Store: +.*\/build\/uploads$/m);
    assert.ok(existsSync(join(cwd, 'build/uploads')));
    await assertServes(run);
    await assertStops(run);
  });
});
