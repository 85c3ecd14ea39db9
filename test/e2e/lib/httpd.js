// An httpd with the module, configured as `make -f Makefile.apxs run` does it.
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { giveToHttpd, httpdUser, ROOT, temporaryDirectory } from './files.js';
import { answers, ended, freePort, output, until } from './process.js';

export class Httpd {
  #child;
  #env;
  #directives;
  #log;

  /** Starts a server that ends with the test; directives are added to its configuration. */
  static async start(test, ...directives) {
    const httpd = new Httpd();
    test.after(() => httpd.stop());
    const directory = temporaryDirectory();
    httpd.store = join(directory, 'store');
    httpd.port = await freePort();
    httpd.endpoint = `http://127.0.0.1:${httpd.port}/files/`;
    httpd.htdocs = join(directory, 'htdocs');
    mkdirSync(httpd.htdocs);
    mkdirSync(httpd.store);
    giveToHttpd(httpd.store);
    httpd.#log = join(directory, 'error.log');
    httpd.#directives = directives.flatMap((line) => ['-c', line]);
    httpd.#env = {
      PATH: process.env.PATH,
      PORT: String(httpd.port),
      STORE: httpd.store,
      STATE_DIR: join(directory, 'state'),
      RUN_DIR: directory,
      RUN_USER: httpdUser,
      RUN_GROUP: output('id', '-gn', httpdUser),
      MODULES: output('apxs', '-q', 'LIBEXECDIR'),
      MOD_TUS_SO: process.env.MOD_TUS_SO ?? join(ROOT, '.libs/mod_tus.so'),
    };
    await httpd.start();
    return httpd;
  }

  async start() {
    const program = join(output('apxs', '-q', 'SBINDIR'), output('apxs', '-q', 'PROGNAME'));
    const args = ['-f', join(ROOT, 'test/run/httpd.conf'), '-DFOREGROUND', ...this.#directives];
    // In a process group of its own: httpd signals all of its group when it stops. And it ends
    // when the tests are killed.
    this.#child = spawn('setpriv', ['--pdeathsig', 'TERM', program, ...args], { env: this.#env, detached: true, stdio: ['ignore', 'inherit', 'inherit'] });
    await until(async () => this.#child.exitCode !== null || answers(this.port), 'httpd to answer');
    if (this.#child.exitCode !== null) throw new Error(`httpd did not start:\n${this.errors()}`);
  }

  async stop() {
    if (!this.#child) return;
    this.#child.kill('SIGTERM');
    await ended(this.#child);
    this.#child = null;
  }

  errors() {
    return existsSync(this.#log) ? readFileSync(this.#log, 'utf8') : '';
  }

  /**
   * Lines of the error log that are worse than a notice. AH03092 and AH03093 are the event MPM's
   * own, when it stops while a connection is being closed or goes to keep-alive: it closes the
   * sockets of its workers under them.
   */
  complaints() {
    return this.errors().split('\n')
      .filter((line) => / (warn|error|crit|alert|emerg): (?!AH0309[23]:)/.test(line));
  }

  /** How much of an upload is in the store. */
  storedBytes(url) {
    return statSync(join(this.store, url.split('/').pop())).size;
  }
}
