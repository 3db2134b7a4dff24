"""Packed rows against padded ones: the same losses and slopes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wcse_jax import checkpoints
from wcse_jax.sft import batches, data, settings, step


_LENGTH = 64
_RECIPE = step.Recipe.of(settings.SftConfig(checkpoint='x', train='y'), 1)


@pytest.fixture(scope='module')
def sequences():
  random = np.random.default_rng(0)
  return [
    data.Encoded(
      tuple(int(t) for t in random.integers(3, 64, size)), int(size) // 3, i
    )
    # Longer than the windows of the models, and short ones.
    for i, size in enumerate(random.integers(4, 45, 24), 1)
  ]


def _batch(rows):
  return {
    f'{name[:-1]}BT': jnp.stack([row[name] for row in rows]) for name in rows[0]
  }


@pytest.mark.parametrize(
  'family',
  [
    'gemma2',
    *(
      pytest.param(family, marks=pytest.mark.slow)
      for family in ('gemma3', 'gemma4_e', 'qwen2', 'llama')
    ),
  ],
)
def test_packed_rows_give_what_padded_rows_give(family, goldens, sequences):
  model, _ = checkpoints.load(str(goldens[family].folder))
  graph, params, frozen = step.split(model, 'float32')
  padded = [batches.filled([one], _LENGTH) for one in sequences]
  for row in padded:
    del row['positions_T'], row['segments_T']
  stream = batches.Stream(sequences, max_length=_LENGTH, seed=0, packing=True)
  packed = [stream.arrays(row) for row in range(stream.rows(1))]
  assert len(packed) < 0.6 * len(padded)
  found = []
  for rows in (packed, padded):
    batch = _batch(rows)
    run = jax.jit(
      jax.value_and_grad(
        lambda p, batch: step.losses(graph, p, frozen, batch, _RECIPE)[0]
      )
    )
    total, slope = run(params, batch)
    count = float(batch['target_BT'].sum())
    slope = [np.asarray(leaf) / count for leaf in jax.tree.leaves(slope)]
    found.append((count, float(total) / count, slope))
  (got_count, got, got_slope), (want_count, want, want_slope) = found
  assert got_count == want_count == sum(one.targets for one in sequences)
  assert got == pytest.approx(want, abs=1e-5)
  for one, other in zip(got_slope, want_slope, strict=True):
    np.testing.assert_allclose(one, other, atol=1e-5)


def test_without_segments_a_packed_row_is_another(goldens, sequences):
  """What keeps the sequences apart is at work."""
  model, _ = checkpoints.load(str(goldens['gemma2'].folder))
  graph, params, frozen = step.split(model, 'float32')
  stream = batches.Stream(sequences, max_length=_LENGTH, seed=0, packing=True)
  assert len(stream.members(0)) > 1
  batch = _batch([stream.arrays(0)])
  losses = jax.jit(
    lambda batch: step.losses(graph, params, frozen, batch, _RECIPE)[1]
  )
  whole = losses(batch)
  del batch['segments_BT']
  assert abs(losses(batch) - whole) > 1e-2
