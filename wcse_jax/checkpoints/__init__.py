"""Checkpoints: `load` reads one from anywhere, `export` writes one.

A checkpoint is a Hugging Face folder, a GGUF file, an Orbax folder that
`export_orbax` wrote, a model of the Hugging Face hub with its revision
(`google/gemma-3-270m@REVISION`), or the name of an embedded model.
"""

import contextlib
import dataclasses
import hashlib
import os
import re
from collections.abc import Iterable, Iterator
from typing import Any

from wcse_jax import errors, processes, storage, vocabulary
from wcse_jax import tokenizer as tokenizers
from wcse_jax.checkpoints import card as cards
from wcse_jax.models import config as model_config
from wcse_jax.models import hf_config


EMBEDDED = ('tiny-wc', 'tiny-se', 'tiny-student')


_HUB = re.compile(r'([\w.-]+/[\w.-]+)@([\w./-]+)')
# What of a model on the hub is fetched: no code, no pickle.
_HUB_FILES = (
  '*.safetensors',
  '*.safetensors.index.json',
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'chat_template.jinja',
  'tokenizer.model',
  'prompt_format.json',
  'README.md',
  'LICENSE*',
  'NOTICE*',
  'USE_POLICY*',
)


@dataclasses.dataclass
class Opened:
  """A checkpoint that is being read.

  Attributes:
    path: folder or file.
    config: its architecture.
    source: its weights; see `weights.Source`.
  """

  path: str
  config: model_config.ModelConfig
  source: Any
  _metadata: dict[str, Any] | None

  def tokenizer(self) -> tokenizers.Tokenizer:
    """Returns its tokenizer.

    Raises:
      InputError: if there is none, or it has more ids than the embedding rows.
    """
    beside = _folder(self.path)
    if self._metadata is None:
      found = tokenizers.load(self.path)
    elif storage.exists(storage.join(beside, 'tokenizer.json')):
      found = tokenizers.load(beside)
    else:
      label = f'checkpoint: {self.path}'
      found = tokenizers.from_files(
        vocabulary.build(self._metadata, label=label), label=label
      )
    if found.size > self.config.vocab_size:
      raise errors.InputError(
        f'checkpoint: {self.path}: the tokenizer has {found.size} ids, more '
        f'than the {self.config.vocab_size} rows of the embedding.'
      )
    return found

  def card(self) -> cards.Card:
    """Returns the model card of what is made of it."""
    if self._metadata is None:
      return cards.read(self.path)
    found = cards.read(self._metadata)
    if found.base_model:
      return found
    name = self.path.rpartition('/')[2].removesuffix('.gguf')
    return dataclasses.replace(found, base_model=(name,))


def resolve(checkpoint: str) -> str:
  """Returns the path of a checkpoint: of a folder, or of a GGUF file.

  A model of the hub is fetched into the hub's own cache.

  Raises:
    InputError: if it is none of what a checkpoint may be.
  """
  if checkpoint in EMBEDDED:
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return os.path.join(here, 'embedded', checkpoint)
  if checkpoint and storage.is_folder(checkpoint):
    held = [n for n in storage.names(checkpoint) if n.endswith('.gguf')]
    others = ('config.json', 'model.safetensors')
    if len(held) == 1 and not any(
      storage.exists(storage.join(checkpoint, name)) for name in others
    ):
      return storage.join(checkpoint, held[0])
    return checkpoint
  if checkpoint.endswith('.gguf') and storage.exists(checkpoint):
    return checkpoint
  hub = _HUB.fullmatch(checkpoint)
  if hub:
    return _fetch(*hub.groups())
  raise errors.InputError(
    'checkpoint: wanted a Hugging Face folder, a .gguf file, an Orbax folder, '
    f'ORGANIZATION/NAME@REVISION of the hub, or one of {", ".join(EMBEDDED)}; '
    f'got {checkpoint!r}, which is none of them.'
  )


def verify(path: str) -> None:
  """Raises InputError if a file differs from the folder's manifest.json.

  Loaders accept flipped bytes in silence; a manifest is the only guard.

  Args:
    path: a folder, all of whose files are looked at, or a GGUF file that a
      manifest beside it may name.
  """
  folder = _folder(path)
  manifest_path = storage.join(folder, 'manifest.json')
  if not storage.exists(manifest_path):
    return
  manifest = storage.read_json(manifest_path)
  try:
    digests = {n: str(e['sha256']) for n, e in manifest['files'].items()}
  except (AttributeError, KeyError, TypeError):
    raise errors.InputError(
      f'{manifest_path}: wanted {{"files": {{NAME: {{"sha256": HEX}}}}}}; got '
      f'{str(manifest)[:80]!r}.'
    ) from None
  if folder != path:
    name = path.rpartition('/')[2]
    digests = {n: digest for n, digest in digests.items() if n == name}
  for name, wanted in digests.items():
    file = storage.join(folder, name)
    if not storage.exists(file):
      raise errors.InputError(
        f'{manifest_path}: names {name}, which is missing.'
      )
    digest = storage.sha256(file)
    if digest != wanted:
      raise errors.InputError(
        f'{file}: corrupt: wanted sha256 {wanted[:16]} of the manifest; got '
        f'{digest[:16]}.'
      )


