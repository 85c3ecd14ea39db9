// The target interop, as far as it needs nothing that the tests do not need anyway.
import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { ROOT } from './lib/files.js';

const DOCUMENT = join(ROOT, 'docs/clients.md');

/** The rows of a Markdown table, as arrays of cells. */
function rowsOf(text) {
  return text.split('\n').filter((line) => line.startsWith('| '))
    .map((line) => line.split('|').slice(1, -1).map((cell) => cell.trim())).slice(1);
}

describe('interop', () => {
  test('runs the clients from npm, and says what it leaves out', () => {
    const before = readFileSync(DOCUMENT, 'utf8');
    const { TUSD, ...env } = process.env;
    const { status, stdout, stderr } = spawnSync(join(ROOT, 'test/interop/run.sh'), ['--smoke'],
      { env, encoding: 'utf8' });
    assert.equal(status, 0, stdout + stderr);
    assert.deepEqual(new Set(rowsOf(stdout).map(([client]) => client)),
      new Set(['tus-js-client', 'Uppy in Chromium']));
    assert.ok(rowsOf(stdout).every((row) => row.at(-1) === 'passed'));
    assert.ok(stdout.includes('TUSD= is not set: the round trip with tusd is not run.\n'));
    assert.equal(readFileSync(DOCUMENT, 'utf8'), before);
  });

  test('has a line in docs/clients.md for each check of each client', async () => {
    const rows = rowsOf(readFileSync(DOCUMENT, 'utf8'));
    const directory = join(ROOT, 'test/interop/clients');
    for (const file of readdirSync(directory).filter((name) => name !== 'tusd.js')) {
      const { name, checks } = await import(join(directory, file));
      for (const { what } of checks) {
        const row = rows.find(([client, , said]) => client === name && said === what);
        assert.equal(row?.at(-1), 'passed', `${name}: ${what}`);
      }
    }
  });
});
