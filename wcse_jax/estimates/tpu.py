"""Estimates for a TPU slice, by compiling the programs for it.

No jax here: what compiles is loaded where figures are not kept yet.
"""

import dataclasses
import importlib.util
import math
from collections.abc import Iterator, Sequence
from typing import Any

from wcse_jax import errors
from wcse_jax.aot import slices
from wcse_jax.estimates import figures, jobs, kept, sizes


# Slots that are tried, over the devices of the slice; and the most of all.
_SLOTS = (
  *range(128, 64, -16),
  *range(64, 32, -8),
  *range(32, 16, -4),
  *range(16, 8, -2),
  *range(8, 0, -1),
)
_MOST_SLOTS = 2048
# Prompts that are read at a time: a multiple of this and of the devices.
_PROMPTS = 8
_BOUND = (
  'at the documented rates of the chip, memory, products and links at the same '
  'time: no run is faster'
)


def on_slice(
  job: jobs.Job, topology: str, *, replicas: int = 1, share: float = 1.0
) -> figures.Estimate:
  """Returns the estimate of a job on a slice.

  A decode step is that of slots that are always full, their caches filled as
  they are on average; the prompts are read in batches, the shared prefix once.

  Args:
    job: what is to be done.
    topology: as `v5e:4x4`.
    replicas: identical slices that share the samples, or the runs.
    share: of the compiled program's speed that is reached; 1.0: all of it,
      which is a bound.

  Raises:
    InputError: if the slice is not known, or what is asked for does not divide
      the slice or the model.
  """
  pieces = slices.parse(topology)
  if not 0 < share <= 1 or replicas < 1:
    raise errors.InputError(
      'share: wanted a share in (0, 1] and replicas >= 1; got '
      f'{share} and {replicas}.'
    )
  if isinstance(job, jobs.Grading):
    return figures.graded(job)
  find = _sampling if isinstance(job, jobs.Sampling) else _training
  return find(job, pieces, replicas, share)


def on_first(
  job: jobs.Job,
  topologies: Sequence[str],
  *,
  replicas: int = 1,
  share: float = 1.0,
) -> figures.Estimate:
  """Returns the estimate on the first slice that a job fits, or on the last.

  Args:
    job: what is to be done.
    topologies: slices, the one to prefer first.
    replicas: as in `on_slice`.
    share: as in `on_slice`.

  Raises:
    InputError: as `on_slice`.
  """
  for topology in topologies:
    found = on_slice(job, topology, replicas=replicas, share=share)
    if found.seconds is not None:
      break
  return found


def _sampling(
  job: jobs.Sampling, pieces: slices.Slice, replicas: int, share: float
) -> figures.Estimate:
  rows = _rows(job, pieces)
  decode, tried = None, None
  for slots in _slots(job, pieces, rows, replicas):
    if tried and _beside(job, pieces, tried, slots, rows) < 0:
      continue
    tried = _program(
      job,
      pieces,
      program='decode',
      slots=slots,
      max_length=job.places,
      fill=job.filled / job.places,
      new_tokens=job.max_new_tokens,
    )
    if tried['fits'] and _beside(job, pieces, tried, slots, rows) >= 0:
      decode = tried
      break
  if decode is None:
    why = 'weights and a slot a device'
    return _unfit(job, pieces, replicas, _memory(tried) if tried else why)
  notes = []
  if job.slots and decode['slots'] != job.slots:
    notes.append(
      f'{job.slots} slots of {job.places} places do not fit; {decode["slots"]} '
      'do'
    )
  prefill = None
  if job.own_tokens > 1:
    prefill = _program(
      job,
      pieces,
      program='prefill',
      batch_size=rows,
      max_length=job.padded_prompt,
    )
    if not prefill['fits']:
      return _unfit(job, pieces, replicas, _memory(prefill))
  steps = job.steps(decode['slots'], replicas)
  drawing = steps * decode['estimated_seconds']
  reading = 0.0
  if prefill:
    batches = math.ceil(job.reads / replicas / rows)
    reading = batches * prefill['estimated_seconds']
    # The prefix at the speed of the other prompts.
    whole = rows * job.prompt_flops(job.padded_prompt)
    reading += prefill['estimated_seconds'] * job.prefix_flops() / whole
  compiling = sum(one['compile_seconds'] for one in (decode, prefill) if one)
  return _estimate(
    job,
    pieces,
    replicas,
    (drawing + reading) / share,
    compiling,
    {
      **_chosen(decode),
      'slots': decode['slots'],
      'places': job.places,
      'fill': job.filled / job.places,
      'prefill_batch': rows,
      'steps': steps,
      'prefill_seconds': reading / share,
    },
    share,
    notes,
  )


