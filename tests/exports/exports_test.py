"""A data set: what is written is read back, by Arrow and by `datasets`."""

import dataclasses
import hashlib
import json

import hostile
import pytest
from pyarrow import parquet

from wcse_jax import errors, exports, selection, storage, tasks
from wcse_jax.exports import card, facts, table
from wcse_jax.sft import data


TASK = tasks.load('arith')
NAME = 'data/train-00000-of-00001.parquet'


def _write(folder, rows, examples, known, **more):
  return exports.write(
    str(folder),
    rows=rows,
    examples=examples,
    facts=known,
    chain=TASK.chain,
    **more,
  )


def _tree(folder):
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in folder.rglob('*')
    if path.is_file()
  }


def test_rows_are_read_back(tmp_path, rows, examples, known):
  manifest = _write(tmp_path, rows, examples, known)
  found = parquet.read_table(tmp_path / NAME).to_pylist()
  assert [row['completion'] for row in found] == [
    example.completion for example in examples
  ]
  row, sample = found[1], rows[1].sample
  chain = hashlib.sha256(TASK.chain(sample.text).encode()).hexdigest()[:16]
  assert row == {
    'problem_id': rows[1].problem.id,
    'question': rows[1].problem.question,
    'answer': rows[1].problem.answer,
    'prompt': TASK.prompt(rows[1].problem.question),
    'completion': f' {sample.text}',
    'model': 'wc',
    'sample_index': 1,
    'level': rows[1].problem.level,
    'subject': rows[1].problem.subject,
    'verdict': 'right',
    'sound': False,
    'chain': chain,
  }
  lines = (tmp_path / 'train.jsonl').read_text().splitlines()
  assert [json.loads(line) for line in lines] == found
  # A student trains on the lines as they are.
  assert data.read(str(tmp_path / 'train.jsonl')) == (examples, None)
  assert (manifest['rows'], manifest['problems']) == (12, 6)


def test_the_manifest_has_every_file(tmp_path, rows, examples, known):
  manifest = _write(tmp_path, rows, examples, known, counts={'rows': 20})
  files = _tree(tmp_path)
  assert json.loads(files.pop('manifest.json')) == manifest
  assert manifest['selection'] == {'rows': 20}
  assert manifest['files'] == {
    name: {'sha256': hashlib.sha256(body).hexdigest()}
    for name, body in files.items()
  }
  assert exports.whole(str(tmp_path))
  (tmp_path / NAME).write_bytes(files[NAME][:-1])
  assert not exports.whole(str(tmp_path))
  (tmp_path / NAME).unlink()
  assert not exports.whole(str(tmp_path))
  (tmp_path / 'manifest.json').write_text('[]')
  assert not exports.whole(str(tmp_path))
  assert not exports.whole(str(tmp_path / 'none'))


def test_the_same_rows_give_the_same_bytes(tmp_path, rows, examples, known):
  for name in ('a', 'b', 'b'):
    _write(tmp_path / name, rows, examples, known)
  assert _tree(tmp_path / 'a') == _tree(tmp_path / 'b')


def test_on_a_bucket(rows, examples, known):
  root = 'memory://exports'
  _write(root, rows, examples, known)
  assert exports.whole(root)
  with storage.local(storage.join(root, NAME)) as copy:
    assert parquet.read_metadata(copy).num_rows == 12
  storage.remove_folder(root)


def test_many_rows_are_parted(tmp_path, monkeypatch, rows, examples, known):
  monkeypatch.setattr(table, 'PART_CHARACTERS', 1500)
  monkeypatch.setattr(table, 'GROUP_ROWS', 2)
  _write(tmp_path, rows, iter(examples), known)
  paths = sorted((tmp_path / 'data').iterdir())
  count = len(paths)
  assert count > 2
  assert [path.name for path in paths] == [
    f'train-{i:05d}-of-{count:05d}.parquet' for i in range(count)
  ]
  held = [parquet.read_metadata(path) for path in paths]
  assert sum(one.num_rows for one in held) == 12
  assert all(
    one.row_group(i).num_rows <= 2
    for one in held
    for i in range(one.num_row_groups)
  )
  found = [r for path in paths for r in parquet.read_table(path).to_pylist()]
  assert [r['prompt'] for r in found] == [e.prompt for e in examples]
  # Parts of an older data set would be read with those of the new one.
  monkeypatch.undo()
  _write(tmp_path, rows, examples, known)
  assert [path.name for path in (tmp_path / 'data').iterdir()] == [
    'train-00000-of-00001.parquet'
  ]


