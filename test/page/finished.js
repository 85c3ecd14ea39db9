const KEY = 'mod_tus.finished';
const TUS = { 'Tus-Resumable': '1.0.0' };
const GONE = [404, 410];

/** 1536 -> "1.5 KB" */
function formatSize(bytes) {
  const units = ['B', 'KB', 'MB', 'GB', 'TB'];
  const power = Math.min(Math.floor(Math.log2(Math.max(bytes, 1)) / 10), units.length - 1);
  const value = bytes / 1024 ** power;
  return `${power && value < 10 ? value.toFixed(1) : Math.round(value)} ${units[power]}`;
}

function load() {
  try {
    return JSON.parse(localStorage.getItem(KEY)) ?? [];
  } catch {
    return [];
  }
}

/** What this browser has uploaded, newest first. Lives in localStorage; the files, on the server. */
export class FinishedList {
  #section;
  #template;
  #status;
  #uploads = load();

  constructor(section, { template, status }) {
    this.#section = section;
    this.#template = template;
    this.#status = status;
    this.#render();
    this.#dropGone();
    // Another tab may have finished or deleted one.
    addEventListener('storage', ({ key }) => {
      if (key !== KEY) return;
      this.#uploads = load();
      this.#render();
    });
  }

  add(upload) {
    this.#update((uploads) => [upload, ...uploads.filter(({ url }) => url !== upload.url)]);
    this.#status.textContent = `${upload.name} is uploaded.`;
  }

  /** Removes the upload from the server (the termination extension of tus), then from the list. */
  async #delete({ url, name }) {
    const response = await fetch(url, { method: 'DELETE', headers: TUS }).catch(() => null);
    if (!response?.ok && !GONE.includes(response?.status)) {
      this.#status.textContent = `${name} could not be deleted: ${
        response ? `the server answered ${response.status}` : 'the server does not answer'}.`;
      return;
    }
    this.#forget([url]);
    this.#status.textContent = `${name} is deleted.`;
  }

  async #dropGone() {
    const isGone = async ({ url }) => {
      const response = await fetch(url, { method: 'HEAD', headers: TUS }).catch(() => null);
      return GONE.includes(response?.status);
    };
    const gone = await Promise.all(this.#uploads.map(async (u) => (await isGone(u)) && u.url));
    this.#forget(gone.filter(Boolean));
  }

  #forget(urls) {
    this.#update((uploads) => uploads.filter(({ url }) => !urls.includes(url)));
  }

  #update(change) {
    this.#uploads = change(load());
    localStorage.setItem(KEY, JSON.stringify(this.#uploads));
    this.#render();
  }

  #render() {
    this.#section.hidden = this.#uploads.length === 0;
    this.#section.querySelector('ul').replaceChildren(...this.#uploads.map((u) => this.#item(u)));
  }

  #item(upload) {
    const item = this.#template.content.cloneNode(true);
    const link = item.querySelector('.download');
    const button = item.querySelector('.delete');
    item.querySelector('.name').textContent = upload.name;
    item.querySelector('.facts').textContent =
      `${formatSize(upload.size)}, ${new Date(upload.time).toLocaleString()}`;
    link.href = upload.url;
    link.download = upload.name;
    link.setAttribute('aria-label', `Download ${upload.name}`);
    button.setAttribute('aria-label', `Delete ${upload.name}`);
    button.addEventListener('click', () => this.#delete(upload));
    return item;
  }
}
