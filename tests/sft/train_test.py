import dataclasses
import hashlib
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy
import sft_runs

from wcse_jax import checkpoints, errors, tasks
from wcse_jax.sampler import settings as sampler_settings
from wcse_jax.sft import data, settings, train
from wcse_jax.sft import step as steps
from wcse_jax.tasks import base as task_base


def _tree(folder):
  return {
    str(path.relative_to(folder)): hashlib.sha256(
      path.read_bytes() if path.is_file() else b''
    ).hexdigest()
    for path in folder.rglob('*')
  }


def test_a_run_reports_what_it_did(config, done):
  folder, result = done
  assert json.loads((folder / 'training.json').read_text()) == result
  assert result['steps'] == sft_runs.STEPS
  assert list(map(int, result['scores'])) == list(sft_runs.SAVES)
  assert (result['examples'], result['dropped']) == (8, 0)
  assert result['epochs'] == sft_runs.STEPS
  rows = data.encode(
    data.read(config.train)[0], checkpoints.load(config.checkpoint)[1], 24
  )[0]
  assert result['tokens'] == sft_runs.STEPS * sum(
    len(row.tokens) for row in rows
  )
  assert result['chip_seconds'] > 0
  metrics = sft_runs.metrics(folder)
  assert [row['step'] for row in metrics] == list(range(1, sft_runs.STEPS + 1))
  assert metrics[-1]['loss'] < 0.1 * metrics[0]['loss']
  assert not (folder / 'checkpoints').exists()


def test_steps_before_a_checkpoint_have_their_time_too(done):
  lines = (done[0] / 'metrics.jsonl').read_text().splitlines()
  # The first step compiled: it has no speed.
  seconds = sorted(json.loads(line)['step_seconds'] for line in lines[1:])
  assert seconds[0] > seconds[len(seconds) // 2] / 10


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
  assert result['best_step'] != sft_runs.STEPS
  loss = _loss(folder / 'model', config.validation)
  assert loss == pytest.approx(-scores[result['best_step']], rel=1e-5)


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
    sft_runs.killed(config, folder, monkeypatch, 3, behind=True)
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
  assert (result['chosen_by'], result['best_step']) == (
    'last step',
    sft_runs.STEPS,
  )
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


def test_a_step_that_is_not_finite_is_skipped_where_asked(
  config, tmp_path, monkeypatch, caplog
):
  """The second batch of the run is worked on with weights of NaN."""
  real, seen = steps.train, []

  def failing(params, optimizer, frozen, batch, rate, **rest):
    seen.append(batch)
    if len(seen) != 2:
      return real(params, optimizer, frozen, batch, rate, **rest)
    kept = jax.tree.map(jnp.copy, (params, optimizer))
    spoilt = jax.tree.map(lambda p: p * jnp.nan, params)
    return (*kept, real(spoilt, optimizer, frozen, batch, rate, **rest)[2])

  monkeypatch.setattr(steps, 'train', failing)
  skipping = dataclasses.replace(config, validation='', nonfinite='skip')
  result = train.run(skipping, str(tmp_path / 'run'))
  assert result['steps'] == sft_runs.STEPS
  assert 'loss nan at step 2' in caplog.text
  assert 'The step was skipped.' in caplog.text
  rows = sft_runs.metrics(tmp_path / 'run')
  assert rows[1]['loss'] is None
  assert all(row['loss'] is not None for i, row in enumerate(rows) if i != 1)


def test_the_numbers_of_a_run_go_to_tensorboard_and_a_trace(config, tmp_path):
  folder = tmp_path / 'run'
  short = dataclasses.replace(config, validation='', steps=6)
  # On a process of its own: the profiler would end one that has loaded libtpu.
  process = sft_runs.alone([*sft_runs.command(short, folder), '--profile=2'])
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
    assert set(row) == {*names, *sft_runs.TIMED}
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
  metrics = sft_runs.metrics(tmp_path / 'run')
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
