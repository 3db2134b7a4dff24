"""A human audit of right samples: what to read, and what people said of it.

Who audits reads the CSV or the page of a model, and says of each sample whether
its reasoning is sound.  The samples are a beginning of `metrics.judged.order`,
so that they are among those that a model judges.
"""

import dataclasses
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from wcse_jax import (
  audits,
  errors,
  grade,
  records,
  right_samples,
  runlog,
  shardfiles,
  storage,
  tasks,
)
from wcse_jax.metrics import audited, judged
from wcse_jax.report import auditpage
from wcse_jax.tasks import base


# Tasks whose solutions are programs, which want letters of one width.
_PROGRAMS = frozenset({'mbpp', 'humaneval'})


@dataclasses.dataclass(kw_only=True)
class AuditConfig:
  """An audit.

  Attributes:
    task: one of `tasks.TASKS`.
    data: folder or file of the set; empty for the task's own source.
    split: the one that was graded.
    samples: of each model.
    least: of each level, before all others.
    seed: of the random order in which samples are audited.
    reference: whether the page shows the reference solution.
    read: a filled CSV, or a folder of such; empty to write what is to be
      filled.
    auditor: who filled it; letters, digits, `_` and `-`.
    blind: whether the page hides the model's name and what judges said.
  """

  task: str = 'arith'
  data: str = ''
  split: str = 'train'
  samples: int = 100
  least: int = 3
  seed: int = 0
  reference: bool = True
  read: str = ''
  auditor: str = 'audit'
  blind: bool = True

  def validate(self) -> None:
    """Raises InputError for the first field that is out of range."""
    if self.samples < 1:
      raise errors.InputError(
        f'samples: wanted a number >= 1; got {self.samples}.'
      )
    if self.least < 0:
      raise errors.InputError(f'least: wanted a number >= 0; got {self.least}.')
    if not re.fullmatch(r'[A-Za-z0-9_-]+', self.auditor):
      raise errors.InputError(
        f'auditor: wanted letters, digits, "_" and "-"; got {self.auditor!r}.'
      )


class Pool:
  """The right samples of one model; texts are read when they are asked for."""

  def __init__(
    self, workdir: str, model: str, problems: Mapping[str, records.Problem]
  ):
    """Opens the samples and grades of a model.

    Raises:
      InputError: if a right sample is of no problem of the split.
    """
    self.model = model
    self._workdir = workdir
    self._problems = problems
    self._samples = shardfiles.ShardFolder(
      storage.join(workdir, 'samples', model)
    )
    self._grades = shardfiles.ShardFolder(
      storage.join(workdir, 'grades', model)
    )
    # What the samples were made of, by which an audit is known.
    self.source = self._samples.fingerprint
    self.levels: dict[audits.Key, str] = {}
    for row in self._grades.rows(records.Grade):
      if row.verdict != 'right':
        continue
      if row.problem_id not in problems:
        raise errors.InputError(
          f'{model}: problem {records.shorten(row.problem_id)} is not in the '
          'split; are --config.task, --config.data and --config.split those '
          'that were graded?'
        )
      level = problems[row.problem_id].level
      self.levels[row.problem_id, row.index] = level

  def items(
    self,
    *,
    keys: Collection[audits.Key] = (),
    digests: Collection[str] = (),
    blind: bool = True,
  ) -> dict[str, audits.Item]:
    """Returns digest -> item of the right samples of `keys` or `digests`."""
    said = {} if blind else self._said()
    found = {}
    for shard in self._grades.shards:
      grades = {
        (row.problem_id, row.index): row
        for row in self._grades.read(shard, records.Grade)
        if row.verdict == 'right'
      }
      for row in self._samples.read(shard, records.Sample):
        key = (row.problem_id, row.index)
        if key not in grades:
          continue
        name = audits.digest(self.model, *key, row.text)
        if key in keys or name in digests:
          problem, grade_ = self._problems[row.problem_id], grades[key]
          checked = (
            'automatic check',
            audited.words(grade_.sound, grade_.why),
          )
          found[name] = audits.Item(
            digest=name,
            problem_id=row.problem_id,
            index=row.index,
            level=problem.level,
            question=problem.question,
            reference=problem.answer,
            answer=grade_.answer or '',
            text=row.text,
            solution=problem.solution,
            judged=() if blind else (checked, *said.get(key, ())),
          )
    return found

  def _said(self) -> dict[audits.Key, list[tuple[str, str]]]:
    """Returns (judge, verdict) of the judges that are models, by sample."""
    root = storage.join(self._workdir, 'judgements', self.model)
    found: dict[audits.Key, list[tuple[str, str]]] = {}
    for judge in storage.names(root):
      folder = storage.join(root, judge)
      for name in storage.names(folder):
        if name.endswith('.jsonl'):
          path = storage.join(folder, name)
          for key, row in audits.read_judgements(path).items():
            found.setdefault(key, []).append(
              (judge, audited.words(row.sound, row.why))
            )
    return found


