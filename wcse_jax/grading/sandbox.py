"""Runs Python programs that nobody has read, in bubblewrap.

A program gets this machine's interpreter and standard library and nothing else:
no file that it could write, no home, no /proc, no network, no environment, no
second process; limits on time, memory, threads, descriptors and output; and a
seccomp filter.  Root would be bound by no limit on processes: started by root,
programs run as a uid of their own.  Where any of this cannot be had, `check`
says what is missing, and nothing is run.

Source: bubblewrap 0.8 (bwrap(1)); limits: setrlimit(2); per-namespace counting
of processes: Linux 5.14, user_namespaces(7).
"""

import contextlib
import dataclasses
import functools
import marshal
import os
import platform
import re
import resource
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import time
import types
import warnings
from collections.abc import Iterator

from wcse_jax import errors
from wcse_jax.grading import bwrap, seccomp


UID = bwrap.UID
_BWRAP_NEEDED = (0, 8)
# From here on RLIMIT_NPROC counts each user namespace by itself.
_KERNEL_THREADS = (5, 14)
# What `check` runs: everything a program must not be able to do, tried once.
_PROBE = """
import os, socket, threading
failed = []
def refused(name, act):
  try:
    act()
  except (OSError, RuntimeError):
    return
  failed.append(name)
def fork():
  if not os.fork():
    os._exit(0)
def crowd():
  threading.stack_size(65536)
  gate = threading.Event()
  crowd = [threading.Thread(target=gate.wait, daemon=True) for _ in range(99)]
  try:
    for one in crowd:
      one.start()
  finally:
    gate.set()
refused('start a process', fork)
refused('start 99 threads', crowd)
refused('open a socket', socket.socket)
refused('write a file', lambda: open('/tmp/x', 'w'))
refused('read the home of root', lambda: os.listdir('/root/.ssh'))
print('sandbox works' if not failed else 'can ' + ', '.join(failed))
"""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Limits:
  """What one program may use.

  Attributes:
    seconds: wall time from its start; then it is killed.
    memory: bytes of address space.  There is one process, so it is all.
    output: bytes of standard output and error, each; then it is killed.
    threads: besides the first; 0 where the kernel cannot count them apart.
    files: open descriptors.
  """

  seconds: float = 10.0
  memory: int = 1 << 30
  output: int = 1 << 16
  threads: int = 16
  files: int = 32


@dataclasses.dataclass(frozen=True)
class Outcome:
  """How a program ended.

  Attributes:
    ending: `exit`, or what it was killed for: `timeout`, `output`.
    status: exit status, 128 and more for a signal; None where it was killed.
    stdout: what it printed, at most `Limits.output` bytes.
    stderr: the same of standard error.
    seconds: wall time.
  """

  ending: str
  status: int | None
  stdout: bytes
  stderr: bytes
  seconds: float


def run(
  source: str, limits: Limits | None = None, *, uid: int = UID
) -> Outcome:
  """Runs one program and returns how it ended.

  Args:
    source: Python source.
    limits: what it may use.
    uid: what it runs as where root starts it; never 0.

  Raises:
    SyntaxError, ValueError: if the source does not compile.
    OSError: if bubblewrap is missing.
  """
  limits = limits or Limits()
  with warnings.catch_warnings():
    warnings.simplefilter('ignore')
    code = compile(source, '<program>', 'exec', dont_inherit=True)
  blob = pack(('__main__', code))
  began = time.monotonic()
  with start(
    limits,
    stdin=subprocess.PIPE,
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    uid=uid,
  ) as process:
    ending, stdout, stderr = _pump(process, blob, limits, began)
    if ending == 'exit':
      try:
        process.wait(max(0.0, began + limits.seconds - time.monotonic()))
      except subprocess.TimeoutExpired:
        ending = 'timeout'
    status = process.returncode if ending == 'exit' else None
  return Outcome(ending, status, stdout, stderr, time.monotonic() - began)


def pack(*modules: tuple[str, types.CodeType]) -> bytes:
  """Returns modules by name, in order, as `start` wants them on its input."""
  blob = marshal.dumps(modules)
  return struct.pack('<I', len(blob)) + blob


