"""The command line of bubblewrap for one Python program.

Source: bwrap(1), version 0.8; setpriv(1), unshare(1), mount(8).
"""

import functools
import os
import shutil
import sys
from collections.abc import Sequence


# What programs run as where root starts them: in Debian's reserved range, so
# that nothing else has it, and small enough for the id maps of containers.
UID = 65533
_INSIDE = 65534
# Where an interpreter that `UID` cannot reach is shown, in a mount namespace of
# its own; one of these exists everywhere, and nothing in it is needed.
_POINTS = ('/srv', '/media', '/mnt')

# Run first inside, before any byte of the program: the limits, then the modules
# that come on standard input, behind their length.
_BOOT = """
import os, resource, marshal, sys
for name, most in {limits}:
  resource.setrlimit(name, (most, most))
os.environ.clear()
def read(count):
  parts = []
  while count:
    part = os.read(0, min(count, 1 << 16))
    if not part:
      os._exit(3)
    parts.append(part)
    count -= len(part)
  return b''.join(parts)
modules = marshal.loads(read(int.from_bytes(read(4), 'little')))
for name, code in modules:
  module = sys.modules[name] = type(sys)(name)
  exec(code, module.__dict__)
"""


@functools.cache
def interpreter() -> str:
  """Returns the path of the interpreter that programs get: this one's."""
  return os.path.realpath(getattr(sys, '_base_executable', sys.executable))


@functools.cache
def _reachable(path: str) -> bool:
  """Returns whether everyone may enter the folder `path`."""
  while True:
    if not os.stat(path).st_mode & 0o001:
      return False
    above = os.path.dirname(path)
    if above == path:
      return True
    path = above


def command(
  rlimits: Sequence[tuple[int, int]], filter_fd: int, uid: int
) -> list[str]:
  """Returns the command that starts an interpreter waiting for modules.

  Args:
    rlimits: (resource, most), set before anything else is run inside.
    filter_fd: descriptor with the seccomp filter.
    uid: what it runs as where root starts it.

  Raises:
    FileNotFoundError: if bubblewrap or a tool beside it is missing.
    ValueError: if root is to start it as root.
  """
  prefix = os.path.realpath(sys.base_prefix)
  within_usr = f'{prefix}/'.startswith('/usr/')
  shown = prefix
  command: list[str] = []
  if os.geteuid() == 0:
    if uid == 0:
      raise ValueError('uid: wanted one other than 0; root has no limits.')
    drop = [
      'setpriv',
      f'--reuid={uid}',
      f'--regid={uid}',
      '--clear-groups',
      '--inh-caps=-all',
    ]
    if within_usr or _reachable(prefix):
      command += drop
    else:
      shown = next(point for point in _POINTS if os.path.isdir(point))
      command += [
        *('unshare', '--mount', '--propagation', 'private', 'sh', '-c'),
        'mount --bind -- "$1" "$2" && shift 2 && exec "$@"',
        *('sh', prefix, shown),
        *drop,
      ]
  return [
    *map(_found, command[:1]),
    *command[1:],
    _found('bwrap'),
    *('--unshare-user', '--unshare-all', '--disable-userns'),
    *('--die-with-parent', '--new-session', '--clearenv', '--cap-drop', 'ALL'),
    *('--uid', f'{_INSIDE}', '--gid', f'{_INSIDE}', '--hostname', 'sandbox'),
    *_binds(),
    *(() if within_usr else ('--ro-bind', shown, prefix)),
    # Reproducible: sets of texts are walked in one order.
    *('--setenv', 'PYTHONHASHSEED', '0'),
    *('--dir', '/tmp', '--remount-ro', '/', '--chdir', '/tmp'),
    *('--seccomp', f'{filter_fd}', '--'),
    *(interpreter(), '-s', '-S', '-P', '-B', '-X', 'utf8', '-c'),
    _BOOT.format(limits=list(rlimits)),
  ]


def _found(tool: str) -> str:
  path = shutil.which(tool)
  if path is None:
    raise FileNotFoundError(f'{tool} is not installed')
  return path


@functools.cache
def _binds() -> Sequence[str]:
  binds = ['--ro-bind', '/usr', '/usr']
  for folder in ('/bin', '/lib', '/lib64'):
    if os.path.islink(folder):
      binds += ['--symlink', os.readlink(folder), folder]
    elif os.path.isdir(folder):
      binds += ['--ro-bind', folder, folder]
  # Where the libraries of some interpreters are found.
  binds += ['--ro-bind-try', '/etc/ld.so.cache', '/etc/ld.so.cache']
  return (*binds, '--dev-bind', '/dev/null', '/dev/null')
