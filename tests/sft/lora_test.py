import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from wcse_jax import checkpoints, errors, sharding
from wcse_jax.sft import lora, settings, step


_RATE = 1e-2
_RECIPE = step.Recipe.of(
  settings.SftConfig(
    checkpoint='x',
    train='y',
    optimizer=settings.OptimizerConfig(
      learning_rate=_RATE, schedule='constant', weight_decay=0.1
    ),
  ),
  10,
)
_TOKENS = np.random.default_rng(0).integers(3, 64, (8, 20)).astype(np.int32)
_BATCH = {
  'tokens_BT': jnp.asarray(_TOKENS),
  'target_BT': jnp.ones((8, 20), jnp.int32),
}


def _load(folder, *, targets=lora.TARGETS, **options):
  model, tokenizer = checkpoints.load(str(folder), **options)
  lora.add(model, rank=3, alpha=6.0, targets=targets, seed=1)
  return model, tokenizer


def _logits(model):
  return np.asarray(jax.jit(lambda t: model(t))(_BATCH['tokens_BT']))


def _trained(model, steps=3):
  """Returns (the model after some steps, its losses, what was frozen)."""
  graph, params, frozen = step.split(model, 'float32')
  optimizer = step.start(params, recipe=_RECIPE, mesh=model.mesh)
  losses = []
  for _ in range(steps):
    params, optimizer, found = step.train(
      params,
      optimizer,
      frozen,
      _BATCH,
      _RATE,
      graph=graph,
      recipe=_RECIPE,
      mesh=model.mesh,
    )
    losses.append(float(found['loss']))
  return nnx.merge(graph, params, frozen), losses, frozen


@pytest.mark.slow
@pytest.mark.parametrize('family', ['gemma3', 'gemma4_dense', 'qwen2'])
def test_fresh_adapters_change_nothing(family, goldens):
  folder = goldens[family].folder
  plain, _ = checkpoints.load(str(folder))
  np.testing.assert_array_equal(_logits(_load(folder)[0]), _logits(plain))


@pytest.mark.parametrize(
  ('base', 'scan'),
  [
    ('', False),
    pytest.param('int8', True, marks=pytest.mark.slow),
    pytest.param('', True, marks=pytest.mark.slow),
    pytest.param('int8', False, marks=pytest.mark.slow),
  ],
)
def test_trained_adapters_are_merged_into_the_same_logits(goldens, base, scan):
  folder = goldens['gemma2'].folder
  model, _ = _load(folder, weights=base, scan=scan)
  before = jax.tree.map(np.asarray, step.split(model, 'float32')[2])
  model, losses, after = _trained(model)
  assert losses[-1] < losses[0] - 0.05
  jax.tree.map(np.testing.assert_array_equal, before, after)
  want = _logits(model)
  lora.merge(model)
  assert not [
    p for _, p in nnx.iter_graph(model) if isinstance(p, nnx.LoRAParam)
  ]
  assert {x.dtype for x in jax.tree.leaves(nnx.state(model))} == {
    jnp.dtype('float32')
  }
  np.testing.assert_allclose(_logits(model), want, atol=2e-5)


def test_a_merged_model_is_exported_and_loaded(goldens, tmp_path):
  model, tokenizer = _load(goldens['qwen2'].folder, weights='int8')
  model, _, _ = _trained(model)
  want = _logits(model)
  lora.merge(model)
  checkpoints.export(model, tokenizer, str(tmp_path / 'model'))
  found, _ = checkpoints.load(str(tmp_path / 'model'))
  np.testing.assert_allclose(_logits(found), want, atol=2e-5)


@pytest.mark.slow
@pytest.mark.parametrize('weights', ['', 'int8'])
def test_adapters_are_split_over_the_mesh_and_give_the_same(goldens, weights):
  folder = goldens['gemma2'].folder
  one, one_losses, _ = _trained(_load(folder, weights=weights)[0])
  mesh = sharding.make_mesh('data=2,fsdp=2,tensor=2')
  model, _ = _load(folder, mesh=mesh, weights=weights)
  block = model.stacks[0].blocks[0]
  # Letters DJ and JN.
  assert block.q_lora_a[...].sharding.shard_shape((32, 3)) == (16, 3)
  assert block.q_lora_b[...].sharding.shard_shape((3, 64)) == (3, 32)
  many, losses, _ = _trained(model)
  assert losses == pytest.approx(one_losses, abs=1e-5)
  found, want = (
    np.asarray(m.stacks[0].blocks[0].q_lora_b[...]) for m in (many, one)
  )
  np.testing.assert_allclose(found, want, atol=1e-4)


def test_only_targets_get_adapters(goldens):
  model, _ = _load(goldens['gemma2'].folder, targets=('q', 'v'))
  found = {
    name
    for stack in model.stacks
    for block in stack.blocks
    for name in vars(block)
    if '_lora_' in name
  }
  assert found == {'q_lora_a', 'q_lora_b', 'v_lora_a', 'v_lora_b'}


def test_a_target_that_no_layer_has_is_refused(goldens):
  model, _ = checkpoints.load(str(goldens['gemma2'].folder))
  with pytest.raises(errors.InputError, match=r'lora.targets: .* no router'):
    lora.add(model, rank=2, alpha=1.0, targets=('q', 'router'), seed=0)


def test_adapters_decay_and_gains_do_not():
  decays = step._matrices(
    {
      'a': nnx.LoRAParam(jnp.ones((2, 3, 4)), letters='LDJ'),
      'gain': nnx.Param(jnp.ones((2, 3)), letters='L_'),
      'table': nnx.Param(jnp.ones((2, 3)), letters='VD'),
    }
  )
  assert decays == {'a': True, 'gain': False, 'table': True}
