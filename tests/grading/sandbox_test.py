"""Each escape is tried in the sandbox; that it failed is seen from outside.

Bombs are bounded by themselves, too, so that a broken guard fails a test and
harms no machine.
"""

import os
import pathlib
import platform
import socket
import subprocess
import tempfile
import time

import psutil
import pytest

from wcse_jax import errors
from wcse_jax.grading import sandbox, seccomp


_WHY = sandbox.check()
_needs_sandbox = pytest.mark.skipif(bool(_WHY), reason=f'no sandbox: {_WHY}')
_LIMITS = sandbox.Limits(seconds=20.0, memory=256 << 20)
_COLUMN = seccomp.MACHINES.get(platform.machine(), (0, 0))[0]

# In front of every attack.  One that gets what it wants calls `escaped`.
_TOOLS = """
import ctypes, errno, os, sys, time
libc = ctypes.CDLL(None, use_errno=True)
def escaped(what):
  print('ESCAPED', what, flush=True)
def refused(act, *args, **kwargs):
  try:
    found = act(*args, **kwargs)
  except (OSError, MemoryError, ValueError, RuntimeError) as error:
    return
  escaped(f'{act} {args} {found}'[:200])
def call(number, *args):
  found = libc.syscall(number, *args)
  if found == -1 and ctypes.get_errno() in (errno.EPERM, errno.ENOSYS):
    return
  escaped(f'system call {number}: {found} {ctypes.get_errno()}')
"""


def _number(name):
  return {**seccomp.DENIED, **seccomp.FORKS}[name][_COLUMN]


def _attack(code, limits=_LIMITS):
  out = sandbox.run(f'{_TOOLS}\n{code}\nprint("HELD")', limits)
  said = out.stdout.decode()
  assert 'ESCAPED' not in said, said
  return out, said


