import json

import numpy as np
import pytest
from scipy import stats

from wcse_jax.metrics import intervals, shares


def test_mean_has_the_width_of_the_normal_interval():
  values_Q = np.random.default_rng(1).normal(5.0, 2.0, size=400)
  got = intervals.mean(values_Q)
  half = 1.96 * values_Q.std() / 20
  assert got['value'] == pytest.approx(values_Q.mean())
  assert got['low'] == pytest.approx(values_Q.mean() - half, abs=0.1 * half)
  assert got['high'] == pytest.approx(values_Q.mean() + half, abs=0.1 * half)
  assert got['n'] == 400


def test_covers_the_truth_about_95_times_of_100():
  random = np.random.default_rng(2)
  inside = 0
  for seed in range(200):
    # No shares: the percentile bootstrap.
    values_Q = 3 * (random.random(60) < 0.4)
    got = intervals.mean(values_Q, draws=400, seed=seed)
    inside += got['low'] <= 1.2 <= got['high']
  assert 180 <= inside <= 199


@pytest.mark.parametrize('truth', [0.4, 0.97])
def test_shares_are_covered_near_the_ends_too(truth):
  right_YQ = np.random.default_rng(2).random((500, 192)) < truth
  found = [intervals.mean(right_Q) for right_Q in right_YQ]
  held = np.mean([one['low'] <= truth <= one['high'] for one in found])
  # The share's own error is 1 point.
  assert 0.925 <= held <= 0.985
  assert all(0 <= one['low'] <= one['value'] <= one['high'] for one in found)


def test_a_mean_of_shares_is_wilsons_with_the_variance_over_problems():
  values_Q = np.random.default_rng(3).random(80) ** 0.1
  got = intervals.mean(values_Q)
  t = stats.t.ppf(0.975, 79)
  want = shares.bounds(values_Q.mean(), values_Q.var(ddof=1) / 80, t, 80)
  assert (got['low'], got['high']) == pytest.approx(want)
  # The same, as a ratio said to be a share.
  again = intervals.ratio(values_Q, np.ones(80), share=True)
  assert again == pytest.approx(got)


@pytest.mark.parametrize('share', [0.0, 1.0])
def test_a_share_of_none_or_all_is_not_certain(share):
  got = intervals.mean(np.full(50, share))
  assert got['value'] == share
  assert 0.05 < got['high'] - got['low'] < 0.1


def test_difference_is_students():
  random = np.random.default_rng(12)
  a_Q, b_Q = random.random(40), random.random(40)
  got = intervals.difference(a_Q, b_Q)
  want = stats.ttest_rel(a_Q, b_Q).confidence_interval(0.95)
  assert (got['low'], got['high']) == pytest.approx((want.low, want.high))


def test_models_that_are_alike_on_every_problem_are_not_certain():
  got = intervals.difference(np.ones(100), np.ones(100))
  assert got['value'] == 0.0
  assert got['high'] == -got['low'] == pytest.approx(0.0198, abs=1e-4)


def test_ratio_is_the_sum_over_the_sum():
  # Not the mean of the ratios, which would be 0.55.
  got = intervals.ratio([1, 1], [1, 10])
  assert got['value'] == pytest.approx(2 / 11)
  # Each resample is of (1, 1), (1, 10) or both.
  assert (got['low'], got['high']) == pytest.approx((0.1, 1.0))


def test_ratio_of_equal_columns_is_certain_in_each_resample():
  got = intervals.ratio([1.0, 5.0, 9.0], [1.0, 5.0, 9.0])
  assert (got['value'], got['low'], got['high']) == (1.0, 1.0, 1.0)


def test_resamples_without_denominator_are_left_out():
  got = intervals.ratio([1.0, 0.0], [2.0, 0.0])
  assert (got['value'], got['low'], got['high']) == (0.5, 0.5, 0.5)


def test_difference_is_paired():
  hard_Q = np.random.default_rng(4).random(300)
  got = intervals.difference(hard_Q + 0.1, hard_Q)
  assert got['value'] == pytest.approx(0.1)
  # Unpaired, the interval would be about 0.09 wide.
  assert got['high'] - got['low'] < 1e-9


def test_ratio_differences_are_paired():
  random = np.random.default_rng(11)
  ease_Q = random.random(300)
  a_Q, b_Q = ease_Q + 0.1, ease_Q + random.normal(0, 0.01, 300)
  ones = np.ones((1, 300))
  (got,) = intervals.ratio_differences(a_Q[None], ones, b_Q[None], ones)
  want = intervals.difference(a_Q, b_Q)
  assert got == pytest.approx(want)
  unpaired = np.hypot(
    *(m['high'] - m['low'] for m in (intervals.mean(a_Q), intervals.mean(b_Q)))
  )
  assert got['high'] - got['low'] < 0.2 * unpaired


