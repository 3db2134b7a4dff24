import functools
import re

import decode_cases
import families
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from wcse_jax import sharding
from wcse_jax.kernels import decode, decode_tpu
from wcse_jax.models import attention
from wcse_jax.models import cache as caches


def test_the_reference_is_the_softmax_over_what_is_filled():
  case = decode_cases.make(B=3, S=40, filled=(1, 17, 40))
  out_BKGH, lse_BKG1 = decode.reference(*case.one_layer, softcap=5.0)
  for b, k, g in np.ndindex(out_BKGH.shape[:3]):
    n = case.filled_B[b]
    logits_S = case.k[1, b, k, :n].astype(np.float64) @ case.q_BKGH[b, k, g]
    logits_S = 5.0 * np.tanh(logits_S / 5.0)
    total = np.exp(logits_S).sum()
    want_H = np.exp(logits_S) / total @ case.v[1, b, k, :n]
    np.testing.assert_allclose(out_BKGH[b, k, g], want_H, atol=1e-6)
    np.testing.assert_allclose(lse_BKG1[b, k, g, 0], np.log(total), atol=1e-6)


@pytest.mark.parametrize('softcap', [None, 3.0])
@pytest.mark.parametrize('masked', [False, True])
def test_merged_parts_are_one_softmax(softcap, masked):
  case = decode_cases.make(B=3, S=24, filled=(1, 24, 9))
  rng = np.random.default_rng(1)
  U = 12
  _, K, _, H = case.q_BKGH.shape
  k_KUH, v_KUH = rng.normal(size=(2, K, U, H)).astype(np.float32)
  # One slot sees nothing of the prefix: its part has no weight.
  mask_BU = np.arange(U)[None] >= np.array([0, 5, U])[:, None]
  mask_BU = mask_BU if masked else None
  q_BKGH, k_BKSH, v_BKSH, filled_B = map(np.nan_to_num, case.one_layer)
  got_BKGH = decode.merge(
    [
      decode.reference(q_BKGH, k_BKSH, v_BKSH, filled_B, softcap=softcap),
      decode.dense(q_BKGH, k_KUH, v_KUH, mask_BU, softcap=softcap),
    ]
  )
  own_BS = np.arange(24)[None] < filled_B[:, None]
  want_BTKGH = attention.attend(
    q_BKGH[:, None],
    [
      attention.Source(
        k_KUH,
        v_KUH,
        mask_BU[:, None] if masked else None,
        k_axes='KSH',
        v_axes='KSH',
      ),
      attention.Source(
        k_BKSH, v_BKSH, own_BS[:, None], k_axes='BKSH', v_axes='BKSH'
      ),
    ],
    softcap=softcap,
  )
  np.testing.assert_allclose(got_BKGH, want_BTKGH[:, 0], atol=2e-6)


def test_a_model_on_cpu_is_left_to_the_compiler():
  assert not decode.chosen('', None, [128])
  assert not decode.chosen('xla', None, [128])
  assert decode.chosen('pallas', None, [8])
  with pytest.raises(ValueError, match=r"attention must be 'xla'.*'cuda'"):
    decode.chosen('cuda', None)


@pytest.fixture
def tpu_kernel(monkeypatch) -> None:
  """Puts the reference in the place of the kernel for TPU.

  Its interpreter hangs where devices outnumber the cores.
  """

  def attend(q_BKGH, k_LBKSH, v_LBKSH, index, filled_B, *, softcap, fill):
    del fill
    return decode.reference(
      q_BKGH, k_LBKSH[index], v_LBKSH[index], filled_B, softcap=softcap
    )

  monkeypatch.setattr(decode_tpu, 'attend', attend)


@pytest.mark.usefixtures('tpu_kernel')
@pytest.mark.parametrize('stacked', [False, True])
def test_the_kernel_takes_one_layer_or_an_index(stacked):
  case = decode_cases.make(B=2, S=32, filled=(5, 32))
  q_BKGH, k_BKSH, v_BKSH, filled_B = case.one_layer
  arrays = (case.k, case.v, 1) if stacked else (k_BKSH, v_BKSH, None)
  got = decode.attend(q_BKGH, *arrays, jnp.asarray(filled_B))
  decode_cases.check(got, case, atol=1e-5)


@pytest.mark.usefixtures('tpu_kernel')
@pytest.mark.parametrize('mesh', ['data=2,fsdp=2,tensor=2', 'tensor=4'])
def test_sharded_is_unsharded(mesh):
  case = decode_cases.make(B=8, K=4, S=32)
  alone = jax.jit(decode.attend)(*case.arrays)
  count = int(np.prod([int(n) for n in re.findall(r'\d+', mesh)]))
  mesh = sharding.make_mesh(mesh, jax.devices()[:count])
  placed = [
    sharding.place_batch(array, letters, mesh)
    for array, letters in zip(
      case.arrays, ('BKGH', 'LBKSH', 'LBKSH', '', 'B'), strict=True
    )
  ]
  run = jax.jit(functools.partial(decode.attend, mesh=mesh))
  for got, want in zip(run(*placed), alone, strict=True):
    assert got.sharding.shard_shape(got.shape) != got.shape
    np.testing.assert_allclose(got, want, atol=1e-6)


