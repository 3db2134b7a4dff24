"""Throughput of the sampler on a given piece of work, beside the machine's.

The work is a sampling run's: its problems, prompt and settings.  Every figure
is the median of some repeats; compiling is left out and told apart.
"""

import dataclasses
import resource
import statistics
import sys
import tempfile
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental.compilation_cache import compilation_cache

from wcse_jax import budget, checkpoints, errors, machine, sharding
from wcse_jax.kernels import decode
from wcse_jax.sampler import (
  device,
  draw,
  engine,
  inputs,
  programs,
  settings,
  shapes,
)


# An id that is never drawn.
_NEVER = (2**31 - 1,)
# Decode steps that are timed together; fewer where one takes long.
_STEPS, _STEPS_CPU = 64, 8
# How jax keeps every program that it compiles, however small.
_CACHE = {
  'jax_compilation_cache_dir': None,
  'jax_persistent_cache_min_compile_time_secs': 0.0,
  'jax_persistent_cache_min_entry_size_bytes': -1,
}


@dataclasses.dataclass(kw_only=True)
class BenchConfig(inputs.SampleConfig):
  """A piece of work to time: the fields of a sampling run, and these.

  Attributes:
    end_tokens: whether end tokens end a sample; without them every sample has
      `max_new_tokens` tokens.
    random_weights: whether weights are made up instead of read, so that a
      checkpoint needs no more than config.json and its tokenizer.
    repeats: of which medians are taken.
    profile: folder for a profiler's trace of one repeat; empty for none.
  """

  end_tokens: bool = True
  random_weights: bool = False
  repeats: int = 3
  profile: str = ''

  def validate(self) -> None:
    super().validate()
    if self.server:
      raise errors.InputError(
        'server: wanted none, as a checkpoint on this machine is timed; got '
        f'{self.server!r}.'
      )
    if self.repeats < 1:
      raise errors.InputError(
        f'repeats: wanted a count >= 1; got {self.repeats}.'
      )
    if self.profile:
      machine.check_profiler()


def bench(config: BenchConfig) -> dict[str, Any]:
  """Times a piece of work; returns the figures, ready for JSON.

  - `machine`: `matrix` (FLOP/s of a large product in the run's dtype), `memory`
    (bytes/s of a large read).
  - `whole`: the work from prompts to texts: seconds, drawn tokens a second,
    busy slots, and `host_share` of the time in which the device waited.
  - `compile_seconds`: of the programs of the work, `cold` and with the
    `persistent` cache that jax keeps (JAX_COMPILATION_CACHE_DIR).
  - `prefix`, `prefill`, `decode`: one program each, with its FLOPs and the
    share of the matrix rate; `decode` is a step of all slots, half of the new
    tokens drawn, with the least bytes it must read (weights, filled cache and
    prefix once), the time that either limit would take, and `share` of the
    larger one.
  - `draw`: the part of a step that turns logits into tokens, on logits of a
    prompt's positions.

  Raises:
    InputError: as sampling would.
  """
  config.validate()
  base = {
    field.name: getattr(config, field.name)
    for field in dataclasses.fields(inputs.SampleConfig)
  }
  plain = inputs.SampleConfig(**base)
  work = inputs.prepare(plain)
  mesh = sharding.make_mesh(config.mesh)
  model, tokenizer = checkpoints.load(
    config.checkpoint,
    dtype=config.dtype,
    mesh=mesh,
    weights=config.weights,
    random=config.random_weights,
  )
  if not config.end_tokens:
    tokenizer.end_ids = _NEVER
  ids = inputs.prompt_ids(work, tokenizer, config.chat)
  shape = shapes.Shape.of(ids.values())
  requests = [
    settings.Request(problem.id, index, ids[position])
    for position, problem in work.chosen
    for index in range(config.samples_per_problem)
  ]
  stop = inputs.stop_strings(work.task, tokenizer, config.chat)

  def make() -> engine.Sampler:
    return engine.Sampler(
      model,
      tokenizer,
      config.sampler,
      seed=config.seed,
      stop=stop if config.end_tokens else (),
      shape=shape,
    )

  rates = {
    'device': str(jax.devices()[0].device_kind),
    'devices': mesh.size,
    'matrix': machine.matrix_rate(config.dtype) * mesh.size,
    'memory': machine.memory_rate() * mesh.size,
  }
  # One of each length, so that every program is compiled.
  lengths = {
    shape.prefilled(len(r.prompt) - len(shape.prefix)): r for r in requests
  }
  compiling = _compiling(make, list(lengths.values()))
  whole = _whole(config, make, requests)
  parts = _parts(config, model, shape, ids, rates)
  return {
    'model': inputs.model_name(config.checkpoint),
    'random_weights': config.random_weights,
    'dtype': config.dtype,
    'slots': config.sampler.slots,
    'requests': len(requests),
    'prefix_tokens': len(shape.prefix),
    'machine': rates,
    'compile_seconds': compiling,
    'whole': whole,
    **parts,
    'peak_host_bytes': _peak(),
  }