def audit(config: AuditConfig, workdir: str) -> str:
  """Exports what is to be audited, or reads it back; returns lines to print.

  Raises:
    InputError: if there is nothing to audit, or what was filled in is not of
      this run.
  """
  config.validate()
  pools = _pools(config, workdir)
  if config.read:
    return table(collect(config, workdir, pools))
  return '\n'.join(export(config, workdir, pools))


def export(
  config: AuditConfig, workdir: str, pools: Sequence[Pool]
) -> list[str]:
  """Writes the CSV and the page of each model; returns a line for each.

  Verdicts that a CSV has already are kept, with their rows, also where fewer
  samples are asked for now.

  Raises:
    InputError: if a CSV that is there cannot be kept; nothing is written.
  """
  files, lines = {}, []
  for pool in pools:
    order = judged.order(
      pool.levels.items(), least=config.least, seed=config.seed
    )
    given = _given(workdir, pool)
    kept = pool.items(digests=given, blind=config.blind)
    first = order[: config.samples]
    chosen = pool.items(keys=frozenset(first), blind=config.blind) | kept
    by_key = {item.key: item for item in chosen.values()}
    items = [by_key[key] for key in order if key in by_key]
    code = auditpage.code(pool.model, pool.source)
    path = audits.path_of(workdir, pool.model, 'csv')
    files[path] = audits.table(items, given)
    files[audits.path_of(workdir, pool.model, 'html')] = auditpage.render(
      items,
      given,
      code=code,
      reference=config.reference,
      programs=config.task in _PROGRAMS,
      model='' if config.blind else pool.model,
    )
    filled = sum(bool(verdict) for verdict, _ in given.values())
    lines.append(
      f'{pool.model}: {len(items)} of {len(pool.levels)} right samples to '
      f'audit, {filled} with a verdict: {path} and .html (audit {code[:6]})'
    )
  with runlog.writing(workdir, dataclasses.asdict(config)):
    for path, data in files.items():
      storage.publish(path, data)
  return lines


def collect(
  config: AuditConfig, workdir: str, pools: Sequence[Pool]
) -> dict[str, dict[str, Any]]:
  """Reads what an auditor filled in; returns the figures of each model.

  What the same auditor said before of other samples stays.

  Raises:
    InputError: if a row is not of this run, or says nothing known, or no row
      has a verdict; nothing is written.
  """
  said = _filled(config.read, pools)
  figures, files = {}, {}
  for pool in pools:
    if not said[pool.model]:
      continue
    audits.check_source(workdir, pool.model)
    folder = audits.auditors_folder(workdir, pool.model)
    by_auditor = {
      name.removesuffix('.jsonl'): audits.read_judgements(
        storage.join(folder, name)
      )
      for name in storage.names(folder)
      if name.endswith('.jsonl')
    }
    own = by_auditor.get(config.auditor, {}) | said[pool.model]
    by_auditor[config.auditor] = {
      key: row for key, row in own.items() if row is not None
    }
    merged = audited.merge(by_auditor)
    figures[pool.model] = audited.figures(pool.levels, by_auditor, merged)
    files[storage.join(folder, f'{config.auditor}.jsonl')] = _lines(
      by_auditor[config.auditor]
    )
    files[audits.path_of(workdir, pool.model, 'jsonl')] = _lines(merged)
  with runlog.writing(workdir, dataclasses.asdict(config)):
    # First what the verdicts are of, by which `audits.read` knows them.
    for pool in pools:
      if pool.model in figures:
        storage.publish_json(
          audits.path_of(workdir, pool.model, 'json'),
          {'samples': pool.source, **figures[pool.model]},
        )
    for path, data in files.items():
      storage.publish(path, data)
  return figures


