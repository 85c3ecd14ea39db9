import { createHash, randomBytes } from 'node:crypto';
import { chmodSync, chownSync, createReadStream, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { output } from './process.js';

/** The project's directory. */
export const ROOT = fileURLToPath(new URL('../../..', import.meta.url));

export const MiB = 1024 * 1024;
export const isRoot = process.getuid() === 0;

let temporary;

/** A temporary directory that everybody may enter and that goes when all tests are over. */
export function temporaryDirectory() {
  if (!temporary) {
    temporary = mkdtempSync(join(tmpdir(), 'mod_tus-e2e.'));
    chmodSync(temporary, 0o755);
    process.once('exit', () => rmSync(temporary, { recursive: true, force: true }));
  }
  const path = mkdtempSync(join(temporary, '/'));
  chmodSync(path, 0o755);
  return path;
}

/** As whom httpd's children run. */
export const httpdUser = isRoot ? 'www-data' : output('id', '-un');

export function giveToHttpd(path) {
  if (isRoot) chownSync(path, Number(output('id', '-u', httpdUser)), Number(output('id', '-g', httpdUser)));
}

export function randomFile(path, size) {
  writeFileSync(path, randomBytes(size));
  return path;
}

export async function sha256(stream) {
  const hash = createHash('sha256');
  await pipeline(stream, hash);
  return hash.digest('hex');
}

export const sha256OfFile = (path) => sha256(createReadStream(path));
