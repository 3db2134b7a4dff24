"""Audits of a run folder: exported, filled in, and read back."""

import csv
import io
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from wcse_jax import (
  audit,
  audits,
  errors,
  grade,
  records,
  shardfiles,
  storage,
  tasks,
)
from wcse_jax.metrics import judged


ROOT = pathlib.Path(__file__).parents[1]
TASK = tasks.load('arith')
PROBLEMS = TASK.problems('test')[:12]


def sampled(folder, model, texts, *, seed=0):
  """Writes texts(problem) of each problem as samples of a model."""
  shards = shardfiles.ShardFolder(
    str(folder / 'samples' / model), {'seed': seed}
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
    for problem in PROBLEMS
    for index, text in enumerate(texts(problem))
  ]
  last = max(row.index for row in rows)
  shards.write(shardfiles.Shard(0, len(PROBLEMS) - 1, 0, last), rows)


def three(problem):
  """Returns a sound text, a lucky one and a wrong one."""
  return problem.solution, f'The answer is {problem.answer}.', 'who knows'


@pytest.fixture(scope='module')
def graded(tmp_path_factory):
  """Returns a graded run folder of two models, 24 right samples each."""
  folder = tmp_path_factory.mktemp('graded')
  sampled(folder, 'first', three)
  sampled(folder, 'second.5', three)
  grade.grade(grade.GradeConfig(split='test'), str(folder))
  return folder


@pytest.fixture
def folder(graded, tmp_path):
  """Returns a copy of the graded folder that a test may change."""
  return shutil.copytree(graded, tmp_path / 'run')


def run(folder, **fields):
  return audit.audit(
    audit.AuditConfig(**{'split': 'test', **fields}), str(folder)
  )


def rows_of(path):
  text = pathlib.Path(path).read_text('utf-8-sig')
  delimiter = ';' if text.startswith('problem_id;') else ','
  return list(
    csv.DictReader(io.StringIO(text, newline=''), delimiter=delimiter)
  )


def fill(path, verdict, target=None):
  """Fills `verdict(number, row)` in; returns the rows."""
  rows = rows_of(path)
  for number, row in enumerate(rows):
    row['verdict'] = verdict(number, row)
    row['note'] = f'=note {number}' if row['verdict'] else ''
  with open(target or path, 'w', newline='') as file:
    writer = csv.DictWriter(file, rows[0], delimiter=';')
    writer.writeheader()
    writer.writerows(rows)
  return rows


def by_index(_, row):
  """The lucky texts are unsound."""
  return 'unsound' if row['index'] == '1' else 'sound'


def key(row):
  return row['problem_id'], int(row['index'])


def test_what_is_exported_is_a_beginning_of_the_order(folder):
  out = run(folder, samples=10, least=1, seed=5)
  assert 'first: 10 of 24 right samples' in out
  levels = [((p.id, index), p.level) for p in PROBLEMS for index in (0, 1)]
  want = judged.order(levels, least=1, seed=5)[:10]
  rows = rows_of(folder / 'audit' / 'first.csv')
  assert [key(row) for row in rows] == want
  assert tuple(rows[0]) == audits.COLUMNS
  by_id = {p.id: p for p in PROBLEMS}
  for row in rows:
    problem = by_id[row['problem_id']]
    assert audits.decode(row['text']) == three(problem)[int(row['index'])]
    assert row['reference'] == row['answer'] == problem.answer
    assert row['verdict'] == row['note'] == ''
  page = (folder / 'audit' / 'second.5.html').read_text()
  assert 'second.5' not in page
  assert 'automatic check' not in page


def test_what_is_not_blind_shows_the_model_and_its_judges(folder):
  judgement = records.Judgement(
    problem_id=PROBLEMS[0].id, index=0, sound=False, why='step <b>2</b>'
  )
  path = folder / 'judgements' / 'first' / 'a-judge' / 'rows.jsonl'
  path.parent.mkdir(parents=True)
  path.write_text(judgement.to_json() + '\n')
  run(folder, blind=False)
  page = (folder / 'audit' / 'first.html').read_text()
  assert 'Samples of first' in page
  assert 'a-judge</dt><dd>unsound (step &lt;b&gt;2&lt;/b&gt;)' in page
  assert 'automatic check</dt><dd>unsound' in page
  run(folder, reference=False)
  page = (folder / 'audit' / 'first.html').read_text()
  assert 'a-judge' not in page
  assert 'Reference solution' not in page


