import math

import jax.numpy as jnp
import numpy as np
import pytest

from wcse_jax.models import attention, config


def _attend(
  q_BTKGH, k_BSKH, v_BSKH, mask_BTS, *, axes=('BSKH', 'BKHS'), **options
):
  k, v = (
    np.transpose(whole, ['BSKH'.index(letter) for letter in letters])
    for whole, letters in zip((k_BSKH, v_BSKH), axes)
  )
  source = attention.Source(k, v, mask_BTS, *axes)
  return attention.attend(q_BTKGH, [source], **options)


def _inputs(T=4, S=6, K=2, G=3, H=8):
  rng = np.random.default_rng(0)
  q_BTKGH = rng.normal(size=(2, T, K, G, H)).astype(np.float32)
  k_BSKH = rng.normal(size=(2, S, K, H)).astype(np.float32)
  v_BSKH = rng.normal(size=(2, S, K, H)).astype(np.float32)
  mask_BTS = np.tril(np.ones((T, S), bool), S - T)[None].repeat(2, 0)
  return q_BTKGH, k_BSKH, v_BSKH, mask_BTS


def _one(q_H, k_SH, v_SH, softcap):
  """Returns the attention of one query, in float64."""
  logits_S = k_SH.astype(np.float64) @ q_H
  if softcap is not None:
    logits_S = softcap * np.tanh(logits_S / softcap)
  odds_S = np.exp(logits_S)
  return odds_S / odds_S.sum() @ v_SH


@pytest.mark.parametrize('softcap', [None, 1.5])
@pytest.mark.parametrize(
  'axes', [('BSKH', 'BKHS'), ('BKSH', 'BKSH'), ('BKHS', 'BKSH')]
)
def test_attends_as_one_query_at_a_time(axes, softcap):
  q_BTKGH, k_BSKH, v_BSKH, mask_BTS = _inputs()
  out_BTKGH = _attend(
    q_BTKGH, k_BSKH, v_BSKH, mask_BTS, axes=axes, softcap=softcap
  )
  for b, t, k, g in np.ndindex(q_BTKGH.shape[:4]):
    seen_S = mask_BTS[b, t]
    want_H = _one(
      q_BTKGH[b, t, k, g], k_BSKH[b, seen_S, k], v_BSKH[b, seen_S, k], softcap
    )
    np.testing.assert_allclose(out_BTKGH[b, t, k, g], want_H, atol=1e-6)


def test_what_is_masked_has_no_effect():
  q_BTKGH, k_BSKH, v_BSKH, mask_BTS = _inputs()
  mask_BTS[:, :, -1] = False
  out = _attend(q_BTKGH, k_BSKH, v_BSKH, mask_BTS)
  k_BSKH[:, -1], v_BSKH[:, -1] = 1e6, -1e6
  again = _attend(q_BTKGH, k_BSKH, v_BSKH, mask_BTS)
  np.testing.assert_array_equal(out, again)


def test_a_query_with_nothing_to_attend_to_stays_finite():
  q_BTKGH, k_BSKH, v_BSKH, mask_BTS = _inputs()
  whole = _attend(q_BTKGH, k_BSKH, v_BSKH, mask_BTS)
  mask_BTS[1, 2] = False
  out = np.asarray(_attend(q_BTKGH, k_BSKH, v_BSKH, mask_BTS))
  assert np.isfinite(out).all()
  # And its neighbours do not notice.
  others = np.delete(out[1], 2, axis=0)
  np.testing.assert_array_equal(others, np.delete(whole[1], 2, axis=0))
  np.testing.assert_array_equal(out[0], whole[0])


def test_logits_are_float32_in_a_bfloat16_model():
  # Two keys whose logits differ by less than a bfloat16 step at 256.
  q_BTKGH = jnp.full((1, 1, 1, 1, 2), 16, jnp.bfloat16)
  k_BSKH = jnp.array([[[[16, 0]], [[16, 0.03125]]]], jnp.bfloat16)
  v_BSKH = jnp.array([[[[0, 0]], [[1, 1]]]], jnp.bfloat16)
  out = _attend(q_BTKGH, k_BSKH, v_BSKH, np.ones((1, 1, 2), bool))
  assert out.dtype == jnp.bfloat16
  want = 1 / (1 + math.exp(-0.5))
  np.testing.assert_allclose(float(out[0, 0, 0, 0, 0]), want, atol=0.004)


@pytest.mark.parametrize('shape', [(2, 4, 5), (2, 6, 4), (3, 4, 6)])
def test_a_mask_that_does_not_fit_is_refused(shape):
  q_BTKGH, k_BSKH, v_BSKH, _ = _inputs()
  with pytest.raises(ValueError, match=r'mask must have shape \(2, 4, 6\)'):
    _attend(q_BTKGH, k_BSKH, v_BSKH, np.ones(shape, bool))


def test_window_counts_the_token_itself():
  positions = jnp.arange(5)[None]
  seen_TS = attention.mask(positions, positions, window=2)[0]
  want = [
    [1, 0, 0, 0, 0],
    [1, 1, 0, 0, 0],
    [0, 1, 1, 0, 0],
    [0, 0, 1, 1, 0],
    [0, 0, 0, 1, 1],
  ]
  np.testing.assert_array_equal(seen_TS, np.array(want, bool))
  only_itself = attention.mask(positions, positions, window=1)[0]
  np.testing.assert_array_equal(only_itself, np.eye(5, dtype=bool))


