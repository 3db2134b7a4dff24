"""The work of `bench`, done by other engines.

The prompts are this project's own token ids, so that every engine is given the
same.  Each is tried at several batch sizes on a small piece; the best one then
does the work, or a stated part of it, a number of times.
"""

import dataclasses
import importlib.util
import os
import statistics
from typing import Any

import jax

from wcse_jax import bench, bench_train, checkpoints, errors, machine
from wcse_jax.peers import base
from wcse_jax.sampler import inputs, shapes


# Peer -> (module, what installs it).
_MODULES = {
  'transformers': ('torch', 'wcse-jax[parity]'),
  'llama.cpp': ('llama_cpp', 'llama-cpp-python'),
  'vllm': ('vllm', 'vllm'),
}
_DTYPES = ('float32', 'bfloat16')


@dataclasses.dataclass(kw_only=True)
class PeersConfig(bench.BenchConfig):
  """The work, as `bench` takes it, and who is to do it.

  Of the work these are read: checkpoint, task, data, bad_rows, split, limit,
  shots, prompts, chat, samples_per_problem, validation_size, seed, repeats,
  random_weights, sampler.temperature, sampler.top_k and
  sampler.max_new_tokens.  The others are about this project's own engine.

  Attributes:
    peers: transformers, llama.cpp, vllm, or several with commas.
    dtypes: of the weights, likewise; each peer runs in each.
    batches: problems of one batch that are tried, each with all its samples;
      vllm makes batches by itself, of all problems.
    search_tokens: new tokens of a sample in the search.
    peer_limit: problems of a repeat, rounded up to whole batches; 0 for all.
      Batches do not depend on each other, so a part has the rate of the whole.
    threads: of a peer on a CPU; 0 for one a core.
    gguf: the model for llama.cpp; its tensors are turned into each dtype.
    vllm_sequences: samples that vllm may run at once.
  """

  end_tokens: bool = False
  peers: str = 'transformers,llama.cpp'
  dtypes: str = 'float32,bfloat16'
  batches: tuple[int, ...] = (1, 2, 4, 8, 16)
  search_tokens: int = 9
  peer_limit: int = 0
  threads: int = 0
  gguf: str = ''
  vllm_sequences: int = 512

  def validate(self) -> None:
    super().validate()
    for field, known in (('peers', tuple(_MODULES)), ('dtypes', _DTYPES)):
      if set(_listed(getattr(self, field))) - set(known):
        raise errors.InputError(
          f'{field}: wanted some of {",".join(known)}; '
          f'got {getattr(self, field)!r}.'
        )
    if not self.batches or min(self.batches) < 1:
      raise errors.InputError(
        f'batches: wanted counts >= 1; got {self.batches}.'
      )
    for field, least in (
      # The first token waits for the prompts; two more make a median of steps.
      ('search_tokens', 3),
      ('peer_limit', 0),
      ('threads', 0),
      ('vllm_sequences', 1),
    ):
      if getattr(self, field) < least:
        raise errors.InputError(
          f'{field}: wanted a count >= {least}; got {getattr(self, field)}.'
        )
    if self.sampler.max_new_tokens < 3:
      raise errors.InputError(
        'sampler.max_new_tokens: wanted a count >= 3 for peers; got '
        f'{self.sampler.max_new_tokens}.'
      )
    if self.end_tokens:
      raise errors.InputError(
        'end_tokens: wanted False, so that all draw as much; got True.'
      )
    if self.sampler.top_p < 1 or self.sampler.min_p > 0:
      raise errors.InputError(
        'sampler: wanted temperature and top_k alone for peers; got '
        f'top_p={self.sampler.top_p}, min_p={self.sampler.min_p}.'
      )
    if 'llama.cpp' in _listed(self.peers):
      if self.random_weights:
        raise errors.InputError(
          'random_weights: wanted False for llama.cpp, which reads gguf; got '
          'True.'
        )
      if not os.path.isfile(self.gguf):
        raise errors.InputError(
          f'gguf: wanted a .gguf file for llama.cpp; got {self.gguf!r}.'
        )
    for peer in _listed(self.peers):
      module, package = _MODULES[peer]
      if importlib.util.find_spec(module) is None:
        raise errors.InputError(
          f'peers: {peer} is not installed; wanted {package}.'
        )