def _training(
  job: jobs.Training, pieces: slices.Slice, replicas: int, share: float
) -> figures.Estimate:
  replicas = min(replicas, job.runs)
  state = job.state_bytes() / pieces.chips
  if state > pieces.chip.usable:
    return _unfit(
      job,
      pieces,
      replicas,
      f'{state / 1e9:.3g} GB of weights, slopes and optimiser state',
    )
  sft = job.sft
  devices = pieces.chips * pieces.chip.devices
  asked = dict(
    program='train',
    batch_size=sft.batch_size,
    accumulate=sft.accumulate,
    max_length=sft.max_length,
    dtype=sft.dtype,
    weights_dtype=sft.weights_dtype,
    attention=sft.attention,
    lora=dataclasses.asdict(sft.lora),
    # The rate is given to the program when it runs.
    optimizer=dataclasses.asdict(sft.optimizer) | {'learning_rate': 1e-5},
    mesh=sft.mesh
    or sizes.training_mesh(
      devices, job.model, sft.batch_size // sft.accumulate
    ),
  )
  notes = []
  found = _program(job, pieces, **asked, remat=sft.remat)
  if not found['fits'] and sft.remat:
    other = _program(job, pieces, **asked, remat='')
    if other['fits']:
      notes.append(f'remat={sft.remat} does not fit; {other["remat"]} does')
      found = other
  if not found['fits']:
    return _unfit(job, pieces, replicas, _memory(found))
  turns = math.ceil(job.runs / replicas) * job.steps
  return _estimate(
    job,
    pieces,
    replicas,
    turns * found['estimated_seconds'] / share,
    found['compile_seconds'],
    {
      **_chosen(found),
      'batch_size': found['batch_size'],
      'remat': found['remat'],
      'steps': job.steps,
    },
    share,
    notes,
  )


def _estimate(
  job, pieces, replicas, seconds, compiling, settings, share, notes
) -> figures.Estimate:
  chips = pieces.chips * replicas
  settings['share_of_peak'] = job.flops() / (seconds * chips * pieces.chip.bf16)
  how = f'compiled for {pieces.name}: {_BOUND}'
  if share != 1:
    how = f'compiled for {pieces.name}, {share:.0%} of that speed'
  return figures.of(
    job,
    chip=pieces.chip.name,
    chips=chips,
    seconds=seconds,
    compile_seconds=compiling,
    how=how,
    settings=settings,
    notes=tuple(notes),
  )


def _unfit(job, pieces, replicas, why: str) -> figures.Estimate:
  room = pieces.chip.usable / 1e9
  return figures.of(
    job,
    chip=pieces.chip.name,
    chips=pieces.chips * replicas,
    seconds=None,
    compile_seconds=None,
    how=f'compiled for {pieces.name}',
    notes=(f'does not fit: {why} of {room:.3g} GB a chip',),
  )


def _slots(
  job: jobs.Sampling, pieces: slices.Slice, rows: int, replicas: int
) -> Iterator[int]:
  """Yields the numbers of slots to try, the best one first."""
  if job.slots:
    yield job.slots
  devices = pieces.chips * pieces.chip.devices
  wanted = math.ceil(job.samples / job.rounds / replicas)
  found = [n * devices for n in _SLOTS if n * devices <= _MOST_SLOTS]
  # More slots than samples are of no use.
  most = min((n for n in found if n >= wanted), default=_MOST_SLOTS)
  most = min(most, job.slots - 1) if job.slots else most
  for slots in found:
    # At best everything is split over all devices.
    if slots <= most and _room(job, pieces, slots, rows, tensor=devices) >= 0:
      yield slots