def _compiling(make, requests) -> dict[str, float]:
  """Returns how long compiling took; all programs are compiled after it."""
  before = {name: getattr(jax.config, name) for name in _CACHE}
  found: dict[str, float] = {}
  with tempfile.TemporaryDirectory() as folder:
    try:
      for name, value in _CACHE.items():
        jax.config.update(name, value)
      jax.config.update('jax_compilation_cache_dir', folder)
      for name in ('cold', 'persistent'):
        device.forget_programs()
        compilation_cache.reset_cache()
        sampler = make()
        list(sampler.generate(requests))
        found[name] = sampler.compile_seconds
    finally:
      for name, value in before.items():
        jax.config.update(name, value)
      compilation_cache.reset_cache()
  return found


def _whole(config: BenchConfig, make, requests) -> dict[str, Any]:
  seconds, host, busy = [], [], []
  for repeat in range(config.repeats):
    sampler = make()
    traced = config.profile and repeat == config.repeats - 1
    if traced:
      jax.profiler.start_trace(config.profile)
    began = time.perf_counter()
    rows = list(sampler.generate(requests))
    seconds.append(time.perf_counter() - began)
    if traced:
      jax.profiler.stop_trace()
    host.append(sampler.host_seconds / seconds[-1])
    busy.append(sampler.busy)
  took = statistics.median(seconds)
  tokens = sum(row.output_tokens for row in rows)
  return {
    'seconds': took,
    'all_seconds': seconds,
    'tokens': tokens,
    'tokens_per_second': tokens / took,
    'busy': statistics.median(busy),
    'host_share': statistics.median(host),
  }


def _parts(config: BenchConfig, model, shape, ids, rates) -> dict[str, Any]:
  graph, weights = nnx.split(model)
  start, cfg = len(shape.prefix), model.config
  before, found = None, {}

  def share(flops: float, seconds: float) -> dict[str, float]:
    return {
      'seconds': seconds,
      'flops': flops,
      'share': flops / seconds / rates['matrix'],
    }

  if start:
    tokens_U = jnp.asarray(shape.prefix, jnp.int32)

    def prefix():
      return programs.prefix(weights, tokens_U, graph=graph)

    before = prefix()
    took = machine.median_seconds(prefix, config.repeats)
    flops = budget.forward_flops(cfg, start, logits=0)
    found['prefix'] = {'tokens': start, **share(flops, took)}
  rest = int(statistics.median(len(p) - start for p in ids.values()))
  length = shape.prefilled(rest)
  rows = config.sampler.prefill_batch
  tokens_PT = jnp.ones((rows, length), jnp.int32)
  took = machine.median_seconds(
    lambda: programs.prefill(
      weights, before, tokens_PT, graph=graph, start=start
    ),
    config.repeats,
  )
  flops = rows * budget.forward_flops(cfg, length, start, logits=0)
  found['prefill'] = {'tokens': rows * length, **share(flops, took)}
  found['decode'] = _decode(config, graph, weights, before, shape, rest, rates)
  found['draw'] = _draw(config, model, ids, found['decode']['seconds'])
  return found