def test_long_texts_close_a_row_group(tmp_path, monkeypatch, rows, examples):
  monkeypatch.setattr(table, 'GROUP_CHARACTERS', 1)
  known = facts.Facts(problems=facts.Problems(task='arith'))
  _write(tmp_path, rows, examples, known)
  assert parquet.read_metadata(tmp_path / NAME).num_row_groups == 12


def test_own_solutions_have_no_model(tmp_path, rows):
  own = [selection.Row(row.problem, None, None) for row in rows[::2]]
  examples = [data.example(TASK, row.problem, 'x') for row in own]
  known = facts.Facts(problems=facts.of_problems(TASK, 'train'))
  _write(tmp_path, own, examples, known)
  row = parquet.read_table(tmp_path / NAME).to_pylist()[0]
  assert [row[k] for k in ('model', 'sample_index', 'verdict', 'sound')] == [
    None
  ] * 4
  # Of one chain with the sample that says the same.
  _write(tmp_path / 'drawn', rows[:1], examples[:1], known)
  drawn = parquet.read_table(tmp_path / 'drawn' / NAME).to_pylist()[0]
  assert row['chain'] == drawn['chain']


def test_of_several_models_each_row_names_one(tmp_path, rows, examples):
  known = facts.Facts(
    problems=facts.Problems(task='arith'),
    models=[facts.Model(name=name) for name in ('wc', 'se')],
  )
  names = ['wc', 'se'] * 6
  _write(tmp_path, rows, examples, known, models=names)
  assert parquet.read_table(tmp_path / NAME)['model'].to_pylist() == names
  with pytest.raises(ValueError, match='wanted the model of each row'):
    _write(tmp_path, rows, examples, known)


def test_rows_examples_and_models_are_as_many(tmp_path, rows, examples, known):
  for given in (examples[:-1], [*examples, examples[0]]):
    with pytest.raises(ValueError, match='zip'):
      _write(tmp_path, rows, given, known)
    assert not exports.whole(str(tmp_path))
  with pytest.raises(ValueError, match='zip'):
    _write(tmp_path, rows, examples, known, models=['wc'])
  with pytest.raises(errors.InputError, match='rows: wanted at least one'):
    _write(tmp_path, [], [], known)


def test_what_is_no_text_is_refused(tmp_path, rows, known):
  examples = [data.Example('Q', '\ud800')] * len(rows)
  with pytest.raises(errors.InputError, match='that UTF-8 can write'):
    _write(tmp_path, rows, examples, known)


def test_a_failure_leaves_no_data_set(
  tmp_path, monkeypatch, rows, examples, known
):
  _write(tmp_path / 'clean', rows, examples, known)
  _write(tmp_path / 'torn', rows[:2], examples[:2], known)
  with monkeypatch.context() as patch:
    patch.setattr(card, 'render', None)
    with pytest.raises(TypeError):
      _write(tmp_path / 'torn', rows, examples, known)
  assert not exports.whole(str(tmp_path / 'torn'))
  _write(tmp_path / 'torn', rows, examples, known)
  assert _tree(tmp_path / 'torn') == _tree(tmp_path / 'clean')


def test_hostile_texts_are_kept(tmp_path, rows, known):
  texts = hostile.TEXTS[: len(rows)]
  examples = [data.Example(text, text) for text in texts]
  rows = [
    row._replace(
      problem=dataclasses.replace(row.problem, id=text, question=text)
    )
    for row, text in zip(rows, texts)
  ]
  _write(tmp_path, rows, examples, known)
  found = parquet.read_table(tmp_path / NAME)
  for name in ('problem_id', 'question', 'prompt', 'completion'):
    assert found[name].to_pylist() == texts
  assert data.read(str(tmp_path / 'train.jsonl'))[0] == examples


def test_datasets_loads_it_once(tmp_path, monkeypatch, rows, examples, known):
  monkeypatch.setenv('HF_HUB_OFFLINE', '1')
  datasets = pytest.importorskip('datasets')
  monkeypatch.setattr(table, 'PART_CHARACTERS', 1500)
  folder, cache = tmp_path / 'set', str(tmp_path / 'cache')
  _write(folder, rows, examples, known)
  whole = datasets.load_dataset(str(folder), cache_dir=cache)
  assert list(whole) == ['train']
  assert whole['train'].column_names == table.SCHEMA.names
  assert whole['train']['completion'][:] == [e.completion for e in examples]
  lines = datasets.load_dataset(
    'json',
    data_files=str(folder / 'train.jsonl'),
    split='train',
    cache_dir=cache,
  )
  assert lines.to_list() == whole['train'].to_list()
