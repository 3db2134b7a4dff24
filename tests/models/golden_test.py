"""Every family against what transformers computed, as the goldens hold it."""

import families
import numpy as np
import pytest


# Nats.  What float32 leaves of two orders of summation is 1e-5 and less; any
# term left out or out of place is a hundred times that and more.
_LIMIT = 1e-4
# Nats, of the sum over a continuation of 64 tokens.
_SUM_LIMIT = 64 * _LIMIT
# Nats a token, mean over positions.
_BFLOAT16_LIMIT = 1e-2

_FAMILIES = tuple(families.ROWS)


def _gap(golden, logits) -> float:
  """Returns the largest difference to the golden's logits."""
  got_AV = np.stack(
    [logits[row][t] for row, t in zip(golden.rows, golden.positions)]
  )
  return np.abs(got_AV - golden.logits_AV).max()


@pytest.mark.parametrize('family', _FAMILIES)
def test_logits_equal_transformers(family, goldens, ours):
  assert _gap(goldens[family], ours.logits(family)) <= _LIMIT


@pytest.mark.parametrize('family', _FAMILIES)
def test_greedy_samples_equal_transformers(family, goldens, ours):
  golden = goldens[family]
  samples = ours.samples(family)
  assert [list(s.tokens) for s in samples] == golden.drawn.tolist()
  # No loop of a few tokens, which a wrong model could get right.
  assert all(len(set(tokens_T[-32:])) >= 8 for tokens_T in golden.drawn)
  np.testing.assert_allclose(
    [s.logprob for s in samples], golden.logprobs, rtol=0, atol=_SUM_LIMIT
  )


@pytest.mark.slow
@pytest.mark.parametrize('family', _FAMILIES)
def test_scanned_logits_equal_transformers(family, goldens, ours):
  assert _gap(goldens[family], ours.logits(family, scan=True)) <= _LIMIT


@pytest.mark.slow
@pytest.mark.parametrize('family', _FAMILIES)
def test_bfloat16_stays_close_to_float32(family, goldens, ours):
  golden = goldens[family]
  logits = ours.logits(family, dtype='bfloat16')
  got_AV = np.stack(
    [logits[row][t] for row, t in zip(golden.rows, golden.positions)]
  )
  divergence_A = families.divergence(golden.logits_AV, got_AV)
  assert 0 < divergence_A.mean() <= _BFLOAT16_LIMIT
