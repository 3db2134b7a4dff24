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
from wcse_jax.models import cache as caches
from wcse_jax.models import transformer
from wcse_jax.sft import loss, settings


@dataclasses.dataclass(frozen=True)
class Recipe:
  """What decides the compiled step besides the shapes; hashable.

  The learning rate is not in it: the runs of a grid share one program.

  Attributes:
    optimizer: `OptimizerConfig` as sorted items, without its learning rate.
    steps: length of the schedule.
    accumulate: micro-batches of a step.
    remat: as `Transformer.hidden` takes it.
    attention: as `kernels.train.chosen` gives it.
    z_loss: as in `loss.Head`.
    every: as in `loss.Head`.
  """

  optimizer: tuple[tuple[str, Any], ...]
  steps: int
  accumulate: int = 1
  remat: str = 'none'
  attention: str = ''
  z_loss: float = 0.0
  every: bool = False

  @classmethod
  def of(
    cls, config: settings.SftConfig, steps: int, attention: str = ''
  ) -> 'Recipe':
    items = dataclasses.asdict(config.optimizer)
    del items['learning_rate']
    return cls(
      tuple(sorted(items.items())),
      steps,
      config.accumulate,
      config.remat,
      attention,
      config.z_loss,
    )

  def transform(self, rate: jax.Array | float) -> optax.GradientTransformation:
    """Returns the Optax chain for a peak learning rate."""
    o = settings.OptimizerConfig(**dict(self.optimizer))
    relative = self.schedule()

    def schedule(done):
      return relative(done) * rate

    parts = [optax.clip_by_global_norm(o.clip)] if o.clip else []
    if o.name == 'adamw':
      parts.append(
        optax.adamw(
          schedule,
          b1=o.b1,
          b2=o.b2,
          eps=o.eps,
          weight_decay=o.weight_decay,
          mask=_matrices,
        )
      )
    else:
      parts.append(optax.adafactor(schedule))
    return _kept_in(optax.chain(*parts), jnp.dtype(o.state_dtype))

  def schedule(self) -> optax.Schedule:
    """Returns steps done -> learning rate as a share of its peak."""
    o = settings.OptimizerConfig(**dict(self.optimizer))
    rest = max(1, self.steps - o.warmup_steps)
    match o.schedule:
      case 'constant':
        main = optax.constant_schedule(1.0)
      case 'linear':
        main = optax.linear_schedule(1.0, 0.0, rest)
      case _:
        main = optax.cosine_decay_schedule(1.0, rest)
    if not o.warmup_steps:
      return main
    rise = optax.linear_schedule(0.0, 1.0, o.warmup_steps)
    return optax.join_schedules([rise, main], [o.warmup_steps])


def _matrices(params) -> Any:
  """Returns which parameters decay: matrices, not gains and biases."""
  return jax.tree.map(
    lambda p: len(p.get_metadata('letters').removeprefix('L')) > 1,
    params,
    is_leaf=lambda p: isinstance(p, nnx.Variable),
  )


def _kept_in(
  inner: optax.GradientTransformation, dtype: Any
) -> optax.GradientTransformation:
  """Returns `inner` with its state kept in a dtype; it works in float32."""

  def cast(tree, to):
    return jax.tree.map(
      lambda x: x.astype(to) if jnp.issubdtype(x.dtype, jnp.floating) else x,
      tree,
    )

  def init(params):
    return cast(inner.init(cast(params, jnp.float32)), dtype)

  def update(gradients, state, params):
    updates, state = inner.update(
      cast(gradients, jnp.float32),
      cast(state, jnp.float32),
      cast(params, jnp.float32),
    )
    return updates, cast(state, dtype)

  return optax.GradientTransformation(init, update)


def split(
  model: transformer.Transformer, dtype: str
) -> tuple[Any, nnx.State, nnx.State]:
  """Returns (graph, what is trained, what is not) of a model.

  Adapters are trained where there are some, else everything.

  Args:
    model: the model.
    dtype: in which the graph computes, whatever the weights are kept in.
  """
  kind = nnx.Param
  if any(isinstance(p, nnx.LoRAParam) for _, p in nnx.iter_graph(model)):
    kind = nnx.LoRAParam
  model.dtype = jnp.dtype(dtype)
  model.cache_dtype = model.dtype
  return nnx.split(
    model,
    # The factor of a layer's output is a constant of the checkpoint.
    lambda path, leaf: isinstance(leaf, kind) and path[-1] != 'scalar',
    ...,
  )


def merged(graph, params, frozen, dtype: str) -> transformer.Transformer:
  """Returns a model for sampling: its floats in the dtype of the compute."""

  def cast(p):
    return p.astype(dtype) if jnp.issubdtype(p.dtype, jnp.floating) else p

  model = nnx.merge(graph, *jax.tree.map(cast, (params, frozen)))
  if model.keys_last:
    kind = caches.dtype_on(sharding.platform(model.mesh), dtype)
    model.cache_dtype = jnp.dtype(kind)
  return model