@contextlib.contextmanager
def opened(checkpoint: str) -> Iterator[Opened]:
  """Opens a checkpoint, verified against its manifest if it has one.

  Raises:
    InputError: if it is unknown or corrupt.
  """
  path = resolve(checkpoint)
  verify(path)
  with contextlib.ExitStack() as stack:
    if path.endswith('.gguf'):
      from wcse_jax.checkpoints import gguf, gguf_config, gguf_names

      copy = stack.enter_context(storage.local(path))
      file = stack.enter_context(gguf.File(copy, path))
      row = gguf_config.config(file)
      config = _read(row, path)
      source = gguf_names.Source(file, row)
      yield Opened(path, config, source, file.metadata)
      return
    config = read_config(path)
    if storage.exists(storage.join(path, 'weights.json')):
      from wcse_jax.checkpoints import store

      source = stack.enter_context(store.Source(path))
    else:
      # It loads jax, which a refused argument need not wait for.
      from wcse_jax.checkpoints import hf

      source = stack.enter_context(hf.Source(path))
    yield Opened(path, config, source, None)


def read_config(checkpoint: str) -> model_config.ModelConfig:
  """Returns the architecture of a checkpoint, without reading its weights."""
  path = resolve(checkpoint)
  if path.endswith('.gguf'):
    with opened(path) as found:
      return found.config
  file = storage.join(path, 'config.json')
  if not storage.exists(file):
    raise errors.InputError(
      f'checkpoint: wanted a Hugging Face folder; {path} has no config.json.'
    )
  return _read(storage.read_json(file), file)


def read_tokenizer(checkpoint: str) -> tokenizers.Tokenizer:
  """Returns the tokenizer of a checkpoint; its folder may lack weights."""
  path = resolve(checkpoint)
  if path.endswith('.gguf'):
    with opened(path) as found:
      return found.tokenizer()
  return Opened(path, read_config(path), None, None).tokenizer()


def origin(checkpoint: str) -> cards.Card:
  """Returns the model card of what is made of a checkpoint."""
  with opened(checkpoint) as found:
    return found.card()


def hub_name(checkpoint: str) -> tuple[str, str] | None:
  """Returns (ORGANIZATION/NAME, revision) of a model of the hub, else None."""
  found = _HUB.fullmatch(checkpoint)
  return found.groups() if found and not storage.exists(checkpoint) else None


def stated(checkpoint: str) -> cards.Card:
  """Returns what the files of a checkpoint say of it, without its weights.

  Nothing is fetched: of a model of the hub they are those of the hub's cache.
  The card is empty where there are none.
  """
  hub = hub_name(checkpoint)
  try:
    path = _cached(*hub) if hub else resolve(checkpoint)
    if not path.endswith('.gguf') or storage.is_folder(path):
      return cards.read(path) if path else cards.Card()
    from wcse_jax.checkpoints import gguf

    with storage.local(path) as copy, gguf.File(copy, path) as file:
      return cards.read(file.metadata)
  except errors.InputError:
    return cards.Card()


def load(
  checkpoint: str,
  *,
  dtype: Any = 'float32',
  mesh=None,
  scan=None,
  weights: str = '',
  random: bool = False,
) -> tuple[Any, tokenizers.Tokenizer]:
  """Returns (model, tokenizer) of a checkpoint, placed on the mesh.

  Args:
    checkpoint: see the module.
    dtype: of weights and activations.
    mesh: where to place the weights; None for the first device.
    scan: see `Transformer`.
    weights: `int8` to hold the matrices in int8; empty: as `dtype`.
    random: whether to make weights up instead of reading any: a Hugging Face
      folder then needs no more than config.json and the tokenizer's files.

  Raises:
    InputError: if the checkpoint is unknown, corrupt or does not fit its
      tokenizer; nothing is compiled before that.
  """
  if weights not in ('', 'int8'):
    raise errors.InputError(
      f'weights: wanted int8, or nothing for {dtype}; got {weights!r}.'
    )
  # jax is loaded only by who needs a model.
  from wcse_jax.checkpoints import weights as checkpoint_weights

  if random:
    path = resolve(checkpoint)
    if path.endswith('.gguf'):
      raise errors.InputError(
        'checkpoint: wanted a folder with config.json for random weights; '
        f'got {checkpoint!r}.'
      )
    model = checkpoint_weights.random(
      read_config(path), dtype=dtype, mesh=mesh, scan=scan, weights=weights
    )
    return model, read_tokenizer(path)
  with opened(checkpoint) as found:
    tokenizer = found.tokenizer()
    model = checkpoint_weights.load(
      found.source,
      found.config,
      dtype=dtype,
      mesh=mesh,
      scan=scan,
      weights=weights,
    )
  return model, tokenizer


