import collections
import itertools

import numpy as np
import pytest

from wcse_jax import records
from wcse_jax.metrics import majority, measure


def _problem(name):
  return records.Problem(id=name, task='arith', question='?', answer='1')


def _grade(name, index, answer, verdict=None):
  verdict = verdict or {'1': 'right', None: 'unparsed'}.get(answer, 'wrong')
  return records.Grade(
    problem_id=name,
    index=index,
    answer=answer,
    correct=records.VERDICTS[verdict],
    verdict=verdict,
    sound=None,
    why='',
  )


def _ballot(answers, verdicts=None):
  """Returns the ballot of problems, each a list of answers."""
  problems = [_problem(str(i)) for i in range(len(answers))]
  grades = [
    _grade(str(q), i, answer, verdicts and verdicts[q][i])
    for q, row in enumerate(answers)
    for i, answer in enumerate(row)
  ]
  return majority.Ballot.of(measure.Table.from_rows(problems, None, grades))


def _brute(answers, k):
  """Returns the mean over ordered draws of the rule of `evaluate.vote`."""
  found = []
  for draw in itertools.permutations(answers, k):
    counts = collections.Counter(a for a in draw if a is not None)
    found.append(bool(counts) and counts.most_common(1)[0][0] == '1')
  return np.mean(found)


@pytest.mark.parametrize('seed', range(4))
def test_equals_every_ordered_draw(seed):
  random = np.random.default_rng(seed)
  rows = [
    random.choice(['1', '2', '3', '4', None], size=6).tolist()
    for _ in range(10)
  ]
  chances_KQ = _ballot(rows).chances([1, 2, 3, 5, 6])
  for at, k in enumerate([1, 2, 3, 5, 6]):
    for q, row in enumerate(rows):
      want = _brute(row, k)
      assert chances_KQ[at, q] == pytest.approx(want, abs=1e-12)


def test_two_spellings_of_the_right_answer_are_two_answers():
  ballot = _ballot(
    [['1', '1.0', '2', '2']], [['right', 'right', 'wrong', 'wrong']]
  )
  # By hand: of 4 two are drawn; 2, 2 loses, 1, 1.0 wins, the other 4 of 6 tie.
  assert ballot.chances([2])[0, 0] == pytest.approx((1 + 4 / 2) / 6)
  assert not ballot.right_Q()[0]


def test_random_orders_agree_with_the_exact_value():
  random = np.random.default_rng(0)
  rows = [
    random.choice(['1', '2', '3', None], p=[0.3, 0.3, 0.3, 0.1], size=48)
    for _ in range(40)
  ]
  ballot = _ballot([row.tolist() for row in rows])
  assert majority.EXACT < 48
  ks = [1, 4, 15, 48]
  drawn_KQ = ballot.chances(ks)
  for at, k in enumerate(ks):
    exact_Q = [
      majority.chance(
        48,
        k,
        tuple(c for a, c in counts.items() if a == '1'),
        tuple(c for a, c in counts.items() if a not in ('1', None)),
      )
      for counts in map(collections.Counter, rows)
    ]
    # One problem: a few standard errors of 128 draws; their mean: much less.
    np.testing.assert_allclose(drawn_KQ[at], exact_Q, atol=0.2)
    assert drawn_KQ[at].mean() == pytest.approx(np.mean(exact_Q), abs=0.02)
  again = ballot.chances(ks)
  np.testing.assert_array_equal(again, drawn_KQ)


def test_one_draw_is_pass_at_1():
  random = np.random.default_rng(1)
  for n in (7, 32, 60):
    row = random.choice(['1', '2', None], size=n).tolist()
    want = row.count('1') / n
    got = majority.chance(n, 1, (row.count('1'),), (row.count('2'),))
    assert got == pytest.approx(want, abs=1e-12)


def test_all_n_is_the_vote_itself():
  assert majority.chance(9, 9, (4,), (3, 2)) == pytest.approx(1)
  assert majority.chance(9, 9, (3,), (4, 2)) == pytest.approx(0)
  assert majority.chance(9, 9, (3,), (3, 3)) == pytest.approx(1 / 3)
  assert majority.chance(200, 200, (90,), (80, 30)) == pytest.approx(1)
  assert majority.chance(4, 2, (), (2,)) == 0


def test_vote_as_verifier():
  rows = [
    ['1', '1', '2', None],  # right, share 1/2
    ['2', '1', '1', '2'],  # a tie: 2 came first, wrong, share 1/2
    ['3', '3', '3', '1'],  # wrong, share 3/4
    ['1', '1', '1', '1'],  # right, share 1
    [None, None, None, None],  # no vote
  ]
  ballot = _ballot(rows)
  assert ballot.right_Q().tolist() == [True, False, False, True, False]
  assert ballot.votes_Q().tolist() == [2, 2, 3, 4, 0]
  assert ballot.share_Q().tolist() == [0.5, 0.5, 0.75, 1, 0]
  problems = [_problem(str(i)) for i in range(len(rows))]
  grades = [
    _grade(str(q), i, a)
    for q, row in enumerate(rows)
    for i, a in enumerate(row)
  ]
  table = measure.Table.from_rows(problems, None, grades)
  vote = measure.measure(table, [1])['vote']
  assert (vote['accuracy']['value'], vote['accuracy']['n']) == (0.5, 4)
  assert vote['sample_accuracy']['value'] == pytest.approx(6 / 11)
  by_share = {row['share']: row for row in vote['by_share']}
  assert by_share[0.75]['kept']['value'] == pytest.approx(2 / 5)
  assert by_share[0.75]['accuracy']['value'] == 0.5
  assert by_share[0.75]['accuracy']['n'] == 2
  assert by_share[0.9]['accuracy']['value'] == 1
  assert by_share[0.9]['accuracy']['low'] is None


def test_timeouts_do_not_vote():
  rows, verdicts = [['2', '2', '1']], [['timeout', 'error', 'right']]
  ballot = _ballot(rows, verdicts)
  assert ballot.right_Q().tolist() == [True]
  assert ballot.chances([1])[0, 0] == 1


def test_no_votes_at_all():
  ballot = _ballot([[None], []])
  assert ballot.chances([1, 2]).tolist() == [[0, 0], [0, 0]]
  assert ballot.right_Q().tolist() == [False, False]
