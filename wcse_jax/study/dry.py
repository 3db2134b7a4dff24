"""A study before it is run: stages, cost, time, and what it could find."""

import dataclasses
import os
from collections.abc import Iterator, Sequence
from typing import Any

from wcse_jax import checkpoints, errors, prices
from wcse_jax.estimates import figures, here, jobs, shares, tpu
from wcse_jax.sampler import inputs, shapes
from wcse_jax.sft import settings as sft_settings
from wcse_jax.study import design, powers, settings


# Characters of a token, where no tokenizer is at hand.
_CHARACTERS = 4
# Prompts that are counted.
_COUNTED = 200


@dataclasses.dataclass(frozen=True)
class Lengths:
  """Tokens of a model's prompts: shared by all, behind that, of the longest."""

  shared: int
  own: float
  longest: int


def foretell(
  study: design.Study,
  *,
  topologies: Sequence[str] = (),
  replicas: int = 1,
  share: float = 1.0,
) -> dict[str, Any]:
  """Returns what a study would cost and could find, ready for JSON.

  Args:
    study: made with `dry`.
    topologies: TPU slices, of which each stage takes the first that it fits;
      none: this machine.
    replicas: identical slices that share the work.
    share: of a compiled program's speed that is reached.
  """
  found = [
    tpu.on_first(job, topologies, replicas=replicas, share=share)
    if topologies
    else here.on_machine(job, workdir=study.workdir)
    for job in work(study)
  ]
  return {
    **figures.report(found),
    'text': figures.text(found),
    'served': [
      _served(study, name)
      for name in study.sources()
      if study.models[name] is None
    ],
    'students': powers.expected(study),
    'data': powers.of_data(study),
    'underpowered': powers.underpowered(study),
  }


def text(found: dict[str, Any]) -> str:
  """Returns it as text."""
  data = found['data']
  lines = [found['text'], '']
  for row in found['served']:
    price = 'at an unknown price'
    if row['usd'] is not None:
      price = f'about ${row["usd"]:,.2f}'
    lines.append(
      f'sample {row["name"]}: {row["samples"]:,} samples of {row["model"]} '
      f'behind a server, {price}, not in the total.'
    )
  if data['detectable'] is not None:
    lines.append(
      'Smallest difference found in four studies of five: gap in coverage '
      f'{_points(data["detectable"])} ({data["problems"]} problems).'
    )
  lines += [
    f'  {row["setup"]}, {row["test"]}: {_points(row["detectable"])} '
    f'({row["replicates"]} replicates, {row["problems"]} problems)'
    + (' - underpowered' if row['underpowered'] else '')
    for row in found['students']
  ]
  if found['underpowered']:
    lines.append(found['underpowered'])
  return '\n'.join(lines)


def _points(share: float | None) -> str:
  return 'none can be told' if share is None else f'{100 * share:.1f} points'


def _served(study: design.Study, name: str) -> dict[str, Any]:
  """Returns what the samples of a model behind a server would cost.

  Its tokens are counted by characters; each request reads the whole prompt.
  """
  lengths = _lengths(study, name)
  samples = len(study.problems) * study.drawn(name)
  model = study.config.models[name].model
  return {
    'name': name,
    'model': model,
    'samples': samples,
    'usd': prices.usd_of_tokens(
      model,
      round(samples * (lengths.shared + lengths.own)),
      round(samples * _output(study.config)),
    ),
  }


def work(study: design.Study) -> Iterator[jobs.Job]:
  """Yields the jobs of a study, in order."""
  names = study.sources()
  local = [name for name in names if study.models[name] is not None]
  lengths = {name: _lengths(study, name) for name in local}
  for name in local:
    yield _sampling(
      study, f'sample {name}', name, study.drawn(name), lengths[name]
    )
  for name in names:
    yield jobs.Grading(
      stage=f'grade {name}',
      name=study.config.task,
      samples=len(study.problems) * study.drawn(name),
      cpu_seconds=shares.grading(study.config.task),
      cores=os.cpu_count() or 1,
    )
  if study.config.pilot_problems:
    count = study.config.budgets[study.config.largest]
    arms = map(study.config.arms.get, study.used_arms())
    times = study.config.replicates if any(arm.plan for arm in arms) else 1
    yield _sampling(
      study, 'follow the plan', 'se', count * times, lengths['se']
    )
  asked: dict[str, Lengths] = {}
  for setup in study.setups().values():
    if setup.model not in asked:
      asked[setup.model] = _lengths(study, setup.model, shots=0)
      few = _lengths(study, setup.model)
      yield _evaluation(study, f'untuned {setup.model}', setup.model, 1, few)
  for name, setup in study.setups().items():
    yield from _training(study, name, asked[setup.model])
    count = _students(study, name)
    yield _evaluation(
      study,
      f'evaluate {name}',
      setup.model,
      count,
      asked[setup.model],
      checks=_rates(study, name) * _sft(study, name).checkpoints * count,
    )


def _sampling(
  study: design.Study, stage: str, name: str, each: int, lengths: Lengths
) -> jobs.Sampling:
  c, problems = study.config, len(study.problems)
  return jobs.Sampling(
    stage=stage,
    prompts=problems,
    samples=problems * each,
    prompt_tokens=lengths.shared + lengths.own,
    shared_prompt_tokens=lengths.shared,
    longest_prompt=lengths.longest,
    slots=c.sampler.slots,
    prefill_batch=c.sampler.prefill_batch,
    mesh=c.mesh,
    **_common(study, name),
  )


