import dataclasses
import hashlib
import itertools
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time

import jax
import pytest

import wcse_jax
from wcse_jax import budget, checkpoints, errors, records, shardfiles
from wcse_jax.sampler import engine, inputs, run, settings


_REPOSITORY = pathlib.Path(wcse_jax.__file__).parent.parent
_SHARDS = [
  'shard-00000-00002-0000-0007.jsonl',
  'shard-00000-00002-0008-0011.jsonl',
]


@pytest.fixture(scope='module')
def config(tiny, problems):
  """Three problems, twelve samples of each: two shards."""
  return inputs.SampleConfig(
    checkpoint=tiny,
    task='gsm8k',
    data=problems,
    split='test',
    limit=3,
    samples_per_problem=12,
    dtype='float32',
    sampler=settings.SamplerConfig(
      temperature=1.0, max_new_tokens=16, slots=16, prefill_batch=8
    ),
  )


@pytest.fixture(scope='module')
def done(config, tmp_path_factory):
  """(folder, cost) of an undisturbed run; do not change it."""
  folder = tmp_path_factory.mktemp('undisturbed') / 'run'
  return folder, run.sample(config, str(folder))


@pytest.fixture
def copy(done, tmp_path):
  """A copy of the undisturbed run."""
  return pathlib.Path(shutil.copytree(done[0], tmp_path / 'run'))


def _shards(folder):
  """Returns name -> bytes of the shards in a run folder."""
  paths = (folder / 'samples' / 'tiny').glob('shard-*.jsonl')
  return {path.name: path.read_bytes() for path in paths}


def _tree(folder):
  """Returns path -> sha256 of everything in a folder."""
  return {
    str(path.relative_to(folder)): hashlib.sha256(
      path.read_bytes() if path.is_file() else b''
    ).hexdigest()
    for path in folder.rglob('*')
  }


def _rows(folder):
  found = shardfiles.ShardFolder(str(folder / 'samples' / 'tiny'))
  return list(found.rows(records.Sample))


def _forget(folder, name):
  """Leaves a folder as it was before a shard was published."""
  samples = folder / 'samples' / 'tiny'
  (samples / name).unlink()
  manifest = json.loads((samples / 'manifest.json').read_text())
  del manifest['files'][name]
  (samples / 'manifest.json').write_text(json.dumps(manifest))


def test_every_sample_is_there_once_and_in_order(config, done):
  folder, _ = done
  assert sorted(_shards(folder)) == _SHARDS
  assert [(row.problem_id, row.index) for row in _rows(folder)] == [
    (f'gsm8k/test/{problem}', index)
    for indices in (range(8), range(8, 12))
    for problem in range(3)
    for index in indices
  ]
  tokens = {row.tokens for row in _rows(folder)}
  assert len(tokens) > 30  # Of 36: samples differ.


def test_the_costs_are_the_sums_over_the_samples(config, done):
  folder, cost = done
  model, tokenizer = checkpoints.load(config.checkpoint)
  work = inputs.prepare(config)
  ids = inputs.prompt_ids(work, tokenizer)
  lengths = {problem.id: len(ids[at]) for at, problem in work.chosen}
  rows = _rows(folder)
  shared = rows[0].shared_prompt_tokens
  assert shared > 0
  assert all(row.prompt_tokens == lengths[row.problem_id] for row in rows)
  # Each of the two shards prefills every prompt of its own.
  prefill = 2 * sum(length - shared for length in lengths.values())
  # What all prompts share is read once.
  prefill += shared
  decode = sum(len(row.tokens) for row in rows)
  # Without its last token, which is decoded; and no logits.
  flops = 2 * sum(
    budget.forward_flops(model.config, length - 1 - shared, shared, logits=0)
    for length in lengths.values()
  ) + sum(
    budget.forward_flops(
      model.config, len(row.tokens), lengths[row.problem_id] - 1
    )
    for row in rows
  )
  flops += budget.forward_flops(model.config, shared, logits=0)
  assert cost['prefill_tokens'] == prefill
  assert cost['decode_tokens'] == decode
  assert cost['flops'] == flops
  assert cost['chip_seconds'] > 0
  (row,) = (folder / 'ledger.jsonl').read_text().splitlines()
  row = json.loads(row)
  assert row.pop('chip_seconds') == cost['chip_seconds']
  assert row.pop('chips') >= 1
  assert row == {
    'stage': 'sample',
    'model': 'tiny',
    'prefill_tokens': prefill,
    'decode_tokens': decode,
    'flops': flops,
    'usd': None,
  }


