"""The choice of slots and meshes, with a compiler that is made up; and one real
small program.
"""

import dataclasses
import subprocess
import sys

import pytest

from wcse_jax import errors, prices
from wcse_jax.aot import slices
from wcse_jax.estimates import jobs, kept, tpu
from wcse_jax.models import hf_config
from wcse_jax.sft import settings


V5E = slices.parse('v5e:2x2')
# Of a model whose programs compile in a second or two.
SMALL = hf_config.from_hf(
  {
    'model_type': 'gemma2',
    'vocab_size': 1024,
    'hidden_size': 256,
    'intermediate_size': 512,
    'num_hidden_layers': 2,
    'num_attention_heads': 4,
    'num_key_value_heads': 2,
    'head_dim': 128,
    'query_pre_attn_scalar': 128,
    'sliding_window': 128,
    'layer_types': ['sliding_attention', 'full_attention'],
    'max_position_embeddings': 1024,
    'attn_logit_softcapping': 50.0,
    'final_logit_softcapping': 30.0,
    'rms_norm_eps': 1e-6,
    'rope_theta': 10_000.0,
  }
)


class Compiler:
  """Stands for the real one: what it says follows from a few numbers.

  Attributes:
    calls: what was compiled.
    most: slots that fit at most.
    remat: what of a training step fits.
  """

  def __init__(self):
    self.calls: list[dict] = []
    self.most = 10**9
    self.remat = ('none', 'dots', 'attention', 'full')

  def __call__(self, job, pieces, asked):
    self.calls.append(asked)
    fits = True
    remat = asked.get('remat')
    if asked['program'] == 'decode':
      fits = asked['slots'] <= self.most
    if asked['program'] == 'train':
      fits = (not remat and bool(self.remat)) or remat in self.remat
      remat = remat or (self.remat or ('full',))[0]
    seconds = {'decode': 0.01, 'prefill': 0.1, 'train': 2.0}[asked['program']]
    return {
      'fits': fits,
      'mesh': asked['mesh'] or 'data=1,fsdp=1,tensor=4',
      'slots': asked.get('slots', 1),
      'batch_size': asked.get('batch_size', 1),
      'remat': remat,
      'estimated_seconds': seconds if fits else None,
      'seconds': {'hbm': seconds, 'matrix': 0.001},
      'bytes_per_chip': {
        'weights': 10**6,
        'cache': 10**6,
        'total': 3 * 10**6 if fits else None,
        'limit': pieces.chip.usable,
      },
      'compile_seconds': 5.0,
    }


@pytest.fixture
def compiler(monkeypatch):
  made = Compiler()
  monkeypatch.setattr(tpu, '_compile', made)
  return made


def _decoded(compiler):
  return [c['slots'] for c in compiler.calls if c['program'] == 'decode']


def test_sampling_is_steps_and_prompts(compiler, sampling):
  job = sampling(slots=64, prefill_batch=16)
  found = tpu.on_slice(job, 'v5e:2x2')
  reads = -(-job.reads // 16) + job.prefix_flops() / (
    16 * job.prompt_flops(job.padded_prompt)
  )
  assert found.seconds == pytest.approx(job.steps(64) * 0.01 + reads * 0.1)
  assert found.chips == 4
  assert found.usd == pytest.approx(prices.usd('v5e', 4 * found.seconds))
  assert found.compile_seconds == 10
  assert found.flops == job.flops()
  assert found.settings['slots'] == 64
  assert found.settings['limited_by'] == 'hbm'
  assert found.how.startswith('compiled for v5e:2x2: ')
  decode, prefill = compiler.calls
  assert decode['fill'] == pytest.approx(job.filled / job.places)
  assert (decode['prefix_length'], decode['max_length']) == (700, job.places)
  assert prefill['max_length'] == job.padded_prompt
  assert prefill['batch_size'] == 16


def test_the_largest_number_of_slots_that_fits(compiler, sampling):
  compiler.most = 200
  job = sampling(samples=10**6)
  found = tpu.on_slice(job, 'v5e:2x2')
  assert found.settings['slots'] == 192
  tried = _decoded(compiler)
  assert tried == sorted(tried, reverse=True)
  # A larger one was compiled, and none below the one that fits.
  assert tried[-2] > 200