@pytest.mark.parametrize('fresh', [True, False])
def test_a_sharded_step_is_an_unsharded_one(fresh):
  B, K, G, S, H, U = 8, 2, 3, 32, 16, 40
  rng = np.random.default_rng(0)

  def random(*shape):
    return rng.normal(size=shape).astype(np.float32)

  filled_B = rng.integers(1, S + 1, B).astype(np.int32)
  low_B = rng.integers(0, U, B).astype(np.int32)
  x_BKXH = random(B, K, G + 2 if fresh else G, H)
  gains = (random(H), random(H)) if fresh else (random(H),)
  turn = random(B, H // 2), random(B, H // 2)
  k, v = random(B, K, S, H), random(B, K, S, H)
  layer = decode.Layer(queries=G, scale=0.3, fresh=fresh)
  rest = (filled_B - 1, filled_B, (random(K, U, H), random(K, U, H), low_B))
  alone = jax.jit(functools.partial(decode.step, layer=layer))(
    x_BKXH, turn, gains, k, v, None, *rest
  )
  mesh = sharding.make_mesh('data=2,fsdp=2,tensor=2', jax.devices())
  run = jax.jit(functools.partial(decode.step, layer=layer, mesh=mesh))
  sharded = run(x_BKXH, turn, gains, k, v, None, *rest)
  for got, want in zip(sharded, alone, strict=True):
    np.testing.assert_allclose(got, want, atol=1e-6)
  out_BKGH = sharded[0]
  shape = out_BKGH.sharding.shard_shape(out_BKGH.shape)
  assert shape == (B // 4, K // 2, G, H)


@pytest.mark.parametrize(
  ('family', 'scan'),
  [
    ('gemma', False),
    ('gemma2', True),
    pytest.param('gemma3', True, marks=pytest.mark.slow),
  ],
)
def test_a_models_step_with_the_kernel(ours, family, scan):
  model = ours.model(family, scan=scan)
  _compare_steps(model, families.ROWS[family]['vocab_size'])


@pytest.mark.slow
def test_a_models_step_with_the_kernel_for_tpu(ours, monkeypatch):
  # Its interpreter serves one device.
  monkeypatch.setattr(sharding, 'platform', lambda mesh: 'tpu')
  run = functools.partial(decode_tpu.attend, interpret=True)
  monkeypatch.setattr(decode_tpu, 'attend', run)
  model = ours.model('gemma2', scan=True)
  _compare_steps(model, families.ROWS['gemma2']['vocab_size'])


@pytest.mark.slow
@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('family', ['gemma4_e', 'gemma4_dense', 'llama'])
def test_other_families(ours, family, scan):
  model = ours.model(family, scan=scan)
  # Gemma 4 scales nothing before its softmax: more of the rounding is seen.
  _compare_steps(model, families.ROWS[family]['vocab_size'], atol=5e-5)


def _compare_steps(model, vocabulary: int, atol: float = 1e-5) -> None:
  """Steps behind a prefix, past the window, with and without the kernel."""
  slots, places, steps = 3, 48, 3
  rng = np.random.default_rng(0)
  prefix_1T = jnp.asarray(rng.integers(3, vocabulary, (1, 40)))
  before = model.as_prefix(nnx.jit(lambda m, t: m.prefill(t))(model, prefix_1T))
  # One at its start, one that wraps round a window of 32, one at its end.
  own_B = jnp.array([0, 31, places - steps])
  token_TB = jnp.asarray(rng.integers(3, vocabulary, (steps, slots)))
  # Random keys and values; those that nobody sees are NaN.
  empty = model.make_cache(slots, places)

  def fill(a, last: bool):
    x = rng.normal(size=a.shape).astype(np.float32)
    x = np.moveaxis(x, -1, -2) if last else x
    seen_BS = caches.visible(own_B, x.shape[-2])
    x = np.where(seen_BS[:, None, :, None], x, np.nan)
    x = np.moveaxis(x, -1, -2) if last else x
    return jnp.asarray(x)

  def with_nan(kernel):
    return [
      [
        {
          name: fill(a, name == 'k' and model.keys_last)
          if kernel
          else jnp.nan_to_num(fill(a, name == 'k' and model.keys_last))
          for name, a in part.items()
        }
        for part in parts
      ]
      for parts in empty
    ]

  @functools.partial(nnx.jit, static_argnames='kernel')
  def run(model, cache, *, kernel):
    graph, state = nnx.split(model)

    def step(cache, inputs):
      t, token_B = inputs
      model = nnx.merge(graph, state)
      x_BD, cache = model.step(
        token_B, own_B + t, cache, before, 40, kernel=kernel
      )
      return cache, model.logits(x_BD[:, None])

    return jax.lax.scan(step, cache, (jnp.arange(steps), token_TB))[1]

  found = []
  for kernel in (False, True):
    rng = np.random.default_rng(1)
    found.append(run(model, with_nan(kernel), kernel=kernel))
  np.testing.assert_allclose(*found, atol=atol)
  assert float(jnp.std(found[0])) > 0.1


@pytest.mark.parametrize('count', [1, 8, 13])
def test_what_is_visible_are_the_first_places(count):
  own_B = jnp.arange(3 * count + 2)
  want_BS = caches.visible(own_B, count)
  place_S = jnp.arange(count)
  got_BS = place_S[None] < caches.filled(own_B, count)[:, None]
  np.testing.assert_array_equal(got_BS, want_BS)
