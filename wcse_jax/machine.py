"""What this machine can do, measured: its matrix rate and memory bandwidth."""

import functools
import importlib.util
import os
import pathlib
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

from wcse_jax import errors, prices


# Sides of the square product, and bytes of what is read.
_SIDE_CPU, _SIDE = 2048, 8192
_BYTES_CPU, _BYTES = 1 << 28, 1 << 33
_REPEATS = 5
# Part of a device's name -> its chip in the price table, the first one counts.
_CHIPS = {
  'tpu v4': 'v4',
  'tpu v5 lite': 'v5e',
  'tpu v5e': 'v5e',
  'tpu v5': 'v5p',
  'tpu v6': 'v6e',
  'a100-sxm4-40gb': 'a100-40gb',
  'a100-pcie-40gb': 'a100-40gb',
  'a100': 'a100-80gb',
  'h100': 'h100',
  'h200': 'h200',
  'cpu': 'cpu',
}
# FLOP/s of products of bfloat16, dense, by a part of the device's name.
# Source: cloud.google.com/tpu/docs (v4, v5e, v5p, v6e), nvidia.com data sheets
# of A100, H100 SXM and H200 SXM.
_PUBLISHED = {
  'tpu v4': 275e12,
  'tpu v5 lite': 197e12,
  'tpu v5e': 197e12,
  'tpu v5': 459e12,
  'tpu v6 lite': 918e12,
  'tpu v6e': 918e12,
  'a100': 312e12,
  'h100': 989e12,
  'h200': 989e12,
}


def median_seconds(run: Callable[[], Any], repeats: int = _REPEATS) -> float:
  """Returns the median time of a program's runs, after one that compiles."""
  jax.block_until_ready(run())
  times = []
  for _ in range(repeats):
    began = time.perf_counter()
    jax.block_until_ready(run())
    times.append(time.perf_counter() - began)
  return statistics.median(times)


@functools.cache
def matrix_rate(dtype: str) -> float:
  """Returns the FLOP/s of a large square product on one device."""
  side = _SIDE_CPU if jax.devices()[0].platform == 'cpu' else _SIDE
  key = jax.random.key(0)
  a, b = (jax.random.normal(k, (side, side)) for k in jax.random.split(key))
  a, b = a.astype(dtype), b.astype(dtype)
  # As the model asks for its products: on CPU those of bfloat16 are fast only
  # where they give float32.
  product = jax.jit(
    functools.partial(jnp.matmul, preferred_element_type=jnp.float32)
  )
  return 2 * side**3 / median_seconds(lambda: product(a, b))


@functools.cache
def memory_rate() -> float:
  """Returns the bytes per second that one device reads from its memory."""
  size = _BYTES_CPU
  if jax.devices()[0].platform != 'cpu':
    # A small read would time how long a program takes to begin.
    size = min(_BYTES, (free_memory() or _BYTES) // 4)
  x = jnp.ones((size // 4 // 1024, 1024), jnp.float32)
  read = jax.jit(lambda x: jnp.sum(x, axis=-1))
  return size / median_seconds(lambda: read(x))


def check_profiler() -> None:
  """Raises InputError where the profiler would end the process.

  It does so on a libtpu that found no TPU.
  """
  if os.environ.get('JAX_PLATFORMS') or jax.default_backend() == 'tpu':
    return
  if importlib.util.find_spec('libtpu'):
    raise errors.InputError(
      'profile: libtpu is installed and there is no TPU: wanted '
      f'JAX_PLATFORMS={jax.default_backend()} in the environment; got nothing.'
    )


def peak_rate(dtype: str) -> float:
  """Returns the FLOP/s of one device's matrix unit: published, else measured.

  On CPU, and on devices that the table does not know, it is `matrix_rate`.
  """
  kind = jax.devices()[0].device_kind.lower()
  for name, rate in _PUBLISHED.items():
    if name in kind and dtype == 'bfloat16':
      return rate
  return matrix_rate(dtype)


def chip() -> str:
  """Returns the kind of this process's devices, as the price table calls it."""
  kind = jax.devices()[0].device_kind.lower()
  return next((name for part, name in _CHIPS.items() if part in kind), kind)


def usd(chip_seconds: float) -> float | None:
  """Returns what chip-seconds on this machine cost; None if it is not known."""
  return prices.usd(chip(), chip_seconds)


def free_memory(device: jax.Device | None = None) -> int | None:
  """Returns the bytes that a device has left; None where nothing tells.

  CPU devices of one process share what the machine, or the control group that
  the process is in, has left.
  """
  device = jax.local_devices()[0] if device is None else device
  if device.platform == 'cpu':
    left = _host_memory()
    return None if left is None else left // jax.local_device_count()
  stats = device.memory_stats() or {}
  if 'bytes_limit' not in stats:
    return None
  return stats['bytes_limit'] - stats.get('bytes_in_use', 0)


def _host_memory() -> int | None:
  """Returns the bytes that a process may still take, as Linux tells."""
  try:
    lines = pathlib.Path('/proc/meminfo').read_text().splitlines()
  except OSError:
    return None
  sizes = dict(line.split(':', 1) for line in lines)
  left = int(sizes['MemAvailable'].split()[0]) * 1024
  group = pathlib.Path('/sys/fs/cgroup')
  try:
    limit = (group / 'memory.max').read_text().strip()
    used = int((group / 'memory.current').read_text())
    stat = (group / 'memory.stat').read_text().splitlines()
  except OSError:
    return left
  if limit == 'max':
    return left
  # File pages count as used, and are given back when memory is wanted.
  files = sum(
    int(line.split()[1])
    for line in stat
    if line.split()[0] in ('inactive_file', 'active_file')
  )
  return min(left, int(limit) - used + files)
