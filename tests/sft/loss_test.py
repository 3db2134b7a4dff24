import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wcse_jax import sharding
from wcse_jax.sft import loss


_B, _T, _D, _V = 8, 12, 16, 192
_MESHES = (
  '',
  'data=2,fsdp=2,tensor=2',
  *(
    pytest.param(mesh, marks=pytest.mark.slow)
    for mesh in ('data=8', 'fsdp=8', 'tensor=8', 'fsdp=4,tensor=2')
  ),
)


@pytest.fixture(scope='module')
def given():
  """(x_BTD, table_VD, labels_BT, weights_BT), one row without a target."""
  keys = jax.random.split(jax.random.key(0), 4)
  weights_BT = jax.random.uniform(keys[3], (_B, _T))
  weights_BT = jnp.where(weights_BT < 0.4, weights_BT, 0.0).at[5].set(0)
  return (
    jax.random.normal(keys[0], (_B, _T, _D)),
    jax.random.normal(keys[1], (_V, _D)),
    jax.random.randint(keys[2], (_B, _T), 0, _V),
    weights_BT,
  )


def _plain(x_BTD, table_VD, labels_BT, weights_BT, softcap, z_loss):
  """The definition: (objective, losses)."""
  logits_BTV = jnp.einsum('BTD,VD->BTV', x_BTD, table_VD)
  if softcap is not None:
    logits_BTV = softcap * jnp.tanh(logits_BTV / softcap)
  norm_BT = jax.nn.logsumexp(logits_BTV, axis=-1)
  picked_BT = jnp.take_along_axis(logits_BTV, labels_BT[..., None], axis=-1)
  losses = jnp.sum(weights_BT * (norm_BT - picked_BT[..., 0]))
  return losses + z_loss * jnp.sum(weights_BT * norm_BT**2), losses


def _close(got, want, tolerance=2e-6):
  got, want = np.asarray(got), np.asarray(want)
  scale = np.abs(want).max()
  np.testing.assert_allclose(got / scale, want / scale, atol=tolerance)


@pytest.mark.parametrize('mesh', _MESHES)
@pytest.mark.parametrize(('softcap', 'z_loss'), [(None, 0.0), (5.0, 0.01)])
def test_losses_and_slopes_are_those_of_the_definition(
  given, monkeypatch, mesh, softcap, z_loss
):
  # Several blocks of words, and several chunks of tokens in each.
  monkeypatch.setattr(loss, '_WORDS', 64)
  x_BTD, table_VD, labels_BT, weights_BT = given
  head = loss.Head(
    softcap=softcap,
    z_loss=z_loss,
    room=7 * 4 * 64,
    mesh=sharding.make_mesh(mesh) if mesh else None,
  )

  def ours(x_BTD, table_VD):
    found = loss.total(head, x_BTD, table_VD, None, labels_BT, weights_BT)
    return 3 * found[0], found[1]

  def plain(x_BTD, table_VD):
    found = _plain(x_BTD, table_VD, labels_BT, weights_BT, softcap, z_loss)
    return 3 * found[0], found[1]

  both = []
  for run in (ours, plain):
    slope = jax.value_and_grad(run, argnums=(0, 1), has_aux=True)
    both.append(jax.jit(slope)(x_BTD, table_VD))
  (got, got_slopes), (want, want_slopes) = both
  for one, other in zip(got, want, strict=True):
    assert float(one) == pytest.approx(float(other), rel=1e-6)
  for one, other in zip(got_slopes, want_slopes, strict=True):
    _close(one, other)
  # The slope of the states alone, as where the head is not trained.
  alone = jax.jit(jax.grad(lambda x: ours(x, table_VD)[0]))(x_BTD)
  _close(alone, want_slopes[0])
  # And without any.
  found = jax.jit(ours)(x_BTD, table_VD)[1]
  assert float(found) == pytest.approx(float(want[1]), rel=1e-6)


