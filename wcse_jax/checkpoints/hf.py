"""Hugging Face folders: weights in and out, tensor by tensor.

Nothing in a folder is ever run: the configuration and the tensors are data,
pickled weights are refused.
"""

import contextlib
import json
import re
from collections.abc import Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import safetensors
import safetensors.numpy
from absl import logging
from flax import nnx
from jax.sharding import Mesh

from wcse_jax import errors, sharding, storage
from wcse_jax.models import config as model_config
from wcse_jax.models import transformer


# Block attribute -> (name in the file, is it stored transposed).
_LAYER = {
  'q': ('self_attn.q_proj.weight', True),
  'k': ('self_attn.k_proj.weight', True),
  'v': ('self_attn.v_proj.weight', True),
  'o': ('self_attn.o_proj.weight', True),
  'q_norm': ('self_attn.q_norm.weight', False),
  'k_norm': ('self_attn.k_norm.weight', False),
  'gate': ('mlp.gate_proj.weight', True),
  'up': ('mlp.up_proj.weight', True),
  'down': ('mlp.down_proj.weight', True),
  'attention_norm': ('input_layernorm.weight', False),
  'attention_post_norm': ('post_attention_layernorm.weight', False),
  'mlp_norm': ('pre_feedforward_layernorm.weight', False),
  'mlp_post_norm': ('post_feedforward_layernorm.weight', False),
}
_PREFIXES = ('model.', 'language_model.model.', 'model.language_model.')
# What stands beside the text model in a multimodal checkpoint.
_OTHER_MODELS = re.compile(
  r'(model\.)?(vision_tower|multi_modal_projector|embed_vision)\.'
)
_FLOATS = {'F32', 'F16', 'BF16', 'F64'}
# Tensors of one file of an exported model, bytes.
_FILE_BYTES = 4 << 30


def read_config(folder: str) -> model_config.ModelConfig:
  """Returns the architecture that the folder's config.json states."""
  path = storage.join(folder, 'config.json')
  if not storage.exists(path):
    raise errors.InputError(
      f'checkpoint: wanted a Hugging Face folder; {folder} has no config.json.'
    )
  try:
    return model_config.from_hf(storage.read_json(path))
  except errors.InputError as error:
    if path in str(error):
      raise
    raise errors.InputError(f'{path}: {error}') from None


def weight_files(folder: str) -> list[str]:
  """Returns the names of the folder's safetensors files.

  Raises:
    InputError: if there is none; pickled weights are refused.
  """
  names = storage.names(folder)
  found = [name for name in names if name.endswith('.safetensors')]
  index = storage.join(folder, 'model.safetensors.index.json')
  if storage.exists(index):
    row = storage.read_json(index)
    try:
      wanted = sorted(set(row['weight_map'].values()))
      missing = sorted(set(wanted) - set(found))
    except (AttributeError, KeyError, TypeError):
      raise errors.InputError(
        f'{index}: wanted {{"weight_map": {{TENSOR: FILE}}}}; got '
        f'{str(row)[:80]!r}.'
      ) from None
    if missing:
      raise errors.InputError(
        f'{index}: wanted the file {missing[0]}; missing.'
      )
    return wanted
  if not found:
    pickled = [n for n in names if n.endswith(('.bin', '.pt', '.pth'))]
    came = f', only {pickled[0]}: pickles are refused' if pickled else ''
    raise errors.InputError(
      f'checkpoint: {folder} holds no *.safetensors{came}.'
    )
  return found


