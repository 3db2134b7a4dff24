"""One optimiser step, jitted under the mesh."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh

from wcse_jax import sharding
from wcse_jax.sft import settings


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What decides the compiled step besides the shapes; hashable.

  Attributes:
    optimizer: `OptimizerConfig` as sorted items.
    steps: length of the schedule.
    dtype: of the compute.
    accumulate: micro-batches of a step.
  """

  optimizer: tuple[tuple[str, Any], ...]
  steps: int
  dtype: str
  accumulate: int = 1

  @classmethod
  def of(cls, config: settings.SftConfig, steps: int) -> 'Recipe':
    items = dataclasses.asdict(config.optimizer).items()
    return cls(tuple(sorted(items)), steps, config.dtype, config.accumulate)

  def transform(self) -> optax.GradientTransformation:
    """Returns the Optax chain."""
    o = settings.OptimizerConfig(**dict(self.optimizer))
    rate = _schedule(o, self.steps)
    parts = [optax.clip_by_global_norm(o.clip)] if o.clip else []
    if o.name == 'adamw':
      # Norm gains are rank 1, or 2 when stacked with a tiny last axis: decay
      # is for what is multiplied as a matrix, which ends in two real axes.
      parts.append(
        optax.adamw(
          rate, b1=0.9, b2=0.95, weight_decay=o.weight_decay, mask=_matrices
        )
      )
    else:
      parts.append(optax.adafactor(rate))
    return optax.chain(*parts)


def _matrices(params) -> Any:
  return jax.tree.map(
    lambda p: '_' not in p.get_metadata('letters'),
    params,
    is_leaf=lambda p: isinstance(p, nnx.Variable),
  )


def _schedule(o: settings.OptimizerConfig, steps: int) -> optax.Schedule:
  rest = max(1, steps - o.warmup_steps)
  match o.schedule:
    case 'constant':
      main = optax.constant_schedule(o.learning_rate)
    case 'linear':
      main = optax.linear_schedule(o.learning_rate, 0.0, rest)
    case _:
      main = optax.cosine_decay_schedule(o.learning_rate, rest)
  if not o.warmup_steps:
    return main
  rise = optax.linear_schedule(0.0, o.learning_rate, o.warmup_steps)
  return optax.join_schedules([rise, main], [o.warmup_steps])


def losses(
  graph, params, batch: dict[str, jax.Array], dtype: str
) -> tuple[jax.Array, jax.Array]:
  """Returns (sum of the target tokens' losses in nats, their number)."""
  params = jax.tree.map(lambda p: p.astype(dtype), params)
  model = nnx.merge(graph, params)
  tokens_BT, target_BT = batch['tokens_BT'], batch['target_BT']
  # Targets are rolled, not cut: an odd length would be slow everywhere.  The
  # first token, rolled to the end, is never a target.
  weight_BT = jnp.roll(target_BT.at[:, 0].set(0.0), -1, axis=1)
  losses_BT = optax.softmax_cross_entropy_with_integer_labels(
    model(tokens_BT), jnp.roll(tokens_BT, -1, axis=1)
  )
  return jnp.sum(losses_BT * weight_BT), jnp.sum(weight_BT)


def _gradients(graph, params, batch, recipe: Recipe):
  """Returns (mean loss of the targets, its gradient, number of targets).

  The batch is worked on in `accumulate` micro-batches, one after another; the
  result is that of the whole batch.
  """
  count = jnp.sum(batch['target_BT'][:, 1:])

  def part(micro):
    total, gradient = jax.value_and_grad(
      lambda p: losses(graph, p, micro, recipe.dtype)[0]
    )(params)
    return total, gradient

  if recipe.accumulate == 1:
    total, gradient = part(batch)
  else:
    # Micro-batch i takes every accumulate-th row, so that on a mesh each
    # device keeps rows of its own.
    micros = jax.tree.map(
      lambda x: jnp.swapaxes(
        x.reshape(-1, recipe.accumulate, *x.shape[1:]), 0, 1
      ),
      batch,
    )

    def add(sums, micro):
      return jax.tree.map(jnp.add, sums, part(micro)), None

    zeros = (jnp.zeros(()), jax.tree.map(jnp.zeros_like, params))
    (total, gradient), _ = jax.lax.scan(add, zeros, micros)
  return total / count, jax.tree.map(lambda g: g / count, gradient), count


@functools.partial(jax.jit, static_argnames=('recipe', 'mesh'))
def start(params, *, recipe: Recipe, mesh: Mesh | None = None) -> Any:
  """Returns the optimiser's first state, split over the mesh as the weights.

  It is made of constants, so that without a word it would be on one device.
  """
  state = recipe.transform().init(params)
  if mesh is None:
    return state

  def place(leaf):
    shape = jax.tree.leaves(leaf)[0].shape
    letters = '_' * len(shape)
    # Adafactor's sums over rows and columns have other shapes.
    if isinstance(leaf, nnx.Variable):
      own = leaf.get_metadata('letters')
      letters = own if len(own) == len(shape) else letters
    return jax.lax.with_sharding_constraint(
      leaf, sharding.sharding(mesh, letters, sharding.WEIGHTS)
    )

  return jax.tree.map(
    place, state, is_leaf=lambda x: isinstance(x, nnx.Variable)
  )


@functools.partial(
  jax.jit, static_argnames=('graph', 'recipe'), donate_argnums=(0, 1)
)
def train(params, optimizer, batch, *, graph, recipe: Recipe):
  """Returns (params, optimiser state, metrics) after one step.

  Metrics: `loss` (nats a target token), `gradient_norm` before clipping,
  `targets` (tokens).
  """
  value, gradients, count = _gradients(graph, params, batch, recipe)
  updates, optimizer = recipe.transform().update(gradients, optimizer, params)
  params = optax.apply_updates(params, updates)
  metrics = {
    'loss': value,
    'gradient_norm': optax.tree.norm(gradients),
    'targets': count,
  }
  return params, optimizer, metrics


@functools.partial(jax.jit, static_argnames=('graph', 'dtype'))
def evaluate(
  params, batch, *, graph, dtype: str
) -> tuple[jax.Array, jax.Array]:
  """Returns `losses` of one batch."""
  return losses(graph, params, batch, dtype)
