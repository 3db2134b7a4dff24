"""pass@1 and maj@k of one model on one task."""

import collections
import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from wcse_jax import (
  checkpoints,
  errors,
  machine,
  records,
  runlog,
  sharding,
  storage,
)
from wcse_jax.metrics import intervals
from wcse_jax.sampler import engine, inputs, settings, shapes
from wcse_jax.tasks import parallel


@dataclasses.dataclass(kw_only=True)
class EvaluateConfig:
  """An evaluation.

  Attributes:
    checkpoint: whatever `checkpoints.load` takes.
    task: one of `tasks.TASKS`.
    data: as in `sampler.run.SampleConfig`.
    bad_rows: as there.
    split: one of the task's splits, or `validation`.
    limit: problems, from the start of the split; 0 for all.
    shots: worked examples before the question: 0 for a tuned model, which is
      asked in the format of its training.
    prompts: JSONL of those; empty for the task's own.
    chat: as in `sampler.run.SampleConfig`.
    pass_samples: pass@1 is the mean of so many samples; 0: it is greedy.
    majority: the k of maj@k; empty for none.
    temperature: of the samples that vote, and of those of pass@1.
    validation_size: training problems that are held out of `train`.
    seed: of the draws.
    dtype: `float32` or `bfloat16`.
    weights: `int8` holds the weights in int8; empty: as `dtype`.
    mesh: as `sharding.make_mesh` reads it.
    sampler: how tokens are drawn; its temperature is not used.
  """

  checkpoint: str = 'tiny-student'
  task: str = 'arith'
  data: str = ''
  bad_rows: str = 'refuse'
  split: str = 'test'
  limit: int = 0
  shots: int = 0
  prompts: str = ''
  chat: str = ''
  pass_samples: int = 0
  majority: tuple[int, ...] = (4,)
  temperature: float = 0.7
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
    if self.pass_samples < 0:
      raise errors.InputError(
        f'pass_samples: wanted a count >= 0; got {self.pass_samples}.'
      )
    if any(not isinstance(k, int) or k < 1 for k in self.majority):
      raise errors.InputError(
        f'majority: wanted counts >= 1; got {self.majority}.'
      )
    if not self.temperature > 0:
      raise errors.InputError(
        f'temperature: wanted a number > 0; got {self.temperature}.'
      )
    self._sampling(1, self.temperature).validate()

  def _sampling(self, samples: int, temperature: float):
    shared = {
      field.name: getattr(self, field.name)
      for field in dataclasses.fields(inputs.SampleConfig)
      if hasattr(self, field.name)
    }
    shared['samples_per_problem'] = samples
    shared['sampler'] = dataclasses.replace(
      self.sampler, temperature=temperature
    )
    return inputs.SampleConfig(**shared)

  def greedy(self) -> inputs.SampleConfig:
    """Returns the run whose samples give pass@1."""
    return self._sampling(1, 0.0)

  def voting(self, samples: int) -> inputs.SampleConfig:
    """Returns the run whose samples vote."""
    return self._sampling(samples, self.temperature)


