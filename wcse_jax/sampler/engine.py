"""Draws samples: keeps the device busy, and hands out what is finished.

A sample is fixed by (weights, prompt, settings, seed, problem, index) at one
padded shape: the number of slots, the places of a slot, the shared prefix, and
batch and padded length of its prefill, which its own prompt decides.  Which
other samples share the slots, and in what order they come, changes nothing.

The device is visited when a few slots have ended, at the latest after `chunk`
steps or about two seconds.  Finished slots are filled at once from prompts that
were prefilled before; texts are made, and the next prompts prefilled, while
the device works on.
"""

import dataclasses
import hashlib
import time
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from wcse_jax import errors, machine, records, sharding
from wcse_jax import tokenizer as tokenizers
from wcse_jax.kernels import decode
from wcse_jax.models import transformer
from wcse_jax.sampler import (
  device,
  memory,
  programs,
  schedule,
  settings,
  shapes,
  stopping,
)


# Slots that one insertion fills: the smaller number where it does.
_INSERTS = (8, 64)
# The device is visited when this share of the slots has ended, and at least
# every so many seconds, so that a stop is obeyed soon.
_SPARE = 1 / 32
_PATIENCE = 2.0
# Steps of the first visit, of which it is not known how long they take.
_FIRST = 4


@dataclasses.dataclass
class _Ended:
  """Samples that ended at a visit, with their tokens on their way to the host.

  Attributes:
    requests: what was asked.
    counts: tokens drawn.
    tokens_IT: their ids, padded.
    logprobs_IT: their log-probabilities.
    found: (tokens, text) where a stop string is known to end the sample.
  """

  requests: list[settings.Request]
  counts: list[int]
  tokens_IT: Any
  logprobs_IT: Any
  found: list[tuple[int, str] | None]


