"""Keys and values that outlive a call: of the slots, and of a shared prefix.

A slot's cache holds its own positions alone, those behind the shared prefix;
position `start + o` has the *own index* o.  A layer with a window holds no more
places than the window has, and own index o lies at place o modulo their number,
so that a new token takes the place of the one that falls out of sight.

Dimension letters: see `wcse_jax/__init__.py`.
"""

import jax
import jax.numpy as jnp
from jax.sharding import Mesh

from wcse_jax import sharding
from wcse_jax.models import config


# Keys and values of one block, {'k', 'v'}, of L layers if it is scanned; empty
# for a block that attends to those of another.
Part = dict[str, jax.Array]
# A list (stacks) of lists (blocks of a stack).  In the slots k_BKSH or k_BKHS
# (`keys_last`) and v_BKSH, of fresh rows k_BKTH and v_BKTH, of a prefix k_KUH
# and v_KUH; a letter L before where layers are stacked.
Cache = list[list[Part]]


def dtype_on(platform: str, dtype: str) -> str:
  """Returns the dtype of the slots' keys and values of a model in `dtype`.

  A write into a bfloat16 array has the compiler for CPU turn all of it into
  float32 and back.
  """
  return 'float32' if platform == 'cpu' else dtype


def places(layer: config.Layer, window: int | None, whole: int) -> int:
  """Returns the places of a slot's cache in one layer.

  Args:
    layer: the layer.
    window: tokens that a local layer's query sees, itself included.
    whole: own positions that a slot may reach.
  """
  if layer.kind == 'local' and window is not None:
    return min(window, whole)
  return whole


def seen(layer: config.Layer, window: int | None, prefix: int) -> int:
  """Returns how many tokens of a shared prefix a layer's own tokens can see.

  They are the last ones; a query behind the prefix sees itself, too.
  """
  if layer.kind == 'local' and window is not None:
    return min(window - 1, prefix)
  return prefix


def empty(
  layer: config.Layer,
  repeats: int,
  *,
  rows: int,
  count: int,
  dtype,
  mesh: Mesh | None,
  keys_last: bool,
) -> Part:
  """Returns the part of one block for `rows` slots of `count` places.

  Args:
    layer: the block's layer.
    repeats: how many layers are stacked in it.
    rows: slots.
    count: places of each.
    dtype: of keys and values.
    mesh: where they will lie.
    keys_last: whether places are the last axis of keys: on CPU a product whose
      second factor is contracted over its first axis reads that factor as fast
      as memory gives it, any other at half that speed or less; on TPU that
      layout would be turned round at every step.
  """
  if layer.shares_kv:
    return {}
  K, H = layer.num_kv_heads, layer.head_dim

  def zeros(letters: str, shape: tuple[int, ...]) -> jax.Array:
    if repeats > 1:
      letters, shape = 'L' + letters, (repeats, *shape)
    return sharding.constrain(jnp.zeros(shape, dtype), letters, mesh)

  v = zeros('BKSH', (rows, K, count, H))
  if keys_last:
    return {'k': zeros('BKHS', (rows, K, H, count)), 'v': v}
  return {'k': zeros('BKSH', (rows, K, count, H)), 'v': v}


def visible(own_B: jax.Array, count: int) -> jax.Array:
  """Returns mask_BS: which places hold a token that own index o may attend to.

  Place r holds the last own index that is r modulo `count` and not above o; it
  is empty where that is negative.  Where the places are a window, all that they
  hold is inside it.
  """
  age_BS = (own_B[:, None] - jnp.arange(count)[None]) % count
  return age_BS <= own_B[:, None]


def filled(own_B: jax.Array, count: int) -> jax.Array:
  """Returns how many places a slot's own index o may attend to.

  They are the first ones, and those of `visible`: as long as not all places are
  filled, own index o lies at place o.
  """
  return jnp.minimum(own_B + 1, count)