def _decode(config, graph, weights, before, shape, rest, rates):
  """Returns the figures of one decode step, half of the tokens drawn."""
  c, start = config.sampler, len(shape.prefix)
  model = nnx.merge(graph, weights)
  places = shape.places(c.max_new_tokens)
  steps = min(
    _STEPS_CPU if model.keys_last else _STEPS, max(1, c.max_new_tokens // 2)
  )
  # Half of the new tokens drawn in the middle of the steps.
  own = min(rest + (c.max_new_tokens - steps) // 2, places - steps)
  state = programs.empty(
    weights,
    graph=graph,
    slots=c.slots,
    places=places,
    limit=c.max_new_tokens,
  )
  state = dataclasses.replace(
    state,
    own_B=jnp.full(c.slots, own, jnp.int32),
    done_B=jnp.zeros(c.slots, bool),
  )
  active_B = jnp.ones(c.slots, bool)
  times = []
  # The first one compiles, the second has the caches' memory to itself first.
  for _ in range(config.repeats + 2):
    state = dataclasses.replace(
      state,
      own_B=jnp.full(c.slots, own, jnp.int32),
      drawn_B=jnp.zeros(c.slots, jnp.int32),
      done_B=jnp.zeros(c.slots, bool),
    )
    jax.block_until_ready(state)
    began = time.perf_counter()
    state, visit = programs.decode(
      weights,
      state,
      before,
      active_B,
      jnp.int32(c.slots + 1),
      jnp.int32(steps),
      None,
      graph=graph,
      start=start,
      ends=_NEVER,
      draws=(c.temperature, c.top_k, c.top_p, c.min_p),
      kernel=decode.chosen(
        c.attention,
        model.mesh,
        {layer.head_dim for layer in model.config.layers},
      ),
    )
    done = int(visit.steps)
    times.append((time.perf_counter() - began) / done)
  took = statistics.median(times[2:])
  flops = c.slots * budget.forward_flops(model.config, 1, start + own)
  held = sum(x.nbytes for x in jax.tree.leaves(weights))
  if not model.config.tie_embeddings:
    # Of the table only the rows of the tokens are read.
    held -= model.embedding[...].nbytes
  cache = sum(
    part[name].nbytes * min(1.0, own / part[name].shape[axis])
    for stack in state.cache
    for part in stack
    for name, axis in (('k', -1 if model.keys_last else -2), ('v', -2))
    if part
  )
  prefix = sum(x.nbytes for x in jax.tree.leaves(before))
  least = held + cache + prefix
  floor = max(flops / rates['matrix'], least / rates['memory'])
  return {
    'seconds': took,
    'tokens_per_second': c.slots / took,
    'flops': flops,
    'bytes': {'weights': held, 'cache': cache, 'prefix': prefix},
    'matrix_seconds': flops / rates['matrix'],
    'memory_seconds': least / rates['memory'],
    'share': floor / took,
  }


def _draw(config, model, ids, step: float) -> dict[str, float]:
  c = config.sampler
  # Of a prompt's own positions: how long a draw takes depends on how peaked
  # the distributions are.
  prompt_T = np.array(next(iter(ids.values())), np.int32)
  at_B = np.linspace(0, len(prompt_T) - 1, c.slots).astype(np.int32)
  logits_BV = jax.jit(
    lambda model, tokens_T, at_B: model.logits(
      model.hidden(tokens_T[None])[:, at_B]
    )[0]
  )(model, prompt_T, at_B)
  keys_B = jax.vmap(jax.random.key)(jnp.arange(c.slots, dtype=jnp.uint32))
  drawn = jax.jit(
    lambda logits_BV, keys_B: draw.draw(
      logits_BV,
      keys_B,
      temperature=c.temperature,
      top_k=c.top_k,
      top_p=c.top_p,
      min_p=c.min_p,
    )
  )
  took = machine.median_seconds(
    lambda: drawn(logits_BV, keys_B), config.repeats
  )
  return {'seconds': took, 'share_of_step': took / step}


def _peak() -> int:
  """Returns the largest resident size of this process (bytes)."""
  size = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  return size if sys.platform == 'darwin' else size * 1024
