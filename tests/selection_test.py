"""Selection of training data: each rule, their order, and what is counted."""

import collections
import itertools

import numpy as np
import pytest

from wcse_jax import errors, records, selection


def _row(problem, index, *, text='t', verdict='right', sound=None, answer=None):
  sample = records.Sample(
    problem_id=problem,
    index=index,
    text=text,
    tokens=(1,),
    finish_reason='stop',
    prompt_tokens=1,
    shared_prompt_tokens=0,
    output_tokens=1,
    logprob=0.0,
  )
  grade = records.Grade(
    problem_id=problem,
    index=index,
    answer=answer,
    correct=records.VERDICTS[verdict],
    verdict=verdict,
    sound=sound,
    why='',
  )
  return selection.Row(
    records.Problem(id=problem, task='t', question='?', answer='1'),
    sample,
    grade,
  )


def _random_rows(seed, size=8):
  random = np.random.default_rng(seed)
  return [
    _row(
      f'p{q}',
      i,
      text=random.choice(['a', 'A', 'b', 'c']),
      verdict=random.choice(['right', 'right', 'right', 'wrong', 'timeout']),
      sound=random.choice([True, False, None]),
    )
    for q, i in itertools.product(range(5), range(size))
  ]


_RULES = [
  selection.Selection(
    right=right,
    sound=sound,
    unjudged=unjudged,
    distinct=distinct,
    per_problem=cap,
    seed=seed,
  )
  for right, sound, unjudged, distinct, cap, seed in itertools.product(
    (True, False),
    (True, False),
    (True, False),
    (True, False),
    (0, 1, 3),
    (None, 7),
  )
]


def _keys(rows):
  return [(row.sample.problem_id, row.sample.index) for row in rows]


@pytest.mark.parametrize('rules', _RULES, ids=str)
def test_what_holds_for_every_selection(rules):
  rows = _random_rows(1)
  chosen, counts = selection.select(rows, rules, str.lower)
  # The choice does not depend on the order of rows.
  order = np.random.default_rng(2).permutation(len(rows))
  mixed = selection.select([rows[i] for i in order], rules, str.lower)
  assert (chosen, counts) == mixed
  # It is a part, in order, and choosing again changes nothing.
  assert _keys(chosen) == sorted(set(_keys(chosen)))
  assert set(_keys(chosen)) <= set(_keys(rows))
  assert selection.select(chosen, rules, str.lower)[0] == chosen
  # Counts add up.
  dropped = [counts[n] for n in ('right', 'sound', 'distinct', 'per_problem')]
  assert counts['rows'] == len(rows) == sum(dropped) + counts['chosen']
  assert counts['chosen'] == len(chosen)
  assert counts['problems_chosen'] == len({k for k, _ in _keys(chosen)})
  # Every rule holds of what was chosen.
  if rules.right:
    assert all(row.grade.verdict == 'right' for row in chosen)
  if rules.sound:
    wanted = (True, None) if rules.unjudged else (True,)
    assert all(row.grade.sound in wanted for row in chosen)
  per = collections.defaultdict(list)
  for row in chosen:
    per[row.sample.problem_id].append(row.sample.text.lower())
  for texts in per.values():
    if rules.distinct:
      assert len(set(texts)) == len(texts)
    if rules.per_problem:
      assert len(texts) <= rules.per_problem
  # Rules that are off drop nothing.
  for name in ('right', 'sound', 'distinct', 'per_problem'):
    if not getattr(rules, name):
      assert counts[name] == 0


def test_nothing_that_fits_is_dropped():
  # A cap leaves a problem fewer only if it has no more distinct samples.
  rows = _random_rows(3)
  for distinct, cap in itertools.product((False, True), (1, 2, 3)):
    rules = selection.Selection(distinct=distinct, per_problem=cap)
    chosen, _ = selection.select(rows, rules)
    per = collections.Counter(row.sample.problem_id for row in chosen)
    right = collections.defaultdict(list)
    for row in rows:
      if row.grade.verdict == 'right':
        right[row.sample.problem_id].append(row.sample.text)
    for problem, texts in right.items():
      have = len(set(texts)) if distinct else len(texts)
      assert per[problem] == min(cap, have)


def test_the_rules_come_in_their_order():
  rows = [
    _row('p', 0, text='a', verdict='wrong'),
    _row('p', 1, text='a', sound=False),
    _row('p', 2, text='a', sound=True),
    _row('p', 3, text='a', sound=True),
    _row('p', 4, text='b', sound=None),
    _row('p', 5, text='c', sound=True),
  ]
  rules = selection.Selection(sound=True, distinct=True, per_problem=1)
  chosen, counts = selection.select(rows, rules)
  # Had the cap or the distinctness come before, sample 1 would have barred it.
  assert _keys(chosen) == [('p', 2)]
  assert counts == {
    'rows': 6,
    'unjudged': 1,
    'right': 1,
    'sound': 2,
    'distinct': 1,
    'per_problem': 1,
    'chosen': 1,
    'problems': 1,
    'problems_chosen': 1,
    'chosen_right': 1,
    'chosen_known': 1,
  }


