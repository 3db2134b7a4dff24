"""Judges' false-positive rates, corrected by an audit."""

import collections

import numpy as np
import pytest

from wcse_jax import records
from wcse_jax.metrics import judged, measure


def _pool(problems=120, samples=4, rates=(0.05, 0.2, 0.5), seed=0):
  """Returns problems, grades and the truth: key -> is it sound."""
  random = np.random.default_rng(seed)
  made, grades, truth = [], [], {}
  for i in range(problems):
    level = i % len(rates)
    made.append(
      records.Problem(
        id=f'p{i}', task='t', question='q', answer='1', level=str(level + 1)
      )
    )
    for index in range(samples):
      right = index < samples - 1
      sound = bool(random.random() >= rates[level])
      grades.append(
        records.Grade(
          problem_id=f'p{i}',
          index=index,
          answer='1' if right else '2',
          correct=right,
          verdict='right' if right else 'wrong',
          sound=sound if right else None,
          why='',
        )
      )
      if right:
        truth[f'p{i}', index] = sound
  return made, grades, truth


def _table(problems, grades):
  return measure.Table.from_rows(problems, None, grades)


def _order(problems, truth, **options):
  level = {problem.id: problem.level for problem in problems}
  return judged.order([(key, level[key[0]]) for key in truth], **options)


def test_every_beginning_has_the_levels_in_proportion():
  rows = [((f'p{i}', 0), 'ab'[i % 4 == 0]) for i in range(400)]
  found = judged.order(rows)
  assert sorted(found) == sorted(key for key, _ in rows)
  level = dict(rows)
  for count in (20, 100, 300):
    part = collections.Counter(level[key] for key in found[:count])
    assert part['b'] == pytest.approx(count / 4, abs=1)
  assert judged.order(rows) == judged.order(rows[::-1]) == found
  assert judged.order(rows, seed=1) != found


def test_the_least_of_each_level_comes_first():
  rows = [((f'p{i}', 0), 'rare' if i < 5 else 'common') for i in range(1000)]
  found = judged.order(rows, least=3)
  level = dict(rows)
  assert (
    sorted(level[key] for key in found[:6]) == ['common'] * 3 + ['rare'] * 3
  )
  # Of whatever least, the beginnings hold the same samples of each level.
  plain = [key for key in judged.order(rows) if level[key] == 'rare']
  assert [key for key in found if level[key] == 'rare'] == plain


def test_the_tasks_own_check_without_an_audit():
  problems, grades, truth = _pool()
  [row] = judged.rates(_table(problems, grades), {}, {})
  assert (row['judge'], row['judged'], row['unknown']) == ('task', 360, 0)
  share = sum(not sound for sound in truth.values()) / 360
  assert row['rate']['value'] == pytest.approx(share)
  assert row['corrected'] is None
  assert [part['level'] for part in row['by_level']] == ['1', '2', '3']
  for level, part in zip('123', row['by_level']):
    kept = [
      sound
      for (problem, _), sound in truth.items()
      if problems[int(problem[1:])].level == level
    ]
    assert part['judged'] == 120
    assert part['rate']['value'] == pytest.approx(1 - sum(kept) / 120)


def test_an_audit_corrects_a_judge_that_errs():
  held = width = alone = 0
  for seed in range(60):
    problems, grades, truth = _pool(seed=seed)
    random = np.random.default_rng(1000 + seed)
    # A judge that misses a third of what is unsound, and cannot tell of some.
    said = {
      key: None
      if random.random() < 0.1
      else sound or bool(random.random() < 1 / 3)
      for key, sound in truth.items()
    }
    asked = _order(problems, truth, least=3, seed=seed)[:90]
    audit = {key: truth[key] for key in asked}
    rows = judged.rates(_table(problems, grades), {'llm': said}, audit)
    row = next(row for row in rows if row['judge'] == 'llm')
    share = sum(not sound for sound in truth.values()) / len(truth)
    assert row['rate']['value'] < share
    assert row['unknown'] == sum(sound is None for sound in said.values())
    found = row['corrected']
    assert (found['n'], found['judged']) == (90, 360)
    held += found['low'] <= share <= found['high']
    width += found['high'] - found['low']
    alone += row['audit']['high'] - row['audit']['low']
  assert held >= 54
  assert width < 0.85 * alone


def test_a_judge_of_a_part_is_weighed_by_the_whole():
  problems, grades, truth = _pool(problems=300, seed=3)
  level = {problem.id: problem.level for problem in problems}
  # Every level alike, though the judge saw ten times as much of one.
  kept = [k for k in truth if level[k[0]] == '3']
  kept += [k for i, k in enumerate(truth) if level[k[0]] != '3' and i % 10 == 0]
  said = {key: truth[key] for key in kept}
  audit = {key: truth[key] for i, key in enumerate(kept) if i % 2}
  rows = judged.rates(_table(problems, grades), {'llm': said}, audit)
  row = next(row for row in rows if row['judge'] == 'llm')
  share = sum(not sound for sound in truth.values()) / len(truth)
  assert row['rate']['value'] > share + 0.1
  assert row['corrected']['value'] == pytest.approx(share, abs=0.05)


def test_labels_that_the_judge_did_not_see_and_the_unsure_are_left_out():
  problems, grades, truth = _pool()
  asked = _order(problems, truth)
  said = {key: truth[key] for key in asked[:100]}
  audit = {key: truth[key] for key in asked[80:130]} | {asked[0]: None}
  rows = judged.rates(_table(problems, grades), {'llm': said}, audit)
  by_name = {row['judge']: row for row in rows}
  assert by_name['llm']['corrected']['n'] == 20
  assert by_name['task']['corrected']['n'] == 50
  assert by_name['llm']['agreement'] == {
    **by_name['llm']['agreement'],
    'value': 1.0,
  }


def test_people_alone_where_there_is_no_judge():
  problems, grades, truth = _pool()
  bare = [records.Grade(**{**vars(grade), 'sound': None}) for grade in grades]
  asked = _order(problems, truth)[:40]
  audit = {key: truth[key] for key in asked}
  [row] = judged.rates(_table(problems, bare), {}, audit)
  assert (row['judge'], row['unknown']) == ('', 360)
  assert row['rate']['value'] is None
  share = sum(not sound for sound in audit.values()) / 40
  assert row['corrected']['value'] == pytest.approx(share, abs=0.03)
  assert judged.rates(_table(problems, bare), {}, {}) == []


def test_levels_with_a_single_label_are_one_stratum():
  problems, grades, truth = _pool(rates=(0.1,) * 12)
  asked = _order(problems, truth, least=1)[:12]
  audit = {key: truth[key] for key in asked}
  [row] = judged.rates(_table(problems, grades), {}, audit)
  assert row['corrected']['low'] is not None
  assert [part['corrected']['low'] for part in row['by_level']] == [None] * 12
  one = {asked[0]: truth[asked[0]]}
  [row] = judged.rates(_table(problems, grades), {}, one)
  assert row['corrected']['n'] == 1
  assert row['corrected']['low'] is None
