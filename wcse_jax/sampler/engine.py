"""The device's side of sampling: prefill, fan out, decode.

A sample is fixed by (weights, prompt, settings, seed, problem, index) at one
padded shape: the number of slots, the length of the cache and the batch of a
prefill.  Which other samples share the batch, and in what order they come,
changes nothing.
"""

import dataclasses
import functools
import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from wcse_jax import errors, records
from wcse_jax import tokenizer as tokenizers
from wcse_jax.models import transformer
from wcse_jax.sampler import draw, schedule, settings


# Padded lengths are rounded up to this, so that few shapes are compiled.
_ROUND = 16
# Slots that one insertion fills.
_INSERT = 64


@jax.tree_util.register_dataclass
@dataclasses.dataclass
class State:
  """The slots, on the device.

  Attributes:
    cache: keys and values of every slot.
    keys_B: key of the slot's (seed, problem, sample).
    token_B: the last token of the sequence, not yet in the cache.
    position_B: its position.
    drawn_B: tokens drawn so far.
    done_B: true where an end token or the limit was reached.
    tokens_BT: the tokens drawn.
    logprobs_BT: their log-probabilities under the model, nats.
  """

  cache: transformer.Cache
  keys_B: jax.Array
  token_B: jax.Array
  position_B: jax.Array
  drawn_B: jax.Array
  done_B: jax.Array
  tokens_BT: jax.Array
  logprobs_BT: jax.Array


@dataclasses.dataclass(frozen=True)
class Shape:
  """The padded shape of a run, taken from the whole split.

  Attributes:
    prefix: token ids that every prompt starts with; prefilled once.
    suffix_tokens: longest rest of a prompt, padded.
  """

  prefix: tuple[int, ...]
  suffix_tokens: int

  @classmethod
  def of(cls, prompts: Iterable[Sequence[int]]) -> 'Shape':
    """Returns the shape for these prompts: all of the split, not a part."""
    prompts = [tuple(prompt) for prompt in prompts]
    if not prompts:
      raise errors.InputError('prompts: wanted at least one; got none.')
    low, high = min(prompts), max(prompts)
    # The last token of a prompt is fed by the first decode step.
    most = min(len(prompt) for prompt in prompts) - 1
    shared = 0
    while shared < most and low[shared] == high[shared]:
      shared += 1
    longest = max(len(prompt) for prompt in prompts)
    return cls(low[:shared], _padded(max(longest - shared, 1)))


