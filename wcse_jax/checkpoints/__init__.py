"""Checkpoints: `load` reads one from anywhere, `export` writes one."""

import hashlib
import os
from collections.abc import Iterable
from typing import Any

from wcse_jax import errors, storage
from wcse_jax import tokenizer as tokenizers


EMBEDDED = ('tiny-wc', 'tiny-se', 'tiny-student')


def resolve(checkpoint: str) -> str:
  """Returns the folder of a checkpoint: a path, or an embedded model's name.

  Raises:
    InputError: if it is neither.
  """
  if checkpoint in EMBEDDED:
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    folder = os.path.join(here, 'embedded', checkpoint)
  else:
    folder = checkpoint
  if not checkpoint or not storage.is_folder(folder):
    raise errors.InputError(
      'checkpoint: wanted a Hugging Face folder or one of '
      f'{", ".join(EMBEDDED)}; got {checkpoint!r}, which is neither.'
    )
  return folder


def verify(folder: str) -> None:
  """Raises InputError if a file differs from the folder's manifest.json.

  Loaders accept flipped bytes in silence; a manifest is the only guard.
  """
  path = storage.join(folder, 'manifest.json')
  if not storage.exists(path):
    return
  manifest = storage.read_json(path)
  try:
    digests = {n: str(e['sha256']) for n, e in manifest['files'].items()}
  except (AttributeError, KeyError, TypeError):
    raise errors.InputError(
      f'{path}: wanted {{"files": {{NAME: {{"sha256": HEX}}}}}}; got '
      f'{str(manifest)[:80]!r}.'
    ) from None
  for name, wanted in digests.items():
    file = storage.join(folder, name)
    if not storage.exists(file):
      raise errors.InputError(f'{path}: names {name}, which is missing.')
    digest = storage.sha256(file)
    if digest != wanted:
      raise errors.InputError(
        f'{file}: corrupt: wanted sha256 {wanted[:16]} of the manifest; got '
        f'{digest[:16]}.'
      )


def load(
  checkpoint: str, *, dtype: Any = 'float32', mesh=None, scan=None
) -> tuple[Any, tokenizers.Tokenizer]:
  """Returns (model, tokenizer) of a checkpoint, placed on the mesh.

  Raises:
    InputError: if the checkpoint is unknown, corrupt or does not fit its
      tokenizer; nothing is compiled before that.
  """
  folder = resolve(checkpoint)
  verify(folder)
  # jax is loaded only by who needs a model.
  from wcse_jax.checkpoints import hf

  tokenizer = tokenizers.load(folder)
  config = hf.read_config(folder)
  if tokenizer.size > config.vocab_size:
    raise errors.InputError(
      f'checkpoint: {folder}: the tokenizer has {tokenizer.size} ids, more '
      f'than the {config.vocab_size} rows of the embedding.'
    )
  model = hf.load(folder, dtype=dtype, mesh=mesh, scan=scan)
  return model, tokenizer


def export(
  model, tokenizer: tokenizers.Tokenizer, folder: str, *, dtype: Any = None
) -> None:
  """Writes a Hugging Face folder with a manifest, which comes last."""
  from wcse_jax.checkpoints import hf

  hf.save(model, folder, dtype=dtype, end_ids=tokenizer.end_ids)
  tokenizers.save(tokenizer, folder)
  names = [n for n in storage.names(folder) if n != 'manifest.json']
  storage.publish_json(
    storage.join(folder, 'manifest.json'),
    {
      'files': {
        name: {'sha256': storage.sha256(storage.join(folder, name))}
        for name in names
      }
    },
  )


def fingerprint(checkpoint: str) -> dict[str, str]:
  """Returns {'weights', 'tokenizer'}: the sha256 of what decides a sample."""
  folder = resolve(checkpoint)
  # A corrupt file is called so, not another model.
  verify(folder)
  from wcse_jax.checkpoints import hf

  def whole(names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
      path = storage.join(folder, name)
      if storage.exists(path):
        digest.update(f'{name} {storage.sha256(path)}\n'.encode())
    return digest.hexdigest()

  # The last two say where a sample ends.
  texts = ('tokenizer.json', 'tokenizer_config.json', 'generation_config.json')
  return {
    'weights': whole(['config.json', *hf.weight_files(folder)]),
    'tokenizer': whole(texts),
  }
