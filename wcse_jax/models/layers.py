"""How one layer works, whatever call it is part of.

Families differ by fields of `ModelConfig` alone.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.ad_checkpoint import checkpoint_name
from jax.sharding import Mesh

from wcse_jax import sharding
from wcse_jax.kernels import decode
from wcse_jax.models import attention, experts, modules, products
from wcse_jax.models import cache as caches
from wcse_jax.models import config as model_config


# Kind of layer -> (own keys and values, those of the shared prefix if there is
# one) of the last layer of the kind that has its own.
Shared = dict[str, tuple[caches.Part, caches.Part | None]]


@dataclasses.dataclass(frozen=True)
class Scene:
  """What all layers of one kind have in common in one call.

  Attributes:
    turn: the rotation.
    mask: which own keys a query may attend to.
    prefix_mask: which keys of the shared prefix; None: all.
    filled_B: how many places of each slot hold a token, where a kernel reads
      them; None where none does.
    fill: share of the places that the kernel's cost estimate takes as filled.
    kernel: attention of fresh tokens to themselves, from q_BTKGH, k_BTKH and
      v_BTKH to out_BTKGH; None for `attention.attend` under the mask.
  """

  turn: tuple[jax.Array, jax.Array]
  mask: jax.Array | None
  prefix_mask: jax.Array | None = None
  filled_B: jax.Array | None = None
  fill: float = 0.5
  kernel: Callable[..., jax.Array] | None = None


@dataclasses.dataclass(frozen=True)
class Layers:
  """The layers of a model, without their weights.

  Attributes:
    config: the architecture.
    mesh: where it runs; None for one device.
    keys_last: as in `cache.empty`.
    cache_dtype: of keys and values.
    gather: whether products gather matrices that are split over `fsdp`
      themselves; see `products.Split`.
  """

  config: model_config.ModelConfig
  mesh: Mesh | None
  keys_last: bool
  cache_dtype: Any
  gather: bool = False

  def block(
    self,
    block: modules.Block,
    x_BTD: jax.Array,
    attended: Callable[[jax.Array], tuple[jax.Array, Any]],
    own: jax.Array | None,
  ) -> tuple[jax.Array, Any]:
    """Returns (x_BTD, what attention leaves) after one layer.

    Args:
      block: its weights.
      x_BTD: what goes in.
      attended: normed inputs -> (output of the attention, what it leaves).
      own: the layer's own inputs_BTC, if it has any.
    """
    c = self.config
    y_BTD, left = attended(self.norm(x_BTD, block.attention_norm[...]))
    if c.post_norms:
      y_BTD = self.norm(y_BTD, block.attention_post_norm[...])
    x_BTD = sharding.constrain(x_BTD + y_BTD, 'BTD', self.mesh)

    y_BTD = self.norm(x_BTD, block.mlp_norm[...])
    h_BTF = self._gate(self.dot(y_BTD, block, 'gate'))
    h_BTF = h_BTF * self.dot(y_BTD, block, 'up')
    h_BTF = sharding.constrain(h_BTF, 'BTF', self.mesh)
    y_BTD = self.dot(h_BTF, block, 'down')
    if c.num_experts:
      y_BTD = self.norm(y_BTD, block.dense_post_norm[...])
      y_BTD = y_BTD + self._experts(block, x_BTD)
    if c.post_norms:
      y_BTD = self.norm(y_BTD, block.mlp_post_norm[...])
    x_BTD = sharding.constrain(x_BTD + y_BTD, 'BTD', self.mesh)

    if own is not None:
      h_BTC = self._gate(self.dot(x_BTD, block, 'own_gate')) * own
      y_BTD = self.norm(self.dot(h_BTC, block, 'own_out'), block.own_norm[...])
      x_BTD = sharding.constrain(x_BTD + y_BTD, 'BTD', self.mesh)
    if c.layer_scalar:
      x_BTD = x_BTD * block.scalar[...].astype(x_BTD.dtype)[None, None]
    return x_BTD, left

  def attend_sequence(self, block, scene: Scene, before, shared: Shared):
    """Returns the attention of fresh tokens over the prefix and themselves.

    It leaves (fresh keys and values k_BKTH and v_BKTH, shared).
    """

    def attended(y_BTD):
      left, kept = shared, {}
      if not block.layer.shares_kv:
        k_BTKH, v_BTKH = self._keys_and_values(block, y_BTD, scene.turn)
        fresh = {'k': k_BTKH, 'v': v_BTKH}
        if scene.kernel is None:
          fresh['v'] = jnp.transpose(v_BTKH, (0, 2, 3, 1))
        left = {**shared, block.layer.kind: (fresh, before)}
        kept = {
          'k': jnp.swapaxes(k_BTKH, 1, 2),
          'v': jnp.swapaxes(v_BTKH, 1, 2),
        }
      own, prefix = left[block.layer.kind]
      if scene.kernel is not None:
        q_BTKGH = self._queries(block, y_BTD, scene)
        out_BTKGH = scene.kernel(q_BTKGH, own['k'], own['v'])
        out_BTN = out_BTKGH.reshape(*y_BTD.shape[:2], -1).astype(y_BTD.dtype)
        return self.dot(out_BTN, block, 'o'), (kept, left)
      source = attention.Source(own['k'], own['v'], scene.mask)
      out_BTD = self._attention(block, y_BTD, scene, source, prefix)
      return out_BTD, (kept, left)

    return attended

  def attend_step(
    self, block, scene: Scene, part, before, shared: Shared, own_B, index
  ):
    """Returns the attention of one token a slot; it leaves (part, shared)."""

    if scene.filled_B is not None and sharding.platform(self.mesh) != 'tpu':
      return self._attend_whole(
        block, scene, part, before, shared, own_B, index
      )

    def attended(y_BTD):
      left, written = shared, part
      if not block.layer.shares_kv:
        k_BTKH, v_BTKH = self._keys_and_values(block, y_BTD, scene.turn)
        written = caches.write(
          part,
          k_BTKH[:, 0],
          v_BTKH[:, 0],
          own_B,
          index,
          keys_last=self.keys_last,
        )
        own = written
        if index is not None and scene.filled_B is None:
          own = {name: whole[index] for name, whole in written.items()}
        left = {**shared, block.layer.kind: (own, before)}
      own, prefix = left[block.layer.kind]
      if scene.filled_B is not None:
        # What comes from before the scan is of one layer.
        layer = index if own['k'].ndim == 5 else None
        out_BTD = self._read(block, y_BTD, scene, own, layer, prefix)
        return out_BTD, (written, left)
      source = attention.Source(
        own['k'],
        own['v'],
        scene.mask,
        k_axes='BKHS' if self.keys_last else 'BKSH',
        v_axes='BKSH',
      )
      out_BTD = self._attention(block, y_BTD, scene, source, prefix)
      return out_BTD, (written, left)

    return attended

  def _attend_whole(
    self, block, scene: Scene, part, before, shared: Shared, own_B, index
  ):
    """Returns `attend_step` where kernels do all but the products."""
    c, layer = self.config, block.layer
    fresh = not layer.shares_kv
    kernel = decode.Layer(
      queries=c.num_heads // layer.num_kv_heads,
      scale=c.query_scale,
      fresh=fresh,
      keys_as_values=layer.keys_as_values,
      v_norm=c.v_norm,
      eps=c.norm_eps,
      plus_one=c.norm_plus_one,
      softcap=c.attn_softcap,
    )

    def turned(k):
      return jnp.swapaxes(k, -1, -2) if self.keys_last else k

    def attended(y_BTD):
      own, seen = (part, before) if fresh else shared[layer.kind]
      # What comes from before the scan is of one layer.
      at = index if own['k'].ndim == 5 else None
      names = ['q_norm', 'k_norm'][: 1 + fresh] if c.qk_norm else []
      out_BKGH, k, v = decode.step(
        self._projections(block, y_BTD[:, 0], fresh),
        tuple(x_BTE[:, 0] for x_BTE in scene.turn),
        tuple(getattr(block, name)[...] for name in names),
        turned(own['k']),
        own['v'],
        at,
        own_B % own['v'].shape[-2],
        scene.filled_B,
        None if seen is None else self._seen(layer, seen, own_B),
        layer=kernel,
        mesh=self.mesh,
      )
      left, written = shared, part
      if fresh:
        written = {'k': turned(k), 'v': v}
        left = {**shared, layer.kind: (written, before)}
      out_BTD = self.dot(out_BKGH.reshape(*y_BTD.shape[:2], -1), block, 'o')
      return out_BTD, (written, left)

    return attended

  def _projections(self, block, y_BD, fresh: bool) -> jax.Array:
    """Returns x_BKXH of `decode.step`."""
    K, H = block.layer.num_kv_heads, block.layer.head_dim
    names = ['q']
    if fresh:
      names += ['k'] if block.layer.keys_as_values else ['k', 'v']
    counts = {'q': self.config.num_heads, 'k': K, 'v': K}
    parts = [
      self._heads(block, y_BD[:, None], name, counts[name]) for name in names
    ]
    return jnp.concatenate([x.reshape(len(y_BD), K, -1, H) for x in parts], 2)

  def _seen(self, layer, prefix: caches.Part, own_B):
    """Returns `prefix` of `decode.step`: (k_KUH, v_KUH, low_B)."""
    low_B = jnp.zeros_like(own_B)
    if layer.kind == 'local' and self.config.window is not None:
      low_B = own_B + prefix['k'].shape[-2] - self.config.window + 1
    return prefix['k'], prefix['v'], jnp.maximum(low_B, 0)

  def _heads(self, block, y_BTD, name: str, count: int) -> jax.Array:
    out = self.dot(y_BTD, block, name)
    if self.config.qkv_bias:
      bias = getattr(block, f'{name}_bias')[...].astype(out.dtype)
      out = out + bias[None, None]
    if sharding.platform(self.mesh) == 'tpu':
      # Else the compiler for TPU makes heads an axis of the product, for which
      # it copies every layer's weights into another layout.
      out = jax.lax.optimization_barrier(out)
    return out.reshape(*y_BTD.shape[:2], count, block.layer.head_dim)

  def _keys_and_values(self, block, y_BTD, turn):
    """Returns (k_BTKH rotated, v_BTKH)."""
    c, layer = self.config, block.layer
    k_BTKH = self._heads(block, y_BTD, 'k', layer.num_kv_heads)
    v_BTKH = k_BTKH
    if not layer.keys_as_values:
      v_BTKH = self._heads(block, y_BTD, 'v', layer.num_kv_heads)
    if c.qk_norm:
      k_BTKH = self.norm(k_BTKH, block.k_norm[...])
    if c.v_norm:
      v_BTKH = self.norm(v_BTKH, None)
    k_BTKH = attention.rotate(k_BTKH, turn)
    return tuple(
      sharding.constrain(x.astype(self.cache_dtype), 'BTKH', self.mesh)
      for x in (k_BTKH, v_BTKH)
    )

  def _attention(
    self, block, y_BTD, scene: Scene, source: attention.Source, prefix
  ) -> jax.Array:
    """Returns out_BTD of one layer's attention over prefix and own keys."""
    q_BTKGH = self._queries(block, y_BTD, scene)
    sources = [source]
    if prefix is not None:
      before = attention.Source(
        prefix['k'], prefix['v'], scene.prefix_mask, k_axes='KSH', v_axes='KSH'
      )
      sources = [before, source]
    out_BTKGH = attention.attend(
      q_BTKGH, sources, softcap=self.config.attn_softcap
    )
    out_BTN = out_BTKGH.reshape(*y_BTD.shape[:2], -1).astype(y_BTD.dtype)
    return self.dot(out_BTN, block, 'o')

  def _read(
    self, block, y_BTD, scene: Scene, own: caches.Part, index, prefix
  ) -> jax.Array:
    """Returns `_attention` of one token a slot, by a kernel.

    Args:
      block: the layer's weights.
      y_BTD: normed inputs.
      scene: of the layer's kind.
      own: the slots' part of the cache.
      index: which of its stacked layers; None where none are.
      prefix: keys and values of the shared prefix; None: no prefix.
    """
    cap = self.config.attn_softcap
    q_BKGH = self._queries(block, y_BTD, scene)[:, 0]
    k = jnp.swapaxes(own['k'], -1, -2) if self.keys_last else own['k']
    parts = [
      decode.attend(
        q_BKGH,
        k,
        own['v'],
        index,
        scene.filled_B,
        softcap=cap,
        mesh=self.mesh,
        fill=scene.fill,
      )
    ]
    if prefix is not None:
      mask = scene.prefix_mask
      mask_BU = None if mask is None else mask[:, 0]
      parts.append(
        decode.dense(q_BKGH, prefix['k'], prefix['v'], mask_BU, softcap=cap)
      )
    out_BKGH = decode.merge(parts).astype(y_BTD.dtype)
    return self.dot(out_BKGH.reshape(*y_BTD.shape[:2], -1), block, 'o')

  def _queries(self, block, y_BTD, scene: Scene) -> jax.Array:
    """Returns q_BTKGH, rotated and scaled."""
    c, layer = self.config, block.layer
    N, K, H = c.num_heads, layer.num_kv_heads, layer.head_dim
    q_BTNH = self._heads(block, y_BTD, 'q', N)
    if c.qk_norm:
      q_BTNH = self.norm(q_BTNH, block.q_norm[...])
    q_BTNH = attention.rotate(q_BTNH, scene.turn) * jnp.asarray(
      c.query_scale, q_BTNH.dtype
    )
    q_BTNH = sharding.constrain(q_BTNH, 'BTNH', self.mesh)
    return q_BTNH.reshape(*y_BTD.shape[:2], K, N // K, H)

  def _experts(self, block: modules.Block, x_BTD: jax.Array) -> jax.Array:
    """Returns the experts' part of a layer's output, normalised."""
    c = self.config
    B, T, D = x_BTD.shape
    x_MD = x_BTD.reshape(B * T, D)
    gain_D = block.router_gain[...].astype(x_MD.dtype)
    y_MD = self.norm(x_MD, None) * gain_D[None]
    y_MD = y_MD * jnp.asarray(c.d_model**-0.5, y_MD.dtype)
    experts_MX, weights_MX = experts.route(
      y_MD @ block.router[...].astype(y_MD.dtype),
      block.expert_gain[...],
      c.experts_per_token,
    )

    def feed_forward(rows_ZD, sizes_E, expert_Z):
      def product(rows, name):
        held, scale = modules.held(block, name)
        out = jax.lax.ragged_dot(rows, held.astype(rows.dtype), sizes_E)
        if scale is None:
          return out
        return (out * scale[expert_Z]).astype(rows.dtype)

      gate_ZF = self._gate(product(rows_ZD, 'expert_gate'))
      return product(gate_ZF * product(rows_ZD, 'expert_up'), 'expert_down')

    y_MD = experts.apply(
      self.norm(x_MD, block.expert_norm[...]),
      experts_MX,
      weights_MX,
      feed_forward,
      c.num_experts,
    )
    y_MD = self.norm(y_MD, block.expert_post_norm[...])
    return y_MD.reshape(B, T, D)

  def _gate(self, x: jax.Array) -> jax.Array:
    if self.config.activation == 'silu':
      return jax.nn.silu(x)
    return jax.nn.gelu(x, approximate=True)

  def norm(self, x: jax.Array, gain: jax.Array | None) -> jax.Array:
    """Returns x over its root mean square, times its gain."""
    wide = x.astype(jnp.float32)
    square = jnp.mean(wide * wide, axis=-1, keepdims=True)
    wide = wide * jax.lax.rsqrt(square + self.config.norm_eps)
    if gain is not None:
      gain = gain.astype(jnp.float32)
      if self.config.norm_plus_one:
        gain = 1.0 + gain
      wide = wide * jnp.expand_dims(gain, range(x.ndim - 1))
    return wide.astype(x.dtype)

  def dot(self, x_BTA: jax.Array, module, name: str) -> jax.Array:
    """Returns x times a matrix of the module, in the dtype of x.

    A low-rank adapter of the matrix adds its part.
    """
    held, scale = modules.held(module, name)
    split = None
    if self.gather:
      letters = getattr(module, name).get_metadata('letters')
      split = products.Split(self.mesh, letters.removeprefix('L'))
    out = products.product(
      x_BTA, held, scale, sharding.platform(self.mesh) == 'cpu', split
    )
    adapter = getattr(module, f'{name}_lora_a', None)
    if adapter is not None:
      out = out + products.adapted(
        x_BTA,
        adapter[...],
        getattr(module, f'{name}_lora_b')[...],
        adapter.get_metadata('factor'),
        sharding.platform(self.mesh) == 'cpu',
      )
    return checkpoint_name(out, name)
