"""Checkpoints from one format to another: HF folder, GGUF, Orbax.

The target says in `conversion.json` what it is made of.  A finished target has
a manifest, which comes last; the rest of a killed conversion has none, and the
same call makes it anew.
"""

import collections
import contextlib
import dataclasses
import math
import os
from typing import Any

import jax
import jax.numpy as jnp
from absl import logging
from flax import nnx

from wcse_jax import checkpoints, errors, runlog, sharding, storage
from wcse_jax.checkpoints import card


FORMATS = ('hf', 'orbax')
DTYPES = ('float32', 'bfloat16', 'float16')

_RECORD = 'conversion.json'
# Types in a file, and the type that a target has for them.
_STORED = {
  'F64': 'float32',
  'F32': 'float32',
  'BF16': 'bfloat16',
  'F16': 'float16',
}


@dataclasses.dataclass(kw_only=True)
class ConvertConfig:
  """A conversion.

  Attributes:
    dtype: of the weights in the target, one of `DTYPES`; empty: that of most
      weights of the source, bfloat16 where they are quantised.
    format: one of `FORMATS`; empty: Orbax for a target whose name ends in
      `orbax`, else a Hugging Face folder.
    seed: as every command has one; nothing is drawn here.
    mesh: where the weights are held in between, as `sharding.make_mesh` reads
      it; empty: the first device.
  """

  dtype: str = ''
  format: str = ''
  seed: int = 0
  mesh: str = ''

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    for field, known in (('dtype', DTYPES), ('format', FORMATS)):
      if getattr(self, field) not in ('', *known):
        raise errors.InputError(
          f'{field}: wanted one of {", ".join(known)}, or nothing; '
          f'got {getattr(self, field)!r}.'
        )


def convert(
  config: ConvertConfig, source: str, target: str, workdir: str = ''
) -> dict[str, Any]:
  """Writes a checkpoint anew; returns what was written.

  The result has `target`, `format`, `dtype` and `written`; where something was
  written, also `parameters` and `bytes` of the weights.

  Args:
    config: the conversion.
    source: whatever `checkpoints.load` takes.
    target: folder, new or empty, or one that the same conversion began.
    workdir: run folder for configuration and provenance; empty for none.

  Raises:
    InputError: if an argument or the source does not fit, or the target holds
      anything else; nothing is written before that.
  """
  config.validate()
  for flag, path in (('--source', source), ('--target', target)):
    if not path:
      raise errors.InputError(f'{flag}: wanted a path; got nothing.')
  place = checkpoints.resolve(source)
  _check_apart(place, target)
  format_ = format_of(config, target)
  stored, origin = _describe(source)
  result = {
    'target': target,
    'format': format_,
    'dtype': config.dtype or stored,
  }
  record = {
    'source': checkpoints.fingerprint(source),
    'format': format_,
    'dtype': result['dtype'],
  }
  if _is_finished(target, record):
    return result | {'written': False}
  mesh = sharding.make_mesh(config.mesh) if config.mesh else None
  model, tokenizer = checkpoints.load(source, dtype=result['dtype'], mesh=mesh)
  with contextlib.ExitStack() as stack:
    if workdir:
      fields = dataclasses.asdict(config)
      stack.enter_context(runlog.writing(workdir, fields))
    stack.enter_context(storage.lock(target))
    # Another process may have come first.
    if _is_finished(target, record):
      return result | {'written': False}
    storage.publish_json(storage.join(target, _RECORD), record)
    write = checkpoints.export if format_ == 'hf' else checkpoints.export_orbax
    write(model, tokenizer, target, dtype=result['dtype'], card=origin)
  return result | {'written': True} | _size(model, result['dtype'])


def format_of(config: ConvertConfig, target: str) -> str:
  """Returns which of `FORMATS` the target gets."""
  if config.format:
    return config.format
  return 'orbax' if target.rstrip('/').endswith('orbax') else 'hf'


def line(result: dict[str, Any]) -> str:
  """Returns what `convert` gave, for the terminal."""
  kind = {'hf': 'Hugging Face folder', 'orbax': 'Orbax folder'}
  what = f'{kind[result["format"]]} in {result["dtype"]}'
  if not result['written']:
    return (
      f'{result["target"]} holds this conversion already ({what}): nothing '
      'was written'
    )
  return (
    f'{what} of {result["parameters"]:,} parameters, {result["bytes"]:,} '
    f'bytes: {result["target"]}'
  )


def _check_apart(source: str, target: str) -> None:
  """Raises InputError unless the target lies outside of the source."""
  if storage.exists(target) and not storage.is_folder(target):
    raise errors.InputError(f'--target: wanted a folder; {target} is a file.')
  inner, outer = _real(target), _real(source)
  if inner == outer:
    raise errors.InputError(
      f'--target: wanted another path than --source; got {target}.'
    )
  if inner.startswith(f'{outer}/'):
    raise errors.InputError(
      f'--target: wanted a folder outside of --source; got {target}.'
    )


def _real(path: str) -> str:
  path = storage.absolute(path)
  return path.rstrip('/') if '://' in path else os.path.realpath(path)


def _is_finished(target: str, record: dict[str, Any]) -> bool:
  """Returns whether the target holds the whole result of this conversion.

  Raises:
    InputError: if it holds anything but that, or the rest of it.
  """
  found = storage.names(target)
  if not found:
    return False
  path = storage.join(target, _RECORD)
  if _RECORD not in found or storage.read_json(path) != record:
    raise errors.InputError(
      f'--target: wanted a new or empty folder; {target} holds '
      f'{"another conversion" if _RECORD in found else repr(found[0])}.'
    )
  if 'manifest.json' not in found:
    return False
  try:
    checkpoints.verify(target)
  except errors.InputError as error:
    logging.warning('%s The conversion is done again.', error)
    return False
  return True


def _describe(source: str) -> tuple[str, card.Card]:
  """Returns (type of most of the stored weights, card of what they become)."""
  with checkpoints.opened(source) as found:
    counts: collections.Counter[str] = collections.Counter()
    for name, shape in found.source.shapes.items():
      counts[found.source.kind(name)] += math.prod(shape)
    return _most(counts), found.card()


def _most(counts: collections.Counter[str]) -> str:
  """Returns the type for a number of values of each kind."""
  if not set(counts) <= set(_STORED):
    return 'bfloat16'
  chosen = _STORED[max(counts, key=lambda kind: counts[kind])]
  rest = sorted(kind for kind in counts if _STORED[kind] != chosen)
  if rest:
    logging.warning(
      'source: %d of %d weights are %s, not %s; they are stored as the others '
      'unless --config.dtype says what to store.',
      sum(counts[kind] for kind in rest),
      counts.total(),
      ' or '.join(rest),
      chosen,
    )
  return chosen


def _size(model, dtype: str) -> dict[str, int]:
  """Returns the number of weights, and their bytes in this type."""
  leaves = jax.tree.leaves(nnx.state(model, nnx.Param))
  count = sum(leaf.size for leaf in leaves)
  return {'parameters': count, 'bytes': count * jnp.dtype(dtype).itemsize}
