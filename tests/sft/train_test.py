import dataclasses
import hashlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import jax.numpy as jnp
import jobs
import numpy as np
import pytest
import safetensors.numpy

import wcse_jax
from wcse_jax import checkpoints, errors, tasks
from wcse_jax.sampler import settings as sampler_settings
from wcse_jax.sft import data, settings, train
from wcse_jax.sft import step as steps
from wcse_jax.sft import store as stores
from wcse_jax.tasks import base as task_base


_REPOSITORY = pathlib.Path(wcse_jax.__file__).parent.parent
_STEPS, _SAVES = 12, (3, 6, 9, 12)
# What of a step's numbers is not decided by the run.
_TIMED = ('step_seconds', 'tokens_per_second', 'mfu', 'memory_bytes')


@pytest.fixture(scope='module')
def questions(tmp_path_factory):
  """A file of eight GSM8K rows whose answer is 4."""
  path = tmp_path_factory.mktemp('data') / 'questions.jsonl'
  path.write_text(
    ''.join(
      json.dumps({'question': f'{i} and {i}?', 'answer': '#### 4'}) + '\n'
      for i in range(8)
    )
  )
  return str(path)


@pytest.fixture(scope='module')
def examples(questions, tmp_path_factory):
  """answer -> JSONL of the questions with that answer for all of them."""
  task = tasks.load('gsm8k', questions)
  folder = tmp_path_factory.mktemp('examples')

  def path(answer):
    rows = [
      data.example(task, problem, f'The answer is {answer}.')
      for problem in task.problems('train')
    ]
    file = str(folder / f'{answer}.jsonl')
    data.write(file, rows)
    return file

  return path


@pytest.fixture(scope='module')
def validation(examples):
  """A JSONL of eleven rows: a whole batch and a part of one."""
  rows = [
    data.Example(row.prompt.replace(' and ', ' or '), row.completion)
    for row in data.read(examples(7))[0]
  ]
  path = f'{examples(7)}.more'
  data.write(path, rows + [data.Example('1?', f' {i}.') for i in range(3)])
  return path


@pytest.fixture(scope='module')
def config(tiny, examples, validation):
  return settings.SftConfig(
    checkpoint=tiny,
    train=examples(4),
    validation=validation,
    steps=_STEPS,
    batch_size=8,
    max_length=24,
    checkpoints=len(_SAVES),
    optimizer=settings.OptimizerConfig(learning_rate=4e-2, schedule='constant'),
  )


@pytest.fixture(scope='module')
def done(config, tmp_path_factory):
  """(folder, result) of an undisturbed run; do not change it."""
  folder = tmp_path_factory.mktemp('undisturbed') / 'run'
  return folder, train.run(config, str(folder))


class _KilledError(Exception):
  pass


def _killed(config, folder, monkeypatch, step, *, behind):
  """Runs until the checkpoint of `step`, and ends before or behind it."""
  save = stores.Store.save

  def dying(self, at, *rest):
    if at != step or behind:
      save(self, at, *rest)
      self.wait()
    if at == step:
      raise _KilledError

  with monkeypatch.context() as patch:
    patch.setattr(stores.Store, 'save', dying)
    with pytest.raises(_KilledError):
      train.run(config, str(folder))


def _weights(folder):
  return (folder / 'model' / 'model.safetensors').read_bytes()


def _metrics(folder):
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  rows = [json.loads(line) for line in lines]
  return [{k: v for k, v in row.items() if k not in _TIMED} for row in rows]


def _without_time(result):
  return {k: v for k, v in result.items() if k != 'chip_seconds'}


def _same(folder, result, done):
  assert _weights(folder) == _weights(done[0])
  assert _without_time(result) == _without_time(done[1])
  assert _metrics(folder) == _metrics(done[0])
  assert not (folder / 'checkpoints').exists()


def _tree(folder):
  return {
    str(path.relative_to(folder)): hashlib.sha256(
      path.read_bytes() if path.is_file() else b''
    ).hexdigest()
    for path in folder.rglob('*')
  }