def write(
  part: Part,
  k_BKH: jax.Array,
  v_BKH: jax.Array,
  own_B: jax.Array,
  index: jax.Array | None,
  *,
  keys_last: bool,
) -> Part:
  """Returns the part with one more token in every slot.

  Args:
    part: of the slots.
    k_BKH: the keys.
    v_BKH: the values.
    own_B: the tokens' own indices.
    index: which of the stacked layers; None where none are.
    keys_last: as in `empty`.
  """
  rows_B = jnp.arange(k_BKH.shape[0])
  place_B = own_B % part['v'].shape[-2]
  before = () if index is None else (index,)
  if keys_last:
    # An index array on each side of a slice puts its axis first: B K H.
    at_k = (*before, rows_B, slice(None), slice(None), place_B)
    at_v = (*before, rows_B, slice(None), place_B)
  else:
    # Heads are indexed, too: a slice of them has the compiler for TPU turn the
    # whole cache round before and after the steps.
    heads_K = jnp.arange(k_BKH.shape[1])
    at_v = (*before, rows_B[:, None], heads_K[None], place_B[:, None])
    at_k = at_v
  return {
    'k': part['k'].at[at_k].set(k_BKH, mode='promise_in_bounds'),
    'v': part['v'].at[at_v].set(v_BKH, mode='promise_in_bounds'),
  }


def insert(
  cache: Cache,
  rows: Cache,
  slots_I: jax.Array,
  rows_I: jax.Array,
  length_I: jax.Array,
  *,
  keys_last: bool,
) -> Cache:
  """Returns the slots' cache with fresh rows put into some slots.

  Args:
    cache: of the slots.
    rows: fresh keys and values of prompts, padded at the end.
    slots_I: where to; a slot beyond the last is none.
    rows_I: which rows.
    length_I: tokens of each that are no padding.
    keys_last: as in `empty`.
  """

  def put(old: Part, new: Part) -> Part:
    if not old:
      return {}
    count, T = old['v'].shape[-2], new['v'].shape[-2]
    width = min(count, T)
    # Of the places that the prompt reaches: the last own index that falls on
    # each.  What is no token is never visible.
    last_I = jnp.maximum(length_I - 1, 0)
    place_W = jnp.arange(width)
    from_IW = last_I[:, None] - (last_I[:, None] - place_W[None]) % count
    from_IW = jnp.clip(from_IW, 0, T - 1)

    def one(old, new, last: bool):
      # The rows' axis is the fourth from the end; layers may lie before it.
      stacked = old.ndim == 5
      taken = new[:, rows_I] if stacked else new[rows_I]
      at = from_IW[:, None, :, None]
      at = at[None] if stacked else at
      if width < T or count < T:
        taken = jnp.take_along_axis(taken, at, axis=-2)
      else:
        taken = taken[..., :width, :]
      before = (slice(None),) if stacked else ()
      if last:
        taken = jnp.swapaxes(taken, -1, -2)
        where = (*before, slots_I, slice(None), slice(None), slice(width))
      else:
        where = (*before, slots_I, slice(None), slice(width))
      return old.at[where].set(taken.astype(old.dtype), mode='drop')

    return {
      'k': one(old['k'], new['k'], keys_last),
      'v': one(old['v'], new['v'], False),
    }

  return [
    [put(old, new) for old, new in zip(olds, news, strict=True)]
    for olds, news in zip(cache, rows, strict=True)
  ]


def as_prefix(rows: Cache, layers, window: int | None) -> Cache:
  """Returns what every later token can see of one fresh row.

  Args:
    rows: fresh keys and values of one row, without padding.
    layers: the layer of each block, laid out as the cache.
    window: of local layers.
  """

  def cut(part: Part, layer: config.Layer) -> Part:
    found = {}
    for name, whole in part.items():
      row = whole[..., 0, :, :, :]
      length = row.shape[-2]
      found[name] = row[..., length - seen(layer, window, length) :, :]
    return found

  return [
    [cut(part, layer) for part, layer in zip(parts, kinds, strict=True)]
    for parts, kinds in zip(rows, layers, strict=True)
  ]