def test_memory_is_reckoned_before_anything_is_compiled(compiler, sampling):
  # 9B on four chips leave room for a few slots alone.
  job = sampling('gemma2-9b', samples=10**6, longest_prompt=3000)
  found = tpu.on_slice(job, 'v5e:2x2')
  (slots,) = _decoded(compiler)
  rows = tpu._rows(job, V5E)
  need = job.device_bytes(slots, rows, tensor=4)
  assert need <= V5E.chip.usable
  assert found.settings['slots'] == slots
  more = job.device_bytes(slots + 8, rows, tensor=4)
  assert more > V5E.chip.usable


def test_no_more_slots_than_samples(compiler, sampling):
  found = tpu.on_slice(sampling(samples=1000, rounds=10), 'v5e:2x2')
  assert 100 <= found.settings['slots'] < 120


def test_slots_that_are_asked_for_come_first(compiler, sampling):
  compiler.most = 128
  job = sampling(samples=10**6, slots=100)
  assert tpu.on_slice(job, 'v5e:2x2').settings['slots'] == 100
  found = tpu.on_slice(dataclasses.replace(job, slots=200), 'v5e:2x2')
  assert found.settings['slots'] == 128
  (note,) = found.notes
  assert note.startswith('200 slots of ')
  assert '128' in note


def test_what_does_not_fit_has_no_time(compiler, sampling):
  compiler.most = 0
  found = tpu.on_slice(sampling(), 'v5e:2x2')
  assert (found.seconds, found.usd) == (None, None)
  assert found.flops > 0
  (note,) = found.notes
  assert note.startswith('does not fit: ')
  # Nothing is compiled where the weights alone are too much.
  compiler.calls.clear()
  found = tpu.on_slice(sampling('gemma2-27b'), 'v5e:1x1')
  assert found.seconds is None
  assert not compiler.calls


def test_replicas_share_the_samples(compiler, sampling):
  job = sampling(samples=10**6, slots=64)
  one = tpu.on_slice(job, 'v5e:2x2')
  four = tpu.on_slice(job, 'v5e:2x2', replicas=4)
  assert four.chips == 16
  assert four.seconds == pytest.approx(one.seconds / 4, rel=0.01)
  assert four.chip_seconds >= one.chip_seconds * 0.999


def test_a_share_of_the_speed(compiler, sampling):
  one = tpu.on_slice(sampling(), 'v5e:2x2')
  half = tpu.on_slice(sampling(), 'v5e:2x2', share=0.5)
  assert half.seconds == pytest.approx(2 * one.seconds)
  assert half.how == 'compiled for v5e:2x2, 50% of that speed'
  assert 'no run is faster' in one.how


def test_training_is_its_steps(compiler, training):
  found = tpu.on_slice(training(runs=3), 'v5e:2x2')
  assert found.seconds == 3 * 10 * 2.0
  assert found.settings['remat'] == 'none'
  assert found.settings['share_of_peak'] == pytest.approx(
    found.flops / (60 * 4 * 197e12)
  )
  (asked,) = compiler.calls
  assert asked['mesh'] == 'data=1,fsdp=4,tensor=1'
  # A run is not divided.
  four = tpu.on_slice(training(runs=3), 'v5e:2x2', replicas=4)
  assert (four.chips, four.seconds) == (12, 20.0)


def test_what_is_kept_of_a_step_gives_way(compiler, training):
  compiler.remat = ('attention', 'full')
  job = training(sft={'remat': 'none'})
  found = tpu.on_slice(job, 'v5e:2x2')
  assert found.settings['remat'] == 'attention'
  assert found.notes == ('remat=none does not fit; attention does',)
  compiler.remat = ()
  found = tpu.on_slice(training(tokens_per_sequence=100), 'v5e:2x4')
  assert found.seconds is None


def test_a_state_that_is_too_large_is_not_compiled(compiler, training):
  found = tpu.on_slice(training('gemma2-27b'), 'v5e:4x4')
  assert found.seconds is None
  assert 'of weights, slopes and optimiser state' in found.notes[0]
  assert not compiler.calls


