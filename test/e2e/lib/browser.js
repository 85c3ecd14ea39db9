// The Chromium to test with: $CHROMIUM, the system's, else the one that Playwright installed.
// As a program: prints its path, or fails when there is none.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { pathToFileURL } from 'node:url';
import { chromium } from 'playwright-core';

const CANDIDATES = ['/usr/bin/chromium', '/usr/bin/google-chrome', chromium.executablePath()];

const ARGUMENTS = ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
  '--disable-background-networking', '--disable-component-update', '--disable-sync'];

function browserPath() {
  return [process.env.CHROMIUM, ...CANDIDATES].find((path) => path && existsSync(path));
}

/** A browser with a profile of its own, as a Playwright context. */
export function launchBrowser(profile, options = {}) {
  return chromium.launchPersistentContext(profile,
    { executablePath: browserPath(), args: ARGUMENTS, acceptDownloads: true, ...options });
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) {
  const path = browserPath();
  const works = path && spawnSync(path, ['--version'], { stdio: 'ignore' }).status === 0;
  if (works) console.log(path);
  process.exit(works ? 0 : 1);
}
