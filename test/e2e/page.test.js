// The upload page of `make -f Makefile.apxs run` in Chromium.
import assert from 'node:assert/strict';
import { createReadStream } from 'node:fs';
import { join } from 'node:path';
import { describe, test } from 'node:test';
import { launchBrowser } from './lib/browser.js';
import { MiB, randomFile, sha256, sha256OfFile, temporaryDirectory } from './lib/files.js';
import { until } from './lib/process.js';
import { Run } from './lib/run.js';

const KILOBYTES_PER_SECOND = 2 * 1024;

/** A person with the page in front of them. */
class Visitor {
  requests = [];
  problems = [];

  static async arrive(test) {
    const visitor = new Visitor();
    const directory = temporaryDirectory();
    visitor.store = join(directory, 'store');
    visitor.directory = directory;
    visitor.run = await (await Run.start(test, { STORE: visitor.store })).ready();
    visitor.context = await launchBrowser(join(directory, 'profile'));
    test.after(() => visitor.context.close());
    visitor.page = visitor.context.pages()[0];
    visitor.page.on('request', (request) => visitor.requests.push(request));
    visitor.page.on('pageerror', (error) => visitor.problems.push(error.message));
    visitor.page.on('console', (message) => {
      if (message.type() === 'error') visitor.problems.push(message.text());
    });
    await visitor.page.goto(visitor.run.url);
    return visitor;
  }

  /** Slows uploads down, so that there is a middle; 0 takes the brake off. */
  async throttle(kilobytesPerSecond) {
    this.cdp ??= await this.context.newCDPSession(this.page);
    await this.cdp.send('Network.emulateNetworkConditions', {
      offline: false, latency: 0, downloadThroughput: -1,
      uploadThroughput: kilobytesPerSecond ? kilobytesPerSecond * 1024 : -1,
    });
  }

  /** Drops files from another window onto the page. */
  async drop(...paths) {
    // Script cannot make a File of a path: a hidden input can, and a drop event carries it.
    await this.page.evaluate(() => {
      const input = document.createElement('input');
      Object.assign(input, { type: 'file', multiple: true, id: 'for-drop', hidden: true });
      document.body.append(input);
    });
    await this.page.setInputFiles('#for-drop', paths);
    await this.page.evaluate(() => {
      const input = document.getElementById('for-drop');
      const dataTransfer = new DataTransfer();
      for (const file of input.files) dataTransfer.items.add(file);
      input.remove();
      const target = document.querySelector('.uppy-Dashboard-dropFilesHereHint').parentElement;
      for (const type of ['dragenter', 'dragover', 'drop']) {
        target.dispatchEvent(new DragEvent(type, { dataTransfer, bubbles: true, cancelable: true }));
      }
    });
  }

  button(name) {
    return this.page.getByRole('button', { name, exact: true }).first();
  }

  /** Waits until the page says that at least this share is uploaded. */
  async progress(percent) {
    await this.page.waitForFunction((least) => {
      const said = document.body.innerText.match(/Uploading: (\d+)%/);
      return said && Number(said[1]) >= least;
    }, percent);
  }

  finished(name) {
    return this.page.locator('#finished li').filter({ hasText: name });
  }

  /** SHA-256 of the file that a click on Download gives. */
  async download(name) {
    const [download] = await Promise.all([
      this.page.waitForEvent('download'),
      this.page.getByRole('link', { name: `Download ${name}` }).click(),
    ]);
    assert.equal(download.suggestedFilename(), name);
    return sha256(await download.createReadStream());
  }

  /** The Upload-Offset of every PATCH so far. */
  offsets() {
    return this.requests.filter((request) => request.method() === 'PATCH')
      .map((request) => Number(request.headers()['upload-offset']));
  }
}