def _room(
  job: jobs.Sampling,
  pieces: slices.Slice,
  slots: int,
  rows: int,
  *,
  tensor: int,
  fsdp: int = 1,
) -> float:
  """Returns the bytes that a device has left, as a run asks before it starts.

  Args:
    job: the samples.
    pieces: the slice.
    slots: sequences at a time.
    rows: prompts that are read at a time.
    tensor: devices of that axis of the mesh.
    fsdp: likewise.
  """
  devices = pieces.chips * pieces.chip.devices
  need = job.device_bytes(
    slots, rows, tensor=tensor, fsdp=fsdp, data=devices // tensor // fsdp
  )
  return pieces.chip.usable / pieces.chip.devices - need


def _beside(job, pieces, tried: dict[str, Any], slots: int, rows: int) -> float:
  """Returns `_room` on the mesh that a compiled program has."""
  parts = sizes.axes(tried['mesh'])
  return _room(
    job, pieces, slots, rows, tensor=parts['tensor'], fsdp=parts['fsdp']
  )


def _rows(job: jobs.Sampling, pieces: slices.Slice) -> int:
  """Returns how many prompts are read at a time."""
  devices = pieces.chips * pieces.chip.devices
  return job.prefill_batch or math.lcm(_PROMPTS, devices)


def _program(
  job: jobs.Sampling | jobs.Training, pieces: slices.Slice, **asked: Any
) -> dict[str, Any]:
  """Returns the figures of one compiled program, kept from earlier calls."""
  if isinstance(job, jobs.Sampling):
    names = ('temperature', 'top_k', 'top_p', 'min_p')
    asked |= dict(zip(names, job.draws))
    asked |= {
      'prefix_length': job.shared_prompt_tokens,
      'dtype': job.dtype,
      'weights': job.weights,
      'mesh': job.mesh,
      'largest_slots': False,
    }
  else:
    asked['largest_batch'] = False
  key = {
    'topology': pieces.name,
    'asked': asked,
    'model': dataclasses.asdict(job.model),
  }
  return kept.get(key, lambda: _compile(job, pieces, asked))


def _compile(job, pieces, asked: dict[str, Any]) -> dict[str, Any]:
  if importlib.util.find_spec('libtpu') is None:
    raise errors.InputError(
      'topology: compiling for a TPU needs libtpu; install it with '
      "pip install 'wcse-jax[aot]'."
    )
  from wcse_jax.aot import compile as aot
  from wcse_jax.sft import settings

  made = dict(asked)
  for name, kind in (
    ('lora', settings.LoraConfig),
    ('optimizer', settings.OptimizerConfig),
  ):
    if name in made:
      made[name] = kind(**made[name])
  found = aot.compile(
    aot.CompileConfig(model=job.name, topology=pieces.name, **made), job.model
  )
  # What moves most, by instruction, nobody asks for here.
  found.pop('largest', None)
  return found


def _chosen(found: dict[str, Any]) -> dict[str, Any]:
  """Returns what a compiled program says of itself."""
  return {
    'mesh': found['mesh'],
    'step_seconds': found['estimated_seconds'],
    'limited_by': max(found['seconds'], key=found['seconds'].get),
    'seconds': found['seconds'],
    'bytes_per_chip': found['bytes_per_chip'],
  }


def _memory(found: dict[str, Any] | None) -> str:
  if found is None:
    return 'the weights alone are too much'
  held = found['bytes_per_chip']
  if held['total'] is not None:
    return f'{held["total"] / 1e9:.3g} GB'
  known = held['weights'] + held['cache'] + held.get('optimizer', 0)
  return f'{known / 1e9:.3g} GB and what the program needs beside'
