"""Grades samples, and measures what was graded."""

import contextlib
import dataclasses
import itertools
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from wcse_jax import (
  audits,
  errors,
  judgements,
  meter,
  outside,
  prices,
  records,
  runlog,
  shardfiles,
  storage,
  tasks,
)
from wcse_jax.metrics import contrast, judged, measure
from wcse_jax.tasks import base, parallel


# Raised whenever a grader changes a verdict.
VERSION = 3
# Coverage is extrapolated to these multiples of the samples at hand.
_BEYOND = (2, 4)


@dataclasses.dataclass(kw_only=True)
class GradeConfig:
  """A grading run.

  Attributes:
    task: one of `tasks.TASKS`.
    data: folder or file of the set, or `hub:NAME@REVISION`; empty for the
      task's own source.
    split: one of the task's splits, or `validation`.
    samples: a JSONL of `{"problem_id", "index", "text"}` from anywhere; empty
      for the samples in the run folder.
    bad_rows: of the set and of `samples`: `refuse` ends with a report of them;
      `skip` goes on without them, counts them, and lists those of `samples` in
      the run folder's `quarantine/`.
    processes: workers that grade; 0 for one a core.
  """

  task: str = 'arith'
  data: str = ''
  split: str = 'train'
  samples: str = ''
  bad_rows: str = 'refuse'
  processes: int = 0


def grade(config: GradeConfig, workdir: str) -> dict[str, Any]:
  """Grades what is not graded yet; returns what `measures.json` holds.

  Grades go to `workdir/grades/<model>/`, a shard for each shard of samples.
  What judges and people said of the reasoning is measured with them.  Of
  several models every measure of one less that of another, paired by problem,
  goes to `comparisons.json`.

  Raises:
    InputError: if there is nothing to grade, or a sample is of no problem of
      the split.
  """
  if config.processes < 0:
    raise errors.InputError(
      f'processes: wanted a count >= 0; got {config.processes}.'
    )
  task = tasks.load(config.task, config.data, bad_rows=config.bad_rows)
  problems = {
    p.id: p for _, p in base.select(task, config.split, validation_size=0)
  }
  root = storage.join(workdir, 'samples')
  names = [
    name
    for name in storage.names(root)
    if storage.is_folder(storage.join(root, name))
  ]
  source = None
  if config.samples:
    source = outside.Source(
      config.samples, frozenset(problems), skip=config.bad_rows == 'skip'
    )
  elif not names:
    raise errors.InputError(
      f'samples: wanted samples in {root}; there are none.'
    )
  with (
    contextlib.closing(task),
    runlog.writing(workdir, dataclasses.asdict(config)),
  ):
    tables: dict[str, measure.Table] = {}
    if source is not None:
      source.quarantine(workdir)
      name = source.name
      found = _grade_outside(config, task, problems, source, workdir)
      tables[name] = _table(task, problems, source.texts(), found)
    else:
      for name in names:
        samples, found = grade_missing(
          task, problems, workdir, name, processes=config.processes
        )
        tables[name] = _table(
          task, problems, samples.rows(records.Drawn), found
        )
    measures = {
      name: _measure(whole, workdir, name) for name, whole in tables.items()
    }
    if source is not None:
      measures[source.name]['rows'] = source.counts()
    storage.publish_json(storage.join(workdir, 'measures.json'), measures)
    if len(tables) > 1:
      storage.publish_json(
        storage.join(workdir, 'comparisons.json'), compare(tables)
      )
    runlog.merge_ledger(workdir)
  return measures


