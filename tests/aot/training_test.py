"""Training steps, compiled for slices.

python -m pytest tests/aot/training_test.py --slow -s

prints the figures of every row of docs/results/tpu.md.
"""

# ruff: noqa: E501 (lines of HLO)

import dataclasses
import json

import jax
import pytest

from wcse_jax import budget, checkpoints, sharding
from wcse_jax.aot import compile as aot
from wcse_jax.aot import slices, traffic, training
from wcse_jax.sft import settings, step


_KEYS = {
  'model',
  'program',
  'topology',
  'chips',
  'fits',
  'bytes_per_chip',
  'flops',
  'bytes_accessed',
  'ideal_bytes',
  'bytes_ratio',
  'estimated_seconds',
  'roofline_seconds',
  'tokens_per_second_per_chip',
  'slots',
  'compile_seconds',
  'mfu',
  'remat',
  'batch_size',
  'model_flops',
  'tried',
}
_SIZES = {
  'model_type': 'gemma2',
  'architectures': ['Gemma2ForCausalLM'],
  'vocab_size': 4096,
  'hidden_size': 512,
  'intermediate_size': 1024,
  'num_hidden_layers': 4,
  'num_attention_heads': 4,
  'num_key_value_heads': 2,
  'head_dim': 128,
  'query_pre_attn_scalar': 128,
  'sliding_window': 128,
  'layer_types': ['sliding_attention', 'full_attention'] * 2,
  'max_position_embeddings': 1024,
  'attn_logit_softcapping': 50.0,
  'final_logit_softcapping': 30.0,
  'rms_norm_eps': 1e-6,
  'rope_theta': 10_000.0,
  'tie_word_embeddings': True,
}


@pytest.fixture(scope='module')
def small(tmp_path_factory):
  """A folder that holds no more than the sizes of a model."""
  folder = tmp_path_factory.mktemp('small')
  (folder / 'config.json').write_text(json.dumps(_SIZES))
  return str(folder)


@pytest.fixture
def asked(small):
  pytest.importorskip('libtpu')
  return aot.CompileConfig(
    model=small,
    program='train',
    topology='v5e:2x2',
    batch_size=8,
    max_length=512,
    remat='full',
    largest_batch=False,
  )


@pytest.mark.slow
def test_a_step_is_compiled_and_counted(asked, small):
  found = aot.compile(asked)
  assert set(found) >= _KEYS
  assert (found['chips'], found['mesh']) == (4, 'data=1,fsdp=4,tensor=1')
  assert found['fits']
  assert found['attention'] == 'splash'
  sizes = found['bytes_per_chip']
  config = checkpoints.read_config(small)
  # A quarter of the matrices in float32, and two means of each.
  quarter = 4 * config.parameters() / 4
  assert sizes['weights'] == pytest.approx(quarter, rel=0.02)
  assert sizes['optimizer'] == pytest.approx(2 * quarter, rel=0.02)
  needed = 8 * budget.training_flops(config, 512) / 4
  assert found['model_flops'] == round(needed)
  # Forwards twice, backwards twice, and the head once more; the kernel works
  # on whole blocks.
  assert 1.2 * needed < found['flops'] < 1.6 * needed
  assert 0 < found['mfu'] < 1
  (only,) = found['tried']
  assert only['remat'] == 'full'


@pytest.mark.slow
def test_what_is_kept_is_not_worked_out_again(asked):
  flops = {}
  for remat in ('none', 'full'):
    found = aot.compile(dataclasses.replace(asked, remat=remat))
    flops[remat] = found['flops']
  assert flops['none'] < 0.87 * flops['full']


@pytest.mark.slow
def test_adapters_on_a_base_in_int8(asked):
  full = aot.compile(asked)
  lora = settings.LoraConfig(rank=8, base='int8')
  found = aot.compile(dataclasses.replace(asked, lora=lora))
  assert found['lora_rank'] == 8
  sizes = found['bytes_per_chip']
  assert sizes['weights'] < 0.35 * full['bytes_per_chip']['weights']
  assert sizes['optimizer'] < 0.1 * full['bytes_per_chip']['optimizer']
  assert found['model_flops'] < 0.75 * full['model_flops']