class Evaluator:
  """Draws and grades the answers of any number of models on fixed problems."""

  def __init__(self, config: EvaluateConfig):
    config.validate()
    self._config = config
    self._work = inputs.prepare(config.greedy())
    self.reset()

  def reset(self) -> None:
    """Sets the costs to nothing."""
    self.flops = 0
    self.prefill_tokens = 0
    self.decode_tokens = 0
    self.chip_seconds = 0.0

  @property
  def problems(self) -> list[records.Problem]:
    return [problem for _, problem in self._work.chosen]

  def prompts(self, chat: bool) -> list[str]:
    """Returns what each problem is asked by, before any chat template."""
    work = self._work
    if chat:
      return [work.task.ask(problem.question) for _, problem in work.chosen]
    return [work.prompts[position] for position, _ in work.chosen]

  def accuracy(self, model, tokenizer) -> float:
    """Returns greedy pass@1."""
    return sum(self.greedy(model, tokenizer)) / len(self._work.chosen)

  def greedy(self, model, tokenizer) -> list[bool]:
    """Returns whether the greedy answer of each problem is right."""
    grades = self._grades(model, tokenizer, self._config.greedy())
    return [bool(row[0].correct) for row in grades]

  def samples(self, model, tokenizer) -> list[list[records.Grade]]:
    """Returns the grade of one drawn sample of each problem."""
    config = self._config.voting(1)
    return self._grades(model, tokenizer, config)

  def scores(self, model, tokenizer) -> dict[str, list[float]]:
    """Returns what each problem scores in pass@1 and each maj@k, 0 to 1.

    The samples of pass@1 are the first of those that vote.
    """
    mean, ks = self._config.pass_samples, self._config.majority
    most = max(ks, default=0)
    found, grades = {}, []
    if most or mean:
      config = self._config.voting(max(most, mean))
      grades = self._grades(model, tokenizer, config)
    found['pass@1'] = (
      [sum(bool(g.correct) for g in row[:mean]) / mean for row in grades]
      if mean
      else self.greedy(model, tokenizer)
    )
    ballot = self._work.task.ballot
    for k in ks:
      found[f'maj@{k}'] = [vote(row[:k], ballot) for row in grades]
    return {name: list(map(float, rows)) for name, rows in found.items()}

  def _grades(self, model, tokenizer, config) -> list[list[records.Grade]]:
    """Returns the grades of each problem, by sample index."""
    work = self._work
    ids = inputs.prompt_ids(work, tokenizer, config.chat)
    sampler = engine.Sampler(
      model,
      tokenizer,
      config.sampler,
      seed=config.seed,
      stop=inputs.stop_strings(work.task, tokenizer, config.chat),
      shape=shapes.Shape.of(ids.values()),
    )
    requests = [
      settings.Request(problem.id, index, ids[position])
      for position, problem in work.chosen
      for index in range(config.samples_per_problem)
    ]
    problems = {problem.id: problem for _, problem in work.chosen}
    rows = list(sampler.generate(requests))
    found: dict[str, dict[int, records.Grade]] = collections.defaultdict(dict)
    for grade in parallel.grade_many(
      work.task, ((problems[r.problem_id], r.index, r.text) for r in rows)
    ):
      found[grade.problem_id][grade.index] = grade
    shared = inputs.prefix(model.config, rows[0])
    self.flops += inputs.flops(model.config, rows) + shared['flops']
    counts = inputs.tokens(rows)
    self.prefill_tokens += counts['prefill_tokens'] + shared['prefill_tokens']
    self.decode_tokens += counts['decode_tokens']
    self.chip_seconds += sampler.device_seconds * (
      model.mesh.size if model.mesh is not None else 1
    )
    return [
      [found[problem.id][i] for i in range(config.samples_per_problem)]
      for _, problem in work.chosen
    ]


def vote(
  grades: Sequence[records.Grade], ballot: Callable[[str], str] = str
) -> bool:
  """Returns whether the most frequent answer is right.

  Samples without an answer do not vote; of equal counts the answer that came
  first wins.

  Args:
    grades: of the samples of one problem.
    ballot: answer -> what it is as a vote.
  """
  votes = [
    (ballot(grade.answer), grade.correct)
    for grade in grades
    if grade.answer is not None
  ]
  if not votes:
    return False
  winner = collections.Counter(v for v, _ in votes).most_common(1)[0][0]
  return any(correct for v, correct in votes if v == winner)


def evaluate(config: EvaluateConfig, workdir: str) -> dict[str, Any]:
  """Evaluates one checkpoint; returns what `workdir/evaluation.json` holds."""
  evaluator = Evaluator(config)
  mesh = sharding.make_mesh(config.mesh)
  model, tokenizer = checkpoints.load(
    config.checkpoint, dtype=config.dtype, mesh=mesh, weights=config.weights
  )
  devices = [str(device) for device in mesh.devices.flat]
  with runlog.writing(workdir, dataclasses.asdict(config), devices=devices):
    result = score(evaluator, model, tokenizer)
    name = inputs.model_name(config.checkpoint)
    row = ledger_row(evaluator, name, mesh.size)
    runlog.book(workdir, f'evaluate-{name}', row)
    runlog.merge_ledger(workdir)
    storage.publish_json(storage.join(workdir, 'evaluation.json'), result)
  return result


def score(evaluator: Evaluator, model, tokenizer) -> dict[str, Any]:
  """Returns the accuracies of a model with intervals over problems.

  `right` holds what each problem scores in `pass@1` and each `maj@k`: 1 or 0,
  or where pass@1 is a mean a share.
  """
  right = evaluator.scores(model, tokenizer)
  return {
    **{name: intervals.mean(rows) for name, rows in right.items()},
    'problem_ids': [problem.id for problem in evaluator.problems],
    'right': {
      name: [int(r) if r in (0, 1) else r for r in rows]
      for name, rows in right.items()
    },
  }


def ledger_row(evaluator: Evaluator, name: str, chips: int) -> dict[str, Any]:
  """Returns the ledger row of all that an evaluator did."""
  return {
    'stage': 'evaluate',
    'model': name,
    'chips': chips,
    'chip_seconds': evaluator.chip_seconds,
    'prefill_tokens': evaluator.prefill_tokens,
    'decode_tokens': evaluator.decode_tokens,
    'flops': evaluator.flops,
    'usd': machine.usd(evaluator.chip_seconds),
  }