def grade_missing(
  task: base.Task,
  problems: Mapping[str, records.Problem],
  workdir: str,
  name: str,
  *,
  processes: int = 0,
) -> tuple[shardfiles.ShardFolder, shardfiles.ShardFolder]:
  """Grades the shards of one model that are not graded yet.

  Returns:
    The folders of the samples and of their grades.
  """
  samples = shardfiles.ShardFolder(storage.join(workdir, 'samples', name))
  samples.check()
  grades = shardfiles.ShardFolder(
    storage.join(workdir, 'grades', name),
    {
      'samples': samples.fingerprint,
      'task': task.name,
      'grader': VERSION,
    },
  )
  grades.check()
  have = set(grades.shards)
  missing = [shard for shard in samples.shards if shard not in have]
  with meter.Progress(
    f'grade {name}', sum(map(samples.size, missing)), 'samples'
  ) as progress:
    _write(
      task,
      problems,
      name,
      (
        (
          shard,
          [
            (row.problem_id, row.index, row.text)
            for row in samples.read(shard, records.Drawn)
          ],
        )
        for shard in missing
      ),
      grades,
      progress,
      processes,
    )
  seconds = float(grades.cost().get('chip_seconds', 0.0))
  runlog.book(
    workdir,
    f'grade-{name}',
    {
      'stage': 'grade',
      'model': name,
      'chips': 1,
      'chip_seconds': seconds,
      'prefill_tokens': 0,
      'decode_tokens': 0,
      'flops': 0,
      'usd': prices.usd('cpu', seconds),
    },
  )
  return samples, grades


def reasoning(
  whole: measure.Table, workdir: str, name: str
) -> list[dict[str, Any]]:
  """Returns one model's false-positive rates by judge, ready for JSON.

  Rows are those of `judged.rates`, with what the judge said of the canaries
  (`judgements.summary`) in `canaries`, None for the task's own check.
  """
  canaries = judgements.canaries(workdir, name)
  return [
    {**row, 'canaries': canaries.get(row['judge'])}
    for row in judged.rates(
      whole, judgements.read(workdir, name), audits.read(workdir, name)
    )
  ]


def _grade_outside(
  config: GradeConfig,
  task: base.Task,
  problems: Mapping[str, records.Problem],
  source: outside.Source,
  workdir: str,
) -> shardfiles.ShardFolder:
  """Grades samples that came from elsewhere; returns the folder of grades."""
  grades = shardfiles.ShardFolder(
    storage.join(workdir, 'grades', source.name),
    {
      'samples': source.sha256,
      'task': task.name,
      'references': records.digest(problems.values()),
      'bad_rows': config.bad_rows,
      'grader': VERSION,
    },
  )
  grades.check()
  have = set(grades.shards)
  with meter.Progress(
    f'grade {source.name}', source.good, 'samples'
  ) as progress:
    _write(
      task,
      problems,
      source.name,
      source.shards(have),
      grades,
      progress,
      config.processes,
    )
  return grades


def _write(
  task: base.Task,
  problems: Mapping[str, records.Problem],
  where: str,
  shards: Iterable[tuple[shardfiles.Shard, Sequence[tuple[str, int, str]]]],
  grades: shardfiles.ShardFolder,
  progress: meter.Progress,
  processes: int,
) -> None:
  """Grades shards of (problem_id, index, text), each written when whole."""
  waiting: list[tuple[shardfiles.Shard, int]] = []

  def rows() -> Iterator[tuple[records.Problem, int, str]]:
    for shard, texts in shards:
      waiting.append((shard, len(texts)))
      for problem_id, index, text in texts:
        if problem_id not in problems:
          raise errors.InputError(
            f'{where}: problem {problem_id!r} is not in the split of task '
            f'{task.name}; is --config.split the one that was sampled?'
          )
        yield problems[problem_id], index, text

  held: list[records.Grade] = []
  began = time.perf_counter()
  found = parallel.grade_many(task, rows(), processes=processes)
  for done, one in enumerate(found, 1):
    held.append(one)
    shard, size = waiting[0]
    if len(held) == size:
      now = time.perf_counter()
      grades.write(shard, held, {'chip_seconds': now - began})
      began = now
      held = []
      waiting.pop(0)
    progress.update(done)


