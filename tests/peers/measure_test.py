"""The benchmark of other engines: that they do the same work, and all of it."""

import dataclasses
import importlib.util

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


@pytest.mark.parametrize(
  ('field', 'value', 'said'),
  [
    ('peers', 'vllm', "peers: wanted some of transformers,llama.cpp; got 'vl"),
    ('dtypes', 'int8', "dtypes: wanted some of float32,bfloat16; got 'int8'"),
    ('batches', (), 'batches: wanted counts >= 1; got ()'),
    ('search_tokens', 2, 'search_tokens: wanted a count >= 3; got 2'),
    ('peer_limit', -1, 'peer_limit: wanted a count >= 0; got -1'),
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