def measure(config: PeersConfig) -> dict[str, Any]:
  """Does the work with each peer in each dtype; returns figures for JSON.

  - `work`: what was asked, and the least, median and largest prompt.
  - `results`, one for each peer and dtype: `search` with all that was tried
    (`predicted`: tokens a second of samples of full length, from the time up
    to the first token and a step), the `batch` (problems) and
    `variant` that won, `problems`, `samples` and `tokens` of a repeat and
    their `share_of_work`, `all_seconds` with their median `seconds`,
    `tokens_per_second` (drawn tokens over all the time, prefill included;
    loading and the search, which warms up, left out), `first_seconds` of it up
    to the first tokens; and before and after it the `machine`: the matrix
    rates in float32 and in the dtype (FLOP/s) and memory (bytes/s) of the
    `device` that jax takes, and the load average of a minute.

  Raises:
    InputError: as sampling would, or if a peer is not installed.
  """
  config.validate()
  work = inputs.prepare(config)
  ids = inputs.prompt_ids(
    work, checkpoints.read_tokenizer(config.checkpoint), config.chat
  )
  task = base.Task(
    prompts=tuple(ids[position] for position, _ in work.chosen),
    prefix=shapes.Shape.of(ids.values()).prefix,
    samples=config.samples_per_problem,
    new_tokens=config.sampler.max_new_tokens,
    temperature=config.sampler.temperature,
    top_k=config.sampler.top_k,
    seed=config.seed,
  )
  lengths = [len(prompt) for prompt in task.prompts]
  return {
    'model': inputs.model_name(config.checkpoint),
    'random_weights': config.random_weights,
    'cores': os.cpu_count(),
    'threads': _threads(config),
    'work': {
      'task': config.task,
      'problems': len(lengths),
      'samples_per_problem': task.samples,
      'new_tokens': task.new_tokens,
      'temperature': task.temperature,
      'top_k': task.top_k,
      'prefix_tokens': len(task.prefix),
      'prompt_tokens': [min(lengths), statistics.median(lengths), max(lengths)],
    },
    'results': [
      _measured(config, task, name, dtype)
      for name in _listed(config.peers)
      for dtype in _listed(config.dtypes)
    ],
  }


def training(config: bench_train.TrainBenchConfig) -> dict[str, Any]:
  """Returns the figures of transformers on the work of `bench_train`.

  Raises:
    InputError: as training would, or if torch is not installed.
  """
  module, package = _MODULES['transformers']
  if importlib.util.find_spec(module) is None:
    raise errors.InputError(
      f'peers: transformers is not installed; wanted {package}.'
    )
  from wcse_jax.peers import train_hf

  return train_hf.bench(config)


def _measured(
  config: PeersConfig, task: base.Task, name: str, dtype: str
) -> dict[str, Any]:
  """Returns the figures of one peer in one dtype."""
  rates = [_rates(dtype)]
  peer = _open(config, name, dtype)
  count = min(config.peer_limit or len(task.prompts), len(task.prompts))
  batches = (count,) if peer.schedules else config.batches
  search = []
  warm = dataclasses.replace(task, prompts=task.prompts[:1], new_tokens=3)
  for variant in peer.variants:
    peer.run(warm, 1, variant)
  # A batch of more problems than there are is the same as one of all.
  for batch in sorted({min(n, len(task.prompts)) for n in batches}):
    for variant in peer.variants:
      piece = dataclasses.replace(
        task, prompts=task.prompts[:batch], new_tokens=config.search_tokens
      )
      run = peer.run(piece, batch, variant)
      whole = run.first + run.step * (task.new_tokens - 1)
      search.append(
        {
          'batch': batch,
          'variant': variant,
          'first_seconds': run.first,
          'step_seconds': run.step,
          'predicted': batch * task.samples * task.new_tokens / whole,
        }
      )
  best = max(search, key=lambda row: row['predicted'])
  batch, variant = best['batch'], best['variant']
  count = min(-(-count // batch) * batch, len(task.prompts))
  part = dataclasses.replace(task, prompts=task.prompts[:count])
  runs = [peer.run(part, batch, variant) for _ in range(config.repeats)]
  peer.close()
  rates.append(_rates(dtype))
  seconds = [run.seconds for run in runs]
  took = statistics.median(seconds)
  (tokens,) = {run.tokens for run in runs}
  return {
    'peer': name,
    'version': peer.version,
    'dtype': dtype,
    'search_tokens': config.search_tokens,
    'search': search,
    'batch': batch,
    'variant': variant,
    'problems': count,
    'samples': count * task.samples,
    'tokens': tokens,
    'share_of_work': tokens / task.tokens,
    'all_seconds': seconds,
    'seconds': took,
    'first_seconds': statistics.median(run.first for run in runs),
    'tokens_per_second': tokens / took,
    'machine': rates,
  }


def _listed(names: str) -> list[str]:
  return names.split(',')


def _rates(dtype: str) -> dict[str, Any]:
  """Returns what the machine can do just now: others may use it, too."""
  for measured in (machine.matrix_rate, machine.memory_rate):
    measured.cache_clear()
  kinds = dict.fromkeys(('float32', dtype))
  return {
    'device': str(jax.devices()[0].device_kind),
    **{f'matrix_{d}': machine.matrix_rate(d) for d in kinds},
    'memory': machine.memory_rate(),
    'load_average': os.getloadavg()[0],
  }


def _threads(config: PeersConfig) -> int:
  return config.threads or os.cpu_count() or 1


def _open(config: PeersConfig, name: str, dtype: str) -> base.Peer:
  # Imported here: each is there only where it is installed.
  random = config.random_weights
  if name == 'llama.cpp':
    from wcse_jax.peers import llama

    return llama.LlamaCpp(config.gguf, dtype, _threads(config))
  folder = checkpoints.resolve(config.checkpoint)
  if not os.path.isfile(os.path.join(folder, 'config.json')):
    raise errors.InputError(
      f'checkpoint: wanted a Hugging Face folder for {name}; got '
      f'{config.checkpoint!r}.'
    )
  if name == 'transformers':
    from wcse_jax.peers import hf

    return hf.Transformers(folder, dtype, _threads(config), random=random)
  from wcse_jax.peers import vllm

  return vllm.Vllm(
    folder, dtype, sequences=config.vllm_sequences, random=random
  )
