// tus-java-client, from Maven Central.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { MiB } from '../../e2e/lib/files.js';
import { until } from '../../e2e/lib/process.js';
import { stallingProxy } from '../../e2e/lib/stalling-proxy.js';
import { assertUploaded, INTEROP, Program, records, stalled } from '../lib.js';

const CLASSES = `${join(INTEROP, 'java/classes')}:${join(INTEROP, 'java/dependency')}/*`;
const POM = new URL('../java/pom.xml', import.meta.url);

export const name = 'tus-java-client';

export const version = () => (
  readFileSync(POM, 'utf8').match(/<artifactId>tus-java-client<\/artifactId>\s*<version>(.*)</)[1]);

const start = (scope, endpoint, file, ...words) => (
  new Program(scope, 'java', ['-cp', CLASSES, 'Client', endpoint, file, ...words]));

/** It prints the URL at each attempt. */
const urlOf = (said) => said.trim().split('\n').pop();

export const checks = [
  { what: 'upload in several requests',
    run: async ({ scope, httpd, file }) => {
      const said = await start(scope, httpd.endpoint, file).finish();
      await assertUploaded(httpd, urlOf(said), file);
    } },
  { what: 'resumption after kill -9 of the client',
    run: async ({ scope, httpd, file }) => {
      const proxy = await stallingProxy(scope, httpd.port, MiB);
      const first = start(scope, proxy.endpoint, file);
      await stalled(proxy, httpd, MiB / 2);
      await until(() => first.said.includes('\n'), 'the URL');
      await first.kill();
      const said = await start(scope, proxy.endpoint, file, urlOf(first.said)).finish();
      assert.equal(urlOf(said), urlOf(first.said));
      await assertUploaded(httpd, urlOf(said), file);
      assert.equal(records(httpd.store).length, 1, 'no second upload');
    } },
  { what: 'resumption by itself after the server ended a request',
    directives: ['RequestReadTimeout body=2'],
    run: async ({ scope, httpd, file }) => {
      const proxy = await stallingProxy(scope, httpd.port, MiB);
      const said = await start(scope, proxy.endpoint, file).finish();
      assert.equal(proxy.stalls(), 1);
      assert.ok(said.split('\n').length > 1, 'another attempt');
      await assertUploaded(httpd, urlOf(said), file);
      assert.equal(records(httpd.store).length, 1, 'no second upload');
    } },
];
