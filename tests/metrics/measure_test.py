import collections
import itertools
import json
import time

import numpy as np
import pytest

from wcse_jax import errors, records
from wcse_jax.metrics import entropy, measure


def _problem(name, level='', subject=''):
  return records.Problem(
    id=name,
    task='arith',
    question='?',
    answer='1',
    level=level,
    subject=subject,
  )


def _sample(name, index, text='t', tokens=5, finish='stop'):
  return records.Sample(
    problem_id=name,
    index=index,
    text=text,
    tokens=(0,) * tokens,
    finish_reason=finish,
    prompt_tokens=3,
    shared_prompt_tokens=1,
    output_tokens=tokens,
    logprob=-1.0,
  )


def _grade(name, index, verdict, sound=None, answer=None):
  return records.Grade(
    problem_id=name,
    index=index,
    answer=answer,
    correct=records.VERDICTS[verdict],
    verdict=verdict,
    sound=sound,
    why='',
  )


# Problem a: 2 right of 4, equal texts but for one letter of case, one unsound.
# Problem b: 1 right of 2 graded, besides a timeout and an error.
# Problem c: no row.
_PROBLEMS = [
  _problem('a', '2', 'sums'),
  _problem('b', '10', 'sums'),
  _problem('c', '2', 'areas'),
]
_SAMPLES = [
  _sample('a', 0, 'One.'),
  _sample('a', 1, 'one.', tokens=7),
  _sample('a', 2, 'bad'),
  _sample('a', 3, 'worse', finish='length'),
  _sample('b', 0, 'one.'),
  _sample('b', 1, 'bad'),
  _sample('b', 2, 'slow'),
  _sample('b', 3, 'broken'),
]
_GRADES = [
  _grade('a', 0, 'right', True),
  _grade('a', 1, 'right', False),
  _grade('a', 2, 'wrong'),
  _grade('a', 3, 'unparsed'),
  _grade('b', 0, 'right'),
  _grade('b', 1, 'wrong'),
  _grade('b', 2, 'timeout'),
  _grade('b', 3, 'error'),
]


def _table(samples=_SAMPLES, grades=_GRADES, chain=str.lower):
  return measure.Table.from_rows(_PROBLEMS, samples, grades, chain)


def test_counts_leave_out_what_is_unknown():
  table = _table()
  assert table.ids == ('a', 'b', 'c')
  assert table.levels == ('2', '10', '2')
  assert table.n_Q.tolist() == [4, 2, 0]
  assert table.right_Q.tolist() == [2, 1, 0]
  assert table.judged_Q.tolist() == [2, 0, 0]
  assert table.unsound_Q.tolist() == [1, 0, 0]


def test_measures_of_a_small_table_by_hand():
  got = measure.measure(_table(), [1, 2, 3, 5])
  assert got['problems'] == 3
  assert (got['samples'], got['graded'], got['right']) == (8, 6, 3)
  assert got['verdicts'] == {
    'right': 3,
    'wrong': 2,
    'unparsed': 1,
    'timeout': 1,
    'error': 1,
  }
  assert got['finish'] == {'stop': 7, 'length': 1}
  assert got['mean_output_tokens'] == pytest.approx(42 / 8)

  curve = {row['k']: row for row in got['coverage']}
  assert [curve[k]['n'] for k in (1, 2, 3, 5)] == [2, 2, 1, 0]
  assert curve[1]['value'] == pytest.approx((2 / 4 + 1 / 2) / 2)
  assert curve[2]['value'] == pytest.approx((5 / 6 + 1) / 2)
  assert curve[3]['value'] == pytest.approx(1.0)
  assert curve[5]['value'] is None

  # Texts: two of problem a, each drawn with 1/2 at k = 2; one of b, for sure.
  texts = {row['k']: row for row in got['diversity']}
  assert texts[2]['value'] == pytest.approx((0.5 + 0.5 + 1) / (5 / 6 + 1))
  # Chains: the two texts of a are one chain.
  chains = {row['k']: row for row in got['distinct_chains']}
  assert chains[2]['value'] == pytest.approx((5 / 6 + 1) / 2)
  assert chains[1]['value'] == pytest.approx(curve[1]['value'])

  positive = got['false_positive_rate']
  assert (positive['value'], positive['n'], positive['samples']) == (0.5, 1, 2)

  assert [row['level'] for row in got['by_level']] == ['2', '10']
  easy, hard = got['by_level']
  assert (easy['problems'], hard['problems']) == (2, 1)
  assert easy['coverage'][0]['value'] == pytest.approx(0.5)
  assert easy['coverage'][0]['n'] == 1
  assert hard['false_positive_rate']['value'] is None
  assert hard['false_positive_rate']['samples'] == 0
  json.dumps(got, allow_nan=False)


