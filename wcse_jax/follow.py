"""Sampling that follows a plan: cascades, and problems that are left when
solved.

Problems are dealt out to the parts of the plan by level and by an order that
the seed fixes.  Models are asked one after another, as the plan's stages have
it, in rounds of all problems that are still worked on; each round is graded
before the next one.  So what is asked depends on the grades alone, which are
files: a run that was stopped goes on with the same rounds.

When the money of the plan is spent, what is left undone are the last rounds of
the last model.
"""

import collections
import contextlib
import dataclasses
import hashlib
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from wcse_jax import (
  checkpoints,
  errors,
  grade,
  processes,
  records,
  runlog,
  shardfiles,
  storage,
)
from wcse_jax.sampler import inputs, run


# Samples of a shard at most, and its problems.
_ROWS = 512


@dataclasses.dataclass(frozen=True)
class Round:
  """Some samples of one model, of problems of several parts.

  Attributes:
    model: its name in the plan.
    first_index: of the samples.
    last_index: of the samples, inclusive.
    until: right samples after which a problem is left alone; 0: never.
    positions: problems of the parts that have this round.
  """

  model: str
  first_index: int
  last_index: int
  until: int
  positions: tuple[int, ...]


class Plan:
  """A plan as it is followed.

  Attributes:
    models: name -> checkpoint, in the order in which they are asked.
    currency: of the money.
    money: a problem.
    sha256: of all that decides which samples are drawn.
  """

  def __init__(self, config: inputs.SampleConfig):
    """Reads `config.plan`.

    Raises:
      InputError: if it is no plan, or the checkpoint of a model is not known.
    """
    found = storage.read_json(config.plan)
    try:
      allocation = found['allocation']
      self._parts = allocation['parts']
      self.money = float(allocation['budget'])
      self.currency = found['currency']
      self._planned = bool(found.get('costs_given'))
      costs = {name: float(m['cost']) for name, m in found['models'].items()}
      self._drawing = {
        name: float(m.get('cost_of_drawing', m['cost']))
        for name, m in found['models'].items()
      }
      self._reading = {
        name: float(m.get('cost_of_reading', 0.0))
        for name, m in found['models'].items()
      }
      known = {name: m['checkpoint'] for name, m in found['models'].items()}
      order = sorted(
        costs, key=lambda name: (costs[name], list(costs).index(name))
      )
      asked = [[s['model'] for s in part['stages']] for part in self._parts]
      ranks = [[order.index(name) for name in names] for names in asked]
      _ = [
        (part['level'], part['share'], part['until']) for part in self._parts
      ]
    except (KeyError, TypeError, ValueError, AttributeError):
      raise errors.InputError(
        f'plan: {config.plan}: wanted a plan.json of launch/plan.py; got '
        'another file.'
      ) from None
    for names, rank in zip(asked, ranks, strict=True):
      if rank != sorted(set(rank)):
        raise errors.InputError(
          'plan: wanted stages of different models, the cheapest first; got '
          f'{", ".join(names)}.'
        )
    known |= _named(config.plan_models, known)
    used = {name for names in asked for name in names}
    self.models = {}
    for name in order:
      if name not in used:
        continue
      if not known[name]:
        raise errors.InputError(
          f'plan_models: wanted {name}=CHECKPOINT, which the plan does not '
          "say (a server's model cannot be asked by a plan); got nothing."
        )
      self.models[name] = known[name]
    stems = [inputs.model_name(one) for one in self.models.values()]
    if len(set(stems)) < len(stems):
      raise errors.InputError(
        'plan_models: wanted checkpoints of different names, under which '
        f'samples are kept; got {", ".join(stems)}.'
      )
    rules = [
      self._parts,
      self.money,
      self.currency,
      self._planned,
      self._drawing,
      self._reading,
      order,
    ]
    self.sha256 = hashlib.sha256(
      json.dumps(rules, sort_keys=True).encode()
    ).hexdigest()

  def price(self, name: str, samples: int) -> float:
    """Returns what a round of some samples of a problem was planned to cost."""
    return self._reading[name] + samples * self._drawing[name]

  def cost(
    self, name: str, spent: Mapping[str, float], problems: int, samples: int
  ) -> float:
    """Returns what a round has cost.

    Args:
      name: of the model.
      spent: the costs of its shards.
      problems: that it was of.
      samples: of each of them.
    """
    if not self._planned:
      match self.currency:
        case 'flops' | 'chip_seconds':
          return spent[self.currency]
        case 'tokens':
          return spent['decode_tokens']
    # At the price of the plan.
    return problems * self.price(name, samples)

  def rounds(
    self, problems: Sequence[tuple[int, records.Problem]], seed: int
  ) -> list[Round]:
    """Returns all rounds in the order to draw them.

    Args:
      problems: (position, problem) of the run.
      seed: which problems of a level are in which part of it.

    Raises:
      InputError: if the plan says nothing of a level.
    """
    members = self._dealt(problems, seed)
    found: dict[tuple[int, str, int, int, int], list[int]] = {}
    for part, positions in zip(self._parts, members, strict=True):
      drawn: collections.Counter[str] = collections.Counter()
      for stage in part['stages']:
        name, left = stage['model'], stage['samples']
        while left:
          size = min(stage['round'], left)
          first = drawn[name]
          drawn[name] += size
          left -= size
          key = (
            list(self.models).index(name),
            name,
            first,
            first + size - 1,
            part['until'],
          )
          found.setdefault(key, []).extend(positions)
    return [
      Round(name, first, last, until, tuple(sorted(positions)))
      for (_, name, first, last, until), positions in sorted(found.items())
      if positions
    ]

  def _dealt(self, problems, seed: int) -> list[list[int]]:
    """Returns the positions of the problems of each part."""
    groups: dict[str, list[int]] = {}
    levels = {
      level: part['level']
      for part in self._parts
      for level in part['level'].split(',')
    }
    for position, problem in problems:
      own = '' if set(levels) == {''} else problem.level
      name = levels.get(own)
      if name is None:
        raise errors.InputError(
          f'plan: wanted problems of the levels {", ".join(sorted(levels))}; '
          f'problem {problem.id} is of level {problem.level!r}.'
        )
      groups.setdefault(name, []).append(position)
    members: list[list[int]] = [[] for _ in self._parts]
    ids = dict(problems)
    for name, positions in groups.items():
      order = sorted(
        positions,
        key=lambda p: hashlib.sha256(f'{seed} {ids[p].id}'.encode()).digest(),
      )
      at = total = 0.0
      for number, part in enumerate(self._parts):
        if part['level'] == name:
          total += part['share']
          last = min(len(order), round(total * len(order)))
          members[number] = order[int(at) : last]
          at = last
    return members


