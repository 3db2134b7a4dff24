"""The programs of sampling on the device: prefill, insert, decode."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from wcse_jax import sharding
from wcse_jax.models import cache as caches
from wcse_jax.sampler import draw


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
  """The slots, on the device.

  Attributes:
    cache: keys and values of every slot.
    keys_B: key of the slot's (seed, problem, sample).
    token_B: the last token of the sequence, not yet in the cache.
    own_B: its own index: its position less the tokens of the shared prefix.
    drawn_B: tokens drawn so far.
    done_B: true where an end token or the limit was reached.
    tokens_BT: the tokens drawn.
    logprobs_BT: their log-probabilities under the model, nats.
  """

  cache: caches.Cache
  keys_B: jax.Array
  token_B: jax.Array
  own_B: jax.Array
  drawn_B: jax.Array
  done_B: jax.Array
  tokens_BT: jax.Array
  logprobs_BT: jax.Array


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class Visit:
  """What the host is told after some decode steps.

  Attributes:
    done_B: true where an end token or the limit was reached.
    paused_B: true where the last token may complete a stop string.
    drawn_B: tokens drawn so far.
    steps: decode steps that were done.
    busy: slot-steps that drew a token.
  """

  done_B: jax.Array
  paused_B: jax.Array
  drawn_B: jax.Array
  steps: jax.Array
  busy: jax.Array


@functools.partial(jax.jit, static_argnames='graph')
def prefix(weights, tokens_U, *, graph) -> caches.Cache:
  """Returns what every sequence can see of the shared prefix."""
  model = nnx.merge(graph, weights)
  return model.as_prefix(model.prefill(tokens_U[None]))


@functools.partial(jax.jit, static_argnames=('graph', 'start'))
def prefill(weights, before, tokens_PT, *, graph, start: int) -> caches.Cache:
  """Returns fresh keys and values of P prompts behind `start` shared tokens."""
  return nnx.merge(graph, weights).prefill(tokens_PT, before, start)


@functools.partial(
  jax.jit, static_argnames=('graph', 'slots', 'places', 'limit')
)
def empty(weights, *, graph, slots: int, places: int, limit: int) -> State:
  """Returns slots that hold nothing."""
  model = nnx.merge(graph, weights)
  return State(
    cache=model.make_cache(slots, places),
    keys_B=jax.vmap(jax.random.key)(jnp.zeros(slots, jnp.uint32)),
    token_B=jnp.zeros(slots, jnp.int32),
    own_B=jnp.zeros(slots, jnp.int32),
    drawn_B=jnp.zeros(slots, jnp.int32),
    done_B=jnp.ones(slots, bool),
    tokens_BT=jnp.zeros((slots, limit), jnp.int32),
    logprobs_BT=jnp.zeros((slots, limit), jnp.float32),
  )


@functools.partial(
  jax.jit, static_argnames='keys_last', donate_argnames='state'
)
def insert(
  state: State,
  rows,
  slots_I,
  rows_I,
  token_I,
  own_I,
  problem_I,
  sample_I,
  seed,
  *,
  keys_last: bool,
) -> State:
  """Returns the slots with up to I new sequences; slot B means none.

  `own_I` is the own index of the prompt's last token, which the first decode
  step feeds: as many own tokens are prefilled.
  """

  def key(problem, sample):
    base = jax.random.key(seed)
    return jax.random.fold_in(jax.random.fold_in(base, problem), sample)

  def put(old, new):
    return old.at[slots_I].set(new, mode='drop')

  return dataclasses.replace(
    state,
    cache=caches.insert(
      state.cache, rows, slots_I, rows_I, own_I, keys_last=keys_last
    ),
    keys_B=put(state.keys_B, jax.vmap(key)(problem_I, sample_I)),
    token_B=put(state.token_B, token_I),
    own_B=put(state.own_B, own_I),
    drawn_B=put(state.drawn_B, 0),
    done_B=put(state.done_B, False),
  )


@functools.partial(jax.jit, static_argnames='mesh')
def take(
  tokens_BT, logprobs_BT, slots_I, *, mesh
) -> tuple[jax.Array, jax.Array]:
  """Returns (tokens_IT, logprobs_IT) of some slots, in arrays of their own."""
  # Whole on every device, so that every process of the mesh can read them.
  return (
    sharding.constrain(tokens_BT[slots_I], 'IT', mesh),
    sharding.constrain(logprobs_BT[slots_I], 'IT', mesh),
  )


@functools.partial(
  jax.jit,
  static_argnames=('graph', 'start', 'ends', 'draws', 'kernel', 'fill'),
  donate_argnames='state',
)
def decode(
  weights,
  state: State,
  before,
  active_B,
  spare,
  most,
  pauses_V,
  *,
  graph,
  start: int,
  ends: tuple[int, ...],
  draws: tuple[Any, ...],
  kernel: bool = False,
  fill: float = 0.5,
) -> tuple[State, Visit]:
  """Returns the slots after some steps, and what came of them.

  Args:
    weights: of the model.
    state: the slots.
    before: what they see of the shared prefix; None if there is none.
    active_B: slots that hold a sample which has not ended.
    spare: it returns as soon as so many of them have ended or paused,
    most: or after so many steps.
    pauses_V: tokens behind which the host looks for a stop string; None: none.
    graph: of the model.
    start: tokens of the shared prefix.
    ends: token ids that end a sample.
    draws: temperature, top_k, top_p, min_p.
    kernel: whether a kernel reads the slots' caches; see `decode.chosen`.
    fill: share of the places that the kernel's cost estimate takes as filled;
      changes no result.
  """
  model = nnx.merge(graph, weights)
  temperature, top_k, top_p, min_p = draws
  limit = state.tokens_BT.shape[1]
  rows_B = jnp.arange(state.tokens_BT.shape[0])

  def more(carry):
    state, paused_B, step, _ = carry
    idle_B = active_B & (state.done_B | paused_B)
    idle = jnp.sum(idle_B)
    return (step < most) & (idle < spare) & (idle < jnp.sum(active_B))

  def body(carry):
    state, paused_B, step, busy = carry
    live_B = active_B & ~state.done_B & ~paused_B
    x_BD, cache = model.step(
      state.token_B,
      state.own_B,
      state.cache,
      before,
      start,
      kernel=kernel,
      fill=fill,
    )
    logits_BV = model.logits(x_BD[:, None])[:, 0]
    keys_B = jax.vmap(jax.random.fold_in)(state.keys_B, state.drawn_B)
    token_B, logprob_B = draw.draw(
      logits_BV,
      keys_B,
      temperature=temperature,
      top_k=top_k,
      top_p=top_p,
      min_p=min_p,
    )
    # A slot that is not live writes nowhere that is read, and stays as it is:
    # what it writes to the cache it writes again when it goes on.
    at_B = jnp.where(live_B, state.drawn_B, limit)
    drawn_B = state.drawn_B + live_B
    ended_B = jnp.any(token_B[:, None] == jnp.asarray(ends)[None], axis=-1)
    done_B = state.done_B | (live_B & (ended_B | (drawn_B >= limit)))
    if pauses_V is not None:
      paused_B = paused_B | (live_B & ~done_B & pauses_V[token_B])
    state = State(
      cache=cache,
      keys_B=state.keys_B,
      token_B=jnp.where(live_B, token_B, state.token_B),
      own_B=state.own_B + live_B,
      drawn_B=drawn_B,
      done_B=done_B,
      tokens_BT=state.tokens_BT.at[rows_B, at_B].set(token_B, mode='drop'),
      logprobs_BT=state.logprobs_BT.at[rows_B, at_B].set(
        logprob_B, mode='drop'
      ),
    )
    return state, paused_B, step + 1, busy + jnp.sum(live_B)

  state, paused_B, steps, busy = jax.lax.while_loop(
    more, body, (state, jnp.zeros_like(active_B), 0, 0)
  )

  def told(x_B):
    # In an array of its own: the state's are given up to the next program.
    # Whole on every device: each process of the mesh reads it.
    return sharding.constrain(jnp.copy(x_B), '_', model.mesh)

  return state, Visit(
    done_B=told(state.done_B),
    paused_B=told(paused_B),
    drawn_B=told(state.drawn_B),
    steps=steps,
    busy=busy,
  )