# Name -> code; `{...}` is filled in with what the test has outside.
_ATTACKS = {
  'write outside': """
for path in ({victim!r}, '/usr/x', '/etc/x', '/x', '/bin/x', '/root/x'):
  refused(open, path, 'w')
""",
  'read secrets': """
for path in ({victim!r}, '/etc/shadow', '/etc/passwd', '/root/.bashrc'):
  refused(open, path)
""",
  'read home': """
for path in ({home!r}, os.path.dirname({victim!r}), '/home', '/var', '/sys'):
  refused(lambda: os.listdir(path)[0] + path)
  if os.path.isdir(path) and os.access(path, os.W_OK):
    escaped(path)
""",
  'environment': """
if os.environ or {secret!r} in repr(os.environb):
  escaped(dict(os.environ))
libc.getenv.restype = ctypes.c_char_p
if libc.getenv(b'WCSE_SECRET'):
  escaped('WCSE_SECRET')
refused(open, '/proc/self/environ')
""",
  'network': """
import socket
refused(socket.create_connection, ('127.0.0.1', {port}), 2)
refused(socket.getaddrinfo, 'example.com', 80)
for family in (socket.AF_INET, socket.AF_INET6, 16, 17, 40):
  refused(socket.socket, family, socket.SOCK_DGRAM)
""",
  'abstract socket': """
import socket
def connect():
  one = socket.socket(socket.AF_UNIX)
  one.connect({abstract!r})
refused(connect)
refused(socket.socketpair)
""",
  'mount': """
if libc.mount(b'none', b'/tmp', b'tmpfs', 0, None) == 0:
  escaped('mount')
if libc.mount(None, b'/usr', None, 4096 | 32, None) == 0:
  escaped('remount')
if libc.umount2(b'/usr', 2) == 0:
  escaped('umount')
""",
  'ptrace': """
for request, pid in ((16, 1), (16, os.getppid()), (0x4206, 1), (0, 0)):
  if libc.ptrace(request, pid, 0, 0) == 0:
    escaped(f'ptrace {{request}} {{pid}}')
""",
  'kill a process outside': """
for pid in ({pid}, {parent}):
  if pid > 99:
    refused(os.kill, pid, 9)
""",
  'fork bomb': """
import _posixsubprocess, subprocess
for _ in range(50):
  refused(os.fork)
refused(os.forkpty)
refused(subprocess.run, ['/usr/bin/id'])
refused(os.posix_spawn, '/usr/bin/id', ['id'], {{}})
""",
  'thread bomb': """
import threading
threading.stack_size(65536)
gate = threading.Event()
started = 0
try:
  for _ in range(200):
    threading.Thread(target=gate.wait, daemon=True).start()
    started += 1
except RuntimeError:
  pass
if started > 16:
  escaped(f'{{started}} threads')
gate.set()
""",
  'memory bomb': """
held = []
try:
  for _ in range(1024):
    held.append(bytearray(1 << 20))
except MemoryError:
  pass
count = len(held)
del held
if count > 256:
  escaped(f'{{count}} MiB')
import mmap
refused(mmap.mmap, -1, 1 << 30)
""",
  'disk fill': """
for folder in ('/tmp', '/', '/dev', '/usr', '.', '/etc', '/var/tmp', '/run'):
  refused(open, folder + '/fill', 'wb')
  refused(os.mkdir, folder + '/fill')
import tempfile
refused(tempfile.TemporaryFile)
""",
  'proc': """
for path in ('/proc/sys/kernel/core_pattern', '/proc/self/mem',
             '/proc/1/root/etc/shadow', '/proc/sysrq-trigger',
             '/proc/self/oom_score_adj', '/sys/kernel/uevent_helper'):
  refused(open, path, 'r+')
  refused(open, path)
""",
  'become root': """
for act in (os.setuid, os.setgid, os.seteuid, os.setegid):
  refused(act, 0)
refused(os.setresuid, 0, 0, 0)
refused(os.setgroups, [0])
if 0 in (os.getuid(), os.geteuid(), os.getgid()):
  escaped('root')
""",
  'chroot': """
refused(os.chroot, '/tmp')
refused(os.open, '/proc/1/root', os.O_RDONLY)
if os.path.exists('/tmp/' + '../' * 40 + {victim!r}):
  escaped('dots')
""",
  'links': """
refused(os.symlink, '/etc/shadow', '/tmp/link')
refused(os.link, '/usr/bin/env', '/tmp/link')
refused(os.rename, '/usr/bin/env', '/tmp/env')
refused(os.chmod, '/usr/bin/env', 0o777)
refused(os.unlink, '/usr/bin/env')
""",
  'descriptors': """
for fd in range(3, 4096):
  refused(os.fstat, fd)
""",
  'keyring': """
call({add_key}, b'user', b'name', b'data', 4, -3)
call({keyctl}, 0, -3, 0)
call({request_key}, b'user', b'name', None, -3)
""",
  'devices': """
refused(os.mknod, '/tmp/mem', 0o600 | 0o020000, os.makedev(1, 1))
for name in ('mem', 'kmsg', 'sda', 'vda', 'nvme0n1', 'kvm', 'fuse', 'tty',
             'net/tun', 'ptmx', 'nvidia0'):
  refused(open, '/dev/' + name)
if os.listdir('/dev') != ['null']:
  escaped(os.listdir('/dev'))
""",
  'nested namespaces': """
for flag in (0x10000000, 0x20000, 0x40000000, 0x20000000, 0x08000000):
  call({unshare}, flag)
call({setns}, 0, 0)
call({clone3}, (ctypes.c_uint64 * 11)(0x10000000), 88)
""",
  'raise limits': """
import resource
for name in (resource.RLIMIT_AS, resource.RLIMIT_NPROC, resource.RLIMIT_CORE,
             resource.RLIMIT_FSIZE, resource.RLIMIT_NOFILE,
             resource.RLIMIT_CPU):
  soft, hard = resource.getrlimit(name)
  if hard == resource.RLIM_INFINITY:
    escaped(f'no limit {{name}}')
  refused(resource.setrlimit, name, (hard + 1, hard + 1))
""",
  'shared memory': """
from multiprocessing import shared_memory
refused(shared_memory.SharedMemory, 'x', True, 4096)
refused(open, '/dev/shm/x', 'w')
call({shmget}, 1, 4096, 0o1666)
call({msgget}, 1, 0o1666)
call({semget}, 1, 1, 0o1666)
call({memfd_create}, b'x', 0)
""",
  'kernel interfaces': """
for number in {numbers}:
  call(number, 0, 0, 0, 0, 0, 0)
""",
  'terminal': """
import fcntl, termios
for fd in (0, 1, 2):
  refused(fcntl.ioctl, fd, termios.TIOCSTI, b'x')
  refused(fcntl.ioctl, fd, 0x541C, b'x')
refused(open, '/dev/tty')
""",
  'set-uid programs': """
import struct
# PR_GET_NO_NEW_PRIVS: a program that takes this one's place gains nothing.
if libc.prctl(39, 0, 0, 0, 0) != 1:
  escaped('new privileges can be had')
# PR_CAPBSET_READ, and what it holds now.
for number in range(64):
  if libc.prctl(23, number, 0, 0, 0) == 1:
    escaped(f'capability {{number}} in the bounding set')
data = (ctypes.c_uint32 * 6)()
header = struct.pack('<Ii', 0x20080522, 0)
if libc.capget(header, data) or any(data):
  escaped(f'capabilities {{list(data)}}')
""",
}


