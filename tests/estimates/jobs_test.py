import dataclasses
import random

import pytest
from flax import nnx

from wcse_jax import budget, records, shardfiles
from wcse_jax.aot import ideal
from wcse_jax.models import hf_config, transformer
from wcse_jax.sampler import inputs, memory, settings
from wcse_jax.sft import settings as sft_settings


def _config(hf_rows, family):
  return hf_config.from_hf(hf_rows[family])


def test_flops_are_those_of_the_ledger(sampling):
  job = sampling(prompts=3, samples=3 * 20)
  rows = [
    records.Sample(
      problem_id=str(problem),
      index=index,
      text='',
      tokens=(1,) * 100,
      finish_reason='stop',
      prompt_tokens=760,
      shared_prompt_tokens=700,
      output_tokens=100,
      logprob=0.0,
    )
    for problem in range(3)
    for index in range(20)
  ]
  # A shard has so many samples of a problem, for which it is read once.
  size = shardfiles.BLOCK_SAMPLES
  booked = inputs.prefix(job.model, rows[0])['flops']
  for first in range(0, 20, size):
    part = [row for row in rows if first <= row.index < first + size]
    booked += inputs.flops(job.model, part)
  assert job.flops() == booked
  once = inputs.prefix(job.model, rows[0])['flops']
  once += inputs.flops(job.model, rows)
  assert dataclasses.replace(job, block=0).flops() == once


@pytest.mark.parametrize(
  'family', ['gemma', 'gemma3', 'gemma4_e', 'gemma4_moe', 'llama', 'qwen2']
)
def test_a_step_reads_what_it_has_to(sampling, hf_rows, family):
  model = _config(hf_rows, family)
  shapes = nnx.eval_shape(
    lambda: transformer.Transformer(model, dtype='bfloat16', rngs=nnx.Rngs(0))
  )
  job = sampling(model=model, spread=0.0)
  filled = job.own_tokens + 50
  assert job.filled == filled
  for slots in (1, 64):
    _, used = ideal.cache(
      model, slots=slots, places=job.places, filled=filled, item=2
    )
    least = ideal.step_weights(shapes, slots)
    least += used + ideal.prefix(model, 700, 2)
    assert job.step_bytes(slots) == pytest.approx(least, rel=1e-3)


@pytest.mark.parametrize('name', ['gemma2-27b', 'gemma3-270m', 'gemma4-e2b'])
@pytest.mark.parametrize('weights', ['', 'int8'])
@pytest.mark.parametrize(
  'mesh', [{}, {'data': 2, 'tensor': 4}, {'fsdp': 4, 'tensor': 2}]
)
def test_a_device_needs_what_a_run_asks_for(sampling, name, weights, mesh):
  job = sampling(name, weights=weights)
  found = memory.need(
    job.model,
    settings.SamplerConfig(max_new_tokens=256, slots=48, prefill_batch=16),
    prefix=700,
    suffix=job.places - 256,
    dtype='bfloat16',
    weights=weights,
    mesh=mesh,
  )
  assert job.device_bytes(48, 16, **mesh) == pytest.approx(found.total)


@pytest.mark.parametrize('slots', [50, 400, 2000])
def test_steps_are_those_of_slots_that_are_kept_full(sampling, slots):
  job = sampling(samples=4000, output_tokens=100, spread=0.5)
  rng = random.Random(3)
  lengths = [min(256, max(1, round(rng.gauss(100, 50)))) for _ in range(4000)]
  waiting = iter(lengths)
  left = [next(waiting) for _ in range(slots)]
  filled, steps = 0, 0
  while left:
    steps += 1
    left = [n - 1 for n in left]
    ended = left.count(0)
    left = [n for n in left if n] + [
      n for n in (next(waiting, 0) for _ in range(ended)) if n
    ]
    filled += len(left)
  assert job.steps(slots) == pytest.approx(steps, rel=0.06)


def test_what_slots_hold_on_average(sampling):
  job = sampling(output_tokens=100, spread=0.5, samples=2)
  rng = random.Random(4)
  lengths = [min(256, max(1, round(rng.gauss(100, 50)))) for _ in range(9000)]
  drawn = sum(n * (n - 1) / 2 for n in lengths) / sum(lengths)
  assert job.filled == pytest.approx(job.own_tokens + drawn, rel=0.03)


def test_rounds_and_replicas(sampling):
  job = sampling(samples=1600)
  # Each round waits for its longest sample.
  more = dataclasses.replace(job, rounds=10)
  assert more.steps(64) == 10 * dataclasses.replace(job, samples=160).steps(64)
  assert job.steps(64, replicas=4) == (
    dataclasses.replace(job, samples=400).steps(64)
  )
  assert job.steps(4096) == 256


def test_places_are_those_of_the_longest_prompt(sampling):
  assert sampling(longest_prompt=900).places == 208 + 256
  assert sampling(longest_prompt=0).places == 64 + 256
  assert sampling(longest_prompt=900).padded_prompt == 64


def test_training_counts_its_tokens(training):
  job = training(target_tokens=100, runs=3)
  one = budget.training_flops(job.model, 160, logits=100)
  assert job.flops() == 3 * 10 * 8 * one
  assert job.row_flops() == budget.training_flops(job.model, 256, logits=100)
  assert job.work == '30 steps'


def test_training_by_sequences(training):
  job = training(sft={'steps': 0}, sequences=100)
  assert job.steps == 13
  packed = training(
    sft={'steps': 0, 'packing': True, 'max_length': 1024}, sequences=100
  )
  assert 1024 * 0.85 < packed.sequences_per_row * 160 < 1024
  assert packed.steps == 3


def test_training_holds_weights_slopes_and_state(training):
  whole = training()
  assert whole.state_bytes() == 16 * whole.model.parameters()
  half = training(
    sft={'optimizer': sft_settings.OptimizerConfig(state_dtype='bfloat16')}
  )
  assert half.state_bytes() == 12 * whole.model.parameters()
  part = training(
    sft={
      'lora': sft_settings.LoraConfig(rank=4, base='int8'),
      'dtype': 'bfloat16',
    }
  )
  held = whole.model.parameters() + 16 * part.adapters
  assert part.state_bytes() == held
  assert part.flops() < 0.75 * whole.flops()
