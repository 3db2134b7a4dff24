"""Runs programs, and books whose time it is: the device's or the host's."""

import time
from collections.abc import Callable
from typing import Any

import jax


class Device:
  """Runs programs one after another.

  Attributes:
    seconds: time in which the device worked, compiling left out.
    host_seconds: time in which it waited for the host.
    compile_seconds: time in which programs were compiled, or read from a cache.
  """

  def __init__(self):
    self.seconds = 0.0
    self.host_seconds = 0.0
    self.compile_seconds = 0.0
    # When the device began to work, or to wait.
    self._busy: float | None = None
    self._idle: float | None = None

  def run(self, program, *args, **static):
    """Starts a program; returns its results, perhaps before they are there.

    Args:
      program: a function made by `jax.jit`.
      *args: its arrays.
      **static: its static arguments.
    """
    began = time.perf_counter()
    if self._idle is not None:
      self.host_seconds += began - self._idle
      self._idle = None
    compiled = _compiled(program, args, static)
    now = time.perf_counter()
    self.compile_seconds += now - began
    # Compiling is not the device's work, whatever it does meanwhile.
    self._busy = now if self._busy is None else self._busy + now - began
    return compiled(*args)

  def wait(self, results):
    """Returns results on the host, as soon as the device has come to them."""
    found = jax.device_get(results)
    if self._busy is not None:
      self._idle = time.perf_counter()
      self.seconds += self._idle - self._busy
      self._busy = None
    return found

  def rest(self) -> None:
    """Says that there is no more work: the device no longer waits for any."""
    if self._busy is not None:
      self.seconds += time.perf_counter() - self._busy
    self._busy = self._idle = None


# Compiled programs by shape, for every device of this process.
_COMPILED: dict[Any, Callable[..., Any]] = {}


def forget_programs() -> None:
  """Forgets what was compiled: whatever runs next is compiled anew."""
  _COMPILED.clear()
  jax.clear_caches()


def _compiled(program, args, static: dict[str, Any]) -> Callable[..., Any]:
  """Returns a program compiled for arguments of these shapes and places."""
  leaves, tree = jax.tree.flatten(args)
  kinds = tuple((x.shape, x.dtype, x.sharding) for x in leaves)
  key = (program, tree, kinds, tuple(static.items()))
  if key not in _COMPILED:
    _COMPILED[key] = program.lower(*args, **static).compile()
  return _COMPILED[key]
