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
  assert measures['engine']['rows'] == {'read': 18, 'graded': 18, 'bad': 0}
  # The texts are at hand, the lengths are not.
  assert measures['engine']['diversity'][0]['value'] == 1.0
  assert measures['engine']['mean_output_tokens'] is None
  (path,) = (tmp_path / 'run' / 'grades' / 'engine').glob('*.jsonl')
  assert len(records.read_rows(str(path), records.Grade)) == 18
  stamp = path.stat().st_mtime_ns
  assert grade.grade(config, str(tmp_path / 'run')) == measures
  assert path.stat().st_mtime_ns == stamp


def test_bad_rows_are_passed_over_if_asked(tmp_path):
  rows = [
    {'problem_id': p.id, 'index': i, 'text': text} for p, i, text in texts()
  ]
  source = write(tmp_path / 'engine.jsonl', [*rows, {'index': 1}, rows[0]])
  config = grade.GradeConfig(split='test', samples=source, bad_rows='skip')
  measures = grade.grade(config, str(tmp_path / 'run'))
  check(measures['engine'])
  assert measures['engine']['rows'] == {'read': 20, 'graded': 18, 'bad': 2}
  assert '2 of 20 rows were bad' in grade.table(measures)
  listed = tmp_path / 'run' / 'quarantine' / 'engine.jsonl'
  lines = listed.read_text().splitlines()
  assert [json.loads(line)['row'] for line in lines] == [19, 20]
  config.bad_rows = 'ignore'
  with pytest.raises(errors.InputError, match='bad_rows: wanted refuse or'):
    grade.grade(config, str(tmp_path / 'other'))


def test_a_changed_file_of_samples_is_another_run(tmp_path):
  rows = [
    {'problem_id': p.id, 'index': i, 'text': text} for p, i, text in texts()
  ]
  source = write(tmp_path / 'engine.jsonl', rows)
  config = grade.GradeConfig(split='test', samples=source)
  grade.grade(config, str(tmp_path / 'run'))
  write(tmp_path / 'engine.jsonl', rows[:-1])
  with pytest.raises(errors.InputError, match='samples: wanted'):
    grade.grade(config, str(tmp_path / 'run'))


def test_coverage_beyond_the_samples_is_marked(folder):
  measures = grade.grade(grade.GradeConfig(split='test'), str(folder))['model']
  assert [row['k'] for row in measures['extrapolated']] == [6, 12]
  assert all(row['extrapolated'] for row in measures['extrapolated'])
  shown = grade.table({'model': measures})
  assert len([line for line in shown.splitlines() if 'extrap' in line]) == 2


def test_what_people_said_corrects_the_rate(folder):
  config = grade.GradeConfig(split='test')
  [row] = grade.grade(config, str(folder))['model']['judges']
  assert (row['judge'], row['judged'], row['corrected']) == ('task', 12, None)
  # People find every second lucky answer sound after all.
  labels = [
    records.Judgement(
      problem_id=problem.id, index=index, sound=index == 0 or at % 2 == 0
    )
    for at, problem in enumerate(PROBLEMS)
    for index in range(2)
  ]
  path = folder / 'audit' / 'model.jsonl'
  path.parent.mkdir()
  path.write_text(''.join(label.to_json() + '\n' for label in labels))
  measures = grade.grade(config, str(folder))
  [row] = measures['model']['judges']
  assert row['rate']['value'] == 0.5
  assert row['corrected']['value'] == row['audit']['value'] == 0.25
  assert 'false positives by task and people 0.250' in grade.table(measures)


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


def test_models_of_a_folder_are_compared_by_problem(folder):
  config = grade.GradeConfig(split='test')
  grade.grade(config, str(folder))
  assert not (folder / 'comparisons.json').exists()
  rows = [
    records.Sample(
      problem_id=problem.id,
      index=index,
      text=problem.solution if index < 2 or at < 3 else 'who knows',
      tokens=(1,),
      finish_reason='stop',
      prompt_tokens=3,
      shared_prompt_tokens=0,
      output_tokens=1,
      logprob=-1.0,
    )
    for at, problem in enumerate(PROBLEMS[:5])
    for index in range(3)
  ]
  shards = shardfiles.ShardFolder(str(folder / 'samples' / 'other'), {})
  shards.write(shardfiles.Shard(0, 4, 0, 2), rows)
  measures = grade.grade(config, str(folder))
  assert set(measures) == {'model', 'other'}
  [row] = storage.read_json(str(folder / 'comparisons.json'))
  # Of the problems of both: two thirds against 1, 1, 1, 2/3, 2/3.
  assert (row['a'], row['b'], row['problems']) == ('model', 'other', 5)
  assert row['pass@1']['value'] == pytest.approx(2 / 3 - 13 / 15)
  assert row['pass@1']['n'] == 5
  assert [one['k'] for one in row['extrapolated']] == [6, 12]
  assert all(one['extrapolated'] for one in row['extrapolated'])
  assert row['by_level']