def _common(study: design.Study, name: str) -> dict[str, Any]:
  c = study.config
  model, sampler = c.models[name], study.sampling(name).sampler
  return {
    'name': model.architecture or study.stem(name),
    'model': study.models[name],
    'output_tokens': _output(c),
    'spread': c.expected.spread,
    'max_new_tokens': sampler.max_new_tokens,
    'draws': (
      sampler.temperature,
      sampler.top_k,
      sampler.top_p,
      sampler.min_p,
    ),
    'dtype': c.dtype,
    'keys': (study.stem(name),),
  }


def _output(c: settings.StudyConfig) -> float:
  return c.expected.output_tokens or c.sampler.max_new_tokens / 2


def _evaluation(
  study: design.Study,
  stage: str,
  name: str,
  models: int,
  lengths: Lengths,
  *,
  checks: int = 0,
) -> jobs.Sampling:
  """Returns the evaluations of some models on all test sets.

  Args:
    study: the study.
    stage: what it is called.
    name: of the model.
    models: how many of its kind.
    lengths: of its prompts.
    checks: checkpoints that validation asks, of all of them.
  """
  c = study.config
  sets = [len(study.chosen(test)) for test in study.tests().values()]
  votes = max(c.majority, default=0)
  # pass@1 is greedy, or by some of the samples that vote.
  asked = max(votes, c.pass_samples) + (0 if c.pass_samples else 1)
  turns = bool(votes or c.pass_samples) + (0 if c.pass_samples else 1)
  return jobs.Sampling(
    stage=stage,
    prompts=checks * c.validation_problems + turns * models * sum(sets),
    samples=checks * c.validation_problems + models * asked * sum(sets),
    block=0,
    rounds=checks + turns * models * len(sets),
    prompt_tokens=lengths.shared + lengths.own,
    shared_prompt_tokens=lengths.shared,
    longest_prompt=lengths.longest,
    slots=c.sampler.slots,
    prefill_batch=c.sampler.prefill_batch,
    mesh=c.mesh,
    **_common(study, name),
  )


def _sft(study: design.Study, setup: str) -> sft_settings.SftConfig:
  return study.config.setups[setup].sft or study.config.sft


def _rates(study: design.Study, setup: str) -> int:
  return max(1, len(_sft(study, setup).learning_rates))


def _students(study: design.Study, setup: str) -> int:
  return sum(run.setup == setup for run in study.runs())


def _training(
  study: design.Study, setup: str, lengths: Lengths
) -> Iterator[jobs.Training]:
  """Yields the training of a setup's students, those of a length together."""
  c, name = study.config, study.config.setups[setup].model
  sft = _sft(study, setup)
  groups: dict[int, int] = {}
  for run in study.runs():
    if run.setup == setup:
      sequences = 0 if sft.steps else _sequences(study, run)
      groups[sequences] = groups.get(sequences, 0) + 1
  output = _output(c)
  for number, (sequences, count) in enumerate(groups.items()):
    yield jobs.Training(
      stage=f'train {setup}' + (f' ({number + 1})' if number else ''),
      name=c.models[name].architecture or study.stem(name),
      model=study.models[name],
      sft=sft,
      tokens_per_sequence=min(
        sft.max_length, lengths.shared + lengths.own + output
      ),
      target_tokens=output,
      sequences=sequences,
      runs=count * _rates(study, setup),
      keys=tuple(run.key for run in study.runs() if run.setup == setup),
    )


def _sequences(study: design.Study, run: design.Run) -> int:
  """Returns the sequences of a run that is counted by epochs."""
  arm = study.config.arms[run.arm]
  each = 1.0
  if arm.plan:
    each = study.config.expected.right * study.count('wc', run.budget)
  elif not arm.human:
    parts = study.parts(run.arm, run.budget, run.replicate)
    each = study.config.expected.right * sum(len(pool) for _, pool in parts)
    rules = arm.selection or study.config.selection
    if rules.per_problem:
      each = min(each, rules.per_problem)
  rows = each * len(study.problems_of(run.arm))
  return max(1, round(rows * _sft(study, run.setup).epochs))


def _lengths(
  study: design.Study, name: str, *, shots: int | None = None
) -> Lengths:
  """Returns the lengths of the prompts of a model."""
  asked = study.sampling(name)
  if shots is not None:
    asked = dataclasses.replace(asked, shots=shots)
  work = inputs.prepare(asked)
  texts = list(work.prompts.values())[:: max(1, len(work.prompts) // _COUNTED)]
  tokenizer = _tokenizer(study, name)
  if tokenizer is None:
    ids = [
      [text[i : i + _CHARACTERS] for i in range(0, len(text), _CHARACTERS)]
      for text in texts
    ]
  else:
    ids = tokenizer.prompts(texts)
  shared = len(shapes.Shape.of(ids).prefix)
  own = sum(map(len, ids)) / len(ids) - shared
  if study.config.expected.prompt_tokens:
    own = study.config.expected.prompt_tokens
  longest = max(len(text) for text in work.prompts.values())
  most = max(map(len, texts))
  return Lengths(shared, max(1.0, own), max(map(len, ids)) * longest // most)


def _tokenizer(study: design.Study, name: str):
  """Returns a model's tokenizer; None where it is not at hand."""
  model = study.config.models[name]
  while model.student is not None:
    setup = study.student_run(name).setup
    name = study.config.setups[setup].model
    model = study.config.models[name]
  path = model.checkpoint
  if model.architecture or model.server:
    path = study.config.expected.tokenizer
  if not path:
    return None
  try:
    return checkpoints.read_tokenizer(path)
  except (errors.InputError, OSError):
    return None