def test_a_finished_run_draws_nothing(config, done, copy, nothing_compiled):
  before = _tree(copy / 'samples')
  assert run.sample(config, str(copy)) == done[1]
  assert _tree(copy / 'samples') == before
  assert (copy / 'ledger.jsonl').read_bytes() == (
    done[0] / 'ledger.jsonl'
  ).read_bytes()


@pytest.mark.parametrize('name', _SHARDS)
def test_a_resumed_run_makes_the_missing_shards_only(config, done, copy, name):
  _forget(copy, name)
  (kept,) = set(_SHARDS) - {name}
  before = (copy / 'samples' / 'tiny' / kept).stat()
  cost = run.sample(config, str(copy))
  assert _shards(copy) == _shards(done[0])
  after = (copy / 'samples' / 'tiny' / kept).stat()
  assert (after.st_ino, after.st_mtime_ns) == (
    before.st_ino,
    before.st_mtime_ns,
  )
  for field in ('prefill_tokens', 'decode_tokens', 'flops'):
    assert cost[field] == done[1][field]


def test_more_samples_and_problems_only_add_shards(config, done, copy):
  more = dataclasses.replace(config, limit=4, samples_per_problem=14)
  run.sample(more, str(copy))
  old, new = _shards(done[0]), _shards(copy)
  assert {name: new[name] for name in old} == old
  assert len(new) > len(old)
  rows = {(row.problem_id, row.index): row for row in _rows(copy)}
  assert len(rows) == len(_rows(copy)) == 4 * 14
  # The smaller run again: nothing to do.
  before = _tree(copy / 'samples')
  run.sample(config, str(copy))
  assert _tree(copy / 'samples') == before


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('seed', 1),
    ('sampler.temperature', 0.5),
    ('sampler.max_new_tokens', 8),
    ('shots', 1),
    ('validation_size', 4),
    ('dtype', 'bfloat16'),
  ],
)
def test_another_run_in_the_folder_is_refused_and_changes_nothing(
  config, copy, nothing_compiled, field, value
):
  name = field.removeprefix('sampler.')
  if name != field:
    sampler = dataclasses.replace(config.sampler, **{name: value})
    other = dataclasses.replace(config, sampler=sampler)
  else:
    other = dataclasses.replace(config, **{name: value})
  before = _tree(copy)
  with pytest.raises(errors.InputError) as caught:
    run.sample(other, str(copy))
  message = str(caught.value)
  assert f'{field}: wanted {json.dumps(value)}, has ' in message
  assert '\n' not in message
  assert _tree(copy) == before


def test_another_chunk_is_the_same_run(config, done, copy):
  sampler = dataclasses.replace(config.sampler, chunk=5)
  _forget(copy, _SHARDS[1])
  run.sample(dataclasses.replace(config, sampler=sampler), str(copy))
  assert _shards(copy) == _shards(done[0])


@pytest.mark.parametrize(
  ('field', 'value', 'said'),
  [
    ('samples_per_problem', 0, 'samples_per_problem: wanted a count >= 1'),
    ('limit', -1, 'limit: wanted a count >= 0'),
    ('seed', -1, 'seed: wanted a count >= 0'),
    ('dtype', 'float16', 'dtype: wanted float32 or bfloat16'),
    ('checkpoint', 'nowhere', 'checkpoint: wanted a Hugging Face folder'),
    ('task', 'nothing', 'nothing'),
    ('split', 'rest', 'split: wanted one of train, test, validation'),
    ('mesh', 'data=3', "mesh: 'data=3' wants 3 devices"),
    ('data', '/nowhere.jsonl', '/nowhere.jsonl: wanted a file'),
  ],
)
def test_an_argument_that_does_not_fit_is_refused_before_anything_is_written(
  config, tmp_path, nothing_compiled, field, value, said
):
  with pytest.raises(errors.InputError) as caught:
    run.sample(
      dataclasses.replace(config, **{field: value}), str(tmp_path / 'run')
    )
  assert said in str(caught.value)
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'run').exists()


