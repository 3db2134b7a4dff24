"""A sampling run: the missing shards of one model on one task."""

import contextlib
import dataclasses
import hashlib
import importlib.metadata
import json
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax

import wcse_jax
from wcse_jax import (
  budget,
  checkpoints,
  errors,
  machine,
  meter,
  processes,
  records,
  runlog,
  shardfiles,
  sharding,
  storage,
  tasks,
)
from wcse_jax.sampler import engine, memory, settings
from wcse_jax.tasks import base


# How long what another process wrote may take to be seen (seconds).
_SIGHT_S = 90


@dataclasses.dataclass(kw_only=True)
class SampleConfig:
  """A sampling run.

  Attributes:
    checkpoint: whatever `checkpoints.load` takes.
    task: one of `tasks.TASKS`.
    data: folder or file of the set, or `hub:NAME@REVISION`; empty for the
      task's own source.
    bad_rows: of the set: `refuse` ends with a report, `skip` leaves them out.
    split: one of the task's splits, or `validation`.
    limit: problems, from the start of the split; 0 for all.
    shots: worked examples before the question.
    prompts: JSONL of those; empty for the task's own.
    chat: `on` asks by the checkpoint's chat template, `off` by the plain
      prompt; empty: as the checkpoint was trained, by its template if it has
      one.
    samples_per_problem: samples of each problem.
    validation_size: training problems that are held out of `train`.
    seed: of the draws.
    dtype: `float32` or `bfloat16`, of weights and cache.
    weights: `int8` holds the weights in int8; empty: as `dtype`.
    mesh: of the devices that decode together, as `sharding.replica` reads it.
    sampler: how tokens are drawn.
  """

  checkpoint: str = 'tiny-wc'
  task: str = 'arith'
  data: str = ''
  bad_rows: str = 'refuse'
  split: str = 'train'
  limit: int = 0
  shots: int = 0
  prompts: str = ''
  chat: str = ''
  samples_per_problem: int = 1
  validation_size: int = 500
  seed: int = 0
  dtype: str = 'bfloat16'
  weights: str = ''
  mesh: str = ''
  sampler: settings.SamplerConfig = dataclasses.field(
    default_factory=settings.SamplerConfig
  )

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    for field, least in (
      ('limit', 0),
      ('shots', 0),
      ('samples_per_problem', 1),
      ('validation_size', 0),
      ('seed', 0),
    ):
      if getattr(self, field) < least:
        raise errors.InputError(
          f'{field}: wanted a count >= {least}; got {getattr(self, field)}.'
        )
    settings.check_loading(self)
    self.sampler.validate()


@dataclasses.dataclass(frozen=True)
class Work:
  """What is sampled: the problems that a run takes, and the whole split.

  Attributes:
    task: the task.
    chosen: (position in the whole split, problem) of the run.
    prompts: position -> prompt text, of every problem of the split.
    questions: position -> what a chat model is asked, likewise.
    shots_sha256: of the worked examples.
    data_sha256: of the split's problems.
  """

  task: base.Task
  chosen: tuple[tuple[int, records.Problem], ...]
  prompts: dict[int, str]
  questions: dict[int, str]
  shots_sha256: str
  data_sha256: str


def prepare(config: SampleConfig) -> Work:
  """Returns the work of a run; reads the task, never the model."""
  task = tasks.load(
    config.task, config.data, config.prompts, bad_rows=config.bad_rows
  )
  whole = base.select(
    task, config.split, validation_size=config.validation_size
  )
  shots = task.shots(config.shots)
  return Work(
    task=task,
    chosen=tuple(whole[: config.limit] if config.limit else whole),
    prompts={i: task.prompt(p.question, shots) for i, p in whole},
    questions={i: task.ask(p.question, shots) for i, p in whole},
    shots_sha256=_sha256([f'{s.question}\n{s.target}' for s in shots]),
    data_sha256=_sha256([problem.to_json() for _, problem in whole]),
  )


