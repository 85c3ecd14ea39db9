"""Mounts that only one server sees, in a mount namespace that goes away with it."""
from .util import AS_ROOT, run_user


def with_mount(mount):
    """What such a server is started with: httpd(prefix=...). Needs root, or user namespaces."""
    if AS_ROOT:
        return ['unshare', '--mount', 'sh', '-c', f'{mount} && exec "$@"', 'sh']
    user = run_user()
    back = f'unshare --user --map-user={user.pw_uid} --map-group={user.pw_gid}'
    return ['unshare', '--map-root-user', '--mount', 'sh', '-c', f'{mount} && exec {back} "$@"',
            'sh']