def test_a_prompt_over_the_positions_of_the_model_leaves_no_shard(
  config, tmp_path
):
  sampler = dataclasses.replace(config.sampler, max_new_tokens=9000)
  with pytest.raises(errors.InputError, match=r'the model has 8192'):
    run.sample(dataclasses.replace(config, sampler=sampler), str(tmp_path))
  assert not list(tmp_path.rglob('shard-*'))


@pytest.mark.parametrize('fault', ['flipped', 'torn', 'empty', 'missing'])
def test_a_bad_shard_is_made_again(config, done, copy, caplog, fault):
  path = copy / 'samples' / 'tiny' / _SHARDS[0]
  good = path.read_bytes()
  middle = len(good) // 2
  bad = {
    'flipped': good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :],
    'torn': good[:middle],
    'empty': b'',
  }.get(fault)
  path.unlink() if bad is None else path.write_bytes(bad)
  run.sample(config, str(copy))
  assert _shards(copy) == _shards(done[0])
  aside = path.with_name(f'{path.name}.bad')
  assert (aside.read_bytes() if aside.exists() else None) == bad
  assert path.name in caplog.text
  assert len(_rows(copy)) == 36


def _launch(config, folder, cache):
  """Starts `launch/sample.py` in a process; all compile into one cache."""
  sampler = dataclasses.asdict(config.sampler)
  fields = dataclasses.asdict(config) | {
    f'sampler.{name}': value for name, value in sampler.items()
  }
  del fields['sampler']
  return subprocess.Popen(
    [
      sys.executable,
      'launch/sample.py',
      f'--workdir={folder}',
      *(f'--config.{name}={value}' for name, value in fields.items()),
    ],
    cwd=_REPOSITORY,
    env=os.environ
    | {
      'PYTHONPATH': str(_REPOSITORY),
      'JAX_COMPILATION_CACHE_DIR': str(cache),
      'JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS': '0',
    },
    stdout=subprocess.DEVNULL,
    stderr=subprocess.PIPE,
    text=True,
  )


def _stop(config, folder, number, rng):
  """Runs until it has made a shard and a random while longer, then stops it.

  Returns (exit status, standard error).
  """
  before = len(_shards(folder))
  process = _launch(config, folder, folder.with_name('compiled'))
  while process.poll() is None and len(_shards(folder)) <= before:
    time.sleep(0.005)
  time.sleep(rng.uniform(0, 0.1))
  process.send_signal(number)
  _, error = process.communicate(timeout=60)
  return process.returncode, error


def _survives(config, tmp_path, kills):
  rng = random.Random(0)
  # Shards enough that no process comes to the end.
  config = dataclasses.replace(
    config, limit=5, samples_per_problem=32 * (kills + 2)
  )
  folder = tmp_path / 'stopped'
  for _ in range(kills):
    assert _stop(config, folder, signal.SIGKILL, rng)[0] == -signal.SIGKILL
  status, error = _stop(config, folder, signal.SIGTERM, rng)
  assert status == 75
  assert error.splitlines()[-1] == 'stopped: SIGTERM; run it again to go on.'
  kept = _shards(folder)
  shards = 4 * (kills + 2)
  assert kills < len(kept) < shards
  cost = run.sample(config, str(folder))
  want = run.sample(config, str(tmp_path / 'undisturbed'))
  assert len(_shards(folder)) == shards
  assert _shards(folder) == _shards(tmp_path / 'undisturbed')
  assert kept.items() <= _shards(folder).items()
  for field in ('prefill_tokens', 'decode_tokens', 'flops'):
    assert cost[field] == want[field]
  # Nothing is left half written, and nothing locked.
  names = {path.name for path in folder.rglob('*')}
  assert not [name for name in names if name.endswith('.tmp')]
  assert '.lock' not in names


