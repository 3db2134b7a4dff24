"""What this machine can do, measured: its matrix rate and memory bandwidth."""

import functools
import statistics
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp


# Sides of the square product, and bytes of what is read.
_SIDE_CPU, _SIDE = 2048, 8192
_BYTES_CPU, _BYTES = 1 << 28, 1 << 31
_REPEATS = 5


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
  product = jax.jit(jnp.matmul)
  return 2 * side**3 / median_seconds(lambda: product(a, b))


@functools.cache
def memory_rate() -> float:
  """Returns the bytes per second that one device reads from its memory."""
  size = _BYTES_CPU if jax.devices()[0].platform == 'cpu' else _BYTES
  x = jnp.ones((size // 4 // 1024, 1024), jnp.float32)
  read = jax.jit(lambda x: jnp.sum(x, axis=-1))
  return size / median_seconds(lambda: read(x))
