"""The benchmark of other engines: that they do the same work, and all of it."""

import dataclasses
import importlib.util
import os
import shutil

import pytest

from wcse_jax import checkpoints, errors
from wcse_jax.peers import base, measure
from wcse_jax.sampler import engine, settings


_WORK = measure.PeersConfig(
  checkpoint='tiny-wc',
  split='test',
  limit=3,
  samples_per_problem=2,
  peers='transformers',
  dtypes='float32',
  batches=(1, 2),
  search_tokens=3,
  repeats=1,
  sampler=settings.SamplerConfig(
    temperature=0.7, top_k=3, max_new_tokens=5, slots=4
  ),
)

needs_torch = pytest.mark.skipif(
  importlib.util.find_spec('torch') is None, reason='wants the extra parity'
)


def test_a_run_is_timed_from_its_tokens():
  run = base.Run.of([[1, 2, 3]] * 4, [[0.0, 2.0, 3.0, 5.0], [5.0, 6.0, 9.0]])
  assert run.tokens == 12
  assert run.first == 3.0
  assert run.step == 2.0
  assert run.seconds == 9.0


@needs_torch
def test_transformers_draws_what_we_draw():
  from wcse_jax.peers import hf

  model, tokenizer = checkpoints.load('tiny-wc')
  prompts = tuple(
    tuple(ids)
    for ids in tokenizer.prompts(['Q: 1 + 2 = ?\nA:', 'Q: Ann has 12.\nA:'])
  )
  task = base.Task(
    prompts=prompts,
    prefix=(),
    samples=2,
    new_tokens=6,
    temperature=0.0,
    top_k=0,
    seed=0,
  )
  # An end token ends none of them.
  tokenizer.end_ids = (2**31 - 1,)
  config = settings.SamplerConfig(temperature=0.0, max_new_tokens=6, slots=2)
  requests = [settings.Request(str(i), 0, p) for i, p in enumerate(prompts)]
  rows = engine.Sampler(model, tokenizer, config).generate(requests)
  ours = {row.problem_id: list(row.tokens) for row in rows}
  peer = hf.Transformers(checkpoints.resolve('tiny-wc'), 'float32', 1)
  for variant in peer.variants:
    for batch in (1, 2):
      run = peer.run(task, batch, variant)
      assert run.drawn == [ours['0']] * 2 + [ours['1']] * 2
      assert 0 < run.first < run.seconds


@needs_torch
def test_the_best_of_what_was_tried_does_the_work():
  found = measure.measure(_WORK)
  assert found['work']['problems'] == 3
  (result,) = found['results']
  tried = {(row['batch'], row['variant']) for row in result['search']}
  assert tried == {(b, v) for b in (1, 2) for v in ('dynamic', 'static')}
  best = max(result['search'], key=lambda row: row['predicted'])
  assert (result['batch'], result['variant']) == (
    best['batch'],
    best['variant'],
  )
  assert result['tokens'] == 3 * 2 * 5
  assert result['share_of_work'] == 1
  assert result['tokens_per_second'] == 30 / result['seconds']
  assert all(r['matrix_float32'] > 1e9 for r in result['machine'])
  # A part of it is whole batches.
  part = dataclasses.replace(_WORK, peer_limit=1, batches=(2,))
  (result,) = measure.measure(part)['results']
  assert (result['problems'], result['tokens']) == (2, 20)


class _Given:
  """A peer that makes batches by itself, and says what it was asked."""

  version = 'given 1'
  variants = ('default',)
  schedules = True

  def __init__(self):
    self.asked = []
    self.closed = False

  def run(self, task, batch, variant):
    assert not self.closed
    self.asked.append((len(task.prompts), batch, task.new_tokens))
    drawn = [[7] * task.new_tokens] * len(task.prompts) * task.samples
    return base.Run(drawn=drawn, first=1.0, step=0.5, seconds=4.0)

  def close(self):
    self.closed = True