def losses(
  graph, params, frozen, batch: dict[str, jax.Array], recipe: Recipe
) -> tuple[jax.Array, jax.Array]:
  """Returns (what is minimised, the target tokens' losses in nats), as sums.

  The two differ by the z-loss.
  """
  model = nnx.merge(graph, params, frozen)
  tokens_BT, target_BT = batch['tokens_BT'], batch['target_BT']
  x_BTD = model.hidden(
    tokens_BT,
    positions_BT=batch.get('positions_BT'),
    segments_BT=batch.get('segments_BT'),
    attention=recipe.attention,
    remat=recipe.remat,
  )
  table_VD, scale_V = model.head_table()
  head = loss.Head(
    softcap=model.config.final_softcap,
    z_loss=recipe.z_loss,
    mesh=model.mesh,
    every=recipe.every,
  )
  # Targets are rolled, not cut: an odd length would be slow everywhere.  The
  # first token, rolled to the end, is never a target.
  weight_BT = jnp.roll(target_BT.at[:, 0].set(0), -1, axis=1)
  return loss.total(
    head,
    x_BTD,
    table_VD,
    scale_V,
    jnp.roll(tokens_BT, -1, axis=1),
    weight_BT.astype(jnp.float32),
  )


def _gradients(graph, params, frozen, batch, recipe: Recipe):
  """Returns (mean loss of the targets, the slope, number of targets).

  The batch is worked on in `accumulate` micro-batches, one after another; the
  result is that of the whole batch.
  """
  count = jnp.sum(batch['target_BT'][:, 1:], dtype=jnp.float32)

  def part(micro):
    (_, found), slope = jax.value_and_grad(
      lambda p: losses(graph, p, frozen, micro, recipe), has_aux=True
    )(params)
    return found, slope

  if recipe.accumulate == 1:
    found, slope = part(batch)
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

    zeros = jax.tree.map(lambda p: jnp.zeros(p.shape, jnp.float32), params)
    (found, slope), _ = jax.lax.scan(add, (jnp.zeros(()), zeros), micros)
  return found / count, jax.tree.map(lambda g: g / count, slope), count


def placed(tree: Any, mesh: Mesh | None) -> Any:
  """Returns a tree of weights, or what is like them, split as the weights."""
  if mesh is None:
    return tree

  def place(leaf):
    axes = letters(leaf, jax.tree.leaves(leaf)[0].shape)
    return jax.lax.with_sharding_constraint(
      leaf, sharding.sharding(mesh, axes, sharding.WEIGHTS)
    )

  return jax.tree.map(
    place, tree, is_leaf=lambda x: isinstance(x, nnx.Variable)
  )


def letters(leaf: Any, shape: tuple[int, ...]) -> str:
  """Returns the axes of a weight, or of what the optimiser keeps of one.

  Adafactor's sums over rows and columns have other shapes: they are whole on
  every device.
  """
  own = leaf.get_metadata('letters') if isinstance(leaf, nnx.Variable) else ''
  return own if len(own) == len(shape) else '_' * len(shape)


@functools.partial(jax.jit, static_argnames=('recipe', 'mesh'))
def start(params, *, recipe: Recipe, mesh: Mesh | None = None) -> Any:
  """Returns the optimiser's first state, split over the mesh as the weights.

  It is made of constants, so that without a word it would be on one device.
  """
  return placed(recipe.transform(0.0).init(params), mesh)


@functools.partial(
  jax.jit, static_argnames=('graph', 'recipe', 'mesh'), donate_argnums=(0, 1)
)
def train(
  params,
  optimizer,
  frozen,
  batch,
  rate: jax.Array | float,
  *,
  graph,
  recipe: Recipe,
  mesh: Mesh | None = None,
):
  """Returns (params, optimiser state, metrics) after one step.

  `rate` is the peak of the schedule of learning rates.
  A loss or a gradient that is not finite changes neither of them.

  Metrics: `loss` (nats a target token), `gradient_norm` before clipping,
  `targets` (tokens), `count` (steps before that changed something); and `stop`,
  the largest of the numbers of that name in the batch, if there are some.
  """
  batch = dict(batch)
  stop = batch.pop('stop', None)
  value, slope, count = _gradients(graph, params, frozen, batch, recipe)
  slope = placed(slope, mesh)
  norm = optax.tree.norm(slope)
  good = jnp.isfinite(value) & jnp.isfinite(norm)
  done = optax.tree_utils.tree_get_all_with_path(optimizer, 'count')[0][1]
  updates, state = recipe.transform(rate).update(slope, optimizer, params)
  changed = optax.apply_updates(params, updates)
  params, optimizer = jax.tree.map(
    lambda new, old: jnp.where(good, new, old),
    (changed, state),
    (params, optimizer),
  )
  metrics = {'loss': value, 'gradient_norm': norm, 'targets': count}
  metrics['count'] = done
  if stop is not None:
    metrics['stop'] = jnp.max(stop)
  return placed(params, mesh), placed(optimizer, mesh), metrics


@functools.partial(jax.jit, static_argnames=('graph', 'recipe'))
def evaluate(
  params, frozen, batch, *, graph, recipe: Recipe
) -> tuple[jax.Array, jax.Array]:
  """Returns (sum of the targets' losses in nats, their number)."""
  found = losses(graph, params, frozen, batch, recipe)[1]
  return found, jnp.sum(batch['target_BT'][:, 1:], dtype=jnp.float32)