@_needs_sandbox
@pytest.mark.parametrize('name', _ATTACKS)
def test_an_escape_fails(name, tmp_path, monkeypatch):
  secret = 'zq81-secret'
  victim = tmp_path / 'victim'
  victim.write_text(secret)
  victim.chmod(0o666)
  home = tmp_path / 'home'
  home.mkdir(mode=0o777)
  (home / 'file').write_text(secret)
  monkeypatch.setenv('HOME', str(home))
  monkeypatch.setenv('WCSE_SECRET', secret)
  abstract = f'\0wcse-test-{os.getpid()}'
  with (
    socket.create_server(('127.0.0.1', 0)) as server,
    socket.socket(socket.AF_UNIX) as unix,
    subprocess.Popen(['sleep', '60']) as sleeper,
  ):
    unix.bind(abstract)
    unix.listen()
    try:
      code = _ATTACKS[name].format(
        victim=str(victim),
        home=str(home),
        secret=secret,
        port=server.getsockname()[1],
        abstract=abstract,
        pid=sleeper.pid,
        parent=os.getpid(),
        clone3=seccomp.CLONE3[_COLUMN],
        numbers=[n[_COLUMN] for n in seccomp.DENIED.values() if n[_COLUMN]],
        **{key: _number(key) for key in seccomp.DENIED},
      )
      out, said = _attack(code)
      assert said.endswith('HELD\n'), (out, said)
      assert secret.encode() not in out.stdout + out.stderr
      assert sleeper.poll() is None
      for listener in (server, unix):
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):
          listener.accept()
    finally:
      sleeper.kill()
  assert victim.read_text() == secret
  assert sorted(p.name for p in tmp_path.iterdir()) == ['home', 'victim']
  assert [p.name for p in home.iterdir()] == ['file']


def _nothing_left():
  mine = psutil.Process().children(recursive=True)
  return [p for p in mine if 'bwrap' in p.name() or 'python' in p.name()]


@_needs_sandbox
@pytest.mark.parametrize(
  'code',
  [
    'time.sleep(60)',
    'while True: pass',
    'import signal\nfor s in range(1, 65):\n  try: signal.signal(s, signal.SIG'
    '_IGN)\n  except (OSError, ValueError): pass\ntime.sleep(60)',
    'os.setsid() if os.getpid() != os.getsid(0) else 0\ntime.sleep(60)',
    'for fd in range(3): os.close(fd)\ntime.sleep(60)',
    'import threading\nthreading.Thread(target=time.sleep, args=(60,)).start()',
    'import atexit\natexit.register(time.sleep, 60)',
  ],
)
def test_the_deadline_ends_everything(code):
  before = _nothing_left()
  began = time.monotonic()
  out = sandbox.run(f'{_TOOLS}\n{code}', sandbox.Limits(seconds=0.7))
  assert out.ending == 'timeout'
  assert out.status is None
  assert time.monotonic() - began < 30
  assert _nothing_left() == before


@_needs_sandbox
def test_nothing_lingers_after_a_daemon():
  code = """
for _ in range(5):
  try:
    if os.fork() == 0:
      os.setsid()
      time.sleep(60)
  except OSError:
    pass
"""
  before = _nothing_left()
  _, said = _attack(code)
  assert said == 'HELD\n'
  assert _nothing_left() == before


@_needs_sandbox
def test_signals_reach_no_process_but_its_own():
  with subprocess.Popen(['sleep', '60']) as sleeper:
    code = 'os.kill(-1, 9); os.kill(os.getppid(), 9); os.kill(0, 9)'
    out = sandbox.run(f'{_TOOLS}\n{code}', _LIMITS)
    assert sleeper.poll() is None
    sleeper.kill()
  assert out.ending == 'exit'
  assert out.status != 0


@_needs_sandbox
@pytest.mark.parametrize('stream', ['stdout', 'stderr'])
def test_a_flood_of_output_is_cut(stream):
  code = f'import sys\nwhile True: sys.{stream}.write("x" * 4096)'
  out = sandbox.run(code, sandbox.Limits(seconds=20.0, output=10_000))
  assert out.ending == 'output'
  assert len(getattr(out, stream)) == 10_000
  assert out.seconds < 10


