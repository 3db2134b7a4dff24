"""A sampling run: the missing shards of one model on one task."""

import contextlib
import dataclasses
import json
import math
import os
import secrets
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax

from wcse_jax import (
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
)
from wcse_jax.models import cache as caches
from wcse_jax.sampler import engine, inputs, memory, remote, settings, shapes


# How long what another process wrote may take to be seen (seconds).
_SIGHT_S = 90


def sample(config: inputs.SampleConfig, workdir: str) -> dict[str, float]:
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
    if config.server:
      # One process is enough for what waits on others.
      cost = remote.sample(config, workdir) if processes.first() else None
      return json.loads(processes.tell('sample-served', json.dumps(cost)))
    return _sample(config, workdir, None, {}, {})


def sample_cells(
  config: inputs.SampleConfig,
  workdir: str,
  cells: Sequence[tuple[shardfiles.Shard, Sequence[int]]],
  held: dict[str, Any],
  extra: Mapping[str, Any],
) -> dict[str, float]:
  """Draws those of some shards that are missing, and books all of the folder.

  Args:
    config: the run; its `samples_per_problem` does not count.
    workdir: the run folder.
    cells: shards, and the positions of the problems that each is of, the same
    on
      all processes.  Its other problems have no rows in it.
    held: empty, or what an earlier call left in it: the model that it read.
    extra: of the fingerprint: what decided on the cells.

  Raises:
    InputError: as `sample`.
  """
  with processes.failing():
    return _sample(config, workdir, dict(cells), held, extra)


def _sample(
  config: inputs.SampleConfig,
  workdir: str,
  cells: dict[shardfiles.Shard, Sequence[int]] | None,
  held: dict[str, Any],
  extra: Mapping[str, Any],
) -> dict[str, float]:
  config.validate()
  # Of what may be wrong this is told fastest.
  architecture = checkpoints.read_config(config.checkpoint)
  if 'work' not in held:
    held['work'] = inputs.prepare(config)
  work = held['work']
  replica = sharding.replica(config.mesh)
  cap = _Cap(config, replica)
  engine.check_mesh(config.sampler, replica.mesh)
  print_ = {**inputs.fingerprint(config, work, replica.mesh), **extra}
  path = storage.join(workdir, 'samples', config.stem)
  folder = shardfiles.ShardFolder(path, print_)
  positions = [position for position, _ in work.chosen]

  def missing() -> list[shardfiles.Shard]:
    if cells is not None:
      done = set(folder.shards)
      for shard in done & set(cells):
        width = shard.last_index - shard.first_index + 1
        if folder.size(shard) != width * len(cells[shard]):
          raise errors.InputError(
            f'{path}: {shard.name}: wanted samples of {len(cells[shard])} '
            f'problems; it has {folder.size(shard)} rows.'
          )
      return [shard for shard in cells if shard not in done]
    return shardfiles.plan_shards(
      positions, config.samples_per_problem, folder.shards
    )

  if missing():
    _check_memory(config, architecture, replica.mesh)
  # Read before anything is written: a checkpoint that does not fit changes
  # nothing.
  if missing() and 'model' not in held:
    held['model'] = _load(config, replica.mesh)
  processes.meet('sample-ready')
  with _writing(config, workdir, replica):
    plan = ''
    if processes.first():
      folder.merge()
      folder.check()
      if replica.count > 1:
        folder.begin()
      # A part has a name that no writer of an earlier run still uses.
      names = [shard.name for shard in cap.order(missing())]
      before = _cost(folder, architecture) if folder.shards else {}
      plan = json.dumps([secrets.token_hex(4), names, before])
    run, names, before = json.loads(processes.tell('sample-plan', plan))
    cap.begin(before)
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
    drawn: list[str] = []
    if own and not cap.reached:
      if 'model' not in held:
        held['model'] = _load(config, replica.mesh)
      model, tokenizer = held['model']
      try:
        asked = [(shard, _positions(work, shard, cells)) for shard in own]
        drawn = _draw(
          config, work, model, tokenizer, folder, asked, replica.leads, cap
        )
      except jax.errors.JaxRuntimeError as error:
        memory = 'RESOURCE_EXHAUSTED' in str(error)
        if memory or not replica.mesh.is_multi_process:
          raise
        # As when another process of the mesh is gone.
        raise errors.Stopped(' '.join(str(error).split())) from error
    said = processes.meet('sample-drawn', json.dumps(drawn))
    cost = {}
    if processes.first():
      published = {name for one in said for name in json.loads(one)}

      def merged() -> bool:
        folder.merge()
        return published <= {shard.name for shard in folder.shards}

      # On a file system over a network what others wrote may come late.
      _until(merged, 'all shards of all processes are in sight')
      cost = _book(config, workdir, _cost(folder, architecture), replica)
      if missing():
        drawn = sum(map(folder.size, folder.shards))
        print(
          f'sample: the cap of {config.cap:g} {config.cap_in} is spent: '
          f'{drawn} samples are drawn, and {len(missing())} shards are not.',
          file=sys.stderr,
        )
    return json.loads(processes.tell('sample-cost', json.dumps(cost)))


def _positions(
  work: inputs.Work,
  shard: shardfiles.Shard,
  cells: dict[shardfiles.Shard, Sequence[int]] | None,
) -> Sequence[int]:
  """Returns the positions of the problems that a shard is of."""
  if cells is not None:
    return cells[shard]
  return [
    position
    for position, _ in work.chosen
    if shard.first_problem <= position <= shard.last_problem
  ]