@contextlib.contextmanager
def start(
  limits: Limits,
  *,
  stdin,
  stdout,
  stderr=subprocess.DEVNULL,
  forks: int = 0,
  forever: bool = False,
  uid: int = UID,
) -> Iterator[subprocess.Popen]:
  """Starts an interpreter that waits for `pack`ed modules on its input.

  When the context ends, it is killed with all that it started.  The thread that
  starts it must live as long as it: the kernel ties it to that thread.

  Args:
    limits: `seconds` bound the processor time here; wall time is the caller's.
    stdin: as for subprocess.Popen; so are `stdout` and `stderr`.
    forks: how many processes it may have beside itself; for trusted code.
    forever: no bound on processor time; for trusted code.
    uid: what it runs as where root starts it; never 0.

  Raises:
    OSError: if bubblewrap or a tool beside it is missing.
  """
  reader, writer = os.pipe()
  try:
    with open(writer, 'wb') as stream:
      # A pipe holds this: it is some 2 KiB.
      stream.write(
        seccomp.build(
          platform.machine(), threads=_can_count_threads(), forks=forks > 0
        )
      )
    process = subprocess.Popen(
      bwrap.command(_rlimits(limits, forks, forever), reader, uid),
      stdin=stdin,
      stdout=stdout,
      stderr=stderr,
      bufsize=0,
      env={},
      cwd='/',
      pass_fds=(reader,),
      start_new_session=True,
    )
  finally:
    os.close(reader)
  try:
    yield process
  finally:
    # Its inner process 1 dies with it, and with that all in the namespace.
    if process.poll() is None:
      with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    for stream in (process.stdin, process.stdout, process.stderr):
      if stream is not None:
        with contextlib.suppress(BrokenPipeError):
          stream.close()


def require() -> None:
  """Raises InputError if programs cannot be run safely here."""
  why = check()
  if why:
    raise errors.InputError(f'sandbox: programs cannot be graded here: {why}')


def check(*, uid: int = UID) -> str:
  """Returns why programs cannot be run safely here; empty if they can.

  A program that tries what must fail is run, so that a limit counts only where
  it was seen to hold; a good outcome is remembered.
  """
  found = shutil.which('bwrap')
  return _missing(found, uid) or _probe(found, uid)


def _missing(found: str | None, uid: int) -> str:
  if not sys.platform.startswith('linux'):
    return f'it takes Linux; this is {sys.platform}.'
  if found is None:
    return (
      'bubblewrap is not installed; install it (apt-get install bubblewrap, '
      'dnf install bubblewrap).'
    )
  if platform.machine() not in seccomp.MACHINES:
    known = ', '.join(seccomp.MACHINES)
    return f'it takes one of the machines {known}; got {platform.machine()}.'
  if os.geteuid() == 0:
    if uid == 0:
      return (
        'root is bound by no limit on processes; wanted a uid other than 0.'
      )
    for tool in ('setpriv', 'unshare', 'mount', 'sh'):
      if shutil.which(tool) is None:
        return f'root needs the command {tool}; install util-linux.'
  return ''


@functools.cache
def _version(found: str) -> tuple[int, ...]:
  out = subprocess.run(
    [found, '--version'], capture_output=True, text=True, check=False
  ).stdout
  told = re.search(r'(\d+)\.(\d+)', out)
  return tuple(map(int, told.groups())) if told else (0, 0)


# What worked once works; what failed may be mended meanwhile.
_WORKED: set[tuple[str, int]] = set()


def _probe(found: str, uid: int) -> str:
  if (found, uid) in _WORKED:
    return ''
  if _version(found) < _BWRAP_NEEDED:
    return (
      'wanted bubblewrap 0.8 or newer; got '
      f'{".".join(map(str, _version(found)))} at {found}.'
    )
  try:
    out = run(_PROBE, Limits(seconds=60.0), uid=uid)
  except OSError as error:
    return f'{found} does not start ({error}).'
  said = out.stdout.decode(errors='replace').strip()
  if out.ending == 'exit' and out.status == 0 and said == 'sandbox works':
    _WORKED.add((found, uid))
    return ''
  if said:
    return f'a program in it {said[:200]}.'
  lines = out.stderr.decode(errors='replace').strip().splitlines()
  told = lines[-1][:200] if lines else f'{out.ending}, status {out.status}'
  return f'bubblewrap fails ({told}); {_advice(told)}'


