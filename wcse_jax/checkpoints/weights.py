"""A decoder's weights, tensor by tensor, between a checkpoint and the mesh.

A source is anything with `shapes`, `where`, `kind` and `read` (see `Source`)
under the names of Hugging Face folders; this module knows which tensor is which
part of which Param, and moves it in pieces, so that the host never holds more
than the weights themselves, one tensor, and a piece.
"""

import functools
import math
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from absl import logging
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from wcse_jax import errors, sharding
from wcse_jax.models import config as model_config
from wcse_jax.models import transformer


# Attributes of a block, the name of their tensor, and how that lies in it:
# `same`; `flip`: the last two axes swapped, as a file has (out, in) and a
# Param (in, out); `halves`: two Params in one tensor, one behind the other
# along the output, each flipped.
_LAYER = (
  (('q',), 'self_attn.q_proj.weight', 'flip'),
  (('k',), 'self_attn.k_proj.weight', 'flip'),
  (('v',), 'self_attn.v_proj.weight', 'flip'),
  (('o',), 'self_attn.o_proj.weight', 'flip'),
  (('q_bias',), 'self_attn.q_proj.bias', 'same'),
  (('k_bias',), 'self_attn.k_proj.bias', 'same'),
  (('v_bias',), 'self_attn.v_proj.bias', 'same'),
  (('q_norm',), 'self_attn.q_norm.weight', 'same'),
  (('k_norm',), 'self_attn.k_norm.weight', 'same'),
  (('gate',), 'mlp.gate_proj.weight', 'flip'),
  (('up',), 'mlp.up_proj.weight', 'flip'),
  (('down',), 'mlp.down_proj.weight', 'flip'),
  (('attention_norm',), 'input_layernorm.weight', 'same'),
  (('router',), 'router.proj.weight', 'flip'),
  (('router_gain',), 'router.scale', 'same'),
  (('expert_gain',), 'router.per_expert_scale', 'same'),
  (('expert_gate', 'expert_up'), 'experts.gate_up_proj', 'halves'),
  (('expert_down',), 'experts.down_proj', 'flip'),
  (('dense_post_norm',), 'post_feedforward_layernorm_1.weight', 'same'),
  (('expert_norm',), 'pre_feedforward_layernorm_2.weight', 'same'),
  (('expert_post_norm',), 'post_feedforward_layernorm_2.weight', 'same'),
  (('own_gate',), 'per_layer_input_gate.weight', 'flip'),
  (('own_out',), 'per_layer_projection.weight', 'flip'),
  (('own_norm',), 'post_per_layer_input_norm.weight', 'same'),
  (('scalar',), 'layer_scalar', 'same'),
)
# The norms around the feed-forward layer: one name has two meanings.
_POST_NORMS = (
  (('attention_post_norm',), 'post_attention_layernorm.weight', 'same'),
  (('mlp_norm',), 'pre_feedforward_layernorm.weight', 'same'),
  (('mlp_post_norm',), 'post_feedforward_layernorm.weight', 'same'),
)
_NO_POST_NORMS = ((('mlp_norm',), 'post_attention_layernorm.weight', 'same'),)
_MODEL = (
  (('embedding',), 'embed_tokens.weight', 'same'),
  (('final_norm',), 'norm.weight', 'same'),
  (('own_embedding',), 'embed_tokens_per_layer.weight', 'same'),
  (('own_projection',), 'per_layer_model_projection.weight', 'flip'),
  (('own_norm',), 'per_layer_projection_norm.weight', 'same'),
)
_HEAD = 'lm_head.weight'
_PREFIXES = ('model.', 'language_model.model.', 'model.language_model.', '')
# What stands beside the text model in a multimodal checkpoint, and buffers
# that follow from the configuration.
_IGNORED = re.compile(
  r'(model\.)?((vision|audio)_tower|multi_modal_projector|embed_(vision|audio))'
  r'\.|.*rotary_emb\.inv_freq$'
)
_SHARED_KV = re.compile(
  r'.*layers\.(\d+)\.self_attn\.[kv]_(proj|norm)\.weight$'
)
# Bytes of a tensor that are moved at once, counted in float32.
_PIECE_BYTES = 16 << 20


class Source(Protocol):
  """Weights at rest.

  Attributes:
    shapes: the shape of every tensor, by its name.
  """

  shapes: Mapping[str, tuple[int, ...]]

  def where(self, name: str) -> str:
    """Returns the path of the tensor's file, for messages."""

  def kind(self, name: str) -> str:
    """Returns the tensor's type in the file, as `BF16`."""

  def read(self, name: str, start: int, stop: int) -> np.ndarray:
    """Returns rows start to stop of the first axis, in a float type."""


