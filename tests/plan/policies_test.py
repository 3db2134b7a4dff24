"""Outcomes of policies, against drawing them."""

import itertools

import numpy as np
import pytest

from wcse_jax.plan import policies


Stage, Policy = policies.Stage, policies.Policy

_P_XM = np.array([[0.05, 0.2], [0.4, 0.5], [0.0, 0.3], [0.9, 1.0], [0.0, 0.0]])
_POLICIES = {
  'skip': Policy(),
  'pure': Policy((Stage(0, 5, 5),)),
  'mix': Policy((Stage(0, 3, 3), Stage(1, 2, 2))),
  'cascade': Policy((Stage(0, 4, 4), Stage(1, 3, 3)), 1),
  'adaptive': Policy((Stage(0, 7, 2), Stage(1, 5, 1)), 1),
  'adaptive, three right': Policy((Stage(0, 8, 3), Stage(1, 6, 2)), 3),
}


def _drawn(policy, p_M, random):
  """Returns (samples, rounds, whether any was right) of one problem."""
  drawn, asked, right = np.zeros(len(p_M)), np.zeros(len(p_M)), 0
  for stage in policy.stages:
    left = stage.samples
    while left and not (policy.until and right >= policy.until):
      size = min(stage.round, left)
      right += random.binomial(size, p_M[stage.model])
      drawn[stage.model] += size
      asked[stage.model] += 1
      left -= size
  return drawn, asked, right > 0


@pytest.mark.parametrize('name', _POLICIES)
def test_the_outcome_is_that_of_drawing(name):
  policy, random, count = _POLICIES[name], np.random.default_rng(0), 8000
  assert policy.kind == name.partition(',')[0]
  found = policies.outcome(policy, _P_XM)
  for x, p_M in enumerate(_P_XM):
    rows = [_drawn(policy, p_M, random) for _ in range(count)]
    drawn = np.mean([row[0] for row in rows], axis=0)
    asked = np.mean([row[1] for row in rows], axis=0)
    solved = np.mean([row[2] for row in rows])
    np.testing.assert_allclose(found.asked_XM[x], asked, atol=0.08)
    np.testing.assert_allclose(found.drawn_XM[x], drawn, atol=0.12)
    assert found.solved_X[x] == pytest.approx(solved, abs=0.025)


def test_one_round_of_all_is_a_pure_arm():
  assert Policy((Stage(0, 4, 4),), 1).kind == 'pure'
  assert Policy((Stage(0, 4, 1),), 1).kind == 'adaptive'


def test_candidates_are_what_they_say():
  found = list(
    policies.candidates(
      _P_XM,
      kinds=policies.KINDS,
      most=9,
      sizes=(1, 2),
      until=(1, 2),
      order=(1, 0),
    )
  )
  kinds = {policy.kind for policy, _ in found}
  assert kinds == set(policies.KINDS)
  for policy, outcome in found:
    want = policies.outcome(policy, _P_XM)
    np.testing.assert_allclose(outcome.drawn_XM, want.drawn_XM, atol=1e-9)
    np.testing.assert_allclose(outcome.asked_XM, want.asked_XM, atol=1e-9)
    np.testing.assert_allclose(outcome.solved_X, want.solved_X, atol=1e-9)
    models = [stage.model for stage in policy.stages]
    assert models in ([], [0], [1], [1, 0])
    assert all(stage.samples <= 9 for stage in policy.stages)


def test_kinds_that_are_not_asked_for_are_left_out():
  found = policies.candidates(
    _P_XM, kinds=('cascade',), most=5, sizes=(1,), until=(1,), order=(0, 1)
  )
  assert {policy.kind for policy, _ in found} == {'skip', 'pure', 'cascade'}


@pytest.mark.parametrize('most', [1, 5, 12, 13, 64, 500])
def test_counts_reach_the_most(most):
  counts = policies.grid(most)
  assert counts[0] == 1
  assert counts[-1] == most
  assert counts == sorted(set(counts))
  assert all(b <= a + max(1, a / 4) for a, b in itertools.pairwise(counts))
