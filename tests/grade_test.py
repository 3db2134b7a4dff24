"""Grading of sampled folders and of samples from anywhere."""

import json

import pytest

from wcse_jax import errors, grade, records, shardfiles, storage, tasks


TASK = tasks.load('arith')
PROBLEMS = TASK.problems('test')[:6]


def write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def texts():
  """Yields (problem, index, text): one right and sound, one lucky, one none."""
  for problem in PROBLEMS:
    yield problem, 0, problem.solution
    yield problem, 1, f'The answer is {problem.answer}.'
    yield problem, 2, 'who knows'


@pytest.fixture
def folder(tmp_path):
  """Returns a run folder with samples of one model."""
  shards = shardfiles.ShardFolder(
    str(tmp_path / 'samples' / 'model'), {'seed': 0}
  )
  rows = [
    records.Sample(
      problem_id=problem.id,
      index=index,
      text=text,
      tokens=(1,),
      finish_reason='stop',
      prompt_tokens=3,
      shared_prompt_tokens=0,
      output_tokens=1,
      logprob=-1.0,
    )
    for problem, index, text in texts()
  ]
  shards.write(shardfiles.Shard(0, 5, 0, 2), rows)
  return tmp_path


def check(measures):
  assert measures['verdicts']['right'] == 12
  assert measures['verdicts']['unparsed'] == 6
  rate = measures['false_positive_rate']
  assert (rate['value'], rate['samples']) == (0.5, 12)
  by_k = {row['k']: row['value'] for row in measures['coverage']}
  assert by_k[1] == pytest.approx(2 / 3)
  assert by_k[3] == 1.0


def test_grades_a_run_folder_once(folder):
  config = grade.GradeConfig(split='test')
  measures = grade.grade(config, str(folder))
  check(measures['model'])
  path = folder / 'grades' / 'model' / 'shard-00000-00005-0000-0002.jsonl'
  rows = records.read_rows(str(path), records.Grade)
  assert [row.verdict for row in rows[:3]] == ['right', 'right', 'unparsed']
  stamp = path.stat().st_mtime_ns
  assert grade.grade(config, str(folder)) == measures
  assert path.stat().st_mtime_ns == stamp
  assert storage.read_json(str(folder / 'measures.json')) == measures
  assert '0.500' in grade.table(measures)


def test_grades_samples_from_anywhere(tmp_path):
  rows = [
    {'problem_id': p.id, 'index': i, 'text': text, 'more': 1}
    for p, i, text in texts()
  ]
  source = write(tmp_path / 'engine.jsonl', rows)
  config = grade.GradeConfig(split='test', samples=source)
  measures = grade.grade(config, str(tmp_path / 'run'))
  check(measures['engine'])
  found = (tmp_path / 'run' / 'grades' / 'engine' / 'grades.jsonl').read_text()
  assert len(found.splitlines()) == 18


@pytest.mark.parametrize(
  ('row', 'wanted'),
  [
    ('nonsense', 'row 2'),
    ('{"problem_id": "a", "index": 0}', 'row 2'),
    ('{"problem_id": "a", "index": "0", "text": "t"}', 'row 2'),
    ('{"problem_id": "a", "index": true, "text": "t"}', 'row 2'),
    ('{"problem_id": "nobody", "index": 0, "text": "t"}', 'nobody'),
  ],
)
def test_bad_rows_are_named(tmp_path, row, wanted):
  source = tmp_path / 's.jsonl'
  first = {'problem_id': PROBLEMS[0].id, 'index': 0, 'text': ''}
  source.write_text(json.dumps(first) + '\n' + row + '\n')
  config = grade.GradeConfig(split='test', samples=str(source))
  with pytest.raises(errors.InputError, match=wanted):
    grade.grade(config, str(tmp_path / 'run'))
  assert not (tmp_path / 'run' / 'measures.json').exists()


def test_nothing_to_grade(tmp_path):
  with pytest.raises(errors.InputError, match='there are none'):
    grade.grade(grade.GradeConfig(), str(tmp_path))


def test_doubling():
  assert grade.doubling(1) == [1]
  assert grade.doubling(6) == [1, 2, 4, 6]
  assert grade.doubling(8) == [1, 2, 4, 8]
