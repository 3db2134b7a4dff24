"""Figures that take long to work out, kept on the disk.  No jax here.

One JSON file for each, named after the sha256 of all that it depends on, which
stands in it.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import importlib.resources
import json
import os
from collections.abc import Callable, Mapping
from typing import Any

import wcse_jax
from wcse_jax import errors, storage


# Where they are kept, if not in ~/.cache/wcse_jax.
FOLDER = 'WCSE_JAX_CACHE'
# What of this package decides on a compiled program and how it is counted.
_PARTS = ('aot', 'kernels', 'models', 'sampler', 'sft')
_FILES = ('budget.py', 'sharding.py')


def folder() -> str:
  """Returns the folder."""
  home = os.path.join(os.path.expanduser('~'), '.cache', 'wcse_jax')
  return os.environ.get(FOLDER) or home


@functools.cache
def versions() -> dict[str, str | None]:
  """Returns what else compiled figures depend on, as JSON values.

  The versions of what compiles, and a hash of the code that is compiled:
  between two releases it changes without a version.
  """
  found: dict[str, str | None] = {'wcse_jax': wcse_jax.__version__}
  for package in ('jax', 'jaxlib', 'libtpu', 'flax', 'optax'):
    try:
      found[package] = importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
      found[package] = None
  root = importlib.resources.files('wcse_jax')
  files = [root / name for name in _FILES]
  for part in _PARTS:
    files += [f for f in (root / part).iterdir() if f.name.endswith('.py')]
  whole = hashlib.sha256()
  for file in sorted(files, key=str):
    whole.update(hashlib.sha256(file.read_bytes()).digest())
  return found | {'code': whole.hexdigest()}


def get(
  key: Mapping[str, Any], make: Callable[[], dict[str, Any]]
) -> dict[str, Any]:
  """Returns the figures of a key, made only if they are not kept.

  Args:
    key: all that they depend on beside `versions()`, as JSON values.
    make: makes them, as JSON values.
  """
  whole = {**key, 'versions': versions()}
  name = json.dumps(whole, sort_keys=True, allow_nan=False)
  code = hashlib.sha256(name.encode()).hexdigest()
  path = storage.join(folder(), f'{code}.json')
  found = _read(path)
  # As it reads after a way through JSON.
  if found is not None and found.get('key') == json.loads(name):
    return found['value']
  value = make()
  # Where nothing may be written, they are made again the next time.
  with contextlib.suppress(OSError):
    storage.publish_json(path, {'key': whole, 'value': value})
  return value


def _read(path: str) -> dict[str, Any] | None:
  """Returns what a file holds; None where it is missing or not whole."""
  if not storage.exists(path):
    return None
  try:
    found = storage.read_json(path)
  except errors.InputError:
    return None
  return found if isinstance(found, dict) and 'value' in found else None