def table(figures: Mapping[str, Mapping[str, Any]]) -> str:
  """Returns the figures as a table for the terminal."""
  lines = []
  for model, found in figures.items():
    lines += [
      f'{model}: false positives by people '
      f'{grade.shown(found["false_positive_rate"])}, levels weighted by their '
      'right samples',
      f'{"level":<20}{"right":>8}{"sound":>8}{"unsound":>9}{"unsure":>8}  '
      'unsound of sound and unsound',
    ]
    for row in [*found['by_level'], {'level': 'all', **found['all']}]:
      lines.append(
        f'{row["level"] or "-":<20}{row["right"]:>8}{row["sound"]:>8}'
        f'{row["unsound"]:>9}{row["unsure"]:>8}  {grade.shown(row["rate"])}'
      )
    for row in found['agreement']:
      lines.append(
        f'{row["a"]} and {row["b"]}: the same of {row["same"]} of {row["n"]}, '
        f'kappa {grade.shown(row)}'
      )
  return '\n'.join(lines)


def _pools(config: AuditConfig, workdir: str) -> list[Pool]:
  """Returns the models that have samples, grades and a right sample."""
  names = right_samples.models(workdir)
  task = tasks.load(config.task, config.data)
  try:
    problems = {
      p.id: p for _, p in base.select(task, config.split, validation_size=0)
    }
  finally:
    task.close()
  pools = [Pool(workdir, name, problems) for name in names]
  pools = [pool for pool in pools if pool.levels]
  if not pools:
    raise errors.InputError(
      f'workdir: wanted right samples in {workdir}; there are none of '
      f'{", ".join(names)}.'
    )
  return pools


def _given(workdir: str, pool: Pool) -> dict[str, tuple[str, str]]:
  """Returns digest -> (verdict, note) that a model's CSV has already."""
  path = audits.path_of(workdir, pool.model, 'csv')
  if not storage.exists(path):
    return {}
  rows = audits.parse(storage.read_bytes(path), path)
  # Rows that nobody filled need not be those of this run.
  rows = [row for row in rows if row.verdict or row.note]
  audits.check(rows, pool.items(digests={row.digest for row in rows}), path)
  return {row.digest: (row.verdict, row.note) for row in rows}


def _filled(
  read: str, pools: Sequence[Pool]
) -> dict[str, dict[audits.Key, records.Judgement | None]]:
  """Returns what files say by model and sample; None where they say nothing.

  Raises:
    InputError: for a bad row, and where two files differ on a sample.
  """
  paths = [read]
  if storage.is_folder(read):
    names = [n for n in storage.names(read) if n.lower().endswith('.csv')]
    paths = [storage.join(read, name) for name in names]
    if not paths:
      raise errors.InputError(f'read: wanted CSV files in {read}; got none.')
  tables = {
    path: audits.parse(storage.read_bytes(path), path) for path in paths
  }
  wanted = {row.digest for rows in tables.values() for row in rows}
  of_model = {pool.model: pool.items(digests=wanted) for pool in pools}
  items = {d: item for found in of_model.values() for d, item in found.items()}
  said: dict[str, tuple[str, audits.Row]] = {}
  for path, rows in tables.items():
    audits.check(rows, items, path)
    for row in rows:
      before = said.get(row.digest)
      if before and before[1].verdict and row.verdict:
        if before[1].verdict != row.verdict:
          raise errors.InputError(
            f'{path}: row {row.number}: wanted one verdict a sample; got '
            f'{row.verdict!r} here and {before[1].verdict!r} in row '
            f'{before[1].number} of {before[0]}.'
          )
      elif before is None or row.verdict:
        said[row.digest] = (path, row)
  if not any(row.verdict for _, row in said.values()):
    raise errors.InputError(
      f'{read}: wanted rows with a verdict ({", ".join(audits.VERDICTS)}); '
      'there are none.'
    )
  return {
    model: {
      item.key: _judgement(item, said[digest][1])
      for digest, item in found.items()
    }
    for model, found in of_model.items()
  }


def _judgement(item: audits.Item, row: audits.Row) -> records.Judgement | None:
  if not row.verdict:
    return None
  sound = audits.VERDICTS[row.verdict]
  why = row.note.strip()
  if sound is None:
    why = f'unsure: {why}' if why else 'unsure'
  return records.Judgement(
    problem_id=item.problem_id, index=item.index, sound=sound, why=why
  )


def _lines(rows: Mapping[audits.Key, records.Judgement]) -> str:
  return ''.join(rows[key].to_json() + '\n' for key in sorted(rows))