def test_who_makes_batches_by_itself_is_given_all_problems(monkeypatch):
  peer = _Given()
  monkeypatch.setattr(measure, '_open', lambda *_: peer)
  limits = {0: 3, 2: 2, 9: 3}
  for limit, problems in limits.items():
    peer.closed, peer.asked = False, []
    config = dataclasses.replace(_WORK, peer_limit=limit, dtypes='bfloat16')
    (result,) = measure.measure(config)['results']
    assert peer.asked == [
      (1, 1, 3),
      (problems, problems, 3),
      (problems, problems, 5),
    ]
    assert peer.closed
    assert (result['batch'], result['version']) == (problems, 'given 1')
    assert result['tokens_per_second'] == problems * 2 * 5 / 4
  before, after = result['machine']
  assert before.keys() == after.keys()
  assert before['device'] == 'cpu'
  assert before['matrix_float32'] > 1e9
  assert before['matrix_bfloat16'] > 0


@needs_torch
def test_transformers_makes_weights_up(tmp_path):
  there = checkpoints.resolve('tiny-wc')
  for name in os.listdir(there):
    if name not in ('model.safetensors', 'manifest.json'):
      shutil.copy(os.path.join(there, name), tmp_path)
  config = dataclasses.replace(
    _WORK, checkpoint=str(tmp_path), random_weights=True, batches=(2,)
  )
  found = measure.measure(config)
  assert found['random_weights']
  (result,) = found['results']
  assert result['tokens'] == 3 * 2 * 5


@needs_torch
def test_made_up_weights_are_of_the_dtype_and_the_same_again():
  import torch

  from wcse_jax.peers import hf

  folder = checkpoints.resolve('tiny-wc')
  one, two = (
    hf.Transformers(folder, 'bfloat16', 1, random=True)._model.state_dict()
    for _ in range(2)
  )
  read = hf.Transformers(folder, 'bfloat16', 1)._model.state_dict()
  assert one.keys() == two.keys() == read.keys()
  assert {w.dtype for w in one.values()} == {torch.bfloat16}
  assert all(torch.equal(w, two[name]) for name, w in one.items())
  assert not all(torch.equal(w, read[name]) for name, w in one.items())


@pytest.mark.parametrize(
  ('field', 'value', 'said'),
  [
    (
      'peers',
      'sglang',
      "peers: wanted some of transformers,llama.cpp,vllm; got 'sglang'",
    ),
    ('dtypes', 'int8', "dtypes: wanted some of float32,bfloat16; got 'int8'"),
    ('batches', (), 'batches: wanted counts >= 1; got ()'),
    ('search_tokens', 2, 'search_tokens: wanted a count >= 3; got 2'),
    ('peer_limit', -1, 'peer_limit: wanted a count >= 0; got -1'),
    ('vllm_sequences', 0, 'vllm_sequences: wanted a count >= 1; got 0'),
    ('end_tokens', True, 'end_tokens: wanted False'),
    ('peers', 'llama.cpp', "gguf: wanted a .gguf file for llama.cpp; got ''"),
    (
      'sampler',
      settings.SamplerConfig(top_p=0.5),
      'sampler: wanted temperature and top_k alone',
    ),
    (
      'sampler',
      settings.SamplerConfig(max_new_tokens=2),
      'sampler.max_new_tokens: wanted a count >= 3 for peers; got 2',
    ),
  ],
)
def test_what_does_not_fit_is_refused(field, value, said):
  with pytest.raises(errors.InputError) as caught:
    dataclasses.replace(_WORK, **{field: value}).validate()
  assert said in str(caught.value)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('peer', 'package'), [('transformers', 'wcse-jax[parity]'), ('vllm', 'vllm')]
)
def test_who_is_not_installed_is_told_in_one_line(peer, package, monkeypatch):
  monkeypatch.setattr(importlib.util, 'find_spec', lambda _: None)
  with pytest.raises(errors.InputError) as caught:
    dataclasses.replace(_WORK, peers=peer).validate()
  assert str(caught.value) == (
    f'peers: {peer} is not installed; wanted {package}.'
  )


def test_llama_makes_no_weights_up():
  with pytest.raises(errors.InputError) as caught:
    dataclasses.replace(
      _WORK, peers='llama.cpp', random_weights=True
    ).validate()
  assert str(caught.value) == (
    'random_weights: wanted False for llama.cpp, which reads gguf; got True.'
  )