def test_the_first_slice_that_fits(compiler, training):
  job = training('gemma2-27b', sft={'batch_size': 32})
  found = tpu.on_first(job, ['v5e:4x4', 'v5e:8x8', 'v5e:8x16'])
  assert found.chips == 64
  assert tpu.on_first(job, ['v5e:1x1', 'v5e:2x2']).seconds is None


def test_a_learning_rate_is_no_other_program(compiler, training):
  for rate in (1e-5, 2e-5):
    sft = {'optimizer': settings.OptimizerConfig(learning_rate=rate)}
    tpu.on_slice(training(sft=sft), 'v5e:2x2')
  assert len(compiler.calls) == 1


def test_figures_are_kept(compiler, sampling, folder):
  job = sampling()
  first = tpu.on_slice(job, 'v5e:2x2')
  count = len(compiler.calls)
  assert count == len(list(folder.iterdir()))
  assert tpu.on_slice(job, 'v5e:2x2') == first
  # How many samples there are changes no program.
  tpu.on_slice(dataclasses.replace(job, samples=1500, stage='x'), 'v5e:2x2')
  assert len(compiler.calls) == count
  tpu.on_slice(dataclasses.replace(job, dtype='float32'), 'v5e:2x2')
  tpu.on_slice(job, 'v6e:2x2')
  assert len(compiler.calls) == 3 * count


def test_grading_takes_no_slice(compiler):
  job = jobs.Grading(
    stage='grade', name='math', samples=100, cpu_seconds=0.1, cores=2
  )
  found = tpu.on_slice(job, 'v5e:2x2')
  assert (found.seconds, found.chips) == (5.0, 0)


def test_bad_arguments_are_refused(compiler, sampling):
  with pytest.raises(errors.InputError, match='topology: wanted CHIP:SIDES'):
    tpu.on_slice(sampling(), 'h100:8')
  with pytest.raises(errors.InputError, match='share: wanted'):
    tpu.on_slice(sampling(), 'v5e:2x2', share=0)


@pytest.fixture
def small(sampling):
  return sampling(
    name='small',
    model=SMALL,
    prompt_tokens=80,
    shared_prompt_tokens=64,
    longest_prompt=96,
    max_new_tokens=64,
    slots=8,
  )


def test_a_real_program(small):
  pytest.importorskip('libtpu')
  found = tpu.on_slice(small, 'v5e:1x1')
  assert found.chips == 1
  assert found.settings['mesh'] == 'data=1,fsdp=1,tensor=1'
  chip = V5E.chip
  # The memory's time, and what is moved is little more than has to be.
  least = small.step_bytes(8) / chip.bandwidth
  assert least < found.settings['step_seconds'] < 1.5 * least
  assert found.settings['limited_by'] == 'hbm'
  whole = found.settings['step_seconds'] * small.steps(8)
  assert found.seconds == pytest.approx(
    whole + found.settings['prefill_seconds']
  )
  assert 0 < found.settings['prefill_seconds'] < whole
  # Once more in another process: nothing is compiled, and jax not loaded.
  code = (
    'import sys; from wcse_jax.estimates import kept, jobs, tpu;'
    'from wcse_jax.models import config;'
    f'from wcse_jax.models.config import *; job = jobs.{small!r};'
    f'print(tpu.on_slice(job, "v5e:1x1").seconds == {found.seconds!r},'
    ' "jax" in sys.modules)'
  )
  out = subprocess.run(
    [sys.executable, '-c', code], capture_output=True, text=True, check=True
  )
  assert out.stdout.split() == ['True', 'False']
  assert kept.folder()


@pytest.mark.slow
def test_a_real_training_step(training):
  pytest.importorskip('libtpu')
  job = training(
    name='small',
    model=SMALL,
    sft={'attention': 'plain', 'dtype': 'bfloat16'},
  )
  found = tpu.on_slice(job, 'v5e:1x1')
  assert found.settings['remat'] == 'none'
  held = found.settings['bytes_per_chip']
  state = held['weights'] + held['optimizer']
  assert state == pytest.approx(0.75 * job.state_bytes(), rel=0.02)
  assert 0 < found.settings['share_of_peak'] < 1
