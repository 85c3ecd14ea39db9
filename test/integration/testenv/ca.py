"""An authority that signs certificates, and the system's store of those that are trusted."""
import subprocess
import tempfile
from pathlib import Path


class Authority:
    """In a temporary directory, with all that it signed."""

    def __init__(self, name='test'):
        self._directory = tempfile.TemporaryDirectory(prefix='mod_tus-ca-')
        self.path = Path(self._directory.name)
        self.path.chmod(0o755)
        self.certificate = self.path / 'ca.pem'
        self._openssl('req', '-x509', '-subj', f'/CN=mod_tus {name}', '-days', '2',
                      '-addext', 'keyUsage=critical,keyCertSign', '-newkey', 'rsa:2048', '-nodes',
                      '-keyout', 'ca.key', '-out', 'ca.pem')

    def _openssl(self, *arguments):
        subprocess.run(['openssl', *arguments], cwd=self.path, check=True, capture_output=True)

    def sign(self, names, days=2):
        """(certificate, key) for e.g. 'DNS:localhost,IP:127.0.0.1'; expired with -1 days."""
        name = f'{names.replace(":", "-")}{days}'
        self._openssl('req', '-newkey', 'rsa:2048', '-nodes', '-subj', '/CN=mod_tus',
                      '-addext', f'subjectAltName={names}', '-keyout', f'{name}.key',
                      '-out', f'{name}.request')
        self._openssl('x509', '-req', '-in', f'{name}.request', '-CA', 'ca.pem', '-CAkey', 'ca.key',
                      '-CAcreateserial', '-days', str(days), '-copy_extensions', 'copy',
                      '-out', f'{name}.pem')
        return self.path / f'{name}.pem', self.path / f'{name}.key'

    def mount(self):
        """For with_mount(): this authority is among those that the system trusts."""
        store = subprocess.run(['curl-config', '--ca'], capture_output=True, text=True,
                               check=True).stdout.strip()
        more = self.path / 'store.pem'
        more.write_bytes(Path(store).read_bytes() + self.certificate.read_bytes())
        more.chmod(0o644)
        return f'mount --bind {more} {store}'

    def remove(self):
        self._directory.cleanup()