describe('the upload page', () => {
  test('uploads what is dropped, pauses, survives a reload, resumes and downloads', async (context) => {
    const visitor = await Visitor.arrive(context);
    const { page } = visitor;
    const file = randomFile(join(visitor.directory, 'holiday film.bin'), 40 * MiB);

    await visitor.throttle(KILOBYTES_PER_SECOND);
    await visitor.drop(file);
    await visitor.progress(10);
    await visitor.button('Pause upload').click();
    await page.getByText(/Paused: \d+%/).waitFor();
    assert.equal(visitor.requests.filter((request) => request.method() === 'POST').length, 1);

    await page.reload();
    await visitor.button('Resume upload').click();
    await visitor.progress(25);
    await visitor.button('Pause upload').click();
    await page.getByText(/Paused: \d+%/).waitFor();
    await visitor.throttle(0);
    await visitor.button('Resume upload').click();
    await visitor.finished('holiday film.bin').waitFor();

    const offsets = visitor.offsets();
    assert.equal(offsets.length, 3);
    assert.ok(offsets[0] === 0 && offsets[1] > 0 && offsets[2] > offsets[1], `offsets ${offsets}`);
    assert.equal(visitor.requests.filter((request) => request.method() === 'POST').length, 1);

    const expected = await sha256OfFile(file);
    assert.equal(await visitor.download('holiday film.bin'), expected);
    const id = (await page.getByRole('link', { name: /^Download/ }).getAttribute('href')).split('/').pop();
    assert.equal(await sha256(createReadStream(join(visitor.store, id))), expected);
    assert.deepEqual(visitor.problems, []);
  });

  test('resumes a file that is dropped again after the session was forgotten', async (context) => {
    const visitor = await Visitor.arrive(context);
    const file = randomFile(join(visitor.directory, 'again.bin'), 24 * MiB);
    await visitor.throttle(KILOBYTES_PER_SECOND);
    await visitor.drop(file);
    await visitor.progress(10);
    // The browser's copy of the file goes, the address of the upload stays.
    await visitor.page.goto('about:blank');
    await visitor.page.route('**/page.js', async (route) => {
      const response = await route.fetch();
      const body = `indexedDB.deleteDatabase('uppy-blobs');\n${await response.text()}`;
      await route.fulfill({ response, body });
    });
    await visitor.page.goto(visitor.run.url);
    await visitor.throttle(0);
    await visitor.drop(file);
    await visitor.finished('again.bin').waitFor();
    const offsets = visitor.offsets();
    assert.equal(offsets.length, 2);
    assert.ok(offsets[1] > 0);
    assert.equal(await visitor.download('again.bin'), await sha256OfFile(file));
    assert.deepEqual(visitor.problems, []);
  });

  test('lists what is finished, also after a reload, and deletes it', async (context) => {
    const visitor = await Visitor.arrive(context);
    const { page } = visitor;
    const names = ['one.bin', 'two.bin', '<img src=x>.txt'];
    const files = names.map((name) => randomFile(join(visitor.directory, name), MiB + name.length));
    await visitor.drop(...files);
    await until(async () => await page.locator('#finished li').count() === 3, 'three uploads');
    await page.reload();
    await until(async () => await page.locator('#finished li').count() === 3, 'the list');
    assert.equal(await visitor.download('two.bin'), await sha256OfFile(files[1]));

    const url = await page.getByRole('link', { name: 'Download one.bin' }).getAttribute('href');
    await visitor.button('Delete one.bin').click();
    await page.getByText('one.bin is deleted.').waitFor();
    assert.equal(await page.locator('#finished li').count(), 2);
    assert.ok([404, 410].includes((await fetch(url)).status));
    await page.reload();
    await until(async () => await page.locator('#finished li').count() === 2, 'the shorter list');
    assert.deepEqual(visitor.problems, []);
  });

  test('asks nobody but its own server', async (context) => {
    const visitor = await Visitor.arrive(context);
    const file = randomFile(join(visitor.directory, 'local.bin'), 1000);
    await visitor.drop(file);
    await visitor.finished('local.bin').waitFor();
    const strangers = visitor.requests.map((request) => request.url())
      .filter((url) => !url.startsWith(visitor.run.url) && !/^(data|blob):/.test(url));
    assert.deepEqual(strangers, []);
    assert.deepEqual(visitor.problems, []);
  });

  test('every control has a name', async (context) => {
    const visitor = await Visitor.arrive(context);
    await visitor.drop(randomFile(join(visitor.directory, 'named.bin'), 1000));
    await visitor.finished('named.bin').waitFor();
    const nameless = await visitor.page.evaluate(() => [...document.querySelectorAll('button, a, input:not([hidden])')]
      .filter((control) => control.checkVisibility()
        && !(control.getAttribute('aria-label') || control.title || control.innerText.trim()))
      .map((control) => control.outerHTML));
    assert.deepEqual(nameless, []);
  });
});