def export(
  model,
  tokenizer: tokenizers.Tokenizer,
  folder: str,
  *,
  dtype: Any = None,
  card: cards.Card | None = None,
  prompt_format: str = '',
) -> None:
  """Writes a Hugging Face folder with a manifest, which comes last.

  Of several processes all call it, and the first one writes.

  Args:
    model: the model, on any mesh.
    tokenizer: its tokenizer.
    folder: the target.
    dtype: of the stored weights; None for the model's own.
    card: where the model comes from, for the README.md; None for no card.
    prompt_format: `plain` or `chat`: how the model was asked when it was
      trained last, and will be from now on; empty: as before.
  """
  from wcse_jax.checkpoints import hf

  if not processes.first():
    # What is spread over the processes is fetched by all of them.
    for _ in hf.tensors(model, dtype):
      pass
    return
  hf.save(model, folder, dtype=dtype, end_ids=tokenizer.end_ids)
  _finish(model, tokenizer, folder, dtype, card, prompt_format)


def export_orbax(
  model,
  tokenizer: tokenizers.Tokenizer,
  folder: str,
  *,
  dtype: Any = None,
  card: cards.Card | None = None,
  prompt_format: str = '',
) -> None:
  """Writes an Orbax folder; see `export`."""
  from wcse_jax.checkpoints import hf, store

  store.save(model, folder, dtype=dtype)
  hf.write_config(model, folder, dtype=dtype, end_ids=tokenizer.end_ids)
  _finish(model, tokenizer, folder, dtype, card, prompt_format)


def fingerprint(checkpoint: str) -> dict[str, str]:
  """Returns {'weights', 'tokenizer'}: the sha256 of what decides a sample."""
  path = resolve(checkpoint)
  # A corrupt file is called so, not another model.
  verify(path)

  def whole(folder: str, names: Iterable[str]) -> str:
    digest = hashlib.sha256()
    for name in names:
      file = storage.join(folder, name)
      if storage.exists(file):
        digest.update(f'{name} {storage.sha256(file)}\n'.encode())
    return digest.hexdigest()

  # The last two say where a sample ends.
  texts = ['tokenizer.json', 'tokenizer_config.json', 'generation_config.json']
  texts += ['chat_template.jinja', tokenizers.PROMPT_FORMAT]
  if path.endswith('.gguf'):
    beside = _folder(path)
    held = storage.sha256(path)
    own = not storage.exists(storage.join(beside, 'tokenizer.json'))
    return {
      'weights': held,
      'tokenizer': held if own else whole(beside, texts),
    }
  if storage.exists(storage.join(path, 'weights.json')):
    names = [n for n in storage.files(path) if n.startswith('weights/')]
    names = ['config.json', 'weights.json', *names]
  else:
    from wcse_jax.checkpoints import hf

    names = ['config.json', *hf.weight_files(path)]
  return {'weights': whole(path, names), 'tokenizer': whole(path, texts)}


def _finish(
  model, tokenizer, folder: str, dtype: Any, card, prompt_format: str
) -> None:
  """Writes what both kinds of export have beside the weights."""
  tokenizers.save(tokenizer, folder)
  if prompt_format:
    storage.publish_json(
      storage.join(folder, tokenizers.PROMPT_FORMAT), {'format': prompt_format}
    )
  if card is not None:
    written = cards.files(
      card,
      name=folder.rstrip('/').rpartition('/')[2],
      architecture=model.config.architecture,
      parameters=model.config.parameters(),
      dtype=str(model.dtype if dtype is None else dtype),
    )
    for name, data in written.items():
      storage.publish(storage.join(folder, name), data)
  # Who writes may hold the folder's lock.
  aside = ('manifest.json', '.lock')
  names = [n for n in storage.files(folder) if n not in aside]
  storage.publish_json(
    storage.join(folder, 'manifest.json'),
    {
      'files': {
        name: {'sha256': storage.sha256(storage.join(folder, name))}
        for name in names
      }
    },
  )


def _read(row: Any, where: str) -> model_config.ModelConfig:
  try:
    return hf_config.from_hf(row)
  except errors.InputError as error:
    if where in str(error):
      raise
    raise errors.InputError(f'{where}: {error}') from None


def _folder(path: str) -> str:
  """Returns the folder of a GGUF file; a folder itself."""
  if not path.endswith('.gguf') or storage.is_folder(path):
    return path
  return path.rpartition('/')[0] or '.'


def _cached(name: str, revision: str) -> str:
  """Returns the folder of a model in the hub's own cache; empty if none is."""
  import huggingface_hub

  try:
    return huggingface_hub.snapshot_download(
      name, revision=revision, local_files_only=True
    )
  except (OSError, ValueError):  # What the package's own errors derive from.
    return ''


def _fetch(name: str, revision: str) -> str:
  """Returns the folder of a model of the hub, in the hub's own cache."""
  import huggingface_hub

  try:
    return huggingface_hub.snapshot_download(
      name, revision=revision, allow_patterns=list(_HUB_FILES)
    )
  except Exception as error:  # Many kinds, of several libraries.
    raise errors.InputError(
      f'checkpoint: {name}@{revision} could not be had from the hub: '
      f'{" ".join(str(error).split())[:200]}.'
    ) from None
