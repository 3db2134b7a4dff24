import itertools
import json
import subprocess
import sys

import numpy as np
import pytest

from wcse_jax import errors, records
from wcse_jax.metrics import measure, table


# Rows of one problem: (text, verdict, answer).
_CASES = [
  ('It is 1,200.0 in all.', 'right', '1200'),
  ('it is  1200 in all.', 'right', '1200'),
  ('no idea', 'unparsed', None),
  ('It is 7.', 'wrong', '7'),
  ('It took too long', 'timeout', '1200'),
]


def _rows(problems=5):
  for q, (i, (text, verdict, answer)) in itertools.product(
    range(problems), enumerate(_CASES)
  ):
    sample = records.Sample(
      problem_id=f'p{q}',
      index=i,
      text=text,
      tokens=(1,),
      finish_reason='stop',
      prompt_tokens=1,
      shared_prompt_tokens=0,
      output_tokens=i,
      logprob=0.0,
    )
    grade = records.Grade(
      problem_id=f'p{q}',
      index=i,
      answer=answer,
      correct=records.VERDICTS[verdict],
      verdict=verdict,
      sound=None,
      why='',
    )
    yield sample, grade


def _problems(count=5):
  return [
    records.Problem(
      id=f'p{q}', task='t', question='?', answer='1', subject='ab'[q % 2]
    )
    for q in range(count)
  ]


def _columns(made):
  return {
    name: getattr(made, name).tolist()
    for name in vars(made)
    if name.endswith('_M')
  }


def test_iterators_that_pass_once_in_any_order_give_the_same_table():
  rows = list(_rows())
  want = table.Table.from_rows(
    _problems(), [s for s, _ in rows], [g for _, g in rows], str.lower
  )
  mixed = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
  got = table.Table.from_rows(
    _problems(),
    (s for s, _ in reversed(mixed)),
    (g for _, g in mixed),
    str.lower,
  )
  assert _columns(got) == _columns(want)
  assert got.problem_M.tolist() == np.repeat(range(5), 5).tolist()
  assert got.subjects == ('a', 'b', 'a', 'b', 'a')
  a, b = (measure.measure(one, [1, 2]) for one in (got, want))
  assert a == b
  # Both right texts differ; normalised they are one.
  assert len(set(got.text_M[got.right_M])) == 2
  assert len(set(got.normal_M[got.right_M])) == 1
  assert len(set(got.answer_M[got.answer_M >= 0])) == 2


def test_a_chain_is_made_once_for_equal_texts():
  seen = []

  def chain(text):
    seen.append(text)
    return text

  rows = list(_rows(50))
  table.Table.from_rows(
    _problems(50), [s for s, _ in rows], [g for _, g in rows], chain
  )
  assert sorted(seen) == sorted({text for text, v, _ in _CASES if v == 'right'})


def test_forgotten_chains_change_nothing(monkeypatch):
  rows = list(_rows())

  def make():
    return table.Table.from_rows(
      _problems(), [s for s, _ in rows], [g for _, g in rows], str.lower
    )

  want = make()
  monkeypatch.setattr(table, '_REMEMBERED', 1)
  assert _columns(make()) == _columns(want)


def test_a_huge_index_is_refused():
  _, grade = next(_rows())
  huge = records.Grade(
    **{**json.loads(grade.to_json()), 'index': 2**31, 'problem_id': 'p0'}
  )
  with pytest.raises(errors.InputError, match='indices under'):
    table.Table.from_rows(_problems(), None, [huge])


def test_subjects_are_measured_apart():
  rows = list(_rows())
  made = table.Table.from_rows(
    _problems(), [s for s, _ in rows], [g for _, g in rows]
  )
  got = measure.measure(made, [1])
  assert [row['subject'] for row in got['by_subject']] == ['a', 'b']
  assert [row['problems'] for row in got['by_subject']] == [3, 2]
  assert got['by_level'] == []
  for row in got['by_subject']:
    assert row['coverage'][0]['value'] == 0.5
    assert row['distinct_normalised'][0]['value'] == 0.5
    assert row['pass@1']['value'] == 0.5


# Run in a process of its own, so that its peak is its own.
_MILLION = """
import sys, time
import numpy as np
from wcse_jax import records
from wcse_jax.metrics import measure

PROBLEMS, SAMPLES = 5000, int(sys.argv[1])
problems = [
  records.Problem(id=f'task/train/{q}', task='t', question='?', answer='1',
                  level=str(q % 5), subject='abcdefg'[q % 7])
  for q in range(PROBLEMS)
]
VERDICTS = ['right', 'right', 'wrong', 'wrong', 'unparsed']

def keys():
  for q in range(PROBLEMS):
    for i in range(SAMPLES):
      yield f'task/train/{q}', i, (q * 7919 + i * 104729) % 1000003

def grades():
  for name, i, r in keys():
    verdict = VERDICTS[r % 5]
    yield records.Grade(
      problem_id=name, index=i, why='', sound=None if r % 3 else bool(r % 2),
      answer=None if verdict == 'unparsed' else str(r % 5 and r % 17),
      correct=records.VERDICTS[verdict], verdict=verdict)

def samples():
  words = [f'w{j}' for j in range(1000)]
  for name, i, r in keys():
    text = ' '.join(words[(r * j) % 997] for j in range(1, 60))
    yield records.Sample(
      problem_id=name, index=i, text=text, tokens=(1,) * 100,
      finish_reason='stop', prompt_tokens=5, shared_prompt_tokens=0,
      output_tokens=100, logprob=-1.0)

start = time.perf_counter()
table = measure.Table.from_rows(problems, samples(), grades(), str.upper)
made = time.perf_counter() - start
found = measure.measure(table, [1, 8, 64, SAMPLES], beyond=[2 * SAMPLES])
took = time.perf_counter() - start
# Not ru_maxrss: that of a child begins at what its parent held.
(peak,) = [
  int(line.split()[1]) / 1024
  for line in open('/proc/self/status') if line.startswith('VmHWM')
]
print(found['samples'], found['right'], made, took, peak)
"""


@pytest.mark.slow
@pytest.mark.skipif(
  sys.platform != 'linux', reason='the peak is read from /proc'
)
def test_a_million_samples_in_bounded_memory():
  out = subprocess.run(
    [sys.executable, '-c', _MILLION, '200'],
    capture_output=True,
    text=True,
    check=True,
  ).stdout
  samples, right, made, took, peak = map(float, out.split())
  print(
    f'{samples:.0f} rows: table {made:.0f} s, all {took:.0f} s, '
    f'peak {peak:.0f} MiB'
  )
  assert samples == 1_000_000
  assert 0.35 < right / samples < 0.45
  assert peak < 400
