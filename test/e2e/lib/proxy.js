// Stock reverse proxies in front of an httpd with the module: httpd's own mod_proxy, and nginx.
import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { httpdUser, isRoot, temporaryDirectory } from './files.js';
import { answers, ended, freePort, output, until } from './process.js';

const modProxy = ({ directory, port, path, target, htdocs }) => `
ServerName localhost
ServerRoot "${directory}"
DefaultRuntimeDir "${directory}"
PidFile "${directory}/httpd.pid"
Listen 127.0.0.1:${port}
${isRoot ? `User ${httpdUser}\nGroup ${output('id', '-gn', httpdUser)}` : ''}
${['mpm_event', 'authz_core', 'mime', 'proxy', 'proxy_http'].map((name) => (
    `LoadModule ${name}_module "${output('apxs', '-q', 'LIBEXECDIR')}/mod_${name}.so"`)).join('\n')}
ErrorLog "${directory}/error.log"
TypesConfig /dev/null
AddType text/html .html
AddType text/javascript .mjs
DocumentRoot "${htdocs}"
ProxyPass "${path}" "${target}"
`;

const nginx = ({ directory, port, path, target, htdocs, buffering }) => `
daemon off;
pid ${directory}/nginx.pid;
worker_processes 1;
${isRoot ? `user ${httpdUser};` : ''}
events {}
http {
    access_log off;
    types { text/html html; text/javascript mjs; }
    ${['client_body', 'proxy', 'fastcgi', 'uwsgi', 'scgi'].map((name) => (
    `${name}_temp_path ${directory}/${name};`)).join('\n    ')}
    client_max_body_size 0;
    server {
        listen 127.0.0.1:${port};
        root ${htdocs};
        location ${path} {
            proxy_pass ${target};
            ${buffering ? '' : 'proxy_http_version 1.1;\n            proxy_request_buffering off;'}
        }
    }
}
`;

const KINDS = {
  modProxy: {
    configuration: modProxy,
    program: () => join(output('apxs', '-q', 'SBINDIR'), output('apxs', '-q', 'PROGNAME')),
    arguments: (file) => ['-f', file, '-DFOREGROUND'],
  },
  nginx: {
    configuration: nginx,
    program: () => 'nginx',
    arguments: (file, log) => ['-c', file, '-e', log],
  },
};

/**
 * Starts a proxy that ends with the test and hands `path` on to the endpoint of `httpd`.
 * @param kind  'modProxy' or 'nginx'
 * @param options  path, as clients see it; buffering: nginx collects a body before it passes it on
 * @return its origin, its endpoint, and complaints(): lines of its error log
 */
export async function startProxy(test, kind, httpd, { path = '/files', buffering = true } = {}) {
  const { configuration, program, arguments: argumentsOf } = KINDS[kind];
  const directory = temporaryDirectory();
  const port = await freePort();
  const file = join(directory, 'proxy.conf');
  const log = join(directory, 'error.log');
  const htdocs = join(directory, 'htdocs');
  mkdirSync(htdocs);
  writeFileSync(log, '');
  writeFileSync(file, configuration({
    directory, port, path, htdocs, buffering, target: `http://127.0.0.1:${httpd.port}/files`,
  }));
  const env = { PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
  // As in Httpd: a process group of its own, and no survivor of tests that are killed.
  const child = spawn('setpriv', ['--pdeathsig', 'TERM', program(), ...argumentsOf(file, log)],
    { env, detached: true, stdio: ['ignore', 'inherit', 'inherit'] });
  test.after(async () => {
    child.kill('SIGTERM');
    await ended(child);
  });
  await until(async () => child.exitCode !== null || answers(port), `${kind} to answer`);
  if (child.exitCode !== null) throw new Error(`${kind} did not start:\n${readFileSync(log, 'utf8')}`);
  const origin = `http://127.0.0.1:${port}`;
  return {
    origin,
    htdocs,
    endpoint: `${origin}${path}/`,
    complaints: () => readFileSync(log, 'utf8').split('\n')
      .filter((line) => /[:[](warn|error|crit|alert|emerg)\]/.test(line)),
  };
}