def test_a_killed_run_ends_with_the_bytes_of_an_undisturbed_one(
  config, tmp_path
):
  _survives(config, tmp_path, kills=3)


@pytest.mark.slow
def test_a_run_killed_twenty_times_ends_with_the_same_bytes(config, tmp_path):
  _survives(config, tmp_path, kills=20)


def _noise_by_order(monkeypatch):
  """Takes the guard away that noise has no part in the order of requests."""
  arrays = engine.Sampler._arrays
  count = itertools.count()

  def by_order(self, placed, size, start):
    slots, rows, tokens, own, problems, samples, seed = arrays(
      self, placed, size, start
    )
    numbers = [next(count) for _ in range(size)]
    samples = jax.numpy.asarray(numbers, samples.dtype)
    return slots, rows, tokens, own, problems, samples, seed

  monkeypatch.setattr(engine.Sampler, '_arrays', by_order)


@pytest.mark.parametrize('fault', ['torn file kept', 'noise by order'])
def test_the_comparison_of_bytes_sees_what_a_stop_could_do(
  config, done, copy, monkeypatch, fault
):
  if fault == 'torn file kept':
    # As a kill leaves it that comes in the midst of plain writing.
    path = copy / 'samples' / 'tiny' / _SHARDS[1]
    path.write_bytes(path.read_bytes()[:-9])
    monkeypatch.setattr(shardfiles.ShardFolder, 'check', lambda self: [])
  else:
    _forget(copy, _SHARDS[1])
    _noise_by_order(monkeypatch)
  run.sample(config, str(copy))
  assert sorted(_shards(copy)) == _SHARDS
  assert _shards(copy) != _shards(done[0])


@pytest.mark.parametrize('fault', ['', 'noise by order'])
def test_a_run_that_asks_for_more_from_the_start_has_the_same_samples(
  config, done, tmp_path, monkeypatch, fault
):
  if fault:
    _noise_by_order(monkeypatch)
  more = dataclasses.replace(config, samples_per_problem=20)
  run.sample(more, str(tmp_path))
  found = {
    (row.problem_id, row.index): row.to_json() for row in _rows(tmp_path)
  }
  want = {(row.problem_id, row.index): row.to_json() for row in _rows(done[0])}
  assert len(want) < len(found)
  same = {key: found[key] for key in want} == want
  assert same != bool(fault)


_TEMPLATE = (
  "{{ bos_token }}{% for m in messages %}Q {{ m['content'] }} {% endfor %}"
  '{% if add_generation_prompt %}A:{% endif %}'
)


@pytest.fixture(scope='module')
def instructed(tiny, tmp_path_factory):
  """A copy of the model with a chat template; do not change it."""
  folder = tmp_path_factory.mktemp('chat') / 'tiny'
  shutil.copytree(tiny, folder)
  (folder / 'manifest.json').unlink()
  (folder / 'chat_template.jinja').write_text(_TEMPLATE)
  return str(folder)


def _asked(config, checkpoint, chat=''):
  """Returns the texts of the prompts, start token and all."""
  work = inputs.prepare(config)
  with checkpoints.opened(checkpoint) as found:
    tokenizer = found.tokenizer()
  ids = inputs.prompt_ids(work, tokenizer, chat)
  assert all(row[0] == 2 and 2 not in row[1:] for row in ids.values())
  return work, {i: tokenizer.decode(row) for i, row in ids.items()}


