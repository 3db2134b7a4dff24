import numpy as np
import pytest

from wcse_jax.metrics import ppi


def _labels(seed, size, rate, miss):
  random = np.random.default_rng(seed)
  human_M = random.random(size) < rate
  judged_M = human_M ^ (random.random(size) < miss)
  return judged_M.astype(float), human_M, random


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('trust', [None, 0.0, 1.0])
def test_equals_the_authors_package(seed, trust):
  with np.errstate(all='ignore'):
    reference = pytest.importorskip('ppi_py')
  judged_M, human_M, _ = _labels(seed, 400, 0.2, 0.1)
  labels = [bool(human_M[i]) if i < 80 else None for i in range(400)]
  # On its own the package takes the audited samples as no part of the rest.
  low, high = reference.ppi_mean_ci(
    human_M[:80].astype(float),
    judged_M[:80],
    judged_M[80:],
    alpha=0.05,
    lam=trust,
  )
  found = ppi.rate(judged_M, labels, trust=trust)
  assert found['low'] == pytest.approx(max(low[0], 0), abs=1e-9)
  assert found['high'] == pytest.approx(min(high[0], 1), abs=1e-9)
  assert (found['n'], found['judged']) == (80, 400)


def test_intervals_hold_the_truth_and_a_good_judge_narrows_them():
  held = 0
  widths = {0.02: 0.0, 0.5: 0.0}
  for miss in widths:
    for seed in range(200):
      judged_M, human_M, _ = _labels(seed, 1000, 0.2, miss)
      labels = [bool(human_M[i]) if i < 150 else None for i in range(1000)]
      found = ppi.rate(judged_M, labels)
      held += found['low'] <= 0.2 <= found['high']
      widths[miss] += found['high'] - found['low']
  assert 0.91 <= held / 400 <= 0.98
  assert widths[0.02] < 0.6 * widths[0.5]


def test_a_judge_that_is_always_wrong_is_corrected():
  human = [False] * 100
  labels = [h if i < 50 else None for i, h in enumerate(human)]
  found = ppi.rate(np.ones(100), labels)
  assert found['value'] == 0
  assert 0.02 < found['high'] < 0.1


def test_without_disagreement_the_interval_has_a_width():
  labels = [False] * 50 + [None] * 50
  found = ppi.rate(np.zeros(100), labels)
  # Wilson's interval of 0 of 50.
  assert found['high'] == pytest.approx(1.959964**2 / (50 + 1.959964**2))
  assert found['low'] == 0


def test_strata_are_weighted_by_their_size():
  judged_M = np.zeros(400)
  strata_M = ['a'] * 100 + ['b'] * 300
  human = [True, False] * 20 + [None] * 60 + [False] * 20 + [None] * 280
  found = ppi.rate(judged_M, human, strata_M)
  assert found['value'] == pytest.approx(0.25 * 0.5)
  by = ppi.rates(judged_M, human, strata_M)
  assert by['a']['value'] == 0.5
  assert by['b']['value'] == 0.0
  assert by['a']['n'] == 40
  # Taken as one, the strata audited at unlike rates would mislead.
  assert ppi.rate(judged_M, human)['value'] == pytest.approx(1 / 3)


def test_all_labelled_is_the_plain_mean():
  found = ppi.rate([1.0, 0.0, 1.0, 0.0], [True, True, True, False])
  assert found['value'] == 0.75
  assert found['trust'] == 0


def test_what_is_not_known_is_none():
  none = ppi.rate([0.0, 1.0], [None, None])
  assert (none['value'], none['low'], none['n']) == (None, None, 0)
  assert ppi.rate([], [])['value'] is None
  one = ppi.rate([0.0, 1.0], [False, None])
  assert one['value'] is not None
  assert one['low'] is None
  gap = ppi.rate([0.0, 1.0, 1.0], [True, False, None], ['a', 'a', 'b'])
  assert gap['value'] is None


def test_refuses_what_does_not_fit():
  with pytest.raises(ValueError, match='same samples'):
    ppi.rate([0.0], [True, False])
  with pytest.raises(ValueError, match='human_M'):
    ppi.rate([0.0], [2.0])
  with pytest.raises(ValueError, match='trust'):
    ppi.rate([0.0], [True], trust=2)
  with pytest.raises(ValueError, match='strata_M'):
    ppi.rate([0.0], [True], ['a', 'b'])
