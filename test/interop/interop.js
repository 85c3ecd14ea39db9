// interop.js [--smoke]: runs real clients against a real httpd and prints what came of it.
// Without --smoke it also writes docs/clients.md. Exit status 0 only if nothing failed.
import assert from 'node:assert/strict';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { MiB, randomFile, ROOT, temporaryDirectory } from '../e2e/lib/files.js';
import { Httpd } from '../e2e/lib/httpd.js';
import { output } from '../e2e/lib/process.js';
import { Scope } from './lib.js';

const smoke = process.argv.includes('--smoke');
const names = ['tus-js-client', 'uppy'];
if (!smoke) names.push('tuspy', 'tus-java-client');
if (process.env.TUSD) names.push('tusd');
const note = process.env.TUSD ? '' : 'TUSD= is not set: the round trip with tusd is not run.';

/** Runs one check with an httpd of its own, whose log must have no complaints. */
async function judge({ run, directives = [] }) {
  const scope = new Scope();
  try {
    const httpd = await Httpd.start(scope, ...directives);
    const directory = temporaryDirectory();
    const file = randomFile(join(directory, 'interop.bin'), 5 * MiB + 17);
    await run({ scope, httpd, directory, file });
    await httpd.stop();
    assert.deepEqual(httpd.complaints(), []);
    return 'passed';
  } catch (error) {
    console.error(error);
    return `failed: ${error.message.split('\n')[0].slice(0, 150).replaceAll('|', ' ')}`;
  } finally {
    await scope.close();
  }
}

async function judgeClient({ name, version, checks }) {
  const rows = [];
  for (const check of checks) {
    const row = { client: name, version: version(), what: check.what, result: await judge(check) };
    console.log(`${row.client} ${row.version}: ${row.what}: ${row.result}`);
    rows.push(row);
  }
  return rows;
}

function table(rows) {
  const columns = ['client', 'version', 'what', 'result'];
  const lines = [columns, ...rows.map((row) => columns.map((column) => row[column]))];
  const widths = columns.map((_, index) => Math.max(...lines.map((line) => line[index].length)));
  const format = (line) => `| ${line.map((cell, index) => cell.padEnd(widths[index])).join(' | ')} |`;
  const [head, ...body] = lines.map(format);
  return [head, `|${widths.map((width) => '-'.repeat(width + 2)).join('|')}|`, ...body].join('\n');
}

const server = () => (
  output(join(output('apxs', '-q', 'SBINDIR'), output('apxs', '-q', 'PROGNAME')), '-v')
    .match(/Apache\/(\S+)/)[1]);

const today = () => new Date().toISOString().slice(0, 10);

const page = (rows) => `# Clients that were tried

Made by \`make -f Makefile.apxs interop\` on ${today()}, with httpd ${server()}. Each line is a client, unmodified, as its registry has it, against an httpd with mod_tus; "passed" means, besides what the line says, that the bytes in the store and those of a download have the SHA-256 of the file. tusd is the program that \`TUSD=\` names.

${table(rows)}
${note ? `\n${note}\n` : ''}`;

const clients = await Promise.all(names.map((name) => import(`./clients/${name}.js`)));
const rows = [];
for (const client of clients) rows.push(...await judgeClient(client));

console.log(`\n${table(rows)}`);
if (note) console.log(note);
if (!smoke) writeFileSync(join(ROOT, 'docs/clients.md'), page(rows));
process.exitCode = rows.every(({ result }) => result === 'passed') ? 0 : 1;