def sample(config: SampleConfig, workdir: str) -> dict[str, float]:
  """Draws what is missing in `workdir/samples/<model>/`; returns the costs.

  The manifest there holds the cost of every shard, so that the sum is right
  after any number of stops.  The ledger row of the stage is booked.

  Of several processes all call this.  The missing shards are dealt out to the
  replicas in turn, and the first process of a replica writes those of its own.

  Raises:
    InputError: if an argument does not fit, or the folder holds samples of
      another fingerprint; nothing is compiled or written before that.
  """
  with processes.failing():
    return _sample(config, workdir)


def _sample(config: SampleConfig, workdir: str) -> dict[str, float]:
  config.validate()
  # Of what may be wrong this is told fastest.
  architecture = checkpoints.read_config(config.checkpoint)
  work = prepare(config)
  replica = sharding.replica(config.mesh)
  engine.check_mesh(config.sampler, replica.mesh)
  print_ = fingerprint(config, work, replica.mesh)
  path = storage.join(workdir, 'samples', model_name(config.checkpoint))
  folder = shardfiles.ShardFolder(path, print_)
  positions = [position for position, _ in work.chosen]

  def missing() -> list[shardfiles.Shard]:
    return shardfiles.plan_shards(
      positions, config.samples_per_problem, folder.shards
    )

  if missing():
    _check_memory(config, architecture, replica.mesh)
  # Read before anything is written: a checkpoint that does not fit changes
  # nothing.
  loaded = _load(config, replica.mesh) if missing() else None
  processes.meet('sample-ready')
  with _writing(config, workdir, replica):
    plan = ''
    if processes.first():
      folder.merge()
      folder.check()
      if replica.count > 1:
        folder.begin()
      # A part has a name that no writer of an earlier run still uses.
      names = [shard.name for shard in missing()]
      plan = json.dumps([secrets.token_hex(4), names])
    run, names = json.loads(processes.tell('sample-plan', plan))
    if replica.number:
      _until(
        lambda: storage.exists(storage.join(path, shardfiles.MANIFEST)),
        f'{path} is in sight: wanted a --workdir that all processes share',
      )
      part = f'{run}-{replica.number}'
      folder = shardfiles.ShardFolder(path, print_, part=part)
    own = [
      shardfiles.Shard.parse(name)
      for name in names[replica.number :: replica.count]
    ]
    if own:
      model, tokenizer = loaded or _load(config, replica.mesh)
      try:
        _draw(config, work, model, tokenizer, folder, own, replica.leads)
      except jax.errors.JaxRuntimeError as error:
        memory = 'RESOURCE_EXHAUSTED' in str(error)
        if memory or not replica.mesh.is_multi_process:
          raise
        # As when another process of the mesh is gone.
        raise errors.Stopped(' '.join(str(error).split())) from error
    processes.meet('sample-drawn')
    cost = {}
    if processes.first():

      def merged() -> bool:
        folder.merge()
        return not missing()

      # On a file system over a network what others wrote may come late.
      _until(merged, 'all shards of all processes are in sight')
      cost = _book(config, workdir, folder.cost(), replica)
    return json.loads(processes.tell('sample-cost', json.dumps(cost)))


def _check_memory(config: SampleConfig, architecture, mesh) -> None:
  """Raises InputError if weights and new tokens alone are too much."""
  need = memory.need(
    architecture,
    config.sampler,
    prefix=0,
    suffix=0,
    dtype=config.dtype,
    weights=config.weights,
    mesh=mesh.shape,
  )
  memory.check(
    need,
    machine.free_memory(mesh.local_devices[0]),
    mesh.shape['data'] * mesh.shape['fsdp'],
    config.sampler.max_new_tokens,
  )


