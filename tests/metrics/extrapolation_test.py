import json
import pathlib

import numpy as np
import pytest

import wcse_jax
from wcse_jax.metrics import coverage, extrapolation


DATA = pathlib.Path(wcse_jax.__file__).parents[2] / 'shared' / 'data'

# Populations of p, with what the fit cannot know of each.
POPULATIONS = {
  # The fits to the paper's published curves.
  'math strong': lambda r, q: r.beta(0.316, 0.652, q),
  'math weak': lambda r, q: r.beta(0.300, 0.825, q),
  'gsm8k strong': lambda r, q: r.beta(0.889, 0.270, q),
  'gsm8k weak': lambda r, q: r.beta(0.848, 0.437, q),
  # A share that is never solved.
  'never 10%': lambda r, q: np.where(r.random(q) < 0.1, 0, r.beta(0.8, 1.2, q)),
  'never 30%': lambda r, q: np.where(r.random(q) < 0.3, 0, r.beta(1.5, 3, q)),
  # Neither shape: two kinds of problems; a normal in log-odds.
  'two kinds': lambda r, q: np.where(
    r.random(q) < 0.4, r.beta(0.5, 8, q), r.beta(4, 1, q)
  ),
  'log-odds': lambda r, q: 1 / (1 + np.exp(-r.normal(-0.5, 2.5, q))),
}


def _truth(population, k):
  p = population(np.random.default_rng(99), 1_000_000)
  return float(np.mean(1 - (1 - p) ** k))


def _counts(population, problems, n, seed):
  random = np.random.default_rng(seed)
  return random.binomial(n, population(random, problems))


def test_observed_where_samples_suffice():
  right_Q = _counts(POPULATIONS['math weak'], 100, 8, 0)
  rows = extrapolation.coverage_at(np.full(100, 8), right_Q, [1, 8, 9])
  assert [row['extrapolated'] for row in rows] == [False, False, True]
  for row in rows[:2]:
    want = coverage.coverage(8, right_Q, row['k']).mean()
    assert row['value'] == pytest.approx(want)
  # The curve goes on without a jump.
  last, next_ = rows[1]['value'], rows[2]['value']
  assert last < next_ < last + 0.03
  json.dumps(rows, allow_nan=False)


@pytest.mark.parametrize('name', ['math strong', 'gsm8k weak', 'never 30%'])
def test_many_problems_give_the_truth(name):
  population = POPULATIONS[name]
  right_Q = _counts(population, 40_000, 8, 1)
  rows = extrapolation.coverage_at(
    np.full(right_Q.size, 8), right_Q, [16, 64], draws=4
  )
  for row in rows:
    assert row['value'] == pytest.approx(_truth(population, row['k']), abs=0.01)


def test_missing_samples_do_not_move_the_estimate():
  # A tenth of the problems lost half of their samples.
  random = np.random.default_rng(6)
  p = POPULATIONS['math strong'](random, 20_000)
  n_Q = np.where(random.random(p.size) < 0.09, 8, 16)
  right_Q = random.binomial(n_Q, p)
  (row,) = extrapolation.coverage_at(n_Q, right_Q, [32], draws=4)
  truth = _truth(POPULATIONS['math strong'], 32)
  assert row['value'] == pytest.approx(truth, abs=0.015)


def test_held_out_halves():
  """Fitted on 8 of 32 samples, it foretells 16 and 32 of the same problems."""
  random = np.random.default_rng(7)
  right_QR = (
    random.random((600, 32)) < POPULATIONS['math weak'](random, 600)[:, None]
  )
  few_Q, many_Q = right_QR[:, :8].sum(1), right_QR.sum(1)
  rows = extrapolation.coverage_at(np.full(600, 8), few_Q, [16, 32])
  for row in rows:
    seen = coverage.coverage(32, many_Q, row['k']).mean()
    assert row['low'] <= seen <= row['high']
    assert row['value'] == pytest.approx(seen, abs=0.04)


