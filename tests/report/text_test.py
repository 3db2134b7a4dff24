import pytest

from wcse_jax.report import text


_MINUS = '−'


def _estimate(value, low, high, n=256):
  return {'value': value, 'low': low, 'high': high, 'n': n}


@pytest.mark.parametrize(
  ('found', 'unit', 'want'),
  [
    (_estimate(0.431, 0.402, 0.46), 'percent', '43.1% (40.2 to 46.0, n = 256)'),
    (
      _estimate(0.0571, -0.021, 0.135, 1319),
      'points',
      f'+5.7 points ({_MINUS}2.1 to +13.5, n = 1,319)',
    ),
    (_estimate(1, 0.8, 1.2), 'number', '1.00 (0.80 to 1.20, n = 256)'),
    (_estimate(-0.0001, 0, 0), 'points', '0.0 points (0.0 to 0.0, n = 256)'),
    (_estimate(0.5, None, None, 1), 'percent', '50.0% (no interval, n = 1)'),
    (_estimate(1.6, 1.3, None), 'number', '1.60 (1.30 or more, n = 256)'),
    (_estimate(1.6, None, 2), 'number', '1.60 (2.00 or less, n = 256)'),
    (_estimate(None, None, None, 0), 'percent', 'undefined (n = 0)'),
    (_estimate(float('nan'), None, None, 3), 'percent', 'undefined (n = 3)'),
    (None, 'percent', 'not measured'),
  ],
)
def test_estimates_in_words(found, unit, want):
  assert text.estimate(found, unit) == want


@pytest.mark.parametrize(
  ('low', 'high', 'want'),
  [
    (0.01, 0.03, 'WC ahead'),
    (-0.03, -0.01, 'SE ahead'),
    (-0.01, 0.03, 'cannot tell: the interval holds 0'),
    (0.0, 0.03, 'cannot tell: the interval holds 0'),
    (None, None, 'cannot tell: no interval'),
  ],
)
def test_a_difference_is_read_by_its_interval(low, high, want):
  assert text.reading(_estimate(0.01, low, high), 'WC', 'SE') == want
  assert text.reading(None, 'WC', 'SE') == 'not measured'


@pytest.mark.parametrize(
  ('value', 'want'),
  [
    (0, '0'),
    (3.416, '3.42'),
    (0.0523, '0.0523'),
    (12.0, '12'),
    (-2.5, f'{_MINUS}2.5'),
    (12345.6, '12,346'),
    (2e-7, '2.00e-07'),
    (None, 'unknown'),
  ],
)
def test_numbers(value, want):
  assert text.number(value) == want


def test_large_numbers_take_a_prefix():
  assert text.scaled(2_721_792) == '2.72M'
  assert text.scaled(999_900) == '1M'
  assert text.scaled(3.1e15, 'FLOP') == '3.1 PFLOP'
  assert text.scaled(5, 'FLOP') == '5 FLOP'
  assert text.scaled(10**30, 'FLOP') == '1,000,000 YFLOP'


def test_times_and_money():
  assert text.duration(69.2) == '69.2 s'
  assert text.duration(600) == '10 min'
  assert text.duration(9000) == '2.5 h'
  assert text.money(None) == 'no price'
  assert text.money(0) == '$0.00'
  assert text.money(0.0012) == '$0.0012'
  assert text.money(1234.5) == '$1,234.50'


def test_counts_of_problems():
  assert text.problems([_estimate(1, 1, 1, 9), None]) == 'n = 9'
  many = [_estimate(1, 1, 1, 1200), _estimate(1, 1, 1, 9)]
  assert text.problems(many) == 'n = 9 to 1,200'
  assert text.problems([]) == 'n unknown'


@pytest.mark.parametrize(
  ('value', 'unit', 'step', 'want'),
  [
    (0.2, 'percent', 0.2, '20%'),
    (0.005, 'percent', 0.005, '0.5%'),
    (-0.1, 'points', 0.05, f'{_MINUS}10'),
    (0.05, 'points', 0.05, '+5'),
    (0.0, 'points', 0.05, '0'),
    (15, 'number', 5, '15'),
    (0.4, 'number', 0.2, '0.4'),
  ],
)
def test_labels_of_ticks(value, unit, step, want):
  assert text.axis(value, unit, step) == want


def test_what_html_cannot_hold_is_replaced_and_the_rest_is_kept():
  kept = 'tab\t line\n é 数 🙂 <&>"\u202e'
  assert text.clean(kept) == kept
  assert text.clean('\0\r\x7f\x85\ud83d') == '\u2400\u240d\u2421\ufffd\ufffd'
