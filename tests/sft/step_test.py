import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from wcse_jax import checkpoints, sharding
from wcse_jax.sft import batches, data, settings, step


_LENGTH = 16
_RATE = 1e-2
_CONFIG = settings.SftConfig(
  checkpoint='tiny',
  train='sums',
  optimizer=settings.OptimizerConfig(
    learning_rate=_RATE, schedule='constant', weight_decay=0.1, clip=1.0
  ),
)
_RECIPE = step.Recipe.of(_CONFIG, steps=10)
# Of a model that is trained as a whole nothing stays as it is.
_NONE = nnx.State({})


@pytest.fixture(scope='module')
def rows(loaded, sums):
  return data.encode(data.read(sums)[0], loaded[1], _LENGTH)[0][4:]


@pytest.fixture(scope='module')
def batch(rows):
  """Eight rows, of one and two digits to learn."""
  stream = batches.Stream(rows, max_length=_LENGTH, seed=0)
  made = stream.batches(8)[0]
  assert len(set(made['target_BT'].sum(axis=1).tolist())) > 1
  return made


@pytest.fixture(scope='module')
def split(loaded):
  """(graph, weights) of the tiny model, its gains moved away from 0."""
  graph, params, _ = step.split(loaded[0], 'float32')
  return graph, jax.tree.map(lambda p: p + 0.05, params)


@pytest.fixture(scope='module')
def gradients(split, batch):
  """(mean loss, its gradient) by jax alone."""
  graph, params = split

  def loss(params):
    arrays = jax.tree.map(jnp.asarray, batch)
    total, _ = step.losses(graph, params, _NONE, arrays, _RECIPE)
    return total / arrays['target_BT'][:, 1:].sum()

  return jax.jit(jax.value_and_grad(loss))(params)


def _train(split, batch, recipe=_RECIPE, mesh=None, rate=_RATE):
  """Returns (weights, metrics) after one step from the start."""
  graph, params = split
  params = jax.tree.map(jnp.copy, params)
  optimizer = step.start(params, recipe=recipe, mesh=mesh)
  params, _, metrics = step.train(
    params,
    optimizer,
    _NONE,
    batch,
    rate,
    graph=graph,
    recipe=recipe,
    mesh=mesh,
  )
  return params, {k: float(v) for k, v in metrics.items()}


@pytest.fixture(scope='module')
def trained(split, batch):
  return _train(split, batch)


def _flat(tree):
  return {
    jax.tree_util.keystr(path): np.asarray(leaf, np.float64)
    for path, leaf in jax.tree_util.tree_flatten_with_path(tree)[0]
  }


def _close(a, b, tolerance=1e-5):
  a, b = _flat(a), _flat(b)
  assert a.keys() == b.keys()
  for name, value in a.items():
    np.testing.assert_allclose(value, b[name], atol=tolerance, err_msg=name)


def test_the_loss_is_that_of_completion_and_end_token_alone(split, rows, batch):
  graph, params = split
  tokens_BT = batch['tokens_BT']
  logits_BTV = np.asarray(
    jax.jit(lambda p: nnx.merge(graph, p)(tokens_BT))(params), np.float64
  )
  peak = logits_BTV.max(axis=-1, keepdims=True)
  norms = np.log(np.exp(logits_BTV - peak).sum(axis=-1, keepdims=True)) + peak
  logprobs_BTV = logits_BTV - norms
  by_tokens = {row.tokens: row for row in rows}
  total, count = 0.0, 0
  for b, padded in enumerate(tokens_BT.tolist()):
    row = next(
      row for key, row in by_tokens.items() if (*padded,)[: len(key)] == key
    )
    assert row.tokens[-1] == 1  # The end token.
    for t in range(row.prompt_tokens, len(row.tokens)):
      total -= logprobs_BTV[b, t - 1, row.tokens[t]]
      count += 1
  found = step.evaluate(params, _NONE, batch, graph=graph, recipe=_RECIPE)
  assert found[1] == count
  assert float(found[0]) == pytest.approx(total, rel=1e-5)


def test_what_stands_behind_a_sequence_changes_nothing(split, batch):
  graph, params = split
  tokens_BT = batch['tokens_BT'].copy()
  last = [np.flatnonzero(row)[-1] for row in batch['target_BT']]
  for row, end in zip(tokens_BT, last, strict=True):
    row[end + 1 :] = 77
  assert np.any(tokens_BT != batch['tokens_BT'])
  want = step.evaluate(params, _NONE, batch, graph=graph, recipe=_RECIPE)
  changed = {**batch, 'tokens_BT': tokens_BT}
  found = step.evaluate(params, _NONE, changed, graph=graph, recipe=_RECIPE)
  np.testing.assert_array_equal(found, want)