def test_extrapolated_rows_are_marked():
  random = np.random.default_rng(3)
  problems = [_problem(f'p{q}') for q in range(40)]
  grades = [
    _grade(p.id, i, 'right' if random.random() < 0.3 else 'wrong')
    for p in problems
    for i in range(8)
  ]
  table = measure.Table.from_rows(problems, None, grades)
  assert measure.measure(table, [1])['extrapolated'] == []
  got = measure.measure(table, [8], beyond=[8, 32])
  inside, beyond = got['extrapolated']
  assert (inside['k'], inside['extrapolated']) == (8, False)
  assert inside['value'] == pytest.approx(got['coverage'][0]['value'])
  assert (beyond['k'], beyond['extrapolated'], beyond['n']) == (32, True, 40)
  assert beyond['low'] <= beyond['value'] <= beyond['high']


def test_answers_words_and_subjects_are_measured():
  texts = ['x is 3.0 now', 'x  is 3 now', 'y = 4', 'well: 3']
  problems = [_problem('a', subject='sums'), _problem('b', subject='areas')]
  samples = [
    _sample(p.id, i, text) for p in problems for i, text in enumerate(texts)
  ]
  grades = [_grade('a', i, 'right', answer='3') for i in range(4)] + [
    _grade('b', 0, 'right', answer='3'),
    _grade('b', 1, 'wrong', answer='4'),
    _grade('b', 2, 'wrong', answer='4'),
    _grade('b', 3, 'unparsed'),
  ]
  got = measure.measure(measure.Table.from_rows(problems, samples, grades), [4])
  assert got['pass@1']['value'] == pytest.approx((1 + 1 / 4) / 2)
  assert got['majority'][0]['value'] == 0.5
  assert got['diversity'][0]['value'] == pytest.approx((4 + 1) / 2)
  assert got['distinct_normalised'][0]['value'] == pytest.approx((3 + 1) / 2)
  assert [row['order'] for row in got['ngram_entropy']] == [1, 2, 3]
  for row in got['ngram_entropy']:
    # Problem b has one right sample only.
    assert row['n'] == 1
    assert row['value'] > 1
  areas, sums = got['by_subject']
  assert (areas['subject'], sums['subject']) == ('areas', 'sums')
  assert areas['majority'][0]['value'] == 0
  assert sums['vote']['accuracy']['value'] == 1
  assert areas['ngram_entropy'][0]['value'] is None
  assert sums['ngram_entropy'][0]['value'] == got['ngram_entropy'][0]['value']
  json.dumps(got, allow_nan=False)


def test_grades_alone_give_what_needs_no_text():
  got = measure.measure(_table(samples=None), [1, 2])
  with_text = measure.measure(_table(), [1, 2])
  assert got['coverage'] == with_text['coverage']
  for mine, other in zip(got['by_level'], with_text['by_level'], strict=True):
    assert mine['coverage'] == other['coverage']
    assert mine['majority'] == other['majority']
    assert mine['false_positive_rate'] == other['false_positive_rate']
  assert got['diversity'] == got['distinct_chains'] == []
  assert got['mean_output_tokens'] is None
  assert got['finish'] == {'stop': 0, 'length': 0}
  assert got['samples'] == 8


def test_restrict_takes_a_range_of_sample_indices():
  table = _table().restrict(1, 2)
  assert table.n_Q.tolist() == [2, 1, 0]
  assert table.right_Q.tolist() == [1, 0, 0]
  some = [row for row in _SAMPLES if 1 <= row.index < 3]
  fewer = [row for row in _GRADES if 1 <= row.index < 3]
  want = measure.measure(_table(some, fewer), [1, 2])
  assert measure.measure(table, [1, 2]) == want


def test_order_of_rows_does_not_matter():
  want = measure.measure(_table(), [1, 2])
  assert measure.measure(_table(_SAMPLES[::-1], _GRADES[::-1]), [2, 1]) == want