def follow(config: inputs.SampleConfig, workdir: str) -> dict[str, Any]:
  """Draws and grades what the plan says; returns what came of it.

  Samples go to `workdir/samples/`, grades to `workdir/grades/`, the outcome to
  `workdir/followed.json`: `problems`, `solved`, `coverage`, `samples` and
  `right` of each model, `cost` in the plan's currency and `budget` for all
  problems.

  Raises:
    InputError: as `Plan` and `sampler.run.sample`, or if the folder holds
      samples of another plan.
  """
  config.validate()
  if config.cap:
    raise errors.InputError(
      f'cap: wanted 0 beside a plan, which has a budget; got {config.cap:g}.'
    )
  plan = Plan(config)
  for checkpoint in plan.models.values():
    checkpoints.read_config(checkpoint)
  work = inputs.prepare(config)
  rounds = plan.rounds(work.chosen, config.seed)
  holds = contextlib.nullcontext()
  if processes.first():
    holds = runlog.writing(workdir, dataclasses.asdict(config))
  with processes.failing(), contextlib.closing(work.task), holds:
    following = _Following(config, workdir, plan, work)
    for one in rounds:
      if not following.draw(one):
        break
    result = following.outcome()
    if processes.first():
      storage.publish_json(storage.join(workdir, 'followed.json'), result)
  return result