@_needs_sandbox
def test_a_crash_leaves_no_core(tmp_path, monkeypatch):
  monkeypatch.chdir(tmp_path)
  out = sandbox.run('import os; os.abort()', _LIMITS)
  assert (out.ending, out.status) == ('exit', 128 + 6)
  assert list(tmp_path.iterdir()) == []


@_needs_sandbox
def test_a_plain_program_runs():
  out = sandbox.run(
    'import sys, collections\nprint(sum(range(10)))\nsys.exit(3)', _LIMITS
  )
  assert (out.ending, out.status, out.stdout) == ('exit', 3, b'45\n')
  out = sandbox.run('1 / 0', _LIMITS)
  assert out.status == 1
  assert b'ZeroDivisionError' in out.stderr


@_needs_sandbox
def test_texts_are_walked_in_one_order():
  code = 'print({"a", "b", "c", "d", "e", "f"})'
  assert len({sandbox.run(code, _LIMITS).stdout for _ in range(4)}) == 1


@_needs_sandbox
def test_without_the_filter_the_check_refuses(monkeypatch):
  # Allows everything: load nothing, return ALLOW.
  allow = b'\x06\x00\x00\x00\x00\x00\xff\x7f'
  monkeypatch.setattr(sandbox, '_WORKED', set())
  monkeypatch.setattr(seccomp, 'build', lambda *_, **__: allow)
  why = sandbox.check()
  assert 'start a process' in why
  assert 'open a socket' in why
  # The limit on processes and the read-only root hold by themselves.
  assert '99 threads' not in why
  assert 'write a file' not in why


@_needs_sandbox
def test_without_the_limit_on_processes_the_check_refuses(monkeypatch):
  monkeypatch.setattr(sandbox, '_WORKED', set())
  real = sandbox._rlimits

  def without(*args):
    return [
      (k, v) for k, v in real(*args) if k != sandbox.resource.RLIMIT_NPROC
    ]

  monkeypatch.setattr(sandbox, '_rlimits', without)
  assert 'start 99 threads' in sandbox.check()


@_needs_sandbox
def test_an_old_kernel_gets_no_threads(monkeypatch):
  monkeypatch.setattr(platform, 'release', lambda: '5.4.0-100-generic')
  code = """
import threading
refused(threading.Thread(target=print).start)
"""
  _, said = _attack(code)
  assert said == 'HELD\n'


def test_without_bubblewrap_it_says_what_to_install(monkeypatch, tmp_path):
  monkeypatch.setenv('PATH', str(tmp_path))
  assert 'apt-get install bubblewrap' in sandbox.check()
  with pytest.raises(errors.InputError, match='install it') as caught:
    sandbox.require()
  assert '\n' not in str(caught.value)


@pytest.mark.skipif(os.geteuid() != 0, reason='is about root')
def test_root_needs_another_uid():
  assert 'other than 0' in sandbox.check(uid=0)
  with pytest.raises(ValueError, match='other than 0'):
    sandbox.run('pass', uid=0)


@pytest.fixture
def fake(monkeypatch):
  """Puts a bwrap with a script of ours in front, where any uid can run it."""
  with tempfile.TemporaryDirectory() as folder:
    os.chmod(folder, 0o755)

    def put(script):
      path = pathlib.Path(folder, 'bwrap')
      path.write_text(f'#!/bin/sh\n{script}\n')
      path.chmod(0o755)
      monkeypatch.setenv('PATH', folder + os.pathsep + os.environ['PATH'])

    yield put


def test_an_old_bubblewrap_is_refused(fake):
  fake('echo bubblewrap 0.6.1')
  assert 'wanted bubblewrap 0.8 or newer; got 0.6' in sandbox.check()


@pytest.mark.parametrize(
  ('setting', 'told'),
  [
    ('kernel/apparmor_restrict_unprivileged_userns', 'AppArmor'),
    ('kernel/unprivileged_userns_clone', 'unprivileged_userns_clone=1'),
    ('user/max_user_namespaces', 'max_user_namespaces=10000'),
    ('', 'in a container start it with'),
  ],
)
def test_blocked_namespaces_are_explained(fake, monkeypatch, setting, told):
  fake(
    'test "$1" = --version && echo bubblewrap 0.9.0 && exit 0\n'
    'echo "bwrap: setting up uid map: Permission denied" >&2; exit 1',
  )
  value = '1' if 'apparmor' in setting else '0'
  monkeypatch.setattr(
    sandbox, '_setting', lambda name: value if name == setting else ''
  )
  why = sandbox.check()
  assert 'setting up uid map: Permission denied' in why
  assert told in why
  assert '\n' not in why