def test_without_rows_everything_is_undefined_but_counted():
  got = measure.measure(measure.Table.from_rows(_PROBLEMS, [], []), [1])
  assert got['problems'] == 3
  assert got['samples'] == 0
  assert got['coverage'] == [
    {'k': 1, 'value': None, 'low': None, 'high': None, 'n': 0}
  ]
  assert got['mean_output_tokens'] is None
  json.dumps(got, allow_nan=False)


def test_rows_of_other_problems_are_not_taken():
  grades = [*_GRADES, _grade('elsewhere', 0, 'right')]
  assert _table(None, grades).right_Q.sum() == 3


@pytest.mark.parametrize(
  ('samples', 'grades', 'named'),
  [
    (_SAMPLES, _GRADES[1:], 'grades: .* problem a, index 0'),
    (_SAMPLES[:-1], _GRADES, 'samples: .* problem b, index 3'),
    (_SAMPLES, [*_GRADES, _GRADES[4]], 'problem b, index 0 has two'),
    ([*_SAMPLES, _SAMPLES[0]], _GRADES, 'problem a, index 0 has two'),
  ],
)
def test_rows_must_pair_up(samples, grades, named):
  with pytest.raises(errors.InputError, match=named):
    _table(samples, grades)
  with pytest.raises(errors.InputError, match='ids'):
    measure.Table.from_rows([_PROBLEMS[0]] * 2, [], [])


def test_curves_equal_brute_force_over_subsets():
  random = np.random.default_rng(0)
  problems = [_problem(f'p{i}', str(i % 2)) for i in range(6)]
  samples, grades = [], []
  for problem, index in itertools.product(problems, range(6)):
    text = random.choice(['x', 'X', 'y', 'z'])
    verdict = random.choice(['right', 'right', 'wrong', 'timeout'])
    samples.append(_sample(problem.id, index, text))
    grades.append(_grade(problem.id, index, verdict))
  table = measure.Table.from_rows(problems, samples, grades, str.lower)
  k = 2
  got = measure.measure(table, [k])
  rows = collections.defaultdict(list)
  for sample, grade in zip(samples, grades):
    if grade.correct is not None:
      rows[sample.problem_id].append(sample.text if grade.correct else None)
  covered, texts, chains = [], [], []
  for found in rows.values():
    if len(found) < k:
      continue
    subsets = list(itertools.combinations(found, k))
    covered.append(np.mean([any(subset) for subset in subsets]))
    texts.append(np.mean([len(set(subset) - {None}) for subset in subsets]))
    chains.append(
      np.mean([len({t.lower() for t in subset if t}) for subset in subsets])
    )
  assert got['coverage'][0]['value'] == pytest.approx(np.mean(covered))
  assert got['diversity'][0]['value'] == pytest.approx(
    np.sum(texts) / np.sum(covered)
  )
  assert got['distinct_chains'][0]['value'] == pytest.approx(np.mean(chains))
  assert got['coverage'][0]['n'] == len(covered)


def test_a_thousand_problems_of_200_samples_take_about_a_second():
  problems, samples = 1000, 200
  random = np.random.default_rng(1)
  problem_M = np.repeat(np.arange(problems), samples)
  size = problem_M.size
  right_M = random.random(size) < 0.4
  table = measure.Table(
    ids=tuple(map(str, range(problems))),
    levels=tuple(str(i % 5) for i in range(problems)),
    subjects=('',) * problems,
    problem_M=problem_M,
    index_M=np.tile(np.arange(samples), problems),
    verdict_M=np.where(right_M, 0, 1),
    judged_M=right_M,
    unsound_M=right_M & (random.random(size) < 0.1),
    answer_M=random.integers(20, size=size),
    normal_M=np.where(right_M, np.arange(size) // 2, -1),
    text_M=np.where(right_M, np.arange(size), -1),
    chain_M=np.where(right_M, np.arange(size) % 50, -1),
    finish_M=np.zeros(size, int),
    tokens_M=np.full(size, 100),
    words=entropy.Words.none(size),
    sampled=True,
  )
  start = time.process_time()
  got = measure.measure(table, [1, 3, 10, 30, 100, 200])
  # About 0.5 s of CPU; a loop over samples or problems would take minutes.
  assert time.process_time() - start < 5
  assert got['coverage'][0]['value'] == pytest.approx(0.4, abs=0.01)
