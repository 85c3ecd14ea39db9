"""Other modules, built by apxs against the header that `make install` installs, and nothing else."""
import atexit
import functools
import shutil
import subprocess
import tempfile
from pathlib import Path

from .httpd import HERE

SOURCES = HERE.parents[1] / 'modules'
HEADER = HERE.parents[2] / 'src' / 'mod_tus.h'
MODULES = {'tus_store_mem': ('mod_tus_store_mem.c', 'store_mem.c', 'store_mem.h'),
           'tus_observer': ('mod_tus_observer.c',)}
STRICT = [f'-Wc,{flag}' for flag in ('-Wall', '-Wextra', '-Werror', '-Wstrict-prototypes')]


def compile_module(directory, *sources):
    """`apxs -c` in that directory; the path of the module."""
    include = directory / 'include'
    include.mkdir()
    shutil.copy(HEADER, include)
    command = ['apxs', '-c', '-I', str(include), *STRICT,
               *(name for name in sources if name.endswith('.c'))]
    result = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return directory / '.libs' / (Path(sources[0]).stem + '.so')


@functools.lru_cache(maxsize=None)
def build(name):
    """The path of one of test/modules, built once in a run of the tests."""
    directory = Path(tempfile.mkdtemp(prefix='mod_tus-modules-'))
    atexit.register(shutil.rmtree, directory)
    directory.chmod(0o755)
    for source in MODULES[name]:
        shutil.copy(SOURCES / source, directory)
    return compile_module(directory, *MODULES[name])


def load(name):
    return f'LoadModule {name}_module "{build(name)}"\n'