def load(
  folder: str,
  *,
  dtype: Any = jnp.float32,
  mesh: Mesh | None = None,
  scan: bool | None = None,
) -> transformer.Transformer:
  """Returns the model of a Hugging Face folder, placed on the mesh.

  Args:
    folder: local path of the folder.
    dtype: of the weights in memory, whatever the file holds.
    mesh: where to place them; None for the first device.
    scan: see `Transformer`.

  Raises:
    InputError: if a tensor is missing, unknown, or has another shape or type,
      a file is corrupt, or the mesh does not divide the model; nothing is
      compiled before that.
  """
  config = read_config(folder)
  if mesh is None:
    mesh = sharding.make_mesh('', jax.devices()[:1])
  check_mesh(config, mesh)
  model = nnx.eval_shape(
    lambda: transformer.Transformer(
      config, dtype=dtype, rngs=nnx.Rngs(0), mesh=mesh, scan=scan
    )
  )
  with _Files(folder) as files:
    prefix = files.prefix(folder)
    used = set()
    for param, names, flip in _tensors(model, prefix):
      letters = param.get_metadata('letters')
      sharding.check(mesh, letters, param.shape, sharding.WEIGHTS, names[0])
      want = param.shape if len(names) == 1 else param.shape[1:]
      for name in names:
        files.check(name, want[::-1] if flip else want)
        used.add(name)
    files.check_unused(set(files.where) - used, config.tie_embeddings)
    for param, names, flip in _tensors(model, prefix):
      parts = [_oriented(files.read(name), flip, dtype) for name in names]
      whole = parts[0] if len(parts) == 1 else np.stack(parts)
      letters = param.get_metadata('letters')
      param.set_value(sharding.place(whole, letters, mesh, name=names[0]))
  return model


def check_mesh(config: model_config.ModelConfig, mesh: Mesh) -> None:
  """Raises InputError if the mesh does not divide the heads."""
  parts = mesh.shape['tensor']
  for name, count in (
    ('num_heads', config.num_heads),
    ('num_kv_heads', config.num_kv_heads),
  ):
    if count % parts:
      raise errors.InputError(
        f'mesh: tensor={parts} does not divide {name}={count}.'
      )


def save(
  model: transformer.Transformer,
  folder: str,
  *,
  dtype: Any = None,
  end_ids: Sequence[int] | None = None,
) -> None:
  """Writes weights and configuration that transformers loads back.

  Args:
    model: the model, on any mesh.
    folder: the target.
    dtype: of the stored weights; None for the model's own.
    end_ids: the tokens that end a sample; None for the model's own.
  """
  dtype = jnp.dtype(model.dtype if dtype is None else dtype)
  files: list[dict[str, np.ndarray]] = [{}]
  size = 0
  for name, tensor in tensors(model, dtype):
    if files[-1] and size + tensor.nbytes > _FILE_BYTES:
      files.append({})
      size = 0
    files[-1][name] = tensor
    size += tensor.nbytes
  count = len(files)
  index = 'model.safetensors.index.json'
  # Of an older export nothing may stay that a reader would take for this one.
  for name in storage.names(folder):
    if name.endswith('.safetensors') or name in (index, 'manifest.json'):
      storage.remove(storage.join(folder, name))
  where = {}
  for i, part in enumerate(files, 1):
    name = (
      'model.safetensors'
      if count == 1
      else f'model-{i:05d}-of-{count:05d}.safetensors'
    )
    where.update(dict.fromkeys(part, name))
    data = safetensors.numpy.save(part, metadata={'format': 'pt'})
    storage.publish(storage.join(folder, name), data)
  if count > 1:
    total = sum(t.nbytes for part in files for t in part.values())
    storage.publish_json(
      storage.join(folder, index),
      {'metadata': {'total_size': total}, 'weight_map': where},
    )
  described = model_config.to_hf(model.config) | {'dtype': dtype.name}
  storage.publish(
    storage.join(folder, 'config.json'), json.dumps(described, indent=2)
  )
  ends = list(model.config.eos_ids if end_ids is None else end_ids)
  storage.publish(
    storage.join(folder, 'generation_config.json'),
    json.dumps(
      {
        'bos_token_id': model.config.bos_id,
        'eos_token_id': ends[0] if len(ends) == 1 else ends or None,
      },
      indent=2,
    ),
  )


