import pathlib
import re
import struct

import pytest

from wcse_jax.grading import seccomp


_HEADERS = {
  'x86_64': '/usr/include/x86_64-linux-gnu/asm/unistd_64.h',
  'aarch64': '/usr/include/asm-generic/unistd.h',
}
_ALLOW, _KILL = 0x7FFF0000, 0x80000000
_EPERM, _ENOSYS = 0x50001, 0x50026


def _run(code, number, arch, arguments=(0, 0)):
  """What the kernel would return: an interpreter of the few instructions."""
  data = struct.pack('<IIQ6Q', number, arch, 0, *arguments, 0, 0, 0, 0)
  at, held = 0, 0
  while True:
    op, then, otherwise, k = struct.unpack_from('<HBBI', code, at * 8)
    at += 1
    if op == 0x06:
      return k
    if op == 0x20:
      held = struct.unpack_from('<I', data, k)[0]
      continue
    holds = {0x15: held == k, 0x35: held >= k, 0x45: held & k}[op]
    at += then if holds else otherwise


@pytest.mark.parametrize('machine', seccomp.MACHINES)
@pytest.mark.parametrize('forks', [False, True])
@pytest.mark.parametrize('threads', [False, True])
def test_every_number_is_decided(machine, forks, threads):
  code = seccomp.build(machine, threads=threads, forks=forks)
  column, arch = seccomp.MACHINES[machine]
  denied = {numbers[column] for numbers in seccomp.DENIED.values()}
  if not forks:
    denied |= {numbers[column] for numbers in seccomp.FORKS.values()}
  for number in range(seccomp.NEWEST + 1):
    found = _run(code, number, arch)
    if number == seccomp.CLONE3[column]:
      assert found == _ENOSYS
    elif number == seccomp.CLONE[column]:
      # Without CLONE_THREAD it is a fork.
      assert found == (_ALLOW if forks else _EPERM)
    else:
      assert found == (_EPERM if number in denied else _ALLOW), number
  for number in (seccomp.NEWEST + 1, 600, 0x40000000, 0xFFFFFFFF):
    assert _run(code, number, arch) == _ENOSYS
  assert _run(code, 0, arch ^ 1) == _KILL


@pytest.mark.parametrize('machine', seccomp.MACHINES)
def test_flags_of_clone_and_commands_of_ioctl(machine):
  column, arch = seccomp.MACHINES[machine]
  clone, ioctl = seccomp.CLONE[column], seccomp.IOCTL[column]
  thread = 0x3D0F00
  plain = seccomp.build(machine)
  assert _run(plain, clone, arch, (thread, 0)) == _ALLOW
  assert _run(plain, clone, arch, (17, 0)) == _EPERM
  assert _run(plain, clone, arch, (thread | 0x10000000, 0)) == _EPERM
  none = seccomp.build(machine, threads=False)
  assert _run(none, clone, arch, (thread, 0)) == _EPERM
  forks = seccomp.build(machine, forks=True)
  assert _run(forks, clone, arch, (17, 0)) == _ALLOW
  assert _run(forks, clone, arch, (17 | 0x20000, 0)) == _EPERM
  assert _run(plain, ioctl, arch, (0, 0x5401)) == _ALLOW
  # The kernel reads the lower half of the command alone.
  for command in (0x5412, 0x541C, 0x5412 | 1 << 32):
    assert _run(plain, ioctl, arch, (0, command)) == _EPERM


@pytest.mark.parametrize('machine', _HEADERS)
def test_the_numbers_are_those_of_the_kernel(machine):
  path = pathlib.Path(_HEADERS[machine])
  if not path.is_file():
    pytest.skip(f'needs {path}')
  known = {
    name: int(number)
    for name, number in re.findall(
      r'#define __NR(?:3264)?_(\w+)\s+(\d+)', path.read_text()
    )
  }
  column = seccomp.MACHINES[machine][0]
  listed = {
    **seccomp.DENIED,
    **seccomp.FORKS,
    'clone': seccomp.CLONE,
    'clone3': seccomp.CLONE3,
    'ioctl': seccomp.IOCTL,
  }
  for name, numbers in listed.items():
    assert known.get(name) == numbers[column], name


def test_an_unknown_machine_has_no_filter():
  with pytest.raises(KeyError):
    seccomp.build('riscv64')