def test_verdicts_are_read_back(folder):
  run(folder)
  path = folder / 'audit' / 'first.csv'
  filled = fill(path, lambda n, r: '' if n > 20 else by_index(n, r))
  filled[0]['verdict'] = 'unsure'
  fill(path, lambda n, _: filled[n]['verdict'])
  out = run(folder, read=str(path))
  found = audits.read(str(folder), 'first')
  assert found == {
    key(row): audits.VERDICTS[row['verdict']] for row in filled[:21]
  }
  judgements = records.read_rows(
    str(folder / 'audit' / 'first.jsonl'), records.Judgement
  )
  whys = {(row.problem_id, row.index): row.why for row in judgements}
  assert whys[key(filled[0])] == 'unsure: =note 0'
  assert whys[key(filled[3])] == '=note 3'
  assert audits.read(str(folder), 'second.5') == {}
  assert 'first: false positives by people 0.' in out
  assert f'{"all":<20}{24:>8}' in out
  assert 'kappa' not in out


def test_asking_for_more_keeps_what_was_said(folder):
  run(folder, samples=6)
  path = folder / 'audit' / 'first.csv'
  filled = fill(path, by_index)
  out = run(folder, samples=12)
  rows = rows_of(path)
  assert len(rows) == 12
  assert '12 of 24 right samples to audit, 6 with a verdict' in out
  said = {key(row): row['verdict'] for row in rows if row['verdict']}
  assert said == {key(row): row['verdict'] for row in filled}
  assert rows[0]['note'] == "'=note 0"
  # Fewer: what has a verdict stays all the same.
  run(folder, samples=2)
  assert [key(row) for row in rows_of(path)] == [key(row) for row in filled]
  whole = path.read_bytes()
  run(folder, samples=2)
  assert path.read_bytes() == whole
  # And so does a file that cannot be understood.
  path.write_text(path.read_text('utf-8-sig').replace('unsound', 'unsond'))
  whole = path.read_bytes()
  with pytest.raises(errors.InputError, match='unsond'):
    run(folder, samples=3)
  assert path.read_bytes() == whole


def test_a_folder_of_files_is_read(folder):
  run(folder)
  for name in ('first', 'second.5'):
    fill(folder / 'audit' / f'{name}.csv', by_index)
  copy = folder / 'audit' / 'copy.CSV'
  fill(folder / 'audit' / 'first.csv', lambda n, r: '', copy)
  out = run(folder, read=str(folder / 'audit'))
  assert 'first: ' in out
  assert 'second.5: ' in out
  assert len(audits.read(str(folder), 'second.5')) == 24
  assert len(audits.read(str(folder), 'first')) == 24
  fill(folder / 'audit' / 'first.csv', lambda n, r: 'unsure', copy)
  with pytest.raises(errors.InputError, match='one verdict a sample'):
    run(folder, read=str(folder / 'audit'))


def test_figures_are_written(folder):
  run(folder)
  path = folder / 'audit' / 'first.csv'
  fill(path, by_index)
  run(folder, read=str(path))
  about = storage.read_json(str(folder / 'audit' / 'first.json'))
  rate = about['false_positive_rate']
  assert rate['value'] == pytest.approx(0.5)
  assert (rate['n'], rate['trust']) == (24, 0)
  assert rate['low'] < 0.5 < rate['high']


def test_two_auditors(folder):
  run(folder)
  path = folder / 'audit' / 'first.csv'
  rows = fill(path, by_index)
  run(folder, read=str(path))
  other = folder / 'other.csv'
  # Differs on the first sample, is unsure of the second, leaves the third.
  words = {0: 'sound' if rows[0]['index'] == '1' else 'unsound'}
  words |= {1: 'unsure', 2: ''}
  fill(path, lambda n, r: words.get(n, by_index(n, r)), other)
  out = run(folder, read=str(other), auditor='bob')
  assert 'audit and bob: the same of 21 of 22, kappa 0.9' in out
  found = audits.read(str(folder), 'first')
  assert found[key(rows[0])] is None
  assert found[key(rows[1])] is None
  for row in rows[2:]:
    assert found[key(row)] is (row['index'] == '0')
  merged = audits.read_judgements(str(folder / 'audit' / 'first.jsonl'))
  why = merged[key(rows[0])].why
  assert why.startswith('unsure: auditors differ: audit says')
  assert 'bob says' in why
  # Bob thinks again, of one sample: the others of his stay.
  lines = other.read_text().split('\n')
  again = folder / 'again.csv'
  fill(path, lambda n, r: by_index(n, r) if n < 2 else 'x', again)
  lines = again.read_text().split('\n')
  again.write_text('\n'.join(line for line in lines if ';x;' not in line))
  out = run(folder, read=str(again), auditor='bob')
  assert 'audit and bob: the same of 23 of 23, kappa 1.000' in out
  # Who takes a verdict back has none.
  fill(path, lambda n, r: '' if n == 5 else by_index(n, r), other)
  run(folder, read=str(other), auditor='bob')
  folder_of = audits.auditors_folder(str(folder), 'first')
  bob = audits.read_judgements(f'{folder_of}/bob.jsonl')
  assert len(bob) == 23
  assert key(rows[5]) not in bob