class Entry(NamedTuple):
  """One tensor, or one a layer of a stack, and the Params that it fills.

  Attributes:
    params: the Params, each with its int8 scales or None.
    names: of the tensor in each layer of the stack.
    how: `same`, `flip` or `halves`.
    stacked: whether the Params have a leading axis of layers.
  """

  params: tuple[tuple[nnx.Param, nnx.Param | None], ...]
  names: tuple[str, ...]
  how: str
  stacked: bool

  def shape(self) -> tuple[int, ...]:
    """Returns the tensor's shape in the file."""
    param = self.params[0][0]
    shape = param.shape[1:] if self.stacked else param.shape
    if self.how != 'same':
      shape = (*shape[:-2], shape[-1] * len(self.params), shape[-2])
    return tuple(shape)


def load(
  source: Source,
  config: model_config.ModelConfig,
  *,
  dtype: Any,
  mesh: Mesh | None = None,
  scan: bool | None = None,
  weights: str = '',
) -> transformer.Transformer:
  """Returns the model of a source, placed on the mesh.

  Args:
    source: the weights.
    config: what they are the weights of.
    dtype: of the weights in memory, whatever the file holds.
    mesh: where to place them; None for the first device.
    scan: see `Transformer`.
    weights: `int8` to hold the matrices in int8.

  Raises:
    InputError: if a tensor is missing, unknown or of another shape, or the mesh
      does not divide the model; nothing is read or compiled before that.
  """
  model, mesh = _abstract(config, dtype, mesh, scan, weights)
  prefix, head = _prefix(source)
  found = list(entries(model, prefix, head))
  used: set[str] = set()
  for entry in found:
    for param, scale in entry.params:
      for one in (param, scale):
        if one is not None:
          letters = one.get_metadata('letters')
          sharding.check(
            mesh, letters, one.shape, sharding.WEIGHTS, entry.names[0]
          )
    for name in entry.names:
      _check(source, name, entry.shape())
      used.add(name)
  _check_unused(source, set(source.shapes) - used, config)
  for entry in found:
    _fill(entry, source, mesh)
  return model


def random(
  config: model_config.ModelConfig,
  *,
  dtype: Any,
  mesh: Mesh | None = None,
  scan: bool | None = None,
  weights: str = '',
  seed: int = 0,
) -> transformer.Transformer:
  """Returns a model of made-up weights, made where they will lie.

  Args:
    config: what they are the weights of.
    dtype: of the weights.
    mesh: where to make them; None for the first device.
    scan: see `Transformer`.
    weights: `int8` to hold the matrices in int8.
    seed: of the draws.

  Raises:
    InputError: if the mesh does not divide the model.
  """
  model, mesh = _abstract(config, dtype, mesh, scan, weights)
  state, key = nnx.state(model), jax.random.key(seed)
  for i, (path, leaf) in enumerate(nnx.to_flat_state(state)):
    letters, start = (leaf.get_metadata(name) for name in ('letters', 'start'))
    name = '.'.join(map(str, path))
    sharding.check(mesh, letters, leaf.shape, sharding.WEIGHTS, name)
    where = sharding.sharding(mesh, letters, sharding.WEIGHTS)
    make = _maker(start, leaf.shape, leaf.dtype, where)
    leaf.set_value(make(jax.random.fold_in(key, i)))
  nnx.update(model, state)
  return model


@functools.cache
def _maker(start, shape, dtype, where):
  """Returns a program: key -> what a Param starts with, where it will lie."""
  # One program for all Params of one shape.
  return jax.jit(lambda key: start.make(key, shape, dtype), out_shardings=where)


def _abstract(
  config: model_config.ModelConfig, dtype, mesh, scan, weights: str
) -> tuple[transformer.Transformer, Mesh]:
  """Returns (the model without weights, its mesh: by default of one device).

  Raises:
    InputError: if the mesh does not divide the model.
  """
  if mesh is None:
    mesh = sharding.make_mesh('', jax.devices()[:1])
  check_mesh(config, mesh)
  model = nnx.eval_shape(
    lambda: transformer.Transformer(
      config,
      dtype=dtype,
      rngs=nnx.Rngs(0),
      mesh=mesh,
      scan=scan,
      weights=weights,
    )
  )
  return model, mesh