def test_a_first_token_is_never_a_target(split, batch):
  graph, params = split
  target_BT = batch['target_BT'].copy()
  target_BT[:, 0] = 1
  want = step.evaluate(params, _NONE, batch, graph=graph, recipe=_RECIPE)
  changed = {**batch, 'target_BT': target_BT}
  found = step.evaluate(params, _NONE, changed, graph=graph, recipe=_RECIPE)
  np.testing.assert_array_equal(found, want)


def test_a_step_is_adamw_with_decay_on_matrices_only(
  split, batch, gradients, trained
):
  params = split[1]
  loss, gradient = gradients
  norm = float(optax.tree.norm(gradient))
  assert norm > 1  # So that clipping is at work.
  metrics = trained[1]
  assert metrics['loss'] == pytest.approx(float(loss), rel=1e-5)
  assert metrics['gradient_norm'] == pytest.approx(norm, rel=1e-4)
  assert metrics['targets'] == batch['target_BT'].sum()
  old, new, slope = _flat(params), _flat(trained[0]), _flat(gradient)
  matrices = 0
  for name, before in old.items():
    clipped = slope[name] / norm
    # The first step of Adam: both means are of one gradient.
    change = clipped / (np.abs(clipped) + 1e-8)
    matrix = 'norm' not in name
    matrices += matrix
    change += 0.1 * before * matrix
    # Where the gradient is all but 0, its sign is rounding.
    sure = np.abs(clipped) > 1e-6
    assert sure.mean() > 0.5
    np.testing.assert_allclose(
      new[name][sure], (before - 1e-2 * change)[sure], atol=2e-5, err_msg=name
    )
  assert matrices == 1 + 2 * 7


def test_micro_batches_give_what_the_whole_batch_gives(split, batch, trained):
  recipe = dataclasses.replace(_RECIPE, accumulate=4)
  params, metrics = _train(split, batch, recipe)
  assert metrics == pytest.approx(trained[1], rel=1e-5)
  _close(params, trained[0])


@pytest.mark.parametrize(
  'mesh', ['data=2,fsdp=2,tensor=2', 'fsdp=4,tensor=2', 'data=2,fsdp=4']
)
def test_a_sharded_step_gives_what_one_device_gives(
  tiny, split, batch, trained, mesh
):
  names = mesh.split(',')
  count = math.prod(int(name.partition('=')[2]) for name in names)
  mesh = sharding.make_mesh(mesh, jax.devices()[:count])
  model, _ = checkpoints.load(tiny, mesh=mesh)
  graph, params, _ = step.split(model, 'float32')
  params = jax.tree.map(lambda p: p + 0.05, params)
  assert not jax.tree.leaves(params)[0].sharding.is_fully_replicated
  placed = {k: sharding.place_batch(v, 'BT', mesh) for k, v in batch.items()}
  found, metrics = _train((graph, params), placed, mesh=mesh)
  assert metrics == pytest.approx(trained[1], rel=1e-5)
  assert (
    jax.tree.leaves(found)[0].sharding == jax.tree.leaves(params)[0].sharding
  )
  _close(found, trained[0])


@pytest.mark.parametrize('name', settings.OPTIMIZERS)
def test_the_state_of_the_optimizer_is_split_as_the_weights(tiny, name):
  mesh = sharding.make_mesh('data=2,fsdp=2,tensor=2')
  model = checkpoints.load(tiny, mesh=mesh)[0]
  _, params, _ = step.split(model, 'float32')
  optimizer = settings.OptimizerConfig(name=name)
  config = dataclasses.replace(_CONFIG, optimizer=optimizer)
  recipe = step.Recipe.of(config, 10)
  state = step.start(params, recipe=recipe, mesh=mesh)
  weights = {x.shape: x.sharding for x in jax.tree.leaves(params)}
  alike = 0
  for leaf in jax.tree.leaves(state):
    assert leaf.sharding.device_set == set(mesh.devices.flat)
    if leaf.ndim == 2:
      alike += 1
      # Two weights of one shape have the same letters but for the order.
      assert leaf.sharding.shard_shape(leaf.shape) == weights[
        leaf.shape
      ].shard_shape(leaf.shape)
    else:
      assert leaf.sharding.is_fully_replicated
  assert alike >= len([x for x in jax.tree.leaves(params) if x.ndim == 2])