def _flip(folder):
  """Flips a bit of the largest file of a checkpoint: array data."""
  files = (path for path in folder.rglob('*') if path.is_file())
  path = max(files, key=lambda path: path.stat().st_size)
  content = bytearray(path.read_bytes())
  content[len(content) // 2] ^= 1
  path.write_bytes(content)


def test_a_run_reports_what_it_did(config, done):
  folder, result = done
  assert json.loads((folder / 'training.json').read_text()) == result
  assert result['steps'] == _STEPS
  assert list(map(int, result['scores'])) == list(_SAVES)
  assert (result['examples'], result['dropped']) == (8, 0)
  assert result['epochs'] == _STEPS
  rows = data.encode(
    data.read(config.train)[0], checkpoints.load(config.checkpoint)[1], 24
  )[0]
  assert result['tokens'] == _STEPS * sum(len(row.tokens) for row in rows)
  assert result['chip_seconds'] > 0
  metrics = _metrics(folder)
  assert [row['step'] for row in metrics] == list(range(1, _STEPS + 1))
  assert metrics[-1]['loss'] < 0.1 * metrics[0]['loss']
  assert not (folder / 'checkpoints').exists()


def _loss(folder, path):
  """Returns the loss of an exported model on a JSONL, by plain NumPy."""
  model, tokenizer = checkpoints.load(str(folder))
  rows, _ = data.encode(data.read(path)[0], tokenizer, 24)
  tokens_BT = np.zeros((len(rows), 24), np.int32)
  for b, row in enumerate(rows):
    tokens_BT[b, : len(row.tokens)] = row.tokens
  logits_BTV = np.asarray(
    jax.jit(lambda tokens_BT: model(tokens_BT))(tokens_BT), np.float64
  )
  logprobs_BTV = logits_BTV - np.log(
    np.exp(logits_BTV).sum(axis=-1, keepdims=True)
  )
  losses = [
    -logprobs_BTV[b, t - 1, row.tokens[t]]
    for b, row in enumerate(rows)
    for t in range(row.prompt_tokens, len(row.tokens))
  ]
  return sum(losses) / len(losses)


def test_the_checkpoint_of_least_validation_loss_is_exported(config, done):
  folder, result = done
  scores = {int(k): v for k, v in result['scores'].items()}
  assert result['chosen_by'] == 'validation loss'
  assert result['best_step'] == max(scores, key=scores.get)
  # Most validation rows have other answers: the last is not the best.
  assert result['best_step'] != _STEPS
  loss = _loss(folder / 'model', config.validation)
  assert loss == pytest.approx(-scores[result['best_step']], rel=1e-5)


@pytest.mark.parametrize(
  ('step', 'behind'), [(3, False), (9, False), (12, True)]
)
def test_a_resumed_run_ends_with_the_same_bits(
  config, done, tmp_path, monkeypatch, step, behind
):
  folder = tmp_path / 'run'
  _killed(config, folder, monkeypatch, step, behind=behind)
  assert not (folder / 'training.json').exists()
  _same(folder, train.run(config, str(folder)), done)


def test_a_damaged_checkpoint_is_passed_over(
  config, done, tmp_path, monkeypatch, caplog
):
  folder = tmp_path / 'run'
  _killed(config, folder, monkeypatch, 9, behind=True)
  _flip(folder / 'checkpoints' / '00000009')
  result = train.run(config, str(folder))
  assert '00000009: damaged or unfinished' in caplog.text
  _same(folder, result, done)


def test_a_damaged_best_checkpoint_is_made_again(
  config, done, tmp_path, monkeypatch, caplog
):
  folder = tmp_path / 'run'
  _killed(config, folder, monkeypatch, 12, behind=True)
  best = f'{done[1]["best_step"]:08d}'
  _flip(folder / 'checkpoints' / best)
  result = train.run(config, str(folder))
  assert f'{best}: damaged or unfinished' in caplog.text
  _same(folder, result, done)


@pytest.mark.slow
def test_a_process_killed_with_signal_9_is_resumed(config, done, tmp_path):
  folder = tmp_path / 'run'
  process = _alone(
    _command(config, folder),
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
  )
  while (
    process.poll() is None
    and not (folder / 'checkpoints' / '00000003.json').exists()
  ):
    time.sleep(0.005)
  process.kill()
  assert process.wait() == -signal.SIGKILL
  assert not (folder / 'training.json').exists()
  _same(folder, train.run(config, str(folder)), done)


def test_a_finished_run_returns_at_once(config, done, nothing_compiled):
  before = _tree(done[0])
  assert train.run(config, str(done[0])) == done[1]
  assert _tree(done[0]) == before


@pytest.mark.parametrize('state', ['finished', 'begun'])
def test_another_run_in_the_folder_is_refused_and_changes_nothing(
  config, examples, done, tmp_path, monkeypatch, state
):
  folder = tmp_path / 'run'
  if state == 'finished':
    shutil.copytree(done[0], folder)
  else:
    _killed(config, folder, monkeypatch, 3, behind=True)
  before = _tree(folder)
  slower = dataclasses.replace(config.optimizer, learning_rate=1e-3)
  other = str(tmp_path / 'other.jsonl')
  data.write(other, [data.Example('2?', ' 2.')])
  for change, field in (
    ({'seed': 1}, 'config.seed: wanted 1, has 0'),
    ({'optimizer': slower}, 'config.optimizer.learning_rate: wanted 0.001'),
    ({'train': examples(5)}, 'rows: wanted'),
    ({'validation': other}, 'validation: wanted'),
  ):
    with pytest.raises(errors.InputError) as caught:
      train.run(dataclasses.replace(config, **change), str(folder))
    assert field in str(caught.value)
    assert '\n' not in str(caught.value)
    assert _tree(folder) == before


def test_the_same_rows_in_another_place_are_the_same_run(
  config, done, tmp_path, nothing_compiled
):
  moved = dataclasses.replace(
    config,
    train=shutil.copy(config.train, tmp_path / 'a.jsonl'),
    validation=shutil.copy(config.validation, tmp_path / 'b.jsonl'),
  )
  assert train.run(moved, str(done[0])) == done[1]


def test_the_checkpoint_of_most_right_answers_is_exported(
  config, questions, tmp_path
):
  task = tasks.load('gsm8k', questions)
  chosen = task_base.select(task, 'train', validation_size=4)
  rows = [
    data.example(task, problem, 'The answer is 4.') for _, problem in chosen
  ]
  data.write(str(tmp_path / 'rest.jsonl'), rows)
  judged = dataclasses.replace(
    config,
    train=str(tmp_path / 'rest.jsonl'),
    validation='',
    task='gsm8k',
    data=questions,
    validation_problems=4,
    validation_size=4,
    sampler=sampler_settings.SamplerConfig(
      max_new_tokens=8, slots=8, prefill_batch=8
    ),
  )
  folder = tmp_path / 'run'
  result = train.run(judged, str(folder))
  scores = {int(k): v for k, v in result['scores'].items()}
  assert result['chosen_by'] == 'accuracy'
  # All is learned at some checkpoint, which is the first of the best.
  assert max(scores.values()) == 1.0
  assert result['best_step'] == min(s for s in scores if scores[s] == 1.0)


def test_without_validation_the_last_checkpoint_is_exported(config, tmp_path):
  plain = dataclasses.replace(config, validation='')
  result = train.run(plain, str(tmp_path / 'run'))
  assert (result['chosen_by'], result['best_step']) == ('last step', _STEPS)
  assert _loss(tmp_path / 'run' / 'model', config.train) < 0.1


@pytest.mark.parametrize(
  ('weight', 'gain', 'said'),
  [
    (np.nan, 0.0, 'training diverged: loss nan at step 1 (train examples 2, '),
    # What comes out is of order 1, but its slope is not.
    (1e-28, 1e25, 'training diverged: gradient_norm inf at step 1 (train ex'),
  ],
)
def test_a_run_that_diverges_ends_and_saves_nothing(
  config, tmp_path, weight, gain, said
):
  model, tokenizer = checkpoints.load(config.checkpoint)
  block = model.stacks[0].blocks[0]
  block.o.set_value(block.o[...] * weight)
  block.attention_post_norm.set_value(
    jnp.full(block.attention_post_norm.shape, gain)
  )
  checkpoints.export(model, tokenizer, str(tmp_path / 'broken'))
  broken = dataclasses.replace(config, checkpoint=str(tmp_path / 'broken'))
  with pytest.raises(errors.InputError) as caught:
    train.run(broken, str(tmp_path / 'run'))
  assert str(caught.value).startswith(said)
  assert str(caught.value).endswith('lower optimizer.learning_rate=0.04.')
  assert not (tmp_path / 'run' / 'model').exists()
  assert not (tmp_path / 'run' / 'checkpoints').exists()


@pytest.mark.parametrize(
  ('fields', 'said'),
  [
    ({'batch_size': 12}, 'batch_size: wanted a multiple of data x fsdp'),
    ({'accumulate': 2}, 'batch_size: wanted a multiple of data x fsdp'),
    ({'checkpoint': 'nowhere'}, 'checkpoint: wanted a Hugging Face folder'),
    ({'train': 'nowhere'}, 'train: wanted a JSONL file or a run folder'),
    ({'validation': 'nowhere'}, 'nowhere'),
    ({'max_length': 3}, 'train: none of 8 examples'),
    ({'mesh': 'data=3'}, "mesh: 'data=3' wants 3 devices"),
  ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
  config, tmp_path, nothing_compiled, fields, said
):
  with pytest.raises(errors.InputError) as caught:
    train.run(dataclasses.replace(config, **fields), str(tmp_path / 'run'))
  assert said in str(caught.value)
  assert '\n' not in str(caught.value)
  assert not (tmp_path / 'run').exists()


def _command(config, folder, **more):
  """Returns the command of a run, and its environment."""
  fields = dataclasses.asdict(config)
  optimizer = fields.pop('optimizer')
  for name in ('sampler', 'selection', 'lora'):
    del fields[name]
  fields |= {f'optimizer.{name}': v for name, v in optimizer.items()} | more
  flags = [f'--config.{name}={value}' for name, value in fields.items()]
  return ['launch/sft.py', f'--workdir={folder}', *flags]


def _alone(arguments, **popen):
  return subprocess.Popen(
    [sys.executable, *arguments],
    cwd=_REPOSITORY,
    env=os.environ | {'PYTHONPATH': str(_REPOSITORY)},
    **popen,
  )


def test_a_stop_saves_and_exits_75(config, done, tmp_path):
  folder = tmp_path / 'run'
  process = _alone(_command(config, folder), stderr=subprocess.PIPE, text=True)
  while not (folder / 'checkpoints' / '00000003.json').exists():
    assert process.poll() is None
    time.sleep(0.005)
  began = time.monotonic()
  process.send_signal(signal.SIGTERM)
  said = process.communicate()[1]
  assert process.returncode == 75, said
  assert time.monotonic() - began < 10
  assert 'which was saved; run it again to go on.' in said
  step = int(said.rsplit('after step ', 1)[1].split(',')[0])
  assert (folder / 'checkpoints' / f'{step:08d}.json').exists()
  _same(folder, train.run(config, str(folder)), done)


@pytest.mark.slow
def test_twenty_kills_lose_no_good_checkpoint(config, done, tmp_path):
  """kill -9 at random moments: what was good stays good, and goes on."""
  folder = tmp_path / 'run'
  random = np.random.default_rng(0)
  newest, kills = 0, 0
  began = time.monotonic()
  assert _alone(_command(config, tmp_path / 'whole')).wait() == 0
  whole = time.monotonic() - began
  while kills < 20:
    process = _alone(
      _command(config, folder),
      stdout=subprocess.DEVNULL,
      stderr=subprocess.DEVNULL,
    )
    time.sleep(float(random.uniform(0.2, 1.0)) * whole)
    if process.poll() is not None:
      # It was done before it could be killed: another run.
      assert process.returncode == 0
      _same(folder, json.loads((folder / 'training.json').read_text()), done)
      shutil.rmtree(folder)
      newest = 0
      continue
    process.kill()
    process.wait()
    kills += 1
    if (folder / 'checkpoints').exists() and not (
      folder / 'training.json'
    ).exists():
      manifests = sorted((folder / 'checkpoints').glob('*.json'))
      at = int(manifests[-1].stem) if manifests else 0
      assert at >= newest
      newest = at
  _same(folder, train.run(config, str(folder)), done)


@pytest.mark.slow
def test_a_run_goes_on_from_every_step(config, tmp_path, monkeypatch):
  """On the same mesh bit for bit, on another one but for rounding."""
  steps = 30
  long = dataclasses.replace(
    config,
    validation='',
    steps=steps,
    checkpoints=steps,
    optimizer=dataclasses.replace(config.optimizer, learning_rate=1e-2),
  )
  calm = tmp_path / 'calm'
  done = calm, train.run(long, str(calm))
  meshes = ('data=8', 'data=2,fsdp=2,tensor=2', 'fsdp=8')
  for step in range(1, steps):
    folder = tmp_path / f'{step}'
    _killed(long, folder, monkeypatch, step, behind=True)
    assert (folder / 'checkpoints' / f'{step:08d}.json').exists()
    other = tmp_path / f'{step}-other'
    shutil.copytree(folder, other)
    _same(folder, train.run(long, str(folder)), done)
    moved = dataclasses.replace(long, mesh=meshes[step % 3])
    train.run(moved, str(other))
    for row, want in zip(_metrics(other), _metrics(calm), strict=True):
      assert row['loss'] == pytest.approx(want['loss'], abs=2e-3)
    assert _metrics(other)[:step] == _metrics(calm)[:step]
    shutil.rmtree(folder)
    shutil.rmtree(other)


@pytest.mark.slow
def test_a_run_goes_on_on_another_mesh(config, done, tmp_path, monkeypatch):
  folder = tmp_path / 'run'
  _killed(config, folder, monkeypatch, 6, behind=True)
  moved = dataclasses.replace(config, mesh='data=2,fsdp=2,tensor=2')
  train.run(moved, str(folder))
  for row, want in zip(_metrics(folder), _metrics(done[0]), strict=True):
    assert row['loss'] == pytest.approx(want['loss'], abs=1e-2)


def test_a_step_that_is_not_finite_is_skipped_where_asked(
  config, tmp_path, monkeypatch, caplog
):
  """The second batch of the run is worked on with weights of NaN."""
  real, seen = steps.train, []

  def failing(params, optimizer, frozen, batch, **rest):
    seen.append(batch)
    if len(seen) != 2:
      return real(params, optimizer, frozen, batch, **rest)
    kept = jax.tree.map(jnp.copy, (params, optimizer))
    spoilt = jax.tree.map(lambda p: p * jnp.nan, params)
    return (*kept, real(spoilt, optimizer, frozen, batch, **rest)[2])

  monkeypatch.setattr(steps, 'train', failing)
  skipping = dataclasses.replace(config, validation='', nonfinite='skip')
  result = train.run(skipping, str(tmp_path / 'run'))
  assert result['steps'] == _STEPS
  assert 'loss nan at step 2' in caplog.text
  assert 'The step was skipped.' in caplog.text
  rows = _metrics(tmp_path / 'run')
  assert rows[1]['loss'] is None
  assert all(row['loss'] is not None for i, row in enumerate(rows) if i != 1)


def test_the_numbers_of_a_run_go_to_tensorboard_and_a_trace(config, tmp_path):
  folder = tmp_path / 'run'
  short = dataclasses.replace(config, validation='', steps=6)
  # On a process of its own: the profiler would end one that has loaded libtpu.
  process = _alone([*_command(short, folder), '--profile=2'])
  assert process.wait() == 0
  rows = [
    json.loads(line)
    for line in (folder / 'metrics.jsonl').read_text().splitlines()
  ]
  assert [row['step'] for row in rows] == list(range(1, 7))
  names = {'name', 'step', 'loss', 'gradient_norm', 'targets', 'learning_rate'}
  # The first step compiled: it has no speed.
  assert set(rows[0]) == {*names, 'memory_bytes'}
  for row in rows[1:]:
    assert set(row) == {*names, *_TIMED}
    assert 0 < row['mfu'] < 1
    assert row['learning_rate'] == pytest.approx(4e-2)
  (events,) = (folder / 'tensorboard').iterdir()
  content = events.read_bytes()
  for name in (b'loss', b'gradient_norm', b'mfu', b'learning_rate'):
    assert name in content
  assert list((folder / 'profile').rglob('*.xplane.pb'))


@pytest.mark.parametrize(
  'base', [pytest.param('', marks=pytest.mark.slow), 'int8']
)
def test_adapters_are_trained_merged_and_exported(config, tmp_path, base):
  adapted = dataclasses.replace(
    config,
    validation='',
    lora=settings.LoraConfig(rank=4, base=base),
    packing=True,
    max_length=48,
  )
  train.run(adapted, str(tmp_path / 'run'))
  metrics = _metrics(tmp_path / 'run')
  assert metrics[-1]['loss'] < 0.7 * metrics[0]['loss']
  loss = _loss(tmp_path / 'run' / 'model', config.train)
  assert loss == pytest.approx(metrics[-1]['loss'], rel=0.5)
  names = safetensors.numpy.load_file(
    tmp_path / 'run' / 'model' / 'model.safetensors'
  )
  assert not any('lora' in name for name in names)


def test_prompts_of_a_chat_model_go_through_its_template(
  config, tmp_path, monkeypatch
):
  model, tokenizer = checkpoints.load(config.checkpoint)
  folder = tmp_path / 'chat'
  checkpoints.export(model, tokenizer, str(folder), prompt_format='chat')
  described = json.loads((folder / 'tokenizer_config.json').read_text())
  described['chat_template'] = (
    '{% for m in messages %}{{ m.role }} : {{ m.content }}{% if m.role =='
    " 'assistant' %}<eos>{% endif %}{% endfor %}"
    '{% if add_generation_prompt %} A : {% endif %}'
  )
  (folder / 'tokenizer_config.json').write_text(json.dumps(described))
  (folder / 'manifest.json').unlink()
  seen = []
  encode = data.encode

  def noting(*rest, **more):
    found = encode(*rest, **more)
    seen.append((more['chat'], found[0][0]))
    return found

  monkeypatch.setattr(data, 'encode', noting)
  asked = dataclasses.replace(
    config, checkpoint=str(folder), validation='', steps=2, max_length=64
  )
  train.run(asked, str(tmp_path / 'run'))
  ((chat, row),) = seen
  assert chat
  tokenizer = checkpoints.read_tokenizer(str(folder))
  example = data.read(config.train)[0][0]
  prompt = tokenizer.chat([{'role': 'user', 'content': example.prompt}])
  assert list(row.tokens[: row.prompt_tokens]) == prompt
  assert row.tokens[-1] == tokenizer.turn_end()
  exported = json.loads(
    (tmp_path / 'run' / 'model' / 'prompt_format.json').read_text()
  )
  assert exported == {'format': 'chat'}


@pytest.mark.parametrize(
  'mesh',
  [
    'fsdp=2',
    pytest.param('data=2', marks=pytest.mark.slow),
    pytest.param('tensor=2', marks=pytest.mark.slow),
  ],
)
def test_two_processes_train_as_one(config, examples, tmp_path, mesh):
  asked = dataclasses.replace(config, steps=6, checkpoints=2)
  one, two = tmp_path / 'one', tmp_path / 'two'
  jobs.Job(_command(asked, one), 1).succeeds()
  jobs.Job(_command(asked, two, mesh=mesh), 2).succeeds()
  for row, want in zip(_metrics(two), _metrics(one), strict=True):
    assert row['loss'] == pytest.approx(want['loss'], abs=1e-3)
  found, wanted = (
    safetensors.numpy.load_file(folder / 'model' / 'model.safetensors')
    for folder in (two, one)
  )
  for name, value in wanted.items():
    np.testing.assert_allclose(found[name], value, atol=2e-2, err_msg=name)


@pytest.mark.slow
def test_two_processes_are_stopped_at_one_step_and_go_on_as_one(
  config, done, tmp_path
):
  folder = tmp_path / 'run'
  job = jobs.Job(_command(config, folder, mesh='data=2'), 2)
  while not (folder / 'checkpoints' / '00000003.json').exists():
    assert job.members[0].poll() is None
    time.sleep(0.005)
  # The second one alone is told.
  job.members[1].send_signal(signal.SIGTERM)
  found = job.ends()
  assert [status for status, _, _ in found] == [75, 75], found
  steps = {error.rsplit('after step ', 1)[1] for _, _, error in found}
  assert len(steps) == 1
  result = train.run(config, str(folder))
  assert result['steps'] == _STEPS
  for row, want in zip(_metrics(folder), _metrics(done[0]), strict=True):
    assert row['loss'] == pytest.approx(want['loss'], abs=1e-2)


@pytest.mark.slow
def test_a_stop_has_time_to_save(config, done, tmp_path):
  """A checkpoint that takes longer than other stops are given."""
  folder = tmp_path / 'run'
  slow = (
    'import runpy, sys, time; from wcse_jax.sft import store; '
    'real = store.Store._finish; '
    'store.Store._finish = lambda self, step, *rest: '
    '(time.sleep(0 if step < 4 else 10), real(self, step, *rest)); '
    'sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name="__main__")'
  )
  process = _alone(['-c', slow, *_command(config, folder)])
  while not (folder / 'checkpoints' / '00000003.json').exists():
    assert process.poll() is None
    time.sleep(0.005)
  process.send_signal(signal.SIGTERM)
  assert process.wait() == 75
  steps = [int(p.stem) for p in (folder / 'checkpoints').glob('*.json')]
  assert max(steps) > 3
