import json
import pathlib

import pytest

from wcse_jax import errors
from wcse_jax.tasks import functional_math


_SHARED = pathlib.Path(__file__).parents[3] / 'shared' / 'data'


def _task(tmp_path, *rows):
  path = tmp_path / 'snapshots.jsonl'
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return functional_math.FunctionalMath(str(tmp_path))


def _row(snapshot, answer):
  row = {'problem': 'q', 'answer': answer, 'level': 'Level 1'}
  return row if snapshot is None else {**row, 'snapshot': snapshot}


def test_snapshots_are_splits_and_the_newest_is_test(tmp_path):
  task = _task(
    tmp_path, _row('Oct-2023', '1'), _row('Dec-2023', '2'), _row(None, '3')
  )
  assert [p.answer for p in task.problems('Oct-2023')] == ['1', '3']
  assert [p.answer for p in task.problems('test')] == ['2', '3']
  assert task.problems('test')[0].level == '1'
  with pytest.raises(errors.InputError, match='Oct-2023'):
    task.problems('train')
  with pytest.raises(errors.InputError, match='not on the hub'):
    functional_math.FunctionalMath().problems('test')


def test_an_unknown_snapshot_is_no_other_split(tmp_path):
  for snapshot in ('Jan-2024', 3, ['Oct-2023']):
    task = _task(tmp_path, _row('Oct-2023', '1'), _row(snapshot, '2'))
    with pytest.raises(errors.InputError, match=r'row 2: .*field "snapshot"'):
      task.problems('Oct-2023')


def test_positions_are_of_the_snapshot(tmp_path):
  found = [_row(None, '1'), _row('Oct-2023', '2'), _row('Dec-2023', '3')]
  ids = [p.id for p in _task(tmp_path, *found).problems('test')]
  assert ids == ['functional_math/test/0', 'functional_math/test/1']


def test_a_base_alone_is_no_answer(tmp_path):
  task = _task(tmp_path, _row(None, '_7'), _row(None, '10_7'))
  assert [p.answer for p in task.problems('test')] == ['10_7']
  assert len(task.without_answer['test']) == 1


@pytest.mark.parametrize(
  ('answer', 'reference', 'same'),
  [
    ('551.72', '551.7241379', True),
    (r'\frac{291}{14}', '20.785714285714285', True),
    (r'\$5.44', '5.44', True),
    ('135.87', r'135.8709677419355^\circ', True),
    ('(1.33, 2)', r'(1.3333333333333333,2)', True),
    (r'\sqrt{416}', '20.396', True),
    ('551.7', '551.7241379', False),
    ('551.73', '551.7241379', False),
    ('552', '551.7241379', False),
    (r'\sqrt{417}', '20.396', False),
    ('7', '8', False),
    ('1/3', '1/4', False),
  ],
)
def test_decimals_may_be_rounded(tmp_path, answer, reference, same):
  task = _task(tmp_path, _row(None, reference))
  try:
    grade = task.grade(task.problems('test')[0], 0, rf'\boxed{{{answer}}}')
    assert grade.verdict == ('right' if same else 'wrong')
  finally:
    task.close()


@pytest.mark.skipif(not _SHARED.is_dir(), reason='needs the shared data')
def test_the_whole_set_loads():
  task = functional_math.FunctionalMath(str(_SHARED / 'math_functional'))
  for split in task.splits:
    found = task.problems(split)
    assert len(found) + len(task.without_answer[split]) == 1745