def check_mesh(config: model_config.ModelConfig, mesh: Mesh) -> None:
  """Raises InputError if the mesh does not divide what it splits."""
  split = {
    'tensor': (
      'num_heads',
      'num_kv_heads',
      'global_num_kv_heads',
      'd_ff',
      'shared_d_ff',
      'expert_d_ff',
      'vocab_size',
      'per_layer_vocab',
    ),
    'fsdp': ('d_model',),
  }
  for axis, names in split.items():
    parts = mesh.shape[axis]
    # Of what a model does not have there are 0.
    counts = {name: getattr(config, name) for name in names}
    whole = math.gcd(*counts.values())
    fits = [n for n in sharding.divisors(whole) if n <= mesh.size]
    for name, count in counts.items():
      if count % parts:
        raise errors.InputError(
          f'mesh: {axis}={parts} does not divide {name}={count}; {axis} of '
          f'{sharding.any_of(fits)} would fit.'
        )


def entries(
  model: transformer.Transformer,
  prefix: str = 'model.',
  head: str = _HEAD,
) -> Iterator[Entry]:
  """Yields every tensor of the model, each Param once."""

  def entry(module, attributes, names, how, stacked) -> Entry | None:
    if not hasattr(module, attributes[0]):
      return None
    params = tuple(
      (getattr(module, a), getattr(module, f'{a}_scale', None))
      for a in attributes
    )
    return Entry(params, tuple(names), how, stacked)

  found = [
    entry(model, attributes, [f'{prefix}{name}'], how, False)
    for attributes, name, how in _MODEL
  ]
  found.append(entry(model, ('head',), [head], 'same', False))
  table = _POST_NORMS if model.config.post_norms else _NO_POST_NORMS
  for stack in model.stacks:
    group = len(stack.blocks)
    for place, block in enumerate(stack.blocks):
      layers = [stack.first + place + group * i for i in range(stack.repeats)]
      for attributes, name, how in (*_LAYER, *table):
        names = [f'{prefix}layers.{layer}.{name}' for layer in layers]
        found.append(entry(block, attributes, names, how, stack.repeats > 1))
  yield from filter(None, found)


def tensors(entry: Entry, dtype: Any) -> Iterator[tuple[str, np.ndarray]]:
  """Yields (name, array) of an entry's tensors, as a file has them.

  Raises:
    ValueError: if the weights are held in int8: they are for sampling.
  """
  if any(scale is not None for _, scale in entry.params):
    raise ValueError(
      f'weights: wanted floats to export; {entry.names[0]} is held in int8.'
    )
  wholes = [_fetched(p[...]) for p, _ in entry.params]
  for i, name in enumerate(entry.names):
    parts = [whole[i] if entry.stacked else whole for whole in wholes]
    if entry.how != 'same':
      parts = [np.swapaxes(part, -1, -2) for part in parts]
    joined = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-2)
    joined = joined.astype(jnp.dtype(dtype), copy=False)
    yield name, np.ascontiguousarray(joined)


def _fetched(array: jax.Array) -> np.ndarray:
  """Returns an array on the host, whole: in every process of its mesh."""
  if array.is_fully_addressable:
    return np.asarray(jax.device_get(array))
  return multihost_utils.process_allgather(array, tiled=True)