class _Following:
  """Where a plan stands.

  What a round does follows from the rounds before it alone, also where the
  folder holds later ones already.
  """

  def __init__(self, config, workdir: str, plan: Plan, work: inputs.Work):
    self._config, self._workdir = config, workdir
    self._plan, self._work = plan, work
    self._ids = {position: p.id for position, p in work.chosen}
    self._problems = {p.id: p for _, p in work.chosen}
    # Of each model that was asked: problem -> indices of its right samples.
    self._right: dict[str, dict[str, list[int]]] = {}
    self._counts = dict.fromkeys(plan.models, 0)
    self._spent = dict.fromkeys(plan.models, 0.0)
    # What the same rounds were planned to cost.
    self._planned = dict.fromkeys(plan.models, 0.0)
    self._extra = {
      'plan': plan.sha256,
      'planned_problems': records.digest(self._problems.values()),
    }
    self._held: dict[str, Any] = {}
    self._model = ''
    self._money = plan.money * len(work.chosen)

  def draw(self, one: Round) -> bool:
    """Draws and grades a round; returns whether there was money for it."""
    open_ = [
      position
      for position in one.positions
      if not one.until or self._found(position, one) < one.until
    ]
    if not open_:
      return True
    left = self._money - sum(self._spent.values())
    # The last round takes as many problems as are paid for.
    paid = max(0, int(left / self._price(one) * (1 + 1e-9)))
    whole = paid >= len(open_)
    open_ = open_[:paid]
    if open_:
      self._sample(one, open_)
    return whole

  def _price(self, one: Round) -> float:
    """Returns the price of a round for a problem: as planned, and as it was."""
    planned, spent = self._planned[one.model], self._spent[one.model]
    size = one.last_index - one.first_index + 1
    scale = spent / planned if planned and spent else 1.0
    return self._plan.price(one.model, size) * scale

  def _found(self, position: int, one: Round) -> int:
    """Returns how many right samples a problem had before a round."""
    key = self._ids[position]
    found = 0
    for name, right in self._right.items():
      for index in right.get(key, ()):
        found += name != one.model or index < one.first_index
    return found

  def _sample(self, one: Round, positions: Sequence[int]) -> None:
    """Draws what is missing of a round, grades it, and counts."""
    if one.model != self._model:
      self._held, self._model = {}, one.model
    config = dataclasses.replace(
      self._config,
      checkpoint=self._plan.models[one.model],
      name='',
      plan='',
      plan_models=(),
      cap=0.0,
    )
    shards = list(_shards(one, positions))
    run.sample_cells(config, self._workdir, shards, self._held, self._extra)
    told = None
    if processes.first():
      samples, grades = grade.grade_missing(
        self._work.task,
        self._problems,
        self._workdir,
        config.stem,
      )
      right: dict[str, list[int]] = {}
      for row in grades.rows(records.Grade):
        if row.correct:
          right.setdefault(row.problem_id, []).append(row.index)
      told = [right, samples.cost(shard for shard, _ in shards)]
      runlog.merge_ledger(self._workdir)
    right, cost = json.loads(
      processes.tell(
        f'follow-{one.model}-{one.first_index}-{one.last_index}-{one.until}',
        json.dumps(told),
      )
    )
    size, asked = one.last_index - one.first_index + 1, len(positions)
    self._right[one.model] = right
    self._counts[one.model] += asked * size
    self._spent[one.model] += self._plan.cost(one.model, cost, asked, size)
    self._planned[one.model] += asked * self._plan.price(one.model, size)
    if processes.first():
      solved = sum(
        any(key in one for one in self._right.values())
        for key in self._problems
      )
      print(
        f'round: {one.model} samples {one.first_index} to {one.last_index} of '
        f'{len(positions)} problems; {solved} of {len(self._ids)} solved, '
        f'{sum(self._spent.values()) / self._money:.0%} of the budget spent',
        file=sys.stderr,
      )

  def outcome(self) -> dict[str, Any]:
    """Returns what `followed.json` holds."""
    solved = sum(
      any(key in one for one in self._right.values()) for key in self._problems
    )
    return {
      'problems': len(self._problems),
      'solved': solved,
      'coverage': solved / len(self._problems) if self._problems else None,
      'samples': self._counts,
      'right': {
        name: sum(map(len, right.values()))
        for name, right in self._right.items()
      },
      'currency': self._plan.currency,
      'cost': sum(self._spent.values()),
      'budget': self._money,
      'plan': self._plan.sha256,
    }


def _shards(
  one: Round, positions: Sequence[int]
) -> Iterator[tuple[shardfiles.Shard, Sequence[int]]]:
  """Yields the shards of a round, and the positions that each is of."""
  size = one.last_index - one.first_index + 1
  most = max(1, min(shardfiles.BLOCK_PROBLEMS, _ROWS // size))
  for start in range(0, len(positions), most):
    part = positions[start : start + most]
    yield (
      shardfiles.Shard(part[0], part[-1], one.first_index, one.last_index),
      part,
    )


def _named(given: Sequence[str], known: Mapping[str, str]) -> dict[str, str]:
  found = {}
  for one in given:
    name, _, checkpoint = one.partition('=')
    if name not in known or not checkpoint:
      raise errors.InputError(
        f'plan_models: wanted NAME=CHECKPOINT with a name among '
        f'{", ".join(known)}; got {one!r}.'
      )
    found[name] = checkpoint
  return found