def test_ratio_differences_of_unlike_denominators_by_hand():
  got = intervals.ratio_differences(
    np.array([[1.0, 2.0], [1.0, 1.0]]),
    np.array([[2.0, 2.0], [0.0, 0.0]]),
    np.array([[1.0, 0.0], [1.0, 1.0]]),
    np.array([[4.0, 4.0], [1.0, 1.0]]),
  )
  assert got[0]['value'] == pytest.approx(3 / 4 - 1 / 8)
  # Resamples: both first, both second, one of each.
  assert got[0]['low'] == pytest.approx(1 / 2 - 1 / 4)
  assert got[0]['high'] == pytest.approx(1)
  assert got[1]['value'] is None


def test_rows_of_part_of_the_problems():
  top, bottom = np.array([[1.0, 0, 0], [1, 2, 3]]), np.array([[2.0, 0, 0]] * 2)
  one, _ = intervals.ratios(top, bottom, counts_C=np.array([1, 3]))
  assert one == {'value': 0.5, 'low': None, 'high': None, 'n': 1}


def test_blocks_do_not_change_the_result(monkeypatch):
  # No shares, whose interval needs no resampling.
  values_Q = 2 * np.random.default_rng(5).random(50)
  whole = intervals.mean(values_Q)
  monkeypatch.setattr(intervals, '_BLOCK', 50 * 7)
  assert intervals.mean(values_Q) == whole


def test_weights_count_each_resample_of_all_items():
  blocks = list(intervals.weights(np.random.default_rng(0), 30, 2000))
  weights = np.concatenate(blocks)
  assert weights.shape == (2000, 30)
  assert np.all(weights.sum(1) == 30)
  # Of a multinomial: mean 1, variance 1 - 1/30.
  np.testing.assert_allclose(weights.mean(0), 1, atol=0.1)
  assert weights.var() == pytest.approx(1 - 1 / 30, abs=0.03)


def test_same_seed_same_interval_other_seed_another():
  # No shares, whose interval needs no resampling.
  values_Q = 2 * np.random.default_rng(6).random(20)
  assert intervals.mean(values_Q) == intervals.mean(values_Q)
  assert intervals.mean(values_Q) != intervals.mean(values_Q, seed=1)


@pytest.mark.parametrize(
  ('got', 'want'),
  [
    (intervals.mean([]), (None, None, None, 0)),
    (intervals.mean([0.5]), (0.5, None, None, 1)),
    (intervals.ratio([], []), (None, None, None, 0)),
    (intervals.ratio([0, 0], [0, 0]), (None, None, None, 2)),
    (intervals.difference([], []), (None, None, None, 0)),
    (intervals.clustered(np.zeros((0, 5))), (None, None, None, 0)),
    (intervals.clustered(np.zeros((3, 0))), (None, None, None, 0)),
    (intervals.clustered([[1.0], [0.0]]), (0.5, None, None, 1)),
  ],
)
def test_undefined_is_null(got, want):
  assert tuple(got.values()) == want
  assert list(got) == ['value', 'low', 'high', 'n']
  json.dumps(got, allow_nan=False)


def test_clustered_with_one_replicate_is_the_interval_over_problems():
  values_Q = np.random.default_rng(7).random(200)
  one, plain = intervals.clustered(values_Q[None]), intervals.mean(values_Q)
  assert one['value'] == plain['value']
  assert one['low'] == pytest.approx(plain['low'], abs=0.005)
  assert one['high'] == pytest.approx(plain['high'], abs=0.005)


def test_clustered_is_wider_where_replicates_differ():
  random = np.random.default_rng(8)
  values_RQ = random.random((5, 200))
  apart_RQ = values_RQ + np.array([-0.2, -0.1, 0.0, 0.1, 0.2])[:, None]
  near, apart = intervals.clustered(values_RQ), intervals.clustered(apart_RQ)
  assert apart['high'] - apart['low'] > 2 * (near['high'] - near['low'])
  # The spread between runs alone: 0.1414 / sqrt(5), times 2 * 1.96.
  assert apart['high'] - apart['low'] == pytest.approx(0.25, abs=0.04)
  assert apart['n'] == 200


def test_clustered_equals_resampling_rows_and_columns_by_hand():
  values_RQ = np.random.default_rng(9).random((4, 12))
  random = np.random.default_rng(10)
  means = [
    values_RQ[
      np.ix_(random.integers(4, size=4), random.integers(12, size=12))
    ].mean()
    for _ in range(8000)
  ]
  got = intervals.clustered(values_RQ, draws=8000)
  low, high = np.quantile(means, [0.025, 0.975])
  assert got['low'] == pytest.approx(low, abs=0.01)
  assert got['high'] == pytest.approx(high, abs=0.01)


@pytest.mark.parametrize(
  ('call', 'named'),
  [
    (lambda: intervals.mean([1.0, np.nan]), 'values_Q'),
    (lambda: intervals.mean([[1.0]]), 'values_Q'),
    (lambda: intervals.ratio([1.0], [1.0, 2.0]), 'denominator_Q'),
    (lambda: intervals.difference([1.0], [1.0, 2.0]), 'same problems'),
    (lambda: intervals.clustered([1.0]), 'values_RQ'),
    (lambda: intervals.clustered([[np.inf]]), 'values_RQ'),
  ],
)
def test_refuses_wrong_shapes_and_values(call, named):
  with pytest.raises(ValueError, match=named):
    call()