def test_mask_without_a_window_sees_all_before():
  query_BT, key_BS = jnp.array([[3, 0]]), jnp.arange(5)[None]
  seen_TS = attention.mask(query_BT, key_BS)[0]
  want = [[1, 1, 1, 1, 0], [1, 0, 0, 0, 0]]
  np.testing.assert_array_equal(seen_TS, np.array(want, bool))


def test_segments_do_not_see_each_other():
  positions_BT = jnp.array([[0, 1, 2, 0, 1]])
  ids_BT = jnp.array([[1, 1, 1, 2, 2]])
  seen_TS = attention.mask(
    positions_BT, positions_BT, window=2, segments=(ids_BT, ids_BT)
  )[0]
  want = [
    [1, 0, 0, 0, 0],
    [1, 1, 0, 0, 0],
    [0, 1, 1, 0, 0],
    [0, 0, 0, 1, 0],
    [0, 0, 0, 1, 1],
  ]
  np.testing.assert_array_equal(seen_TS, np.array(want, bool))


def _rotated(x_H, position, **options):
  frequency = attention.frequencies(config.Rope(**options), len(x_H))
  turn = attention.rotation(jnp.array([[position]]), frequency)
  return np.asarray(attention.rotate(jnp.asarray(x_H)[None, None, None], turn))[
    0, 0, 0
  ]


@pytest.mark.parametrize('scale', [1.0, 8.0])
def test_only_the_distance_of_positions_matters(scale):
  rng = np.random.default_rng(1)
  q_H, k_H = rng.normal(size=(2, 16)).astype(np.float32)

  def product(query, key):
    turned = (
      _rotated(x_H, at, base=100.0, scale=scale)
      for x_H, at in ((q_H, query), (k_H, key))
    )
    return float(np.dot(*turned))

  assert product(9, 4) == pytest.approx(product(5, 0), abs=1e-5)
  assert product(309, 304) == pytest.approx(product(5, 0), abs=1e-4)
  assert abs(product(9, 4) - product(9, 5)) > 1e-2


def test_rotation_keeps_length_and_position_0():
  x_H = np.arange(1, 9, dtype=np.float32)
  np.testing.assert_array_equal(_rotated(x_H, 0, base=10.0), x_H)
  turned = _rotated(x_H, 31, base=10.0)
  assert np.linalg.norm(turned) == pytest.approx(np.linalg.norm(x_H), rel=1e-6)
  assert np.abs(turned - x_H).max() > 1


def test_rotation_turns_by_the_stated_angles():
  rope = config.Rope(base=100.0, scale=2.0)
  sin, cos = attention.rotation(
    jnp.array([[0, 6]]), attention.frequencies(rope, 4)
  )
  # Positions halved; frequencies 1 and 100 ** -0.5.
  np.testing.assert_allclose(sin[0, 1], np.sin([3.0, 0.3]), rtol=1e-6)
  np.testing.assert_allclose(cos[0, 1], np.cos([3.0, 0.3]), rtol=1e-6)
  # Halves of the head are paired: 1 and 3 of (1, 2, 3, 4) turn together.
  turned = _rotated(np.array([1, 2, 3, 4], np.float32), 3, base=100.0)
  want = 1 * np.cos(3.0) - 3 * np.sin(3.0)
  assert turned[0] == pytest.approx(want, rel=1e-5)


def test_rotation_by_far_positions_is_exact_in_bfloat16_models():
  frequency = attention.frequencies(config.Rope(base=10.0), 2)
  sin, cos = attention.rotation(jnp.array([[8191]]), frequency)
  assert sin.dtype == cos.dtype == jnp.float32
  assert float(sin[0, 0, 0]) == pytest.approx(math.sin(8191), abs=1e-5)


def test_a_share_of_the_frequencies_stands_still():
  rope = config.Rope(base=100.0, rotated=0.25)
  # The first quarter turns as it would in the whole head.
  np.testing.assert_allclose(
    attention.frequencies(rope, 16),
    [1.0, 100.0 ** (-2 / 16), 0, 0, 0, 0, 0, 0],
    rtol=1e-6,
  )


def test_smooth_scaling_spares_fast_frequencies():
  rope = config.Rope(base=1e4, scale=8.0, smooth=(1.0, 4.0, 64))
  plain = attention.frequencies(config.Rope(base=1e4), 64)
  got = attention.frequencies(rope, 64)
  turns = 64 * plain / (2 * np.pi)
  fast, slow = turns > 4, turns < 1
  between = ~fast & ~slow
  assert fast.any()
  assert slow.any()
  assert between.any()
  np.testing.assert_array_equal(got[fast], plain[fast])
  np.testing.assert_allclose(got[slow], plain[slow] / 8, rtol=1e-6)
  share = (turns[between] - 1) / 3
  want = share * plain[between] + (1 - share) * plain[between] / 8
  np.testing.assert_allclose(got[between], want, rtol=1e-5)
