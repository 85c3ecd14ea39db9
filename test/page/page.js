import { Dashboard, GoldenRetriever, Tus, Uppy } from './uppy.min.mjs';
import { FinishedList } from './finished.js';

const endpoint = new URL('files/', document.baseURI).href;
const GiB = 1024 ** 3;

document.getElementById('endpoint').textContent = endpoint;

const finished = new FinishedList(document.getElementById('finished'), {
  template: document.getElementById('finished-item'),
  status: document.getElementById('status'),
});

const uppy = new Uppy({ id: 'mod_tus', autoProceed: true })
  .use(Dashboard, {
    target: '#uploader',
    inline: true,
    width: '100%',
    height: 380,
    theme: 'auto',
    singleFileFullScreen: false,
    hideProgressDetails: false,
    proudlyDisplayPoweredByUppy: false,
    note: 'Any file, any size.',
    locale: {
      strings: {
        dashboardTitle: 'Upload files',
        sessionRestored: 'Welcome back',
        recoveredAllFiles: 'Your files are still here: the upload can go on where it stopped.',
        // Uploads start by themselves: only after a reload is there a button.
        uploadXFiles: { 0: 'Resume upload', 1: 'Resume %{smart_count} uploads' },
      },
    },
  })
  .use(Tus, {
    endpoint,
    limit: 3,
    // Long enough to outlive a restart of the server.
    retryDelays: [0, 1000, 3000, 5000, 10000, 20000],
    // Dropping a finished file again makes a second upload.
    removeFingerprintOnSuccess: true,
  })
  // The browser keeps a copy of what is being uploaded, so that after a reload one click goes on.
  // A larger file has to be chosen again; it goes on from the same offset.
  .use(GoldenRetriever, { indexedDB: { maxFileSize: 2 * GiB, maxTotalSize: 8 * GiB } });

/** A finished file leaves the upload area: it stands in the list below. */
function tidy() {
  const done = uppy.getFiles().filter(({ progress }) => progress.uploadComplete);
  uppy.removeFiles(done.map(({ id }) => id));
}

uppy.on('upload-success', (file, { uploadURL }) => {
  finished.add({ url: uploadURL, name: file.name, size: file.size, time: Date.now() });
});
uppy.on('complete', tidy);
uppy.on('restored', tidy);