class _Cap:
  """What this process may still spend, if there is a cap: an even share."""

  def __init__(self, config: inputs.SampleConfig, replica: sharding.Replica):
    """Raises InputError if the currency does not fit the machine."""
    self._config = config
    self._count = replica.count
    self._first = not replica.number
    self._prefixed = True
    self._left = math.inf
    if not config.cap:
      return
    if config.cap_in == 'usd' and machine.usd(1.0) is None:
      raise errors.InputError(
        f'cap_in: wanted a price of {machine.chip()!r}, as --prices=FILE gives '
        'it; there is none.'
      )
    timed = config.cap_in in ('usd', 'chip_seconds')
    if timed and replica.mesh.is_multi_process:
      raise errors.InputError(
        f'cap_in: wanted flops or decode_tokens where a mesh spans several '
        f'processes, whose clocks differ; got {config.cap_in!r}.'
      )

  def order(self, missing: list[shardfiles.Shard]) -> list[shardfiles.Shard]:
    """Returns shards as they are to be drawn: if capped, low indices first."""
    if not self._config.cap:
      return missing
    return sorted(missing, key=lambda s: (s.first_index, s.first_problem))

  def begin(self, before: dict[str, float]) -> None:
    """Says what all shards have cost so far; {} where there are none."""
    if self._config.cap:
      left = self._config.cap - self._price(before)
      self._left = left / self._count
      self._prefixed = bool(before) or not self._first

  def spend(self, cost: dict[str, float], prefix: dict[str, int]) -> None:
    """Books a shard; the shared prefix is paid for once, with the first."""
    self._left -= self._price(cost)
    if not self._prefixed:
      self._left -= self._price(prefix)
      self._prefixed = True

  @property
  def reached(self) -> bool:
    return self._left <= 0

  def _price(self, cost: dict[str, float]) -> float:
    if self._config.cap_in == 'usd':
      return machine.usd(cost.get('chip_seconds', 0.0)) or 0.0
    return cost.get(self._config.cap_in, 0.0)


def _check_memory(config: inputs.SampleConfig, architecture, mesh) -> None:
  """Raises InputError if weights and new tokens alone are too much."""
  need = memory.need(
    architecture,
    config.sampler,
    prefix=0,
    suffix=0,
    dtype=config.dtype,
    cache_dtype=caches.dtype_on(sharding.platform(mesh), config.dtype),
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
  config: inputs.SampleConfig, workdir: str, replica: sharding.Replica
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


def _cost(folder: shardfiles.ShardFolder, architecture) -> dict[str, float]:
  """Returns the costs of all shards, and of their shared prefix once."""
  cost = folder.cost()
  if folder.shards:
    row = folder.read(folder.shards[0], records.Sample)[0]
    for name, value in inputs.prefix(architecture, row).items():
      cost[name] += value
  return cost


def _book(
  config: inputs.SampleConfig,
  workdir: str,
  cost: dict[str, float],
  replica: sharding.Replica,
) -> dict[str, float]:
  """Books the costs of all shards; returns them."""
  name = config.stem
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
      'usd': machine.usd(cost['chip_seconds']),
    },
  )
  runlog.merge_ledger(workdir)
  # Whose samples they are: the fingerprint knows weights, not where they lie.
  storage.publish_json(
    storage.join(workdir, 'samples', name, inputs.SOURCE),
    {'checkpoint': config.checkpoint},
  )
  return cost


def _load(config: inputs.SampleConfig, mesh):
  return checkpoints.load(
    config.checkpoint, dtype=config.dtype, mesh=mesh, weights=config.weights
  )


def _draw(
  config: inputs.SampleConfig,
  work: inputs.Work,
  model,
  tokenizer,
  folder,
  missing,
  writes,
  cap,
) -> list[str]:
  """Draws shards; each is published as soon as it is whole, if it `writes`.

  It ends early where the cap is reached.

  Returns:
    The names of those that were published.
  """
  ids = inputs.prompt_ids(work, tokenizer, config.chat)
  shape = shapes.Shape.of(ids.values())
  sampler = engine.Sampler(
    model,
    tokenizer,
    config.sampler,
    seed=config.seed,
    stop=inputs.stop_strings(work.task, tokenizer, config.chat),
    shape=shape,
  )
  if processes.first():
    print(f'sample: {sampler.described(shape)}', file=sys.stderr)
  chips = model.mesh.size
  name = config.stem
  problems = dict(work.chosen)
  wanted: list[list[tuple[str, int]]] = []
  requests = []
  shard_of = {}
  for number, (shard, positions) in enumerate(missing):
    cells = [
      (position, index)
      for position in positions
      for index in range(shard.first_index, shard.last_index + 1)
    ]
    wanted.append([(problems[position].id, index) for position, index in cells])
    for position, index in cells:
      request = settings.Request(problems[position].id, index, ids[position])
      requests.append(request)
      shard_of[request.problem_id, index] = number
  found: list[dict[tuple[str, int], records.Sample]] = [{} for _ in missing]
  booked, spent = 0.0, 0
  written: list[str] = []
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
        cost = inputs.tokens(rows) | {
          'flops': inputs.flops(model.config, rows),
          'chip_seconds': seconds * chips,
        }
        spent += cost['flops']
        if writes:
          folder.write(missing[number][0], rows, cost)
          written.append(missing[number][0].name)
        found[number] = {}
        cap.spend(cost, inputs.prefix(model.config, rows[0]))
        if cap.reached:
          break
      progress.update(
        done,
        tokens_per_s=sampler.tokens_per_second,
        busy=sampler.busy,
        flops=float(spent),
        chip_s=sampler.device_seconds * chips,
      )
  return written