@contextlib.contextmanager
def _writing(
  config: SampleConfig, workdir: str, replica: sharding.Replica
) -> Iterator[None]:
  """Holds the run folder for all processes; the first one writes its files."""
  if not processes.first():
    yield
    return
  several = replica.count > 1
  devices = jax.devices() if several else replica.mesh.devices.flat
  names = [str(device) for device in devices]
  with runlog.writing(workdir, dataclasses.asdict(config), devices=names):
    yield


def _until(found: Callable[[], bool], what: str) -> None:
  """Waits until something is found; raises Stopped if it is not."""
  deadline = time.monotonic() + _SIGHT_S
  while not found():
    if time.monotonic() > deadline:
      raise errors.Stopped(f'waited {_SIGHT_S} s until {what}')
    time.sleep(1)


def _book(
  config: SampleConfig,
  workdir: str,
  cost: dict[str, float],
  replica: sharding.Replica,
) -> dict[str, float]:
  """Books the costs of all shards; returns them."""
  name = model_name(config.checkpoint)
  runlog.book(
    workdir,
    f'sample-{name}',
    {
      'stage': 'sample',
      'model': name,
      'chips': replica.mesh.size * replica.count,
      'chip_seconds': float(cost['chip_seconds']),
      'prefill_tokens': int(cost['prefill_tokens']),
      'decode_tokens': int(cost['decode_tokens']),
      'flops': int(cost['flops']),
      'usd': None,
    },
  )
  runlog.merge_ledger(workdir)
  return cost


def model_name(checkpoint: str) -> str:
  """Returns the stem under which a checkpoint's samples are kept."""
  name = checkpoint.rstrip('/').rpartition('/')[2].removesuffix('.gguf')
  # A hub name may have a revision behind it.
  return name.partition('@')[0]


def fingerprint(config: SampleConfig, work: Work, mesh) -> dict[str, Any]:
  """Returns all that a sample depends on besides its problem and index."""
  return {
    **checkpoints.fingerprint(config.checkpoint),
    'task': config.task,
    'split': config.split,
    'validation_size': config.validation_size,
    'data_sha256': work.data_sha256,
    'shots': config.shots,
    'shots_sha256': work.shots_sha256,
    'prompt_sha256': _sha256([work.task.prompt('', []), work.task.ask('')]),
    'chat': config.chat,
    'weights_in': config.weights or config.dtype,
    'stop': list(work.task.stop),
    'seed': config.seed,
    'sampler': config.sampler.fingerprint(),
    'dtype': config.dtype,
    'mesh': sharding.describe(mesh),
    'versions': {
      'wcse_jax': wcse_jax.__version__,
      'jax': jax.__version__,
      'jaxlib': importlib.metadata.version('jaxlib'),
    },
  }


def by_template(tokenizer, chat: str = '') -> bool:
  """Returns whether a model is asked by its chat template."""
  return chat == 'on' or (not chat and tokenizer.prompt_format == 'chat')


def stop_strings(task: base.Task, tokenizer, chat: str = '') -> tuple[str, ...]:
  """Returns what ends a sample of a model that is asked in this way."""
  if task.chat_stop is not None and by_template(tokenizer, chat):
    return task.chat_stop
  return task.stop


def prompt_ids(
  work: Work, tokenizer, chat: str = ''
) -> dict[int, tuple[int, ...]]:
  """Returns position -> prompt tokens, of every problem of the split.

  Args:
    work: the problems.
    tokenizer: of the model that is asked.
    chat: see `SampleConfig`.
  """
  if by_template(tokenizer, chat):
    ids = tokenizer.chats(
      [[{'role': 'user', 'content': q}] for q in work.questions.values()]
    )
  else:
    ids = tokenizer.prompts(list(work.prompts.values()))
  return dict(zip(work.prompts, map(tuple, ids), strict=True))


def _load(config: SampleConfig, mesh):
  return checkpoints.load(
    config.checkpoint, dtype=config.dtype, mesh=mesh, weights=config.weights
  )