def table(measures: Mapping[str, Any]) -> str:
  """Returns the measures as a table for the terminal."""
  lines = [f'{"model":<24}{"k":>5}{"coverage@k":>28}{"diversity@k":>14}']
  for name, m in measures.items():
    diversity = {row['k']: row['value'] for row in m['diversity']}
    for row in m['coverage']:
      value = diversity.get(row['k'])
      lines.append(
        f'{name:<24}{row["k"]:>5}{shown(row):>28}'
        + (f'{value:>14.2f}' if value is not None else f'{"-":>14}')
      )
    for row in m['extrapolated']:
      lines.append(
        f'{name:<24}{row["k"]:>5}{shown(row):>28}{"-":>14}  extrapolated'
      )
    if m['majority']:
      last = m['majority'][-1]
      lines.append(
        f'{name:<24}pass@1 {shown(m["pass@1"])}; maj@{last["k"]} {shown(last)}'
      )
    lines.append(
      f'{name:<24}false positives {shown(m["false_positive_rate"])} of '
      f'{m["false_positive_rate"]["samples"]} judged; verdicts '
      + ', '.join(f'{k} {v}' for k, v in m['verdicts'].items() if v)
    )
    for row in m['judges']:
      if row['corrected'] is not None:
        who = f'{row["judge"]} and people' if row['judge'] else 'people'
        lines.append(
          f'{name:<24}false positives by {who} {shown(row["corrected"])} '
          f'audited'
        )
      elif row['judge'] != judged.TASK:
        lines.append(
          f'{name:<24}false positives by {row["judge"]} {shown(row["rate"])}, '
          f'not audited'
        )
      lines += [
        f'{name:<24}warning: {row["judge"]}: {text}'
        for text in judgements.warnings(row['canaries'] or {})
      ]
    if 'rows' in m and m['rows']['bad']:
      lines.append(
        f'{name:<24}{m["rows"]["bad"]} of {m["rows"]["read"]} rows were bad '
        'and left out; see quarantine/'
      )
  return '\n'.join(lines)


def shown(row: Mapping[str, Any]) -> str:
  """Returns an estimate with its interval and n, for the terminal."""
  if row['value'] is None:
    return 'unknown'
  if row['low'] is None:
    return f'{row["value"]:.3f} n={row["n"]}'
  return (
    f'{row["value"]:.3f} [{row["low"]:.3f}, {row["high"]:.3f}] n={row["n"]}'
  )


def compare(tables: Mapping[str, measure.Table]) -> list[dict[str, Any]]:
  """Returns the measures of one model less those of another, for each pair.

  A row has `a` and `b`, `problems` (those of which both have samples), the keys
  of `contrast.compare`, and `extrapolated`: coverage of a less that of b beyond
  the samples at hand.

  Args:
    tables: of all models, of the same problems.
  """
  found = []
  for a, b in itertools.combinations(tables, 2):
    both_Q = (tables[a].rows_Q > 0) & (tables[b].rows_Q > 0)
    if not both_Q.any():
      continue
    pair = tables[a].of_problems(both_Q), tables[b].of_problems(both_Q)
    most = min(int(table.n_Q.max()) for table in pair)
    found.append(
      {
        'a': a,
        'b': b,
        'problems': int(both_Q.sum()),
        **contrast.compare(*pair, doubling(most)),
        'extrapolated': [
          {
            'k': m * most,
            **contrast.gap(*pair, *[m * most] * 2, extrapolate=True),
          }
          for m in _BEYOND
          if most
        ],
      }
    )
  return found


def _table(
  task: base.Task,
  problems: Mapping[str, records.Problem],
  samples: Iterable[records.Sample | measure.Text],
  grades: shardfiles.ShardFolder,
) -> measure.Table:
  """Returns one model's table of all problems; the rows pass once."""
  return measure.Table.from_rows(
    list(problems.values()),
    samples,
    grades.rows(records.Grade),
    task.chain,
    task.ballot,
  )


def _measure(whole: measure.Table, workdir: str, name: str) -> dict[str, Any]:
  """Returns the measures of one model, of the problems that it has rows of."""
  part = whole.of_problems(whole.rows_Q > 0)
  most = int(part.n_Q.max(initial=0))
  return measure.measure(
    part, doubling(most), beyond=[m * most for m in _BEYOND if most]
  ) | {'judges': reasoning(part, workdir, name)}


def doubling(most: int) -> Sequence[int]:
  """Returns 1, 2, 4, ... up to `most`, which is the last."""
  ks = [2**i for i in range(most.bit_length()) if 2**i < most]
  return [*ks, most] if most else [1]
