import itertools

import numpy as np
import pytest

from wcse_jax.metrics import multiple


def _rejected(p_values, level):
  """Returns which are rejected, step by step as the procedure is defined."""
  left, out = list(range(len(p_values))), set()
  while left:
    smallest = min(left, key=lambda at: p_values[at])
    if p_values[smallest] > level / len(left):
      break
    out.add(smallest)
    left.remove(smallest)
  return out


@pytest.mark.parametrize(
  'values', [(0.01, 0.02, 0.03, 0.005), (0.04, 0.01, 0.01, 0.6), (0.2, 1.0, 0)]
)
def test_an_adjusted_value_is_the_least_level_that_rejects(values):
  for p_values in itertools.permutations(values):
    adjusted = multiple.holm(p_values)
    for level in np.linspace(0.001, 0.999, 333):
      want = _rejected(p_values, level)
      got = {at for at, p in enumerate(adjusted) if p <= level + 1e-12}
      assert got == want


def test_by_hand():
  assert multiple.holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_a_question_that_was_not_asked_does_not_count():
  assert multiple.holm([None, 0.03, None, 0.02]) == [None, 0.04, None, 0.04]
  assert multiple.holm([]) == []
  assert multiple.holm([None]) == [None]


def test_values_end_at_1():
  assert multiple.holm([0.6, 0.9]) == [1.0, 1.0]


def test_false_alarms_of_many_questions_stay_below_the_level():
  random = np.random.default_rng(0)
  alarms = sum(
    min(multiple.holm(list(random.random(6)))) <= 0.05 for _ in range(4000)
  )
  # Expected 1 - (1 - .05 / 6)^6: 4.9%.
  assert 0.04 < alarms / 4000 < 0.06


@pytest.mark.parametrize('wrong', [-0.1, 1.1, float('nan'), float('inf')])
def test_refuses_what_is_no_chance(wrong):
  with pytest.raises(ValueError, match='p_values'):
    multiple.holm([0.5, wrong])
