"""client.py ENDPOINT FILE [CHECKSUM] [ASYNC] [STORAGE=PATH]: uploads a file, prints its URL."""
import asyncio
import sys
from pathlib import Path

from tusclient.client import TusClient
from tusclient.storage.filestorage import FileStorage


def main(endpoint, path, *words):
    storage = [word.split('=', 1)[1] for word in words if word.startswith('STORAGE=')]
    options = {
        'file_path': path,
        'chunk_size': 1 << 20,
        'metadata': {'filename': Path(path).name},
        'retries': 3,
        'retry_delay': 0.1,
        'upload_checksum': 'CHECKSUM' in words,
    }
    if storage:
        options |= {'store_url': True, 'url_storage': FileStorage(storage[0])}
    client = TusClient(endpoint)
    if 'ASYNC' in words:
        uploader = client.async_uploader(**options)
        asyncio.run(uploader.upload())
    else:
        uploader = client.uploader(**options)
        uploader.upload()
    print(uploader.url)


if __name__ == '__main__':
    main(*sys.argv[1:])