class Sampler:
  """Draws samples from one model.

  Attributes:
    decode_tokens: tokens drawn so far that went into a sample.
    device_seconds: time in which the device worked, compiling left out.
    busy: mean share of slots that held a sample in a decode step.
  """

  def __init__(
    self,
    model: transformer.Transformer,
    tokenizer: tokenizers.Tokenizer,
    config: settings.SamplerConfig,
    *,
    seed: int = 0,
    stop: Sequence[str] = (),
    shape: Shape | None = None,
  ):
    """Args: `shape` from the whole split; None takes it from the requests."""
    config.validate()
    _check_mesh(config, model.mesh)
    self._graph, self._weights = nnx.split(model)
    self._model = model
    self._tokenizer = tokenizer
    self._config = config
    self._seed = seed
    self._stop = tuple(stop)
    self._shape = shape
    self._ends = tuple(tokenizer.end_ids)
    self.decode_tokens = 0
    self.device_seconds = 0.0
    self._slot_steps = 0
    self._busy_steps = 0

  @property
  def tokens_per_second(self) -> float:
    """Tokens drawn over the time the device worked, compiling left out."""
    return self.decode_tokens / max(self.device_seconds, 1e-9)

  @property
  def busy(self) -> float:
    return self._busy_steps / max(1, self._slot_steps)

  def places(self, shape: Shape) -> int:
    """Returns the cache positions of a slot."""
    return _padded(
      len(shape.prefix) + shape.suffix_tokens + self._config.max_new_tokens
    )

  def generate(
    self, requests: Iterable[settings.Request]
  ) -> Iterator[records.Sample]:
    """Yields each request's sample as it finishes.

    Args:
      requests: those of one prompt next to each other.

    Raises:
      InputError: if a prompt does not fit the shape or the model.
    """
    requests = list(requests)
    if not requests:
      return
    shape = self._shape or Shape.of(request.prompt for request in requests)
    self._check(requests, shape)
    config = self._config
    plan = schedule.Schedule(
      requests, slots=config.slots, prompts=config.prefill_batch
    )
    run = functools.partial(_timed, self)
    prefix = run(_prefix, self._weights, graph=self._graph, shape=shape)
    state = _empty(
      self._weights,
      graph=self._graph,
      slots=config.slots,
      places=self.places(shape),
      limit=config.max_new_tokens,
    )
    rows: Any = None
    while True:
      while True:
        prompts = plan.prefill()
        if prompts:
          tokens = self._padded_prompts(prompts, shape)
          rows = run(
            _prefill,
            self._weights,
            prefix,
            tokens,
            graph=self._graph,
            shape=shape,
            places=self.places(shape),
          )
        placed = plan.place()
        if not placed:
          break
        for i in range(0, len(placed), _INSERT):
          state = run(
            _insert, state, rows, *self._arrays(placed[i : i + _INSERT])
          )
      if not plan.running:
        return
      active = np.zeros(config.slots, bool)
      active[list(plan.running)] = True
      state, steps, busy = run(
        _decode,
        self._weights,
        state,
        jnp.asarray(active),
        graph=self._graph,
        ends=self._ends,
        chunk=config.chunk,
        draws=(config.temperature, config.top_k, config.top_p, config.min_p),
      )
      self._slot_steps += int(steps) * config.slots
      self._busy_steps += int(busy)
      yield from self._finished(plan, state, shape)

  def _check(self, requests: Sequence[settings.Request], shape: Shape) -> None:
    longest = len(shape.prefix) + shape.suffix_tokens
    limit = self._model.config.max_positions
    need = longest + self._config.max_new_tokens
    if need > limit:
      raise errors.InputError(
        f'sampler.max_new_tokens: {self._config.max_new_tokens} new tokens '
        f'behind prompts of up to {longest} need {need} positions; the model '
        f'has {limit}.'
      )
    for request in requests:
      fits = (
        request.prompt[: len(shape.prefix)] == shape.prefix
        and len(shape.prefix) < len(request.prompt) <= longest
      )
      if not fits:
        raise errors.InputError(
          f'prompt of {request.problem_id}: wanted {len(shape.prefix) + 1} to '
          f'{longest} tokens behind the shared prefix; got '
          f'{len(request.prompt)}.'
        )

  def _padded_prompts(self, prompts, shape: Shape):
    """Returns tokens_PT of the prompts behind the prefix."""
    tokens = np.zeros(
      (self._config.prefill_batch, shape.suffix_tokens), np.int32
    )
    for row, prompt in enumerate(prompts):
      rest = prompt[len(shape.prefix) :]
      tokens[row, : len(rest)] = rest
    return jnp.asarray(tokens)

  def _arrays(self, placed: Sequence[schedule.Placement]):
    """Returns what `_insert` takes, padded with a slot that does not exist."""
    count = min(_INSERT, self._config.slots)
    slots = np.full(count, self._config.slots, np.int32)
    rows, tokens, positions = np.zeros((3, count), np.int32)
    problems, samples = np.zeros((2, count), np.uint32)
    for i, placement in enumerate(placed):
      request = placement.request
      slots[i], rows[i] = placement.slot, placement.row
      tokens[i] = request.prompt[-1]
      positions[i] = len(request.prompt) - 1
      problems[i] = problem_number(request.problem_id)
      samples[i] = request.index
    seed = np.uint32(self._seed % 2**32)
    return tuple(
      jnp.asarray(a)
      for a in (slots, rows, tokens, positions, problems, samples, seed)
    )

  def _finished(self, plan, state: State, shape: Shape):
    """Yields the samples that ended in the last chunk."""
    done, drawn, tokens, logprobs = jax.device_get(
      (state.done_B, state.drawn_B, state.tokens_BT, state.logprobs_BT)
    )
    slots = sorted(plan.running)
    if not self._stop:
      slots = [slot for slot in slots if done[slot]]
    texts = self._tokenizer.decode_all(
      [tokens[slot, : drawn[slot]] for slot in slots]
    )
    for slot, text in zip(slots, texts, strict=True):
      count = int(drawn[slot])
      ids = tokens[slot, :count].tolist()
      stopped = self._stopped(ids, text)
      if stopped is not None:
        count, text = stopped
      elif not done[slot]:
        continue
      ended = stopped is not None or ids[-1] in self._ends
      request = plan.finish(slot)
      self.decode_tokens += count
      yield records.Sample(
        problem_id=request.problem_id,
        index=request.index,
        text=text,
        tokens=tuple(ids[:count]),
        finish_reason='stop' if ended else 'length',
        prompt_tokens=len(request.prompt),
        shared_prompt_tokens=len(shape.prefix),
        output_tokens=count,
        # Rounded, so that the text of the number is the same everywhere.
        logprob=round(float(logprobs[slot, :count].sum(dtype=np.float64)), 6),
      )

  def _stopped(self, ids: Sequence[int], text: str) -> tuple[int, str] | None:
    """Returns (tokens that complete the first stop string, text before it).

    Token by token, so that the chunk changes nothing: tokens further on can
    complete a stop string that begins earlier, and bytes of a character that
    is not whole (U+FFFD) hide what stands before them.
    """
    if not self._stop or not any(s in text for s in (*self._stop, '\ufffd')):
      return None
    begun = [ids[:count] for count in range(1, len(ids) + 1)]
    for count, text in enumerate(self._tokenizer.decode_all(begun), 1):
      found = [text.find(s) for s in self._stop if s in text]
      if found:
        return count, text[: min(found)]
    return None