def test_unknown_soundness_goes_unless_it_is_asked_for():
  rows = [_row('p', 0, sound=None), _row('p', 1, sound=False)]
  strict, counts = selection.select(rows, selection.Selection(sound=True))
  assert (strict, counts['unjudged'], counts['sound']) == ([], 1, 2)
  rules = selection.Selection(sound=True, unjudged=True)
  lenient, counts = selection.select(rows, rules)
  assert _keys(lenient) == [('p', 0)]
  assert (counts['unjudged'], counts['sound']) == (1, 1)


def test_without_a_seed_the_lowest_index_comes_first():
  rows = [_row('p', i) for i in (7, 3, 5)]
  chosen, _ = selection.select(rows, selection.Selection(per_problem=2))
  assert _keys(chosen) == [('p', 3), ('p', 5)]


def test_a_seed_draws_evenly_and_alone():
  rows = [_row('p', i) for i in range(10)]
  picked = [
    _keys(
      selection.select(rows, selection.Selection(per_problem=1, seed=seed))[0]
    )[0]
    for seed in range(400)
  ]
  counts = collections.Counter(picked)
  assert len(counts) == 10
  assert max(counts.values()) < 80
  # Other problems change nothing.
  more = rows + [_row('q', i) for i in range(5)]
  rules = selection.Selection(per_problem=1, seed=3)
  assert _keys(selection.select(more, rules)[0])[0] == picked[3]


def test_the_default_chain_is_the_text_but_for_white_space():
  rows = [_row('p', 0, text='a  b'), _row('p', 1, text='a b\n')]
  rules = selection.Selection(distinct=True)
  assert _keys(selection.select(rows, rules)[0]) == [('p', 0)]


@pytest.mark.parametrize(
  ('change', 'named'),
  [
    ({'per_problem': -1}, 'per_problem'),
    ({'per_problem': True}, 'per_problem'),
    ({'seed': 1.5}, 'seed'),
    ({'sound': 'yes'}, 'sound'),
  ],
)
def test_bad_rules(change, named):
  with pytest.raises(errors.InputError, match=named):
    selection.select([], selection.Selection(**change))


def test_a_sample_twice_is_refused():
  with pytest.raises(errors.InputError, match='index 1 comes twice'):
    selection.select([_row('p', 1), _row('p', 1)], selection.Selection())


def _votes(problem, answers, reference='4'):
  return [
    _row(
      problem,
      index,
      answer=answer,
      verdict='unparsed'
      if answer is None
      else ('right' if answer == reference else 'wrong'),
    )
    for index, answer in enumerate(answers)
  ]


def test_the_majority_stands_in_for_the_reference():
  rows = [
    *_votes('a', ['4', '5', '4', None]),
    *_votes('b', ['7', '7', '4']),
    *_votes('c', [None, None]),
    # Of equal counts the lowest index wins, in whatever order rows come.
    *_votes('d', ['5', '4', '4', '5'])[::-1],
  ]
  rules = selection.Selection(verifier='majority')
  chosen, counts = selection.select(rows, rules)
  assert _keys(chosen) == [
    ('a', 0),
    ('a', 2),
    ('b', 0),
    ('b', 1),
    ('d', 0),
    ('d', 3),
  ]
  assert (counts['rows'], counts['right'], counts['chosen']) == (13, 7, 6)
  assert (counts['chosen_right'], counts['chosen_known']) == (2, 6)


def test_a_majority_must_have_its_share_of_all_rows():
  rows = [*_votes('a', ['4', '4', None, '5']), *_votes('b', ['4', '4', '4'])]
  for share, kept in ((0.5, 5), (0.51, 3), (1.0, 3), (0.0, 5)):
    rules = selection.Selection(verifier='majority', share=share)
    assert len(selection.select(rows, rules)[0]) == kept


def test_two_spellings_are_one_vote():
  rows = _votes('a', ['5', '4', '4.0', '5', ' 4'])
  rules = selection.Selection(verifier='majority')
  plain, _ = selection.select(rows, rules)
  assert _keys(plain) == [('a', 0), ('a', 3)]
  joined, _ = selection.select(rows, rules, ballot=lambda a: str(float(a)))
  assert _keys(joined) == [('a', 1), ('a', 2), ('a', 4)]


def test_samples_without_a_known_verdict_vote_too():
  # As where a problem has no reference at all.
  rows = [
    _row('a', index, answer=answer, verdict='error')
    for index, answer in enumerate(['4', '4', '5'])
  ]
  chosen, counts = selection.select(
    rows, selection.Selection(verifier='majority')
  )
  assert _keys(chosen) == [('a', 0), ('a', 1)]
  assert (counts['chosen_right'], counts['chosen_known']) == (0, 0)


@pytest.mark.parametrize(
  ('field', 'value'), [('verifier', 'oracle'), ('share', 1.5), ('share', -0.1)]
)
def test_a_verifier_out_of_range_is_refused(field, value):
  rules = selection.Selection(**{field: value})
  with pytest.raises(errors.InputError, match=f'^{field}: wanted'):
    selection.select([], rules)
