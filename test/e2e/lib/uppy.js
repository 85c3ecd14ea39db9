// Uppy, unmodified, in Chromium: a page with a file input and nothing else.
import { copyFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { launchBrowser } from './browser.js';
import { ROOT, temporaryDirectory } from './files.js';

const PAGE = `<!doctype html>
<meta charset="utf-8">
<title>Uppy</title>
<input type="file" id="file">
<script type="module">
import { Tus, Uppy } from './uppy.min.mjs';

window.upload = async (options) => {
  const [file] = document.getElementById('file').files;
  const uppy = new Uppy().use(Tus, options);
  uppy.addFile({ name: file.name, type: file.type, data: file });
  const { successful, failed } = await uppy.upload();
  if (failed.length) throw new Error(failed[0].error);
  return successful[0].uploadURL;
};
</script>
`;

/** Puts the page into a directory that a server has as its document root. */
export function placeUppyPage(htdocs) {
  writeFileSync(join(htdocs, 'uppy.html'), PAGE);
  copyFileSync(join(ROOT, 'node_modules/uppy/dist/uppy.min.mjs'), join(htdocs, 'uppy.min.mjs'));
}

/**
 * Opens the page at an origin, and uploads a file with these options of @uppy/tus.
 * @return url of the upload; requests: [{ method, url, status, headers }]
 */
export async function uploadWithUppy(test, origin, file, options) {
  const context = await launchBrowser(join(temporaryDirectory(), 'profile'));
  test.after(() => context.close());
  const [page] = context.pages();
  const answered = [];
  page.on('response', (response) => answered.push(response));
  await page.goto(`${origin}/uppy.html`);
  await page.waitForFunction(() => window.upload);
  await page.setInputFiles('#file', file);
  const url = await page.evaluate((given) => window.upload(given), options);
  const requests = answered.map((response) => ({
    method: response.request().method(),
    url: response.url(),
    status: response.status(),
    headers: response.request().headers(),
  }));
  return { url, requests };
}