def quantize(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Returns (int8 rows, float32 scales), a scale for each output channel.

  Args:
    rows: matrices as a file has them: output channels, then inputs.

  Source: symmetric round-to-nearest, LLM.int8(), arXiv:2208.07339, section 2.
  """
  rows = rows.astype(np.float32, copy=False)
  scale = np.max(np.abs(rows), axis=-1) / np.float32(127)
  safe = np.where(scale > 0, scale, np.float32(1))
  held = np.rint(rows / safe[..., None])
  return held.astype(np.int8), scale


def _prefix(source: Source) -> tuple[str, str]:
  """Returns (what names of the text model begin with, name of the head)."""
  for prefix in _PREFIXES:
    if f'{prefix}embed_tokens.weight' in source.shapes:
      heads = [n for n in source.shapes if n.endswith(_HEAD)]
      return prefix, heads[0] if len(heads) == 1 else _HEAD
  raise errors.InputError(
    'checkpoint: wanted the tensor model.embed_tokens.weight; got '
    f'{", ".join(sorted(source.shapes)[:3]) or "no tensor"}.'
  )


def _check(source: Source, name: str, shape: tuple[int, ...]) -> None:
  if name not in source.shapes:
    raise errors.InputError(
      f'checkpoint: tensor {name} is missing, which config.json states.'
    )
  if tuple(source.shapes[name]) != shape:
    raise errors.InputError(
      f'{source.where(name)}: {name}: wanted shape {shape}, as config.json '
      f'states; got {tuple(source.shapes[name])}.'
    )


def _check_unused(
  source: Source, names: set[str], config: model_config.ModelConfig
) -> None:
  """Raises InputError if a tensor is neither the model's nor known."""
  own = config.num_layers - config.num_kv_shared_layers
  for name in sorted(names):
    # Some exports hold a copy of the embedding as an output head.
    copy = config.tie_embeddings and name.endswith(_HEAD)
    # Published checkpoints hold keys and values that their model never uses.
    shared = _SHARED_KV.match(name)
    shared = shared and own <= int(shared[1]) < config.num_layers
    if not copy and not shared and not _IGNORED.match(name):
      raise errors.InputError(
        f'{source.where(name)}: tensor {name} is not of the model that '
        'config.json states.'
      )
  names = names.union(getattr(source, 'unused', ()))
  if names:
    logging.info('%d tensors not used: %s', len(names), sorted(names))


class _Target:
  """The parts of one Param that this process holds, filled piece by piece."""

  def __init__(self, param: nnx.Param, mesh: Mesh):
    self._param = param
    letters = param.get_metadata('letters')
    self._sharding = sharding.sharding(mesh, letters, sharding.WEIGHTS)
    self._dtype = jnp.dtype(param.dtype)
    where = self._sharding.addressable_devices_indices_map(param.shape)
    self._where = {
      device: tuple(
        part.indices(size)[:2]
        for part, size in zip(index, param.shape, strict=True)
      )
      for device, index in where.items()
    }
    self._parts = {
      spans: np.empty([stop - start for start, stop in spans], self._dtype)
      for spans in set(self._where.values())
    }

  def put(
    self, layer: int | None, piece: np.ndarray, axis: int, start: int
  ) -> None:
    """Writes a piece that begins at `start` of an axis and is whole else."""
    for spans, part in self._parts.items():
      if layer is not None:
        part, spans = part[layer - spans[0][0]], spans[1:]
      low = max(spans[axis][0], start)
      high = min(spans[axis][1], start + piece.shape[axis])
      if low >= high:
        continue
      origin = spans[axis][0]
      source = [slice(*span) for span in spans]
      source[axis] = slice(low - start, high - start)
      target = [slice(None)] * piece.ndim
      target[axis] = slice(low - origin, high - origin)
      part[tuple(target)] = piece[tuple(source)]

  def place(self) -> None:
    """Moves the parts to their devices."""
    arrays = [
      jax.device_put(self._parts[spans], device)
      for device, spans in self._where.items()
    ]
    self._param.set_value(
      jax.make_array_from_single_device_arrays(
        self._param.shape, self._sharding, arrays
      )
    )


def _fill(entry: Entry, source: Source, mesh: Mesh) -> None:
  """Reads an entry's tensors and sets its Params."""
  held = [_Target(param, mesh) for param, _ in entry.params]
  scales = [
    None if scale is None else _Target(scale, mesh) for _, scale in entry.params
  ]
  shape = entry.shape()
  row_bytes = 4 * int(np.prod(shape[1:]))
  step = max(1, _PIECE_BYTES // row_bytes)
  for i, name in enumerate(entry.names):
    layer = i if entry.stacked else None
    for start in range(0, shape[0], step):
      rows = source.read(name, start, min(start + step, shape[0]))
      if scales[0] is None:
        pieces = _split(rows, entry.how)
      else:
        rows, scale = quantize(rows)
        pieces = _split(rows, entry.how)
        width = scale.shape[-1] // len(scales)
        for part, target in enumerate(scales):
          # A scale goes with its channel, the last axis but one of a file.
          one = scale
          if len(scales) > 1:
            one = scale[..., part * width : (part + 1) * width]
          target.put(layer, one, 0, start)
      for (piece, axis), target in zip(pieces, held, strict=True):
        target.put(layer, piece, axis, start)
  for target in (*held, *filter(None, scales)):
    target.place()


def _split(rows: np.ndarray, how: str) -> list[tuple[np.ndarray, int]]:
  """Returns (piece of a Param, axis along which rows lie there) for each."""
  if how == 'same':
    return [(rows, 0)]
  if how == 'flip':
    return [(np.swapaxes(rows, -1, -2), 1 if rows.ndim == 2 else 0)]
  width = rows.shape[-2] // 2
  halves = rows[..., :width, :], rows[..., width:, :]
  return [(np.swapaxes(half, -1, -2), 0) for half in halves]
