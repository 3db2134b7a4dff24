"""Scores equal the model's, whatever else is scored and however it stopped."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import safetensors.numpy
from flax import nnx

from wcse_jax import budget, checkpoints, errors, score, scorefiles, storage
from wcse_jax.sft import data


ROOT = pathlib.Path(__file__).parents[1]


def _rows(count=9, longest=47, seed=0):
  """Returns rows of tokens, and of prompt and completion in between."""
  rng = np.random.default_rng(seed)
  rows = []
  for i in range(count):
    if i % 4 == 1:
      rows.append(
        {
          'prompt': f'Q: {i} + 3?\nA:',
          'completion': f'{i} + 3 = {i + 3}. The answer is {i + 3}.',
        }
      )
    else:
      length = int(rng.integers(2, longest))
      rows.append({'tokens': rng.integers(4, 300, size=length).tolist()})
  return rows


def _write(path, rows):
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)


def _score(path, rows, *, full_logits=False, workdir='', **fields):
  """Returns (result, arrays) of scoring rows, in a folder of their own."""
  path.mkdir(exist_ok=True)
  output = str(path / 'out.npz')
  result = score.score(
    score.ScoreConfig(**({'checkpoint': 'tiny-wc'} | fields)),
    _write(path / 'texts.jsonl', rows),
    output,
    full_logits=full_logits,
    workdir=workdir,
  )
  with np.load(output) as found:
    return result, dict(found)


def _direct(model, rows):
  """Returns (logits_TV, logprobs_T) of each row of tokens by the model alone.

  All are in one call but the last, which is unpadded in one of its own.
  """
  graph, state = nnx.split(model)

  @jax.jit
  def call(state, tokens_BT):
    logits_BTV = nnx.merge(graph, state)(tokens_BT)
    return logits_BTV, jax.nn.log_softmax(logits_BTV)

  tokens_BT = np.zeros((len(rows), max(map(len, rows))), np.int32)
  for row_T, tokens in zip(tokens_BT, rows, strict=True):
    row_T[: len(tokens)] = tokens
  logits_BTV, logprobs_BTV = map(np.asarray, call(state, tokens_BT))
  both = list(zip(logits_BTV, logprobs_BTV, strict=True))
  both[-1] = tuple(
    np.asarray(array)[0] for array in call(state, np.array([rows[-1]]))
  )
  return [
    (logits_TV[: len(tokens)], logprobs_TV[range(len(tokens) - 1), tokens[1:]])
    for (logits_TV, logprobs_TV), tokens in zip(both, rows, strict=True)
  ]


@pytest.mark.parametrize(
  ('name', 'longest', 'full'),
  [
    ('tiny-wc', 47, True),
    pytest.param('tiny-student', 32, False, marks=pytest.mark.slow),
  ],
)
def test_scores_are_the_models(tmp_path, name, longest, full):
  rows = [{'tokens': [2]}, *_rows(longest=longest)]
  workdir = str(tmp_path / 'run')
  result, found = _score(
    tmp_path / 'a', rows, checkpoint=name, full_logits=full, workdir=workdir
  )
  model, tokenizer = checkpoints.load(name)
  texts, starts, names = [], {}, set()
  for i, row in enumerate(rows):
    if 'tokens' in row:
      texts.append(row['tokens'])
      continue
    example = data.Example(row['prompt'], ' ' + row['completion'].strip())
    (encoded,), _ = data.encode([example], tokenizer, 100)
    texts.append(list(encoded.tokens))
    starts[i] = encoded.prompt_tokens
    assert found[f'tokens_{i}'].dtype == np.int32
    assert found[f'tokens_{i}'].tolist() == texts[i]
    start = found[f'completion_start_{i}']
    assert (start.dtype, start.shape) == (np.int64, ())
    assert start == starts[i]
    names |= {f'tokens_{i}', f'completion_start_{i}'}
  losses, tails = [], []
  for i, (logits_TV, logprobs_T) in enumerate(_direct(model, texts)):
    tokens = texts[i]
    losses.extend(-logprobs_T)
    if i in starts:
      tails.extend(-logprobs_T[starts[i] - 1 :])
    assert found[f'logprobs_{i}'].dtype == np.float32
    assert found[f'logprobs_{i}'].shape == (len(tokens) - 1,)
    np.testing.assert_allclose(
      found[f'logprobs_{i}'], logprobs_T, atol=2e-4, rtol=1e-5
    )
    names.add(f'logprobs_{i}')
    if full:
      assert found[f'logits_{i}'].dtype == np.float32
      np.testing.assert_allclose(
        found[f'logits_{i}'], logits_TV, atol=2e-4, rtol=1e-5
      )
      names.add(f'logits_{i}')
  assert set(found) == names
  cap = model.config.final_softcap
  if cap:
    assert all(np.abs(v).max() < cap for k, v in found.items() if 'logits' in k)
  assert result['loss'] == pytest.approx(np.mean(losses), rel=1e-5)
  assert result['completion_loss'] == pytest.approx(np.mean(tails), rel=1e-5)
  assert result['scored_tokens'] == len(losses)
  assert result['completion_tokens'] == len(tails)
  assert result['texts'] == len(rows)
  assert result['tokens'] == len(losses) + len(rows)
  assert storage.read_json(f'{workdir}/score.json') == result
  assert f'{result["loss"]:.6f}' in score.line(result)
  (booked,) = (tmp_path / 'run' / 'ledger.jsonl').read_text().splitlines()
  booked = json.loads(booked)
  assert booked['stage'] == 'score'
  assert booked['prefill_tokens'] == result['tokens']
  lengths = [len(found[f'logprobs_{i}']) + 1 for i in range(len(rows))]
  assert booked['flops'] == sum(
    budget.forward_flops(model.config, n, logits=n if full else n - 1)
    for n in lengths
  )
  assert booked['chip_seconds'] == result['seconds'] * booked['chips'] > 0


def test_mates_and_order_change_nothing(tmp_path, tiny):
  rows = _rows(count=11, longest=32)
  result, found = _score(tmp_path / 'a', rows, checkpoint=tiny)
  back, turned = _score(tmp_path / 'b', rows[::-1], checkpoint=tiny)
  _, alone = _score(tmp_path / 'c', rows[5:6], checkpoint=tiny)
  for i in range(len(rows)):
    one, other = f'logprobs_{i}', f'logprobs_{len(rows) - 1 - i}'
    assert found[one].tobytes() == turned[other].tobytes()
  assert alone['logprobs_0'].tobytes() == found['logprobs_5'].tobytes()
  for field in ('loss', 'completion_loss'):
    assert result[field] == back[field]


class _Cut:
  """Lets so many parts be put, then stops as by SIGTERM."""

  def __init__(self, monkeypatch, most=10**9):
    self.names = []
    put = scorefiles.Parts.put

    def counted(parts, name, *pieces):
      if len(self.names) == most:
        raise errors.Stopped('SIGTERM')
      put(parts, name, *pieces)
      self.names.append(name)

    monkeypatch.setattr(scorefiles.Parts, 'put', counted)


@pytest.mark.parametrize('full_logits', [False, True])
def test_resumed_equals_uninterrupted(
  tmp_path, tiny, monkeypatch, caplog, full_logits
):
  rows = _rows(count=20, longest=30)
  options = {'checkpoint': tiny, 'full_logits': full_logits}
  _score(tmp_path / 'whole', rows, **options)
  whole = (tmp_path / 'whole' / 'out.npz').read_bytes()
  path = tmp_path / 'cut'
  with monkeypatch.context() as patch:
    _Cut(patch, 12 if full_logits else 2)
    with pytest.raises(errors.Stopped):
      _score(path, rows, **options)
  assert not (path / 'out.npz').exists()
  parts = path / 'out.npz.parts'
  batches = sorted(p.name for p in parts.glob('batch-*'))
  assert batches == ['batch-000000', 'batch-000001'][: 1 + (not full_logits)]
  with monkeypatch.context() as patch:
    cut = _Cut(patch)
    _score(path, rows, **options)
  assert not set(batches) & set(cut.names)
  assert (path / 'out.npz').read_bytes() == whole
  assert not parts.exists()
  assert not caplog.records


@pytest.mark.parametrize('part', ['batch-000000', 'logits-00000001-00000000'])
def test_a_corrupt_part_is_worked_out_again(
  tmp_path, tiny, monkeypatch, caplog, part
):
  rows = _rows(count=10, longest=30)
  options = {'checkpoint': tiny, 'full_logits': True}
  _score(tmp_path / 'whole', rows, **options)
  path = tmp_path / 'cut'
  with monkeypatch.context() as patch:
    _Cut(patch, 10)
    with pytest.raises(errors.Stopped):
      _score(path, rows, **options)
  file = path / 'out.npz.parts' / part
  flipped = bytearray(file.read_bytes())
  flipped[-2] ^= 4
  file.write_bytes(flipped)
  _score(path, rows, **options)
  assert (path / 'out.npz').read_bytes() == (
    tmp_path / 'whole' / 'out.npz'
  ).read_bytes()
  assert part in caplog.text


def test_parts_of_other_settings_are_discarded(
  tmp_path, tiny, monkeypatch, caplog
):
  rows = _rows(count=9, longest=30)
  path = tmp_path / 'a'
  with monkeypatch.context() as patch:
    _Cut(patch, 1)
    with pytest.raises(errors.Stopped):
      _score(path, rows, checkpoint=tiny)
  cut = _Cut(monkeypatch)
  _score(path, rows[::-1], checkpoint=tiny)
  assert 'discarded' in caplog.text
  assert cut.names == ['batch-000000', 'batch-000001']


def test_a_mesh_changes_the_last_bits_alone(tmp_path, tiny):
  rows = _rows(count=5, longest=30)
  _, plain = _score(tmp_path / 'a', rows, checkpoint=tiny, full_logits=True)
  _, split = _score(
    tmp_path / 'b',
    rows,
    checkpoint=tiny,
    full_logits=True,
    mesh='data=2,fsdp=2,tensor=2',
    batch_size=4,
  )
  for name, array in plain.items():
    np.testing.assert_allclose(split[name], array, atol=1e-4, rtol=1e-5)


@pytest.mark.parametrize(
  ('fields', 'rows', 'wanted'),
  [
    ({'checkpoint': 'tiny-xx'}, _rows(1), 'tiny-xx'),
    ({'batch_size': 0}, _rows(1), 'batch_size'),
    ({'batch_size': 9}, _rows(1), 'data x fsdp = 8; got 9'),
    ({'dtype': 'float64'}, _rows(1), "dtype: .* 'float64'"),
    ({'weights': 'int4'}, _rows(1), "weights: .* 'int4'"),
    ({'mesh': 'data=3'}, _rows(1), 'mesh'),
    ({}, [], 'empty'),
    ({}, [{'tokens': [4]}, {'tokens': []}], 'row 2: tokens'),
    ({}, [{'tokens': [352]}], r'row 1: .* below 352, .* got 352'),
    ({}, [{'tokens': [4] * 8193}], r'row 1: .* at most 8192 tokens'),
    ({}, [{'prompt': 'a', 'completion': ''}], 'row 1: completion'),
  ],
)
def test_bad_input_writes_and_compiles_nothing(
  tmp_path, nothing_compiled, fields, rows, wanted
):
  with pytest.raises(errors.InputError, match=wanted):
    _score(tmp_path / 'a', rows, workdir=str(tmp_path / 'run'), **fields)
  assert [p.name for p in tmp_path.rglob('*')] == ['a', 'texts.jsonl']


def test_bad_paths_are_refused(tmp_path):
  source = _write(tmp_path / 'texts.jsonl', _rows(1))
  config = score.ScoreConfig()
  for arguments, wanted in (
    (('', 'out.npz'), '--input'),
    ((source, ''), '--output'),
    ((source, source), '--output'),
    ((source, str(tmp_path)), '--output'),
  ):
    with pytest.raises(errors.InputError, match=wanted):
      score.score(config, *arguments)


def test_weights_without_a_number_are_found(tmp_path, tiny):
  broken = tmp_path / 'broken'
  shutil.copytree(tiny, broken)
  (broken / 'manifest.json').unlink()
  weights = safetensors.numpy.load_file(broken / 'model.safetensors')
  # The row of one token alone.
  weights['model.embed_tokens.weight'][7] = np.nan
  safetensors.numpy.save_file(
    weights, broken / 'model.safetensors', metadata={'format': 'pt'}
  )
  rows = [{'tokens': [4, 5]}, {'tokens': [4, 7, 5]}]
  with pytest.raises(errors.InputError, match=r'row \d: the model gives NaN'):
    _score(tmp_path / 'a', rows, checkpoint=str(broken))
  assert not (tmp_path / 'a' / 'out.npz').exists()


def _launch(*arguments):
  return subprocess.Popen(
    [sys.executable, str(ROOT / 'launch' / 'score.py'), *arguments],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
    cwd=ROOT,
    # The machine's own device, not the eight of these tests.
    env=os.environ | {'XLA_FLAGS': ''},
  )


def test_the_command(tmp_path, tiny):
  rows = _rows(count=6, longest=30)
  rows = [row for row in rows if 'tokens' in row]
  source, output = str(tmp_path / 'texts.jsonl'), str(tmp_path / 'out.npz')
  arguments = [f'--output={output}', f'--config.checkpoint={tiny}']
  refused = _launch(f'--input={source}', *arguments)
  _write(tmp_path / 'other.jsonl', rows)
  done = _launch(f'--input={tmp_path / "other.jsonl"}', *arguments)
  out, err = refused.communicate(timeout=60)
  assert refused.returncode == 2
  assert not out
  assert f'{source}: wanted a file' in err
  out, err = done.communicate(timeout=60)
  assert done.returncode == 0, err
  assert len(out.splitlines()) == 1
  assert out.startswith('mean loss (nats): ')
  assert sorted(os.listdir(tmp_path)) == ['other.jsonl', 'out.npz']
  model, _ = checkpoints.load(tiny)
  with np.load(output) as found:
    texts = [row['tokens'] for row in rows]
    for i, (_, logprobs_T) in enumerate(_direct(model, texts)):
      np.testing.assert_allclose(found[f'logprobs_{i}'], logprobs_T, atol=1e-4)


@pytest.mark.slow
def test_a_killed_run_goes_on(tmp_path):
  rows = _rows(count=400, longest=32)
  source = _write(tmp_path / 'texts.jsonl', rows)

  def arguments(name):
    output = tmp_path / name
    return [
      f'--input={source}',
      f'--output={output}',
      '--full_logits',
      '--config.batch_size=2',
    ]

  whole = _launch(*arguments('whole.npz'))
  _, err = whole.communicate(timeout=300)
  assert whole.returncode == 0, err
  parts = tmp_path / 'cut.npz.parts'
  for least in (20, 60, 100):
    process = _launch(*arguments('cut.npz'))
    while len(list(parts.glob('batch-*'))) < least:
      assert process.poll() is None, process.communicate()
      time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / 'cut.npz').exists()
  last = _launch(*arguments('cut.npz'))
  _, err = last.communicate(timeout=300)
  assert last.returncode == 0, err
  assert (tmp_path / 'cut.npz').read_bytes() == (
    tmp_path / 'whole.npz'
  ).read_bytes()
  assert not parts.exists()
