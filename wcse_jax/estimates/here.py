"""Estimates for this machine.

No jax here: what measures the machine is loaded where it is asked.
"""

import dataclasses
import math

from wcse_jax import errors, runlog, storage
from wcse_jax.estimates import figures, jobs, shares, sizes


# Chip-seconds of earlier rows of the ledger below which they say nothing.
_LEAST_S = 1.0
# Rows of a ledger that tell the speed of a job.
_STAGES = {
  jobs.Sampling: ('sample', 'planned sample', 'evaluate'),
  jobs.Training: ('train',),
}
# Sequences at a time, and prompts, where a job does not say: those of
# `sampler.settings.SamplerConfig`.
_SLOTS, _PROMPTS = 64, 8


@dataclasses.dataclass(frozen=True)
class Rates:
  """What a machine can do.

  Attributes:
    chip: as the price table calls it.
    platform: `cpu`, `gpu` or `tpu`.
    devices: how many there are.
    matrix: FLOP/s of all of them together.
    memory: bytes/s, likewise.
    free: bytes that a device has left; None where nothing tells.
  """

  chip: str
  platform: str
  devices: int
  matrix: float
  memory: float
  free: int | None


def rates(dtype: str) -> Rates:
  """Measures this machine, in a second or two the first time."""
  import jax

  from wcse_jax import machine

  devices = jax.device_count()
  return Rates(
    chip=machine.chip(),
    platform=jax.devices()[0].platform,
    devices=devices,
    matrix=devices * machine.peak_rate(dtype),
    memory=devices * machine.memory_rate(),
    free=machine.free_memory(),
  )


def on_machine(
  job: jobs.Job, *, workdir: str = '', known: Rates | None = None
) -> figures.Estimate:
  """Returns the estimate of a job on this machine.

  Where the ledger of a run folder has rows of the same kind and model, time is
  that of their FLOPs; else it is the machine's peak times a share of the table.

  Args:
    job: what is to be done.
    workdir: a run folder with earlier rows, made on this machine; empty for
      none.
    known: what the machine can do; None: measured.
  """
  if isinstance(job, jobs.Grading):
    return figures.graded(job)
  dtype = job.dtype if isinstance(job, jobs.Sampling) else job.sft.dtype
  known = known or rates(dtype)
  phase = 'decode' if isinstance(job, jobs.Sampling) else 'train'
  notes = _notes(job, known)
  speed = _speed(job, workdir) if workdir else None
  settings: dict[str, object] = {}
  if speed:
    seconds = job.flops() / speed / known.devices
    how = f'measured on this machine in {workdir}'
  elif isinstance(job, jobs.Sampling):
    seconds, how = _sampling(job, known)
    settings['slots'] = job.slots or _SLOTS
  else:
    share, source = shares.of(
      known.platform, phase, dtype, job.model.parameters()
    )
    work = job.runs * job.steps * job.sft.batch_size * job.row_flops()
    seconds = work / known.matrix / share
    how = _how(known, share, source)
    settings['steps'] = job.steps
  settings['share_of_peak'] = job.flops() / (seconds * known.matrix)
  return figures.of(
    job,
    chip=known.chip,
    chips=known.devices,
    seconds=seconds,
    compile_seconds=shares.compiling(known.platform, phase),
    how=how,
    settings=settings,
    notes=notes,
  )


def _sampling(job: jobs.Sampling, known: Rates) -> tuple[float, str]:
  """Returns (seconds, where they come from)."""
  slots = job.slots or _SLOTS
  size = job.model.parameters()
  item = _cache_item(job, known)
  peak = max(
    job.step_flops(slots) / known.matrix,
    job.step_bytes(slots, item) / known.memory,
  )
  share, source = shares.of(known.platform, 'decode', job.dtype, size)
  drawing = job.steps(slots) * peak / share
  fast, _ = shares.of(known.platform, 'prefill', job.dtype, size)
  rows = job.prefill_batch or _PROMPTS
  read = math.ceil(job.reads / rows) * rows
  work = job.prefix_flops()
  if job.own_tokens > 1:
    work += read * job.prompt_flops(job.padded_prompt)
  return drawing + work / known.matrix / fast, _how(known, share, source)


def _how(known: Rates, share: float, source: str) -> str:
  return (
    f'peak of this machine ({known.matrix / 1e9:.3g} GFLOP/s, '
    f'{known.memory / 1e9:.3g} GB/s) x an assumed share of {share:.2f} '
    f'({source})'
  )


def _cache_item(job: jobs.Sampling, known: Rates) -> int:
  """Returns the bytes of a number of the cache, as `models.cache.dtype_on`."""
  return 4 if known.platform == 'cpu' else sizes.item_bytes(job.dtype)


def _speed(job: jobs.Sampling | jobs.Training, workdir: str) -> float | None:
  """Returns the FLOP/s of a chip in earlier rows; None where there are none."""
  stages = _STAGES[type(job)]
  names = (job.name, *job.keys)
  flops, seconds = 0, 0.0
  for row in _ledger(workdir):
    if row['stage'] in stages and row['model'] in names:
      flops += row['flops']
      seconds += row['chip_seconds']
  return flops / seconds if flops and seconds >= _LEAST_S else None


def _ledger(workdir: str) -> list[dict]:
  """Returns the booked rows of a run folder, merged or not."""
  folder = storage.join(workdir, 'ledger')
  rows = []
  for name in storage.names(folder):
    if name.endswith('.json'):
      path = storage.join(folder, name)
      row = storage.read_json(path)
      if not isinstance(row, dict) or set(row) != set(runlog.LEDGER_FIELDS):
        raise errors.InputError(
          f'{path}: wanted a row of the ledger with the fields '
          f'{", ".join(runlog.LEDGER_FIELDS)}; got another.'
        )
      rows.append(row)
  return rows


def _notes(job: jobs.Sampling | jobs.Training, known: Rates) -> tuple[str, ...]:
  """Returns what to say of the memory of a device."""
  if known.free is None:
    return ()
  if isinstance(job, jobs.Sampling):
    need = job.device_bytes(
      job.slots or _SLOTS,
      job.prefill_batch or _PROMPTS,
      # As `sharding.make_mesh` lays them out where nothing is said.
      **sizes.axes(job.mesh or f'data={known.devices}'),
      cache_item=_cache_item(job, known),
    )
  else:
    mesh = sizes.axes(job.sft.mesh)
    need = job.state_bytes() / mesh['fsdp'] / mesh['tensor']
  if need <= known.free:
    return ()
  return (
    f'does not fit: {need / 1e9:.3g} GB on a device, where '
    f'{known.free / 1e9:.3g} GB are free',
  )
