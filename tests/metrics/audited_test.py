"""Rates and agreement of audits."""

import pytest

from wcse_jax import records
from wcse_jax.metrics import audited


def said(sounds, why=''):
  return {
    ('p', i): records.Judgement(problem_id='p', index=i, sound=sound, why=why)
    for i, sound in sounds.items()
  }


def test_the_rate_weights_levels_by_their_size():
  levels = {('a', i): 'many' for i in range(90)}
  levels |= {('b', i): 'few' for i in range(10)}
  sound = {('a', i): i > 0 for i in range(10)}
  sound |= {('b', i): i > 4 for i in range(10)}
  found = audited.false_positives(levels, sound)
  assert found['value'] == pytest.approx(0.9 * 0.1 + 0.1 * 0.5)
  # A level of one verdict has no spread of its own.
  levels |= {('c', 0): 'one', ('d', 0): 'none'}
  sound |= {('c', 0): False}
  found = audited.false_positives(levels, sound)
  assert found['n'] == 21
  assert found['low'] is not None
  assert audited.false_positives(levels, {})['value'] is None


def test_kappa_by_hand():
  def pairs(*counts):
    words = [(True, True), (True, False), (False, True), (False, False)]
    rows = [
      w for w, count in zip(words, counts, strict=True) for _ in range(count)
    ]
    a = {('p', i): first for i, (first, _) in enumerate(rows)}
    b = {('p', i): second for i, (_, second) in enumerate(rows)}
    return audited.agreement(a, b)

  # Agreed 0.7, by chance 0.5 * 0.6 + 0.5 * 0.4 = 0.5.
  found = pairs(20, 5, 10, 15)
  assert found['value'] == pytest.approx(0.4)
  assert (found['n'], found['same']) == (50, 35)
  assert found['low'] < 0.4 < found['high']
  assert pairs(10, 0, 0, 10)['value'] == 1
  assert pairs(0, 10, 10, 0)['value'] == -1
  assert pairs(10, 0, 0, 0)['value'] is None
  assert pairs(0, 0, 0, 0) == {
    'value': None,
    'low': None,
    'high': None,
    'n': 0,
    'same': 0,
  }


def test_who_differs_is_unsure():
  a = said({0: True, 1: False, 2: True, 3: True, 4: None}, 'a why')
  b = said({0: True, 1: True, 2: None, 4: None, 5: False}, 'b why')
  found = audited.merge({'ann': a, 'bob': b})
  assert {key[1]: row.sound for key, row in found.items()} == {
    0: True,
    1: None,
    2: None,
    3: True,
    4: None,
    5: False,
  }
  assert found['p', 0].why == 'a why; b why'
  assert found['p', 1].why == (
    'unsure: auditors differ: ann says unsound (a why); bob says sound (b why)'
  )
  assert audited.merge({'ann': a}) == a


def test_figures_count_every_right_sample():
  levels = {('p', i): str(i % 2) for i in range(6)}
  a = said({0: True, 1: False, 2: False, 3: None})
  found = audited.figures(levels, {'ann': a}, a)
  assert [row['level'] for row in found['by_level']] == ['0', '1']
  names = ('right', 'sound', 'unsound', 'unsure')
  assert [found['all'][name] for name in names] == [6, 1, 2, 1]
  assert [found['by_level'][1][name] for name in names] == [3, 0, 1, 1]
  assert found['by_level'][0]['rate']['value'] == 0.5
  assert found['agreement'] == []
  nameless = audited.figures(dict.fromkeys(levels, ''), {'ann': a}, a)
  assert nameless['by_level'] == []