def _advice(told: str) -> str:
  """Returns what to do about a bubblewrap that fails."""
  if _setting('kernel/apparmor_restrict_unprivileged_userns') == '1':
    return (
      'AppArmor keeps it from making user namespaces (Ubuntu 24.04 does): '
      'install the profile bwrap-userns-restrict of the package '
      'apparmor-profiles into /etc/apparmor.d and reload, or set sysctl '
      'kernel.apparmor_restrict_unprivileged_userns=0.'
    )
  if _setting('kernel/unprivileged_userns_clone') == '0':
    return 'set sysctl kernel.unprivileged_userns_clone=1.'
  if _setting('user/max_user_namespaces') == '0':
    return 'set sysctl user.max_user_namespaces=10000.'
  if 'namespace' in told or 'uid map' in told or 'mount' in told.lower():
    return (
      'user and mount namespaces must be allowed; in a container start it '
      'with --security-opt seccomp=unconfined --security-opt '
      'apparmor=unconfined, or run outside it.'
    )
  return f'is the interpreter {bwrap.interpreter()} whole in {sys.base_prefix}?'


def _setting(name: str) -> str:
  try:
    with open(f'/proc/sys/{name}') as file:
      return file.read().strip()
  except OSError:
    return ''


def _can_count_threads() -> bool:
  found = re.match(r'(\d+)\.(\d+)', platform.release())
  return bool(found) and tuple(map(int, found.groups())) >= _KERNEL_THREADS


def _rlimits(
  limits: Limits, forks: int, forever: bool
) -> list[tuple[int, int]]:
  found = [
    (resource.RLIMIT_AS, limits.memory),
    (resource.RLIMIT_CORE, 0),
    (resource.RLIMIT_FSIZE, 0),
    (resource.RLIMIT_MEMLOCK, 0),
    (resource.RLIMIT_MSGQUEUE, 0),
    (resource.RLIMIT_NOFILE, limits.files),
    (resource.RLIMIT_SIGPENDING, 64),
  ]
  if _can_count_threads():
    # Bubblewrap's process 1 and the program itself count, too.
    found.append((resource.RLIMIT_NPROC, 2 + limits.threads + forks))
  if not forever:
    # A second line behind the deadline on wall time.
    found.append((resource.RLIMIT_CPU, int(limits.seconds) + 2))
  return found


def _pump(
  process: subprocess.Popen, blob: bytes, limits: Limits, began: float
) -> tuple[str, bytes, bytes]:
  """Feeds the program and reads it; returns (ending, stdout, stderr)."""
  taken = {process.stdout: b'', process.stderr: b''}
  with selectors.DefaultSelector() as selector:
    os.set_blocking(process.stdin.fileno(), False)
    selector.register(process.stdin, selectors.EVENT_WRITE)
    for stream in taken:
      selector.register(stream, selectors.EVENT_READ)
    while selector.get_map():
      left = began + limits.seconds - time.monotonic()
      if left <= 0:
        return 'timeout', taken[process.stdout], taken[process.stderr]
      for key, _ in selector.select(left):
        stream = key.fileobj
        if stream is process.stdin:
          try:
            blob = blob[os.write(key.fd, blob[: 1 << 16]) :]
          except BrokenPipeError:
            blob = b''
          if not blob:
            selector.unregister(stream)
            stream.close()
          continue
        part = os.read(key.fd, 1 << 16)
        taken[stream] = (taken[stream] + part)[: limits.output]
        if not part:
          selector.unregister(stream)
        elif len(taken[stream]) >= limits.output:
          return 'output', taken[process.stdout], taken[process.stderr]
  return 'exit', taken[process.stdout], taken[process.stderr]