def _check_mesh(config: settings.SamplerConfig, mesh) -> None:
  """Raises InputError if the mesh does not divide the rows it splits."""
  if mesh is None:
    return
  parts = mesh.shape['data'] * mesh.shape['fsdp']
  for name in ('slots', 'prefill_batch'):
    if getattr(config, name) % parts:
      raise errors.InputError(
        f'sampler.{name}: wanted a multiple of data x fsdp = {parts}; '
        f'got {getattr(config, name)}.'
      )


def problem_number(problem_id: str) -> int:
  """Returns the 32-bit number by which a problem's noise is keyed."""
  return int.from_bytes(hashlib.sha256(problem_id.encode()).digest()[:4])


def _padded(count: int) -> int:
  return -(-count // _ROUND) * _ROUND


# Compiled programs by shape, for every sampler of this process.
_COMPILED: dict[Any, Any] = {}


def _timed(sampler: Sampler, program, *args, **static):
  """Runs a program to its end and books its time, compiling left out."""
  leaves, tree = jax.tree.flatten(args)
  kinds = tuple((x.shape, x.dtype, x.sharding) for x in leaves)
  key = (program, tree, kinds, tuple(static.items()))
  if key not in _COMPILED:
    _COMPILED[key] = program.lower(*args, **static).compile()
  began = time.perf_counter()
  out = jax.block_until_ready(_COMPILED[key](*args))
  sampler.device_seconds += time.perf_counter() - began
  return out


@functools.partial(jax.jit, static_argnames=('graph', 'shape'))
def _prefix(weights, *, graph, shape: Shape) -> transformer.Cache | None:
  """Returns the cache of the shared prefix, one row."""
  if not shape.prefix:
    return None
  model = nnx.merge(graph, weights)
  count = len(shape.prefix)
  tokens_BT = jnp.asarray(shape.prefix, jnp.int32)[None]
  cache = model.make_cache(1, count)
  return model.extend(tokens_BT, jnp.arange(count)[None], cache)[1]


@functools.partial(jax.jit, static_argnames=('graph', 'shape', 'places'))
def _prefill(
  weights, prefix, tokens_PT, *, graph, shape: Shape, places: int
) -> transformer.Cache:
  """Returns the cache of P prompts.

  Padding behind a prompt is written too; it lies behind every position that is
  read before it is overwritten.
  """
  model = nnx.merge(graph, weights)
  start = len(shape.prefix)
  cache = model.make_cache(tokens_PT.shape[0], places)
  if prefix is not None:
    # The row axis is the fourth from the end, layers may lie before it.
    cache = jax.tree.map(
      lambda whole, one: jax.lax.dynamic_update_slice(
        whole,
        jnp.broadcast_to(
          one, (*one.shape[:-4], tokens_PT.shape[0], *one.shape[-3:])
        ),
        (0,) * whole.ndim,
      ),
      cache,
      prefix,
    )
  positions_PT = jnp.broadcast_to(
    start + jnp.arange(tokens_PT.shape[1]), tokens_PT.shape
  )
  return model.extend(tokens_PT, positions_PT, cache)[1]


@functools.partial(
  jax.jit, static_argnames=('graph', 'slots', 'places', 'limit')
)
def _empty(weights, *, graph, slots: int, places: int, limit: int) -> State:
  """Returns slots that hold nothing."""
  model = nnx.merge(graph, weights)
  return State(
    cache=model.make_cache(slots, places),
    keys_B=jax.vmap(jax.random.key)(jnp.zeros(slots, jnp.uint32)),
    token_B=jnp.zeros(slots, jnp.int32),
    position_B=jnp.zeros(slots, jnp.int32),
    drawn_B=jnp.zeros(slots, jnp.int32),
    done_B=jnp.ones(slots, bool),
    tokens_BT=jnp.zeros((slots, limit), jnp.int32),
    logprobs_BT=jnp.zeros((slots, limit), jnp.float32),
  )


@functools.partial(jax.jit, donate_argnums=0)
def _insert(
  state: State,
  rows,
  slots_I,
  rows_I,
  token_I,
  position_I,
  problem_I,
  sample_I,
  seed,
) -> State:
  """Returns the slots with up to I new sequences; slot B means none."""

  def key(problem, sample):
    base = jax.random.key(seed)
    return jax.random.fold_in(jax.random.fold_in(base, problem), sample)

  def put(old, new):
    return old.at[slots_I].set(new, mode='drop')

  def put_rows(old, new):
    if old.ndim == 5:
      return old.at[:, slots_I].set(new[:, rows_I], mode='drop')
    return old.at[slots_I].set(new[rows_I], mode='drop')

  return dataclasses.replace(
    state,
    cache=jax.tree.map(put_rows, state.cache, rows),
    keys_B=put(state.keys_B, jax.vmap(key)(problem_I, sample_I)),
    token_B=put(state.token_B, token_I),
    position_B=put(state.position_B, position_I),
    drawn_B=put(state.drawn_B, 0),
    done_B=put(state.done_B, False),
  )


@functools.partial(
  jax.jit,
  static_argnames=('graph', 'ends', 'chunk', 'draws'),
  donate_argnums=1,
)
def _decode(
  weights, state: State, active_B, *, graph, ends, chunk: int, draws
) -> tuple[State, jax.Array, jax.Array]:
  """Returns (slots, steps, slot-steps that drew a token) after `chunk` steps.

  It ends early when no active slot is left to draw for.
  """
  model = nnx.merge(graph, weights)
  temperature, top_k, top_p, min_p = draws
  limit = state.tokens_BT.shape[1]
  rows_B = jnp.arange(state.tokens_BT.shape[0])

  def going(state):
    return active_B & ~state.done_B

  def more(carry):
    state, step, _ = carry
    return (step < chunk) & jnp.any(going(state))

  def body(carry):
    state, step, busy = carry
    live_B = going(state)
    x_B1D, cache = model.extend(
      state.token_B[:, None], state.position_B[:, None], state.cache
    )
    logits_BV = model.logits(x_B1D)[:, 0]
    keys_B = jax.vmap(jax.random.fold_in)(state.keys_B, state.drawn_B)
    token_B, logprob_B = draw.draw(
      logits_BV,
      keys_B,
      temperature=temperature,
      top_k=top_k,
      top_p=top_p,
      min_p=min_p,
    )
    # A slot that is not live writes nowhere.
    at_B = jnp.where(live_B, state.drawn_B, limit)
    drawn_B = state.drawn_B + live_B
    ended_B = jnp.any(token_B[:, None] == jnp.asarray(ends)[None], axis=-1)
    state = State(
      cache=cache,
      keys_B=state.keys_B,
      token_B=jnp.where(live_B, token_B, state.token_B),
      position_B=state.position_B + live_B,
      drawn_B=drawn_B,
      done_B=state.done_B | (live_B & (ended_B | (drawn_B >= limit))),
      tokens_BT=state.tokens_BT.at[rows_B, at_B].set(token_B, mode='drop'),
      logprobs_BT=state.logprobs_BT.at[rows_B, at_B].set(
        logprob_B, mode='drop'
      ),
    )
    return state, step + 1, busy + jnp.sum(live_B)

  return jax.lax.while_loop(more, body, (state, 0, 0))