def test_a_table_in_int8_is_its_value_in_floats(given):
  x_BTD, table_VD, labels_BT, weights_BT = given
  held_VD = jnp.clip(jnp.round(40 * table_VD), -127, 127).astype(jnp.int8)
  scale_V = jnp.linspace(0.01, 0.05, _V)
  head = loss.Head(softcap=5.0, room=7 * 4 * _V)

  def ours(x_BTD):
    return loss.total(head, x_BTD, held_VD, scale_V, labels_BT, weights_BT)[0]

  def plain(x_BTD):
    whole_VD = held_VD * scale_V[:, None]
    return _plain(x_BTD, whole_VD, labels_BT, weights_BT, 5.0, 0.0)[0]

  got, got_slope = jax.value_and_grad(ours)(x_BTD)
  want, want_slope = jax.value_and_grad(plain)(x_BTD)
  assert float(got) == pytest.approx(float(want), rel=1e-6)
  _close(got_slope, want_slope)


def test_slopes_of_a_table_are_summed_in_float32(given):
  x_BTD, table_VD, labels_BT, weights_BT = given
  # Many tokens of one word: sums that bfloat16 would not hold.
  labels_BT = jnp.zeros_like(labels_BT)
  x_BTD = jnp.abs(x_BTD)
  head = loss.Head(room=4 * 4 * _V)

  def slope(dtype):
    return jax.grad(
      lambda t: loss.total(
        head, x_BTD.astype(dtype), t, None, labels_BT, weights_BT
      )[0]
    )(table_VD)

  found = slope(jnp.bfloat16)
  assert found.dtype == jnp.float32
  _close(found, slope(jnp.float32), 2e-2)
  # Of factors in bfloat16 the sums in float32 are closer than that.
  exact = np.abs(np.asarray(found[0]) - np.asarray(slope(jnp.float32)[0]))
  assert exact.max() < 4e-3 * np.abs(found[0]).max()


def test_the_logits_of_a_batch_never_exist():
  B, T, D, V = 4, 64, 8, 4096
  shapes = (
    jax.ShapeDtypeStruct((B, T, D), jnp.float32),
    jax.ShapeDtypeStruct((V, D), jnp.float32),
    jax.ShapeDtypeStruct((B, T), jnp.int32),
    jax.ShapeDtypeStruct((B, T), jnp.float32),
  )
  room = 16 * V * 4

  def slope(head, *given):
    return jax.grad(
      lambda x, table: loss.total(head, x, table, None, *given[2:])[0], (0, 1)
    )(*given[:2])

  def temporary(head):
    compiled = jax.jit(lambda *g: slope(head, *g)).lower(*shapes).compile()
    return compiled.memory_analysis().temp_size_in_bytes

  whole = B * T * V * 4
  small = temporary(loss.Head(room=room))
  assert small < whole / 2
  assert temporary(loss.Head(room=1 << 30)) > whole


def test_prompts_and_padding_cost_nothing(given):
  """No chunk is worked on beyond the targets: a NaN there is not seen."""
  x_BTD, table_VD, labels_BT, weights_BT = given
  spoiled_BTD = jnp.where(weights_BT[..., None] == 0, jnp.nan, x_BTD)
  # A chunk of one token holds no filler.
  head = loss.Head(room=4 * _V)
  got = loss.total(head, spoiled_BTD, table_VD, None, labels_BT, weights_BT)
  want = loss.total(head, x_BTD, table_VD, None, labels_BT, weights_BT)
  assert got[1] == want[1]
  assert np.isfinite(got[1])


@pytest.mark.parametrize('mesh', ['', 'fsdp=2'])
def test_states_that_bear_no_loss_may_be_as_large_as_they_like(
  given, monkeypatch, mesh
):
  """What fills a chunk up has logits beyond what `exp` can hold."""
  monkeypatch.setattr(loss, '_WORDS', 64)
  x_BTD, table_VD, labels_BT, weights_BT = given
  large_BTD = jnp.where(weights_BT[..., None] == 0, 100 * x_BTD, x_BTD)
  devices = sharding.make_mesh(mesh, jax.devices()[:2]) if mesh else None
  head = loss.Head(room=64 * 4 * 64, mesh=devices)
  for arguments in ((0,), (0, 1)):
    slopes = jax.jit(
      jax.grad(
        lambda x, table: loss.total(
          head, x, table, None, labels_BT, weights_BT
        )[0],
        arguments,
      )
    )(large_BTD, table_VD)
    assert all(np.all(np.isfinite(slope)) for slope in slopes)
