// The server tusd: a directory that one of the two wrote is continued by the other. The program is
// named by the variable TUSD.
import assert from 'node:assert/strict';
import { statSync } from 'node:fs';
import { join } from 'node:path';
import { httpdUser, isRoot, MiB } from '../../e2e/lib/files.js';
import { answers, freePort, output, until } from '../../e2e/lib/process.js';
import { stallingProxy } from '../../e2e/lib/stalling-proxy.js';
import { assertUploaded, Program, records, stalled } from '../lib.js';
import { prepare, uploaded } from './tus-js-client.js';

export const name = 'tusd, the same store';

/** Its release, or the commit that it was built from. */
export const version = () => {
  const said = output(process.env.TUSD, '-version');
  const [, release, commit] = said.match(/Version: (\S+)\s+Commit: (\S+)/) ?? [];
  return release === 'n/a' ? `commit ${commit}` : release ?? 'unknown';
};

/** A tusd on the store of an httpd that does not run; it ends by stop(). */
async function startTusd(scope, store) {
  const port = await freePort();
  const args = ['-host', '127.0.0.1', '-port', String(port), '-base-path', '/files/',
    '-upload-dir', store, '-expose-metrics=false'];
  // As httpd's user, so that each may write what the other made.
  const [program, ...rest] = isRoot
    ? ['setpriv', `--reuid=${httpdUser}`, `--regid=${output('id', '-gn', httpdUser)}`,
      '--init-groups', '--', process.env.TUSD, ...args]
    : [process.env.TUSD, ...args];
  const tusd = new Program(scope, program, rest);
  await until(() => tusd.child.exitCode !== null || answers(port), 'tusd to answer');
  assert.equal(tusd.child.exitCode, null, tusd.complained);
  return { port, endpoint: `http://127.0.0.1:${port}/files/`, stop: () => tusd.kill('SIGTERM') };
}

const idOf = (url) => new URL(url).pathname.split('/').pop();

/** Left half done: in one request, and in chunks of which the last will tell the length. */
const HALF_DONE = { half: {}, deferred: { uploadLengthDeferred: true, chunkSize: MiB / 2 } };

/** Leaves an upload of each kind at a server: their ids. */
async function leave(scope, { port, endpoint, store }, file) {
  const ids = {};
  for (const [kind, options] of Object.entries(HALF_DONE)) {
    const proxy = await stallingProxy(scope, port, MiB);
    const { upload } = prepare(proxy.endpoint, file, options);
    upload.start();
    await stalled(proxy, { store }, MiB / 2);
    await upload.abort();
    ids[kind] = idOf(upload.url);
  }
  ids.done = idOf(await uploaded(endpoint, file));
  ids.final = idOf(await uploaded(endpoint, file, { parallelUploads: 3 }));
  const deferred = records(store).find(({ ID }) => ID === ids.deferred);
  assert.equal(deferred.SizeIsDeferred, true);
  return ids;
}

/** Continues at another server what leave() left: nothing is lost or begun anew. */
async function goOn({ endpoint, store }, ids, file) {
  const count = records(store).length;
  for (const [kind, options] of Object.entries(HALF_DONE)) {
    const stored = statSync(join(store, ids[kind])).size;
    assert.ok(stored >= MiB / 2 && stored < statSync(file).size, `${kind} is half done`);
    const { upload, methods, finished } = prepare(endpoint, file,
      { ...options, uploadUrl: endpoint + ids[kind] });
    upload.start();
    await finished;
    assert.equal(methods[0], 'HEAD');
    assert.ok(!methods.includes('POST'));
  }
  for (const id of Object.values(ids)) await assertUploaded({ store }, endpoint + id, file);
  const joined = await uploaded(endpoint, file, { parallelUploads: 2 });
  await assertUploaded({ store }, joined, file);
  assert.equal(records(store).length, count + 3);
  return idOf(joined);
}

export const checks = [
  { what: 'what tusd left is served and continued by mod_tus',
    run: async ({ scope, httpd, file }) => {
      await httpd.stop();
      const tusd = await startTusd(scope, httpd.store);
      const ids = await leave(scope, { ...tusd, store: httpd.store }, file);
      await tusd.stop();
      await httpd.start();
      await goOn(httpd, ids, file);
    } },
  { what: 'what mod_tus left is served and continued by tusd, and then by mod_tus',
    run: async ({ scope, httpd, file }) => {
      const ids = await leave(scope, httpd, file);
      await httpd.stop();
      const tusd = await startTusd(scope, httpd.store);
      const joined = await goOn({ ...tusd, store: httpd.store }, ids, file);
      await tusd.stop();
      await httpd.start();
      for (const id of [...Object.values(ids), joined]) {
        await assertUploaded(httpd, httpd.endpoint + id, file);
      }
    } },
];
