"""Commands as several processes on one machine."""

import os
import pathlib
import socket
import subprocess
import sys

import wcse_jax


ROOT = pathlib.Path(wcse_jax.__file__).parent.parent


class Job:
  """A command as `count` processes of `devices` each.

  They meet by flags, or by the variables that SLURM sets.
  """

  def __init__(self, command, count, *, devices=1, cache=None, slurm=False):
    with socket.socket() as free:
      free.bind(('127.0.0.1', 0))
      port = free.getsockname()[1]
    joined = [f'--coordinator=127.0.0.1:{port}', f'--processes={count}']
    more = {'PYTHONPATH': str(ROOT), 'XLA_FLAGS': ''}
    if devices > 1:
      flag = f'--xla_force_host_platform_device_count={devices}'
      more['XLA_FLAGS'] = flag
    if cache is not None:
      more['JAX_COMPILATION_CACHE_DIR'] = str(cache)
      more['JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS'] = '0'
    if slurm:
      more |= {
        'SLURM_JOB_ID': '1',
        'SLURM_STEP_NODELIST': 'localhost',
        'SLURM_NTASKS': str(count),
        'JAX_COORDINATOR_PORT': str(port),
      }
    flags = count > 1 and not slurm
    self.members = [
      subprocess.Popen(
        [
          sys.executable,
          *command,
          *([*joined, f'--process={i}'] if flags else []),
        ],
        cwd=ROOT,
        env=os.environ
        | more
        | ({'SLURM_PROCID': str(i), 'SLURM_LOCALID': '0'} if slurm else {}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
      )
      for i in range(count)
    ]

  def ends(self, timeout=300):
    """Returns (status, standard output, standard error) of each process."""
    found = []
    try:
      for member in self.members:
        out, error = member.communicate(timeout=timeout)
        found.append((member.returncode, out, error))
    finally:
      for member in self.members:
        member.kill()
    return found

  def succeeds(self):
    found = self.ends()
    assert [status for status, _, _ in found] == [0] * len(found), found
    return found
