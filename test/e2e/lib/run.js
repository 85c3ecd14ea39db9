// `make -f Makefile.apxs run` as a person starts it from a terminal.
import { randomUUID } from 'node:crypto';
import { spawn } from 'node:child_process';
import { ROOT } from './files.js';
import { ended, environmentsWith, freePort, until } from './process.js';

export class Run {
  #child;
  #mark = `MOD_TUS_TEST=${randomUUID()}`;
  output = '';

  /**
   * Starts it, on a free port unless the variables name one; it ends with the test.
   * @param variables  e.g. { STORE: '/tmp/store' }
   * @param options    cwd; prefix: a command to run make under
   */
  static async start(test, variables = {}, { cwd = ROOT, prefix = [] } = {}) {
    const run = new Run();
    const settings = { PORT: await freePort(), ...variables };
    const assignments = Object.entries(settings).map(([name, value]) => `${name}=${value}`);
    const [program, ...args] = [...prefix, 'make', '-f', 'Makefile.apxs', 'run', ...assignments];
    const { PATH, HOME } = process.env;
    const [name, value] = run.#mark.split('=');
    run.port = settings.PORT;
    run.url = `http://127.0.0.1:${run.port}/`;
    // A process group of its own, as a shell makes for a command.
    run.#child = spawn(program, args, {
      cwd, env: { PATH, HOME, [name]: value }, detached: true, stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [run.#child.stdout, run.#child.stderr]) {
      stream.on('data', (data) => {
        run.output += data;
      });
    }
    test.after(() => run.interrupt());
    return run;
  }

  /** Resolves when it has said where to go. */
  async ready() {
    await until(() => this.output.includes('Store: ') || this.hasEnded(), 'make run', 300);
    if (this.hasEnded()) throw new Error(`make run ended:\n${this.output}`);
    return this;
  }

  hasEnded() {
    return this.#child.exitCode !== null || this.#child.signalCode !== null;
  }

  /** Its exit status once it has ended. */
  async status() {
    await ended(this.#child);
    return this.#child.exitCode;
  }

  /** Ctrl-C: SIGINT to the whole process group. */
  async interrupt(signal = 'SIGINT') {
    if (!this.hasEnded()) process.kill(-this.#child.pid, signal);
    await ended(this.#child);
  }

  /** The pids of what it has started and is still there. */
  processes() {
    return [...environmentsWith(this.#mark).keys()];
  }

  /** Its temporary directory, while it runs. */
  directory() {
    const variables = [...environmentsWith(this.#mark).values()].flat();
    return variables.find((variable) => variable.startsWith('RUN_DIR=')).slice('RUN_DIR='.length);
  }
}