def tensors(
  model: transformer.Transformer, dtype: Any
) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (name in the file, array) of every weight, as the file has it."""
  for param, names, flip in _tensors(model, 'model.'):
    whole = np.asarray(jax.device_get(param[...]))
    parts = [whole] if len(names) == 1 else list(whole)
    for name, part in zip(names, parts, strict=True):
      yield name, np.ascontiguousarray(_oriented(part, flip, dtype))


def _tensors(
  model: transformer.Transformer, prefix: str
) -> Iterator[tuple[nnx.Param, list[str], bool]]:
  """Yields (Param, names in the file in order of the stack, transposed?)."""
  yield model.embedding, [f'{prefix}embed_tokens.weight'], False
  yield model.final_norm, [f'{prefix}norm.weight'], False
  if not model.config.tie_embeddings:
    yield model.head, ['lm_head.weight'], False
  for stack in model.stacks:
    group = len(stack.blocks)
    for place, block in enumerate(stack.blocks):
      layers = [stack.first + place + group * i for i in range(stack.repeats)]
      for attribute, (name, flip) in _LAYER.items():
        if hasattr(block, attribute):
          names = [f'{prefix}layers.{layer}.{name}' for layer in layers]
          yield getattr(block, attribute), names, flip


def _oriented(tensor: np.ndarray, flip: bool, dtype: Any) -> np.ndarray:
  return (tensor.T if flip else tensor).astype(jnp.dtype(dtype), copy=False)


class _Files:
  """The open safetensors files of a folder."""

  def __init__(self, folder: str):
    self._open = {}
    self._copies = contextlib.ExitStack()
    self.where: dict[str, str] = {}
    for name in weight_files(folder):
      path = storage.join(folder, name)
      copy = self._copies.enter_context(storage.local(path))
      try:
        handle = safetensors.safe_open(copy, framework='numpy')
      except Exception as error:  # SafetensorError, OSError.
        reason = ' '.join(str(error).split())[:200]
        raise errors.InputError(
          f'{path}: wanted a whole safetensors file; {reason}.'
        ) from None
      self._open[path] = handle
      for tensor in sorted(handle.keys()):
        if tensor in self.where:
          raise errors.InputError(
            f'{path}: tensor {tensor} is also in {self.where[tensor]}.'
          )
        self.where[tensor] = path

  def __enter__(self):
    return self

  def __exit__(self, *_):
    self._open.clear()
    self._copies.close()

  def prefix(self, folder: str) -> str:
    for prefix in _PREFIXES:
      if f'{prefix}embed_tokens.weight' in self.where:
        return prefix
    raise errors.InputError(
      f'checkpoint: {folder} has no tensor model.embed_tokens.weight.'
    )

  def check(self, name: str, shape: tuple[int, ...]) -> None:
    path = self.where.get(name)
    if path is None:
      raise errors.InputError(f'checkpoint: tensor {name} is missing.')
    piece = self._open[path].get_slice(name)
    if tuple(piece.get_shape()) != tuple(shape):
      raise errors.InputError(
        f'{path}: {name}: wanted shape {tuple(shape)}, as config.json states; '
        f'got {tuple(piece.get_shape())}.'
      )
    if piece.get_dtype() not in _FLOATS:
      raise errors.InputError(
        f'{path}: {name}: wanted one of {", ".join(sorted(_FLOATS))}; '
        f'got {piece.get_dtype()}.'
      )

  def check_unused(self, names: set[str], tied: bool) -> None:
    """Raises InputError if a tensor is neither the model's nor known."""
    for name in sorted(names):
      # Some exports hold a copy of the embedding as an output head.
      copy = tied and name.endswith('lm_head.weight')
      if not copy and not _OTHER_MODELS.match(name):
        raise errors.InputError(
          f'{self.where[name]}: tensor {name} is not of the model that '
          'config.json states.'
        )
    if names:
      logging.info('%d tensors not used: %s', len(names), sorted(names))

  def read(self, name: str) -> np.ndarray:
    tensor = self._open[self.where[name]].get_tensor(name)
    if tensor.dtype == np.uint16:  # Bfloat16 of an older binding.
      tensor = tensor.view(ml_dtypes.bfloat16)
    return tensor
