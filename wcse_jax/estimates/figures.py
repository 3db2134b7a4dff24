"""What an estimate says; sums, rows for JSON, the table as text.  No jax."""

import dataclasses
from collections.abc import Sequence
from typing import Any

from wcse_jax import prices
from wcse_jax.estimates import jobs


_HEADS = (
  'stage',
  'model',
  'work',
  'FLOPs',
  'chips',
  'time',
  'chip-hours',
  '$',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Estimate:
  """What a job would take.

  Attributes:
    stage: what the job is called.
    name: of its model.
    work: how much there is of it, as `225,000 samples`.
    flops: that it needs.
    chip: as the price table calls it; empty where no chip works.
    chips: that work at it, of all replicas; 0 where only the host works.
    seconds: from its start to its end, compiling left out; None where it does
      not fit.
    compile_seconds: before that; None where it is not known.
    how: where the time comes from.
    settings: what was chosen for it, as `slots` and `mesh`, and what was found
      on the way, ready for JSON.
    notes: what to know, as that it does not fit.
  """

  stage: str
  name: str
  work: str
  flops: int
  chip: str
  chips: int
  seconds: float | None
  compile_seconds: float | None
  how: str
  settings: dict[str, Any] = dataclasses.field(default_factory=dict)
  notes: tuple[str, ...] = ()

  @property
  def chip_seconds(self) -> float | None:
    return None if self.seconds is None else self.seconds * self.chips

  @property
  def usd(self) -> float | None:
    """What the chips cost in that time; None where a price is not known."""
    if self.chip_seconds is None:
      return None
    return prices.usd(self.chip, self.chip_seconds) if self.chips else 0.0

  def row(self) -> dict[str, Any]:
    """Returns all of it, ready for JSON."""
    found = dataclasses.asdict(self)
    found |= {'chip_seconds': self.chip_seconds, 'usd': self.usd}
    return found | {'notes': list(self.notes)}


def of(job: jobs.Job, **fields: Any) -> Estimate:
  """Returns the estimate of a job with what does not follow from it."""
  return Estimate(
    stage=job.stage,
    name=job.name,
    work=job.work,
    flops=job.flops(),
    **fields,
  )


def graded(job: jobs.Grading) -> Estimate:
  """Returns the estimate of a grading, which takes the host alone."""
  return of(
    job,
    chip='',
    chips=0,
    seconds=job.samples * job.cpu_seconds / job.cores,
    compile_seconds=0.0,
    how=f'{job.cpu_seconds:.3g} s a sample, {job.cores} cores',
  )


@dataclasses.dataclass(frozen=True)
class Sum:
  """What several estimates come to, one after another.

  Attributes:
    flops: of all.
    seconds: of those whose time is known.
    compile_seconds: likewise.
    chip_seconds: likewise.
    usd: of those whose price is known; None where none is.
    unknown: stages without a time.
    unpriced: stages with a time and without a price.
  """

  flops: int
  seconds: float
  compile_seconds: float
  chip_seconds: float
  usd: float | None
  unknown: tuple[str, ...]
  unpriced: tuple[str, ...]

  def row(self) -> dict[str, Any]:
    """Returns all of it, ready for JSON."""
    found = dataclasses.asdict(self)
    return found | {
      'unknown': list(self.unknown),
      'unpriced': list(self.unpriced),
    }


def total(estimates: Sequence[Estimate]) -> Sum:
  """Returns the sum of some estimates."""
  known = [one for one in estimates if one.seconds is not None]
  priced = [one.usd for one in known if one.usd is not None and one.chips]
  return Sum(
    flops=sum(one.flops for one in estimates),
    seconds=sum(one.seconds for one in known),
    compile_seconds=sum(one.compile_seconds or 0.0 for one in known),
    chip_seconds=sum(one.chip_seconds for one in known),
    usd=sum(priced) if priced else None,
    unknown=tuple(one.stage for one in estimates if one.seconds is None),
    unpriced=tuple(one.stage for one in known if one.usd is None),
  )


def report(estimates: Sequence[Estimate]) -> dict[str, Any]:
  """Returns rows and sum, ready for JSON."""
  return {
    'stages': [one.row() for one in estimates],
    'total': total(estimates).row(),
  }


def text(estimates: Sequence[Estimate]) -> str:
  """Returns the table as text: a line a stage, the sum, then the notes."""
  whole = total(estimates)
  rows = [
    (
      one.stage,
      one.name,
      one.work,
      f'{one.flops:.3g}' if one.flops else '-',
      f'{one.chips} {one.chip}' if one.chips else 'host',
      '-' if one.seconds is None else duration(one.seconds),
      '-' if one.chip_seconds is None else _amount(one.chip_seconds / 3600),
      '-' if one.usd is None else _amount(one.usd),
    )
    for one in estimates
  ]
  rows.append(
    (
      'total',
      '',
      '',
      f'{whole.flops:.3g}',
      '',
      duration(whole.seconds),
      _amount(whole.chip_seconds / 3600),
      '-' if whole.usd is None else _amount(whole.usd),
    )
  )
  widths = [max(map(len, column)) for column in zip(_HEADS, *rows)]
  lines = [
    '  '.join(
      cell.ljust(width) if i < 3 else cell.rjust(width)
      for i, (cell, width) in enumerate(zip(row, widths))
    ).rstrip()
    for row in (_HEADS, *rows)
  ]
  lines.append('')
  if whole.compile_seconds:
    lines.append(f'compiling: {duration(whole.compile_seconds)} beside that')
  lines += _said(estimates)
  for name, kind in (
    ('without a time', whole.unknown),
    ('without a price', whole.unpriced),
  ):
    if kind:
      lines.append(f'{name}, and not in the total: {", ".join(kind)}')
  return '\n'.join(lines)


def _said(estimates: Sequence[Estimate]) -> list[str]:
  """Returns how and notes, with the stages; what all say, once without them."""
  stages: dict[str, list[str]] = {}
  for one in estimates:
    for line in (one.how, *one.notes):
      stages.setdefault(line, []).append(one.stage)
  return [
    line if len(names) == len(estimates) > 1 else f'{"; ".join(names)}: {line}'
    for line, names in stages.items()
  ]


def duration(seconds: float) -> str:
  """Returns `4.2 s`, `12 min` or `3.5 h`."""
  if seconds < 60:
    return f'{seconds:.2g} s' if seconds < 10 else f'{seconds:.0f} s'
  if seconds < 3600:
    return f'{seconds / 60:.3g} min'
  return f'{seconds / 3600:.3g} h'


def _amount(value: float) -> str:
  if value >= 100:
    return f'{value:,.0f}'
  return f'{value:.2f}' if value >= 0.1 else f'{value:.2g}'