@pytest.mark.parametrize(
  ('fields', 'wanted'),
  [
    ({'samples': 0}, 'samples'),
    ({'least': -1}, 'least'),
    ({'auditor': '../x'}, 'auditor'),
    ({'task': 'arit'}, 'arith, gsm8k'),
    ({'split': 'dev'}, "'dev'"),
    ({'read': 'none.csv'}, 'none.csv'),
  ],
)
def test_bad_fields_change_nothing(folder, fields, wanted):
  before = sorted(folder.rglob('*'))
  with pytest.raises(errors.InputError, match=wanted):
    run(folder, **fields)
  assert sorted(folder.rglob('*')) == before


def test_what_is_not_of_this_run_changes_nothing(folder, tmp_path_factory):
  run(folder)
  path = folder / 'audit' / 'first.csv'
  with pytest.raises(errors.InputError, match='there are none'):
    run(folder, read=str(path))
  with pytest.raises(errors.InputError, match='wanted CSV files'):
    run(folder, read=str(folder / 'samples'))
  fill(path, by_index)
  other = tmp_path_factory.mktemp('other')
  sampled(other, 'first', lambda p: [p.solution + ' ', *three(p)[1:]])
  grade.grade(grade.GradeConfig(split='test'), str(other))
  with pytest.raises(errors.InputError) as error:
    run(other, read=str(path))
  assert '12 of 24 rows are bad: 12 of no sample' in str(error.value)
  assert not (other / 'audit').exists()


def test_samples_made_anew_need_a_new_audit(folder, tmp_path_factory):
  run(folder)
  path = folder / 'audit' / 'first.csv'
  fill(path, by_index)
  run(folder, read=str(path))
  other = tmp_path_factory.mktemp('other')
  sampled(other, 'first', three, seed=1)
  grade.grade(grade.GradeConfig(split='test'), str(other))
  (folder / 'audit').rename(other / 'audit')
  with pytest.raises(errors.InputError, match='seed: wanted 1, has 0'):
    run(other, read=str(other / 'audit' / 'first.csv'))
  with pytest.raises(errors.InputError, match='seed: wanted 1, has 0'):
    audits.read(str(other), 'first')


def test_a_sample_of_another_split_is_named(folder):
  grades = shardfiles.ShardFolder(str(folder / 'grades' / 'first'))
  row = records.Grade(
    problem_id='arith/train/7',
    index=3,
    answer='1',
    correct=True,
    verdict='right',
    sound=True,
    why='',
  )
  grades.write(shardfiles.Shard(12, 12, 3, 3), [row])
  with pytest.raises(errors.InputError, match=r'arith/train/7.*config\.split'):
    run(folder)
  assert not (folder / 'audit').exists()


def test_nothing_to_audit(tmp_path):
  with pytest.raises(errors.InputError, match='graded samples'):
    run(tmp_path)
  sampled(tmp_path, 'poor', lambda _: ['who knows'])
  with pytest.raises(errors.InputError, match='graded samples'):
    run(tmp_path)
  grade.grade(grade.GradeConfig(split='test'), str(tmp_path))
  with pytest.raises(errors.InputError, match=r'right samples.*poor'):
    run(tmp_path)


def test_the_command_line(folder):
  def launch(*arguments):
    return subprocess.run(
      [
        sys.executable,
        str(ROOT / 'launch' / 'audit.py'),
        f'--workdir={folder}',
        '--config.split=test',
        *arguments,
      ],
      capture_output=True,
      text=True,
      cwd=ROOT,
      env=os.environ | {'PYTHONPATH': str(ROOT)},
      check=False,
    )

  done = launch('--config.samples=8')
  assert (done.returncode, done.stderr) == (0, '')
  assert 'first: 8 of 24 right samples' in done.stdout
  path = folder / 'audit' / 'first.csv'
  fill(path, by_index)
  done = launch(f'--config.read={path}', '--config.auditor=ann')
  assert (done.returncode, done.stderr) == (0, '')
  assert 'false positives by people' in done.stdout
  assert len(audits.read(str(folder), 'first')) == 8
  path.write_text(path.read_text().replace('sound', 'fine', 1))
  done = launch(f'--config.read={path}')
  assert done.returncode == 2
  [line] = done.stderr.splitlines()
  assert 'wanted sound, unsound, unsure or nothing' in line
