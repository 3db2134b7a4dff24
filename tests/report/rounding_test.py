import pytest

from wcse_jax.report import rounding, text


@pytest.mark.parametrize(
  ('low', 'high'),
  [(0, 1), (0, 0.0731), (-0.21, 0.05), (0.4, 0.4), (0, 0), (-3, -3), (3, 1e6)],
)
def test_axes_are_round_and_hold_the_values(low, high):
  start, end, step = rounding.nice(low, high)
  assert start <= low
  assert high <= end
  steps = (end - start) / step
  assert steps == pytest.approx(round(steps))
  assert 2 <= round(steps) <= 8
  assert f'{step:e}'[0] in '125'
  assert len(rounding.grid(start, end, step)) == round(steps) + 1


def test_powers_of_two_hold_the_range():
  assert [v for v, _ in rounding.powers(1, 6)] == [1, 2, 4, 8]
  assert rounding.powers(0.33, 1)[0] == (0.25, '0.25')


@pytest.mark.parametrize(
  ('low', 'high', 'want'),
  [
    (0.9, 12, ['1', '2', '5', '10']),
    (1e6, 3e8, ['1M', '10M', '100M']),
    (3e-5, 7e-5, ['3e-05', '7e-05']),
    (1.2, 1.9, ['1.2', '1.9']),
  ],
)
def test_ticks_of_logarithmic_axes(low, high, want):
  form = text.scaled if high > 1e3 else lambda value: f'{value:g}'
  found = rounding.decades(low, high, form)
  assert [label for _, label in found] == [
    w.replace('0.00005', '5e-05') for w in want
  ]
