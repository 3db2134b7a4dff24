"""Twenty steps beside transformers and torch, on models of every family."""

import jax.numpy as jnp
import numpy as np
import pytest

from wcse_jax import checkpoints
from wcse_jax.sft import settings, step


# Nats: what float32 leaves of two orders of summation, after 20 steps.
_LIMIT = 1e-4
_STEPS, _ROWS, _LENGTH = 20, 4, 40
_OPTIMIZER = settings.OptimizerConfig(
  learning_rate=1e-3, warmup_steps=5, weight_decay=0.1
)
_FAMILIES = (
  'gemma',
  'gemma2',
  'gemma3',
  'gemma4_e',
  'gemma4_dense',
  'gemma4_moe',
  'qwen2',
  'llama',
)
_QUICK = ('gemma2',)


@pytest.fixture(scope='module')
def batches():
  """Rows of several lengths, each with a prompt of several lengths."""
  random = np.random.default_rng(0)
  found = []
  for _ in range(_STEPS):
    tokens_BT = random.integers(3, 64, (_ROWS, _LENGTH)).astype(np.int32)
    target_BT = np.zeros_like(tokens_BT)
    for row in range(_ROWS):
      first, last = random.integers(2, 12), random.integers(20, _LENGTH)
      target_BT[row, first:last] = 1
      tokens_BT[row, last:] = 0
    found.append({'tokens_BT': tokens_BT, 'target_BT': target_BT})
  return found


@pytest.mark.parametrize(
  'family',
  [
    pytest.param(f, marks=() if f in _QUICK else pytest.mark.slow)
    for f in _FAMILIES
  ],
)
def test_the_losses_of_twenty_steps_equal_transformers(
  family, goldens, batches
):
  pytest.importorskip('torch')
  from wcse_jax.peers import train_hf

  folder = goldens[family].folder
  recipe = step.Recipe.of(
    settings.SftConfig(checkpoint='x', train='y', optimizer=_OPTIMIZER), _STEPS
  )
  schedule = recipe.schedule()
  rates = [_OPTIMIZER.learning_rate * float(schedule(i)) for i in range(_STEPS)]
  trainer = train_hf.Trainer(str(folder), 'float32', _OPTIMIZER, threads=1)
  wanted = train_hf.run(trainer, batches, rates)

  model, _ = checkpoints.load(str(folder))
  graph, params, frozen = step.split(model, 'float32')
  optimizer = step.start(params, recipe=recipe)
  for batch, (loss, norm, _) in zip(batches, wanted, strict=True):
    params, optimizer, found = step.train(
      params,
      optimizer,
      frozen,
      {key: jnp.asarray(value) for key, value in batch.items()},
      _OPTIMIZER.learning_rate,
      graph=graph,
      recipe=recipe,
    )
    assert float(found['loss']) == pytest.approx(loss, abs=_LIMIT)
    assert float(found['gradient_norm']) == pytest.approx(norm, rel=1e-3)
  # Enough was learned for a wrong slope to show.
  assert abs(wanted[-1][0] - wanted[0][0]) > 100 * _LIMIT