def test_an_instructed_model_is_asked_by_its_template(config, tiny, instructed):
  work, plain = _asked(config, tiny)
  # Decoding puts the space back that a text begins with.
  assert {i: text.strip() for i, text in plain.items()} == work.prompts
  _, by_template = _asked(config, instructed)
  for i, text in by_template.items():
    assert text.strip() == f'Q {work.questions[i]} A:'
    assert work.task.instruction in text
  assert _asked(config, instructed, 'on')[1] == by_template
  assert _asked(config, instructed, 'off')[1] == plain
  with pytest.raises(errors.InputError, match='wanted a chat template'):
    _asked(config, tiny, 'on')


def test_shots_stand_in_the_question_of_an_instructed_model(config, instructed):
  work, asked = _asked(dataclasses.replace(config, shots=2), instructed)
  for i, text in asked.items():
    assert text.strip() == f'Q {work.prompts[i]} A:'
    assert work.prompts[i].count('\nA:') == 3


def test_a_model_trained_in_the_plain_format_is_asked_in_it(
  config, tiny, instructed, tmp_path
):
  folder = tmp_path / 'tuned'
  model, tokenizer = checkpoints.load(instructed)
  checkpoints.export(model, tokenizer, str(folder), prompt_format='plain')
  assert (folder / 'chat_template.jinja').read_text() == _TEMPLATE
  assert _asked(config, str(folder))[1] == _asked(config, tiny)[1]
  # And through another format.
  model, tokenizer = checkpoints.load(str(folder))
  checkpoints.export_orbax(model, tokenizer, str(tmp_path / 'orbax'))
  assert _asked(config, str(tmp_path / 'orbax'))[1] == _asked(config, tiny)[1]


def test_how_a_model_is_asked_is_in_the_fingerprint(config, instructed):
  from wcse_jax import sharding

  def fingerprint(**changes):
    changed = dataclasses.replace(config, **changes)
    mesh = sharding.make_mesh('')
    return inputs.fingerprint(changed, inputs.prepare(changed), mesh)

  base = fingerprint()
  for changes in (
    {'checkpoint': instructed},
    {'chat': 'off'},
    {'weights': 'int8'},
  ):
    assert fingerprint(**changes) != base


@pytest.mark.parametrize(
  ('change', 'named'),
  [
    ({'chat': 'yes'}, "chat: wanted nothing or on or off; got 'yes'"),
    ({'weights': 'int4'}, "weights: wanted nothing or int8; got 'int4'"),
  ],
)
def test_an_unknown_way_is_named(config, change, named):
  with pytest.raises(errors.InputError) as caught:
    dataclasses.replace(config, **change).validate()
  assert named in str(caught.value)


def test_samples_with_int8_weights(config, tmp_path):
  cost = run.sample(
    dataclasses.replace(config, weights='int8', samples_per_problem=1),
    str(tmp_path),
  )
  assert cost['decode_tokens'] > 0


def test_a_cap_ends_the_run_with_the_shard_that_reaches_it(
  config, done, tmp_path, capsys
):
  whole = done[1]['decode_tokens']
  asked = dataclasses.replace(config, cap=1.0, cap_in='decode_tokens')
  first = run.sample(asked, str(tmp_path / 'run'))
  assert 0 < first['decode_tokens'] < whole
  assert 'the cap of 1 decode_tokens is spent' in capsys.readouterr().err
  # Spent: nothing more is drawn.
  assert run.sample(asked, str(tmp_path / 'run')) == first
  # With more money the rest is, and all is as if there had been no cap.
  rich = dataclasses.replace(asked, cap=1e12)
  assert run.sample(rich, str(tmp_path / 'run'))['decode_tokens'] == whole
  assert sorted(map(str, _rows(tmp_path / 'run'))) == sorted(
    map(str, _rows(done[0]))
  )


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'cap': -1.0}, 'cap: wanted a cost >= 0'),
    ({'cap_in': 'beer'}, 'cap_in: wanted one of'),
    ({'cap': 1.0, 'cap_in': 'usd'}, "cap_in: wanted a price of 'cpu'"),
  ],
)
def test_caps_that_do_not_fit_are_refused(config, tmp_path, change, said):
  with pytest.raises(errors.InputError, match=said):
    run.sample(dataclasses.replace(config, **change), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()