class Sampler:
  """Draws samples from one model.

  Attributes:
    decode_tokens: tokens drawn so far that went into a sample.
    busy: mean share of slots that drew a token in a decode step, while samples
      were waiting for a slot (the last drain is left out; where no sample ever
      waited, all steps).
  """

  def __init__(
    self,
    model: transformer.Transformer,
    tokenizer: tokenizers.Tokenizer,
    config: settings.SamplerConfig,
    *,
    seed: int = 0,
    stop: Sequence[str] = (),
    shape: shapes.Shape | None = None,
  ):
    """Args: `shape` from the whole split; None takes it from the requests."""
    config.validate()
    check_mesh(config, model.mesh)
    self._graph, self._weights = nnx.split(model)
    self._model = model
    self._tokenizer = tokenizer
    self._config = config
    self._seed = seed
    self._stops = stopping.Stops(tokenizer, stop)
    self._pauses_V = self._stops.pauses(model.config.vocab_size)
    if self._pauses_V is not None:
      self._pauses_V = self._put(self._pauses_V)
    self._shape = shape
    self._ends = tuple(tokenizer.end_ids)
    self._kernel = decode.chosen(
      config.attention,
      model.mesh,
      {layer.head_dim for layer in model.config.layers},
    )
    self.decode_tokens = 0
    self._full = np.zeros(2, np.int64)
    self._drain = np.zeros(2, np.int64)
    self._device = device.Device()
    # Seconds of a decode step, as the last visit took them.
    self._pace: float | None = None
    # Processes that decode together must take the same steps.
    self._alone = model.mesh is None or not model.mesh.is_multi_process

  @property
  def device_seconds(self) -> float:
    """Time in which the device worked, compiling left out."""
    return self._device.seconds

  @property
  def host_seconds(self) -> float:
    """Time in which the device waited for the host."""
    return self._device.host_seconds

  @property
  def compile_seconds(self) -> float:
    """Time in which programs were compiled, or read from a cache."""
    return self._device.compile_seconds

  @property
  def tokens_per_second(self) -> float:
    """Tokens drawn over the time the device worked, compiling left out."""
    return self.decode_tokens / max(self.device_seconds, 1e-9)

  @property
  def busy(self) -> float:
    busy, steps = self._full if self._full[1] else self._drain
    return float(busy / max(1, steps))

  def generate(
    self, requests: Iterable[settings.Request]
  ) -> Iterator[records.Sample]:
    """Yields each request's sample as it finishes.

    A request whose prompt does not fit disturbs no other: it is told of when
    all others are done.

    Args:
      requests: those of one prompt next to each other.

    Raises:
      InputError: if the slots do not fit into memory or the model's positions,
        at once; if a prompt does not fit the shape, at the end.
    """
    requests = list(requests)
    if not requests:
      return
    shape = self._shape or shapes.Shape.of(
      request.prompt for request in requests
    )
    self.check(shape)
    fitting = [request for request in requests if shape.fits(request.prompt)]
    if fitting:
      yield from self._generate(fitting, shape)
    for request in requests:
      if not shape.fits(request.prompt):
        start = len(shape.prefix)
        raise errors.InputError(
          f'prompt of {request.problem_id}: wanted {start + 1} to '
          f'{shape.longest} tokens behind the shared prefix; '
          f'got {len(request.prompt)}; {len(requests) - len(fitting)} of '
          f'{len(requests)} requests drew nothing.'
        )

  def _generate(
    self, requests: Sequence[settings.Request], shape: shapes.Shape
  ) -> Iterator[records.Sample]:
    config = self._config
    start = len(shape.prefix)
    plan = schedule.Schedule(
      requests,
      slots=config.slots,
      prompts=config.prefill_batch,
      length=lambda prompt: shape.prefilled(len(prompt) - start),
    )
    before = None
    if shape.prefix:
      tokens_U = self._put(np.array(shape.prefix, np.int32))
      before = self._device.run(
        programs.prefix, self._weights, tokens_U, graph=self._graph
      )
    state = self._device.run(
      programs.empty,
      self._weights,
      graph=self._graph,
      slots=config.slots,
      places=shape.places(config.max_new_tokens),
      limit=config.max_new_tokens,
    )
    rows: dict[int, Any] = {}
    ended: list[_Ended] = []
    while True:
      state = self._fill(plan, rows, state, before, shape)
      if not plan.running:
        break
      waiting = plan.waiting
      state, visit = self._decode(plan, state, before, start)
      began = time.perf_counter()
      # The device works: time for what is not urgent.
      while ended:
        yield from self._samples(ended.pop(), shape)
      if plan.short:
        self._prefill(plan, rows, before, shape)
      visit = self._device.wait(visit)
      self._pace = (time.perf_counter() - began) / max(1, int(visit.steps))
      book = self._full if waiting else self._drain
      book += (int(visit.busy), int(visit.steps) * config.slots)
      ended += self._collect(plan, state, visit)
    self._device.rest()
    while ended:
      yield from self._samples(ended.pop(), shape)

  def check(self, shape: shapes.Shape) -> None:
    """Raises InputError if the slots cannot hold prompts of a shape.

    They may be too long for the model, or for the device's memory.
    """
    longest = shape.longest
    limit = self._model.config.max_positions
    need = longest + self._config.max_new_tokens
    if need > limit:
      raise errors.InputError(
        f'sampler.max_new_tokens: {self._config.max_new_tokens} new tokens '
        f'behind prompts of up to {longest} need {need} positions; the model '
        f'has {limit}: {max(0, limit - longest)} would fit.'
      )
    rows = 1 if self._model.mesh is None else _parts(self._model.mesh)
    # The weights are there already.
    memory.check(
      dataclasses.replace(self.need(shape), weights=0),
      self._free_memory(),
      rows,
      shape.places(self._config.max_new_tokens),
    )

  def need(self, shape: shapes.Shape) -> memory.Need:
    """Returns the memory that a device needs for prompts of a shape."""
    mesh = self._model.mesh
    return memory.need(
      self._model.config,
      self._config,
      prefix=len(shape.prefix),
      suffix=shape.suffix_tokens,
      dtype=self._model.dtype.name,
      cache_dtype=self._model.cache_dtype.name,
      weights=self._model.weights,
      mesh=None if mesh is None else mesh.shape,
    )

  def described(self, shape: shapes.Shape) -> str:
    """Returns one line on the memory that prompts of a shape need."""
    return memory.describe(
      self.need(shape),
      self._free_memory(),
      shape.places(self._config.max_new_tokens),
    )

  def _free_memory(self) -> int | None:
    mesh = self._model.mesh
    return machine.free_memory(None if mesh is None else mesh.local_devices[0])

  def _fill(self, plan, rows, state, before, shape: shapes.Shape):
    """Returns the state with the free slots filled, as far as there is work."""
    while plan.free and plan.waiting:
      if not plan.ready:
        self._prefill(plan, rows, before, shape)
      placed = plan.place()
      size = next((n for n in _INSERTS if len(placed) <= n), _INSERTS[-1])
      for i in range(0, len(placed), size):
        part = placed[i : i + size]
        state = self._device.run(
          programs.insert,
          state,
          rows[placed[0].batch],
          *self._arrays(part, size, len(shape.prefix)),
          keys_last=self._model.keys_last,
        )
      for number in rows.keys() - plan.batches():
        del rows[number]
    return state

  def _prefill(self, plan, rows, before, shape: shapes.Shape) -> None:
    """Prefills the next prompts, if there are any left."""
    batch = plan.prefill()
    if batch is None:
      return
    start = len(shape.prefix)
    tokens = np.zeros((self._config.prefill_batch, batch.length), np.int32)
    for row, prompt in enumerate(batch.prompts):
      # The last token is fed by the first decode step.
      rest = prompt[start:-1]
      tokens[row, : len(rest)] = rest
    rows[batch.number] = self._device.run(
      programs.prefill,
      self._weights,
      before,
      self._put(tokens),
      graph=self._graph,
      start=start,
    )

  def _decode(self, plan, state, before, start: int):
    """Starts decode steps; returns (state, visit) before they are done."""
    config = self._config
    active = np.zeros(config.slots, bool)
    active[list(plan.running)] = True
    # In the last drain nothing waits for the slots that fall free.
    spare = max(1, int(config.slots * _SPARE))
    if not plan.waiting:
      spare = max(spare, config.slots // 4)
    return self._device.run(
      programs.decode,
      self._weights,
      state,
      before,
      self._put(active),
      self._put(np.int32(spare)),
      self._put(np.int32(self._steps())),
      self._pauses_V,
      graph=self._graph,
      start=start,
      ends=self._ends,
      draws=(config.temperature, config.top_k, config.top_p, config.min_p),
      kernel=self._kernel,
    )

  def _steps(self) -> int:
    """Returns how many decode steps are done before the next visit at most."""
    chunk = self._config.chunk
    if not self._alone:
      return chunk
    if self._pace is None:
      return min(chunk, _FIRST)
    return max(1, min(chunk, int(_PATIENCE / max(self._pace, 1e-9))))

  def _collect(self, plan, state, visit) -> list[_Ended]:
    """Frees the slots whose sample ended; their tokens are on their way."""
    slots = sorted(plan.running)
    found: dict[int, tuple[int, str] | None] = {
      slot: None for slot in slots if visit.done_B[slot]
    }
    paused = [slot for slot in slots if visit.paused_B[slot]]
    for part, tokens_IT, _ in self._taken(state, paused):
      tokens_IT = jax.device_get(tokens_IT)
      for slot, tokens_T in zip(part, tokens_IT):
        stopped = self._stops.find(tokens_T[: visit.drawn_B[slot]].tolist())
        if stopped is not None:
          found[slot] = stopped
    ended = []
    for part, tokens_IT, logprobs_IT in self._taken(state, sorted(found)):
      counts = [int(visit.drawn_B[slot]) for slot in part]
      stops = [found[slot] for slot in part]
      gone = [plan.finish(slot) for slot in part]
      ended.append(_Ended(gone, counts, tokens_IT, logprobs_IT, stops))
    return ended

  def _taken(self, state, slots: Sequence[int]):
    """Yields (some of the slots, their tokens, their log-probabilities)."""
    size = next((n for n in _INSERTS if len(slots) <= n), _INSERTS[-1])
    for i in range(0, len(slots), size):
      part = slots[i : i + size]
      padded = np.zeros(size, np.int32)
      padded[: len(part)] = part
      yield (
        part,
        *self._device.run(
          programs.take,
          state.tokens_BT,
          state.logprobs_BT,
          self._put(padded),
          mesh=self._model.mesh,
        ),
      )

  def _put(self, array) -> jax.Array:
    """Returns a host array where the programs take it from."""
    return sharding.replicate(array, self._model.mesh)

  def _arrays(
    self, placed: Sequence[schedule.Placement], size: int, start: int
  ):
    """Returns what `insert` takes, padded with a slot that does not exist."""
    slots = np.full(size, self._config.slots, np.int32)
    rows, tokens, own = np.zeros((3, size), np.int32)
    problems, samples = np.zeros((2, size), np.uint32)
    for i, placement in enumerate(placed):
      request = placement.request
      slots[i], rows[i] = placement.slot, placement.row
      tokens[i] = request.prompt[-1]
      own[i] = len(request.prompt) - 1 - start
      problems[i] = problem_number(request.problem_id)
      samples[i] = request.index
    seed = np.uint32(self._seed % 2**32)
    return tuple(
      self._put(a) for a in (slots, rows, tokens, own, problems, samples, seed)
    )

  def _samples(
    self, ended: _Ended, shape: shapes.Shape
  ) -> Iterator[records.Sample]:
    """Yields the samples that ended at one visit."""
    tokens_IT, logprobs_IT = jax.device_get(
      (ended.tokens_IT, ended.logprobs_IT)
    )
    drawn = [
      tokens_IT[i, :count].tolist() for i, count in enumerate(ended.counts)
    ]
    texts = self._tokenizer.decode_all(drawn)
    for i, (request, ids, text) in enumerate(
      zip(ended.requests, drawn, texts, strict=True)
    ):
      count = len(ids)
      stopped = ended.found[i] or self._stops.find(ids, text)
      if stopped is not None:
        count, text = stopped
      stops = stopped is not None or ids[-1] in self._ends
      self.decode_tokens += count
      logprob = logprobs_IT[i, :count].sum(dtype=np.float64)
      yield records.Sample(
        problem_id=request.problem_id,
        index=request.index,
        text=text,
        tokens=tuple(ids[:count]),
        finish_reason='stop' if stops else 'length',
        prompt_tokens=len(request.prompt),
        shared_prompt_tokens=len(shape.prefix),
        output_tokens=count,
        # Rounded, so that the text of the number is the same everywhere.
        logprob=round(float(logprob), 6),
      )


def check_mesh(config: settings.SamplerConfig, mesh) -> None:
  """Raises InputError if the mesh does not divide the rows it splits."""
  if mesh is None:
    return
  parts = _parts(mesh)
  for name in ('slots', 'prefill_batch'):
    count = getattr(config, name)
    if count % parts:
      less = count // parts * parts
      fits = sharding.any_of(n for n in (less, less + parts) if n)
      raise errors.InputError(
        f'sampler.{name}: wanted a multiple of data x fsdp = {parts}; '
        f'got {count}; {fits} would fit.'
      )


def _parts(mesh) -> int:
  """Returns into how many parts the slots are split."""
  return mesh.shape['data'] * mesh.shape['fsdp']


def problem_number(problem_id: str) -> int:
  """Returns the 32-bit number by which a problem's noise is keyed."""
  return int.from_bytes(hashlib.sha256(problem_id.encode()).digest()[:4])