def _draw(
  config: SampleConfig, work: Work, model, tokenizer, folder, missing, writes
) -> None:
  """Draws shards; each is published as soon as it is whole, if it `writes`."""
  ids = prompt_ids(work, tokenizer, config.chat)
  shape = engine.Shape.of(ids.values())
  sampler = engine.Sampler(
    model,
    tokenizer,
    config.sampler,
    seed=config.seed,
    stop=stop_strings(work.task, tokenizer, config.chat),
    shape=shape,
  )
  if processes.first():
    print(f'sample: {sampler.described(shape)}', file=sys.stderr)
  chips = model.mesh.size
  name = model_name(config.checkpoint)
  problems = dict(work.chosen)
  wanted: list[list[tuple[str, int]]] = []
  requests = []
  shard_of = {}
  for number, shard in enumerate(missing):
    cells = [
      (position, index)
      for position in problems
      if shard.first_problem <= position <= shard.last_problem
      for index in range(shard.first_index, shard.last_index + 1)
    ]
    wanted.append([(problems[position].id, index) for position, index in cells])
    for position, index in cells:
      request = settings.Request(problems[position].id, index, ids[position])
      requests.append(request)
      shard_of[request.problem_id, index] = number
  found: list[dict[tuple[str, int], records.Sample]] = [{} for _ in missing]
  booked, spent = 0.0, 0
  # Of several processes the first one shows how far its own share is.
  with (
    open(os.devnull, 'w') as nowhere,
    meter.Progress(
      f'sample {name}',
      len(requests),
      'samples',
      None if processes.first() else nowhere,
    ) as progress,
  ):
    for done, row in enumerate(sampler.generate(requests), 1):
      processes.look()
      key = row.problem_id, row.index
      number = shard_of[key]
      found[number][key] = row
      if len(found[number]) == len(wanted[number]):
        rows = [found[number][cell] for cell in wanted[number]]
        seconds, booked = (
          sampler.device_seconds - booked,
          sampler.device_seconds,
        )
        cost = tokens(rows) | {
          'flops': flops(model.config, rows),
          'chip_seconds': seconds * chips,
        }
        spent += cost['flops']
        if writes:
          folder.write(missing[number], rows, cost)
        found[number] = {}
      progress.update(
        done,
        tokens_per_s=sampler.tokens_per_second,
        busy=sampler.busy,
        flops=float(spent),
        chip_s=sampler.device_seconds * chips,
      )


def tokens(rows: Sequence[records.Sample]) -> dict[str, int]:
  """Returns the tokens of a shard's samples: prompts once each, and drawn.

  The shared prefix, once a run, is left out.
  """
  own = {r.problem_id: r.prompt_tokens - r.shared_prompt_tokens for r in rows}
  return {
    'prefill_tokens': sum(own.values()),
    'decode_tokens': sum(r.output_tokens for r in rows),
  }


def flops(model_config, rows: Sequence[records.Sample]) -> int:
  """Returns the exact FLOPs of samples as the engine draws them.

  A prompt is prefilled once for all its samples, but for its last token, which
  the first decode step takes.  The shared prefix, once a run, is left out: its
  share of a shard is less than a thousandth of a run of any size.
  """
  prompts = {r.problem_id: r for r in rows}
  prefill = sum(
    budget.forward_flops(
      model_config,
      r.prompt_tokens - 1 - r.shared_prompt_tokens,
      r.shared_prompt_tokens,
      logits=0,
    )
    for r in prompts.values()
  )
  decode = sum(
    budget.forward_flops(model_config, r.output_tokens, r.prompt_tokens - 1)
    for r in rows
  )
  return prefill + decode


def _sha256(parts: Sequence[str]) -> str:
  whole = hashlib.sha256()
  for part in parts:
    data = part.encode()
    whole.update(len(data).to_bytes(8, 'big'))
    whole.update(data)
  return whole.hexdigest()
