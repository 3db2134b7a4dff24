"""Checkpoints: `load` reads one from anywhere, `export` writes one."""

import os
from typing import Any

from wcse_jax import errors, storage
from wcse_jax import tokenizer as tokenizers


EMBEDDED = ('tiny-wc', 'tiny-se', 'tiny-student')


def resolve(checkpoint: str) -> str:
  """Returns the folder of a checkpoint: a path, or an embedded model's name.

  Raises:
    InputError: if it is neither, or its files differ from its manifest.
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
  for name, entry in storage.read_json(path)['files'].items():
    file = storage.join(folder, name)
    if not storage.exists(file):
      raise errors.InputError(f'{path}: names {name}, which is missing.')
    digest = storage.sha256(file)
    if digest != entry['sha256']:
      raise errors.InputError(
        f'{file}: corrupt: wanted sha256 {entry["sha256"][:16]} of the '
        f'manifest; got {digest[:16]}.'
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

  hf.save(model, folder, dtype=dtype)
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
  import hashlib

  folder = resolve(checkpoint)
  from wcse_jax.checkpoints import hf

  whole = hashlib.sha256()
  for name in ['config.json', *hf.weight_files(folder)]:
    whole.update(storage.sha256(storage.join(folder, name)).encode())
  return {
    'weights': whole.hexdigest(),
    'tokenizer': storage.sha256(storage.join(folder, 'tokenizer.json')),
  }