def test_learning_rates_share_one_program(split, batch, trained):
  compiled = step.train._cache_size()
  found, _ = _train(split, batch, rate=2 * _RATE)
  assert step.train._cache_size() == compiled
  # A first step of Adam is as long as the learning rate.
  old, once, twice = map(_flat, (split[1], trained[0], found))
  for name, value in old.items():
    np.testing.assert_allclose(
      twice[name] - value, 2 * (once[name] - value), atol=1e-6
    )


def test_adafactor_takes_a_step(split, batch, trained):
  optimizer = dataclasses.replace(_CONFIG.optimizer, name='adafactor')
  config = dataclasses.replace(_CONFIG, optimizer=optimizer)
  params, metrics = _train(split, batch, step.Recipe.of(config, 10))
  assert metrics == pytest.approx(trained[1], rel=1e-5)
  old, new = _flat(split[1]), _flat(params)
  for name, value in new.items():
    assert np.all(np.isfinite(value))
    assert np.any(value != old[name])


@pytest.mark.parametrize(
  ('schedule', 'warmup', 'want'),
  [
    ('constant', 0, [1, 1, 1, 1, 1, 1, 1, 1]),
    ('constant', 2, [0, 0.5, 1, 1, 1, 1, 1, 1]),
    ('linear', 0, [1 - t / 8 for t in range(8)]),
    ('linear', 4, [0, 0.25, 0.5, 0.75, 1, 0.75, 0.5, 0.25]),
    ('cosine', 0, [(1 + np.cos(np.pi * t / 8)) / 2 for t in range(8)]),
    (
      'cosine',
      4,
      [0, 0.25, 0.5, 0.75, 1]
      + [(1 + np.cos(np.pi * t / 4)) / 2 for t in range(1, 4)],
    ),
  ],
)
def test_the_learning_rate_follows_its_schedule(schedule, warmup, want):
  optimizer = settings.OptimizerConfig(
    learning_rate=0.5, schedule=schedule, warmup_steps=warmup, clip=0
  )
  config = dataclasses.replace(_CONFIG, optimizer=optimizer)
  chain = step.Recipe.of(config, 8).transform(0.5)
  params = {'w': nnx.Param(jnp.ones((2, 2)), letters='DF')}
  state = chain.init(params)
  found = []
  for _ in range(8):
    # Under a constant gradient a step of Adam is the learning rate.
    updates, state = chain.update(
      jax.tree.map(jnp.ones_like, params), state, params
    )
    found.append(-float(jax.tree.leaves(updates)[0][0, 0]) / 0.5)
  np.testing.assert_allclose(found, want, atol=1e-5)


def test_a_few_rows_are_learned_by_heart(split, batch):
  graph, params = split
  params = jax.tree.map(jnp.copy, params)
  optimizer = step.start(params, recipe=_RECIPE)
  losses = []
  while not losses or losses[-1] > 0.1:
    params, optimizer, metrics = step.train(
      params, optimizer, _NONE, batch, _RATE, graph=graph, recipe=_RECIPE
    )
    losses.append(float(metrics['loss']))
    assert len(losses) < 200
  assert losses[0] > 3


@pytest.mark.parametrize(
  ('remat', 'scan'),
  [
    ('full', True),
    pytest.param('dots', True, marks=pytest.mark.slow),
    pytest.param('attention', True, marks=pytest.mark.slow),
    pytest.param('dots', False, marks=pytest.mark.slow),
    pytest.param('full', False, marks=pytest.mark.slow),
  ],
)
def test_what_is_worked_out_again_changes_nothing(tiny, batch, remat, scan):
  found = []
  for policy in ('none', remat):
    model, _ = checkpoints.load(tiny, scan=scan)
    graph, params, _ = step.split(model, 'float32')
    recipe = dataclasses.replace(_RECIPE, remat=policy)
    found.append(_train((graph, params), batch, recipe))
  assert found[1][1] == pytest.approx(found[0][1], rel=1e-5)
  _close(found[1][0], found[0][0])