def test_more_samples_never_cover_less():
  for seed, population in enumerate(POPULATIONS.values()):
    right_Q = _counts(population, 200, 8, seed)
    values = [
      row['value']
      for row in extrapolation.coverage_at(
        np.full(200, 8), right_Q, [8, 9, 12, 16, 64, 1024], draws=2
      )
    ]
    assert values == sorted(values)
    assert values[-1] <= 1


@pytest.mark.parametrize(
  ('n_Q', 'right_Q'),
  [([], []), ([3, 3], [1, 0]), ([0, 0], [0, 0]), ([8, 1, 1, 1], [8, 0, 1, 0])],
)
def test_too_few_samples_are_undefined(n_Q, right_Q):
  (row,) = extrapolation.coverage_at(n_Q, right_Q, [16])
  assert row['value'] is row['low'] is row['high'] is None


@pytest.mark.parametrize('right', [0, 8])
def test_all_or_none_solved(right):
  (row,) = extrapolation.coverage_at([8] * 50, [right] * 50, [64])
  assert row['value'] == pytest.approx(right / 8, abs=0.05)
  assert row['high'] <= 1


def test_refuses_more_right_than_samples():
  with pytest.raises(ValueError, match='right_Q'):
    extrapolation.coverage_at([4], [5], [8])
  with pytest.raises(ValueError, match='same problems'):
    extrapolation.difference(([4], [1]), ([4, 4], [1, 1]), 8, 8)


def test_difference_is_paired():
  random = np.random.default_rng(8)
  p = POPULATIONS['math weak'](random, 400)
  # The second model is the first, a little better on every problem.
  a_Q = random.binomial(8, p)
  b_Q = random.binomial(8, p ** (1 / 1.2))
  n_Q = np.full(400, 8)
  gap = extrapolation.difference((n_Q, b_Q), (n_Q, a_Q), 16, 16)
  rows = [
    extrapolation.coverage_at(n_Q, right_Q, [16])[0] for right_Q in (b_Q, a_Q)
  ]
  assert gap['value'] == pytest.approx(rows[0]['value'] - rows[1]['value'])
  unpaired = np.hypot(*(row['high'] - row['low'] for row in rows))
  assert gap['high'] - gap['low'] < 0.9 * unpaired


@pytest.mark.slow
@pytest.mark.parametrize('name', POPULATIONS)
def test_interval_holds_the_truth(name):
  """Of 60 studies of 400 problems x 8 samples, at 2 n and 4 n."""
  population, studies, problems, n = POPULATIONS[name], 60, 400, 8
  ks = [2 * n, 4 * n]
  truths = [_truth(population, k) for k in ks]
  inside, errors_ = np.zeros(2, int), []
  for seed in range(studies):
    rows = extrapolation.coverage_at(
      np.full(problems, n),
      _counts(population, problems, n, 1000 + seed),
      ks,
      draws=200,
      seed=seed,
    )
    inside += [r['low'] <= t <= r['high'] for r, t in zip(rows, truths)]
    errors_.append([r['value'] - t for r, t in zip(rows, truths)])
  bias = np.mean(errors_, axis=0)
  print(f'{name}: held {inside} of {studies}; bias {bias}')
  # 95% of 60 is 57; 55 were the fewest seen.
  assert np.all(inside >= 52)


@pytest.mark.skipif(not DATA.is_dir(), reason='needs the shared data')
def test_held_out_halves_of_real_samples():
  """100 MATH problems x 8 samples of Qwen2.5-Math: 4 foretell 8."""
  path = DATA / 'qwen_math_samples' / 'samples.jsonl'
  rows = [json.loads(line) for line in path.read_text().splitlines()]
  right_QR = np.zeros((100, 8), bool)
  for row in rows:
    right_QR[row['problem_idx'], row['sample']] = row['correct_qwen_grader']
  (found,) = extrapolation.coverage_at(
    np.full(100, 4), right_QR[:, :4].sum(1), [8]
  )
  seen = right_QR.any(axis=1).mean()
  assert found['low'] <= seen <= found['high']