def test_the_program_is_the_trainers_own(asked, small):
  """The state lies where `step.start` puts it."""
  mesh = sharding.make_mesh('fsdp=8')
  trainer = training.Trainer(checkpoints.read_config(small), mesh, asked.sft())
  recipe = step.Recipe.of(asked.sft(), 1000)
  state = trainer._state(recipe)
  made = jax.eval_shape(
    lambda p: recipe.transform(0.0).init(p), trainer._params
  )
  assert jax.tree.structure(state) == jax.tree.structure(made)
  started = (
    step.start.lower(trainer._params, recipe=recipe, mesh=mesh)
    .compile()
    .output_shardings
  )
  for want, leaf in zip(
    jax.tree.leaves(started), jax.tree.leaves(state), strict=True
  ):
    assert leaf.sharding.is_equivalent_to(want, len(leaf.shape))


def test_a_loop_that_takes_two_steps_at_a_time_is_counted_so():
  text = """
HloModule m

%body (p: (s32[], f32[8,128])) -> (s32[], f32[8,128]) {
  %p = (s32[], f32[8,128]{1,0}) parameter(0)
  %i = s32[] get-tuple-element(%p), index=0
  %x = f32[8,128]{1,0} get-tuple-element(%p), index=1
  %two = s32[] constant(2)
  %next = s32[] add(%i, %two)
  %y = f32[8,128]{1,0} negate(%x)
  ROOT %t = (s32[], f32[8,128]{1,0}) tuple(%next, %y)
}

%condition (p.1: (s32[], f32[8,128])) -> pred[] {
  %p.1 = (s32[], f32[8,128]{1,0}) parameter(0)
  %i.1 = s32[] get-tuple-element(%p.1), index=0
  %end = s32[] constant(10)
  ROOT %less = pred[] compare(%i.1, %end), direction=LT
}

ENTRY %main (a: f32[8,128]) -> f32[8,128] {
  %a = f32[8,128]{1,0} parameter(0)
  %zero = s32[] constant(0)
  %start = (s32[], f32[8,128]{1,0}) tuple(%zero, %a)
  %loop = (s32[], f32[8,128]{1,0}) while(%start), condition=%condition, body=%body
  ROOT %out = f32[8,128]{1,0} get-tuple-element(%loop), index=1
}
"""
  once = traffic.count(text.replace('constant(10)', 'constant(2)')).outside
  assert traffic.count(text).outside.bytes == 5 * once.bytes


def test_a_mesh_is_chosen_that_splits_the_weights(small):
  config = checkpoints.read_config(small)
  assert training.choose_mesh(16, config) == 'data=1,fsdp=16'
  odd = dataclasses.replace(config, d_model=24)
  assert training.choose_mesh(16, odd) == 'data=2,fsdp=8'


@pytest.mark.slow
def test_a_small_step_is_compiled(asked):
  """Without the kernel, which takes long to compile."""
  found = aot.compile(
    dataclasses.replace(asked, attention='plain', topology='v5e:1x1')
  )
  assert set(found) >= _KEYS
  assert found['fits']
  assert found['attention'] == 'plain'
  assert 0 < found['mfu'] < 1


ROWS = [
  ('gemma2-2b', 0),
  ('gemma2-9b', 0),
  ('gemma2-27b', 16),
]
# Rows of a chip, where 4 do not fit.
FEW = {('gemma2-9b', 'v5e'): 2, ('gemma2-27b', 'v5e'): 2}


@pytest.mark.slow
@pytest.mark.parametrize(('model', 'rank'), ROWS)
@pytest.mark.parametrize('topology', ['v5e:4x4', 'v6e:4x4', 'v5p:2x2x4'])
def test_rows_of_the_table(model, rank, topology):
  pytest.importorskip('libtpu')
  pieces = slices.parse(topology)
  found = aot.compile(
    aot.CompileConfig(
      model=model,
      program='train',
      topology=topology,
      batch_size=FEW.get((model, pieces.chip.name), 4) * pieces.chips,
      max_length=2048,
      lora=settings.LoraConfig(rank=rank),
      remat='full',
      largest_batch=False,
    )
  )
  print(json.dumps(found))
  assert found['fits']
  assert found['mfu'] >= 0.5