@pytest.mark.slow
def test_less_is_kept_for_the_backward_pass(goldens, batch):
  """Policies keep less the further down they stand."""
  model, _ = checkpoints.load(str(goldens['gemma3'].folder))
  graph, params, _ = step.split(model, 'float32')
  kept = []
  for policy in settings.REMAT:
    recipe = dataclasses.replace(_RECIPE, remat=policy)

    def loss(p, recipe=recipe):
      return step.losses(
        graph,
        p,
        _NONE,
        {k: jnp.asarray(v % 64) for k, v in batch.items()},
        recipe,
      )[0]

    # What the backward pass is given: the weights, and what was kept.
    held = jax.eval_shape(lambda p, loss=loss: jax.vjp(loss, p)[1], params)
    kept.append(sum(leaf.size for leaf in jax.tree.leaves(held)))
  weights = sum(leaf.size for leaf in jax.tree.leaves(params))
  kept = [size - weights for size in kept]
  assert kept == sorted(kept, reverse=True)
  assert kept[-1] < kept[0] / 4


def test_bfloat16_works_on_float32_weights(tiny, split, batch, gradients):
  model, _ = checkpoints.load(tiny)
  graph, params, _ = step.split(model, 'bfloat16')
  params = jax.tree.map(lambda p: p + 0.05, params)
  arrays = jax.tree.map(jnp.asarray, batch)
  hidden = nnx.merge(graph, params).hidden(arrays['tokens_BT'])
  assert hidden.dtype == jnp.bfloat16
  loss, slope = jax.jit(
    jax.value_and_grad(
      lambda p: step.losses(graph, p, _NONE, arrays, _RECIPE)[0]
    )
  )(params)
  count = batch['target_BT'][:, 1:].sum()
  assert float(loss / count) == pytest.approx(float(gradients[0]), rel=2e-2)
  assert {g.dtype for g in jax.tree.leaves(slope)} == {jnp.dtype('float32')}
  got, want = _flat(slope), _flat(gradients[1])
  for name, value in got.items():
    scale = np.abs(want[name]).max()
    np.testing.assert_allclose(
      value / count / scale, want[name] / scale, atol=0.1, err_msg=name
    )


@pytest.mark.slow
def test_weights_and_state_are_kept_in_what_is_asked(tiny, batch):
  optimizer = dataclasses.replace(_CONFIG.optimizer, state_dtype='bfloat16')
  config = dataclasses.replace(_CONFIG, optimizer=optimizer)
  recipe = step.Recipe.of(config, 10)
  model, _ = checkpoints.load(tiny, dtype='bfloat16')
  graph, params, _ = step.split(model, 'bfloat16')
  state = step.start(params, recipe=recipe)
  half = jnp.dtype('bfloat16')
  for _ in range(2):
    params, state, metrics = step.train(
      params, state, _NONE, batch, _RATE, graph=graph, recipe=recipe
    )
    assert {x.dtype for x in jax.tree.leaves(params)} == {half}
    floats = [x for x in jax.tree.leaves(state) if x.dtype != jnp.int32]
    assert {x.dtype for x in floats} == {half}
  assert np.isfinite(float(metrics['loss']))


@pytest.mark.parametrize('spoiled', ['weight', 'slope'])
def test_a_step_that_is_not_finite_changes_nothing(split, batch, spoiled):
  graph, params = split
  recipe = _RECIPE
  if spoiled == 'weight':
    params = jax.tree.map(lambda p: p.at[..., 0].set(jnp.nan), params)
  else:
    recipe = dataclasses.replace(_RECIPE, z_loss=1e38)
  before = jax.tree.map(np.array, params)
  state = step.start(params, recipe=recipe)
  old = jax.tree.map(np.array, state)
  params, state, metrics = step.train(
    jax.tree.map(jnp.copy, params),
    state,
    _NONE,
    batch,
    _RATE,
    graph=graph,
    recipe=recipe,
  )
  assert not np.isfinite(float(metrics['gradient_norm']))
  jax.tree.map(np.testing.assert_array_equal, params, before)
  jax.tree.map(np.testing.assert_array_equal, state, old)


def test_the_z_loss_is_minimised_and_not_reported(split, batch, trained):
  recipe = dataclasses.replace(_RECIPE, z_loss=0.1)
  metrics = _train(split, batch, recipe)[1]
  assert metrics['loss'] == pytest.approx(trained[1]['loss'], rel=1e-6)
  change = metrics['gradient_norm'] / trained[1]['gradient_norm']
  assert abs(change - 1) > 0.01
  assert np.isfinite(metrics['gradient_norm'])
