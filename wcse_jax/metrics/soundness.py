"""Measures the equation checker against people: a table on standard output.

python -m wcse_jax.metrics.soundness --data=processbench.jsonl

Rows are `{"steps", "label", "final_answer_correct"}` and maybe `set`: the
steps of a solution and the position of the first one that people found wrong,
-1 where all are right.

Source: ProcessBench, Zheng et al. 2024, arXiv:2412.06559.
"""

import argparse
import dataclasses
import random
import sys
from collections.abc import Sequence
from typing import Any

from wcse_jax import errors, records, storage
from wcse_jax.grading import equations, numeric
from wcse_jax.metrics import intervals, ppi


@dataclasses.dataclass(frozen=True)
class Case:
  """A solution, judged by the checker and by people.

  Attributes:
    right: whether its final answer is right.
    judged: the checker's verdict.
    human: whether people found every step right.
  """

  right: bool
  judged: bool | None
  human: bool


def read(path: str, subset: str = '') -> list[Case]:
  """Returns the cases of a JSONL file, those of `set` = `subset` if given."""
  found = []
  for number, line in enumerate(storage.read_text(path).split('\n'), 1):
    if not line.strip():
      continue
    where = f'{path}: row {number}'
    row = records.parse_object(line, where)
    if subset and row.get('set') != subset:
      continue
    steps, label = row.get('steps'), row.get('label')
    right = row.get('final_answer_correct')
    if (
      not isinstance(steps, list)
      or not all(isinstance(step, str) for step in steps)
      or type(label) is not int
      or type(right) is not bool
    ):
      raise errors.InputError(
        f'{where}: wanted "steps" (texts), "label" (an integer) and '
        '"final_answer_correct" (true or false).'
      )
    text = '\n'.join(steps)
    judged, _, _ = equations.check(text, numeric.extract(text) or '')
    found.append(Case(right, judged, label == -1))
  if not found:
    raise errors.InputError(f'{path}: wanted rows; there are none.')
  return found


def table(cases: Sequence[Case], audit: int, repeats: int) -> dict[str, Any]:
  """Returns the figures by name; an Estimate each, or a number.

  Precision and recall are those of the verdict "unsound".

  Args:
    cases: solutions.
    audit: human labels of the audit, of right answers.
    repeats: audits drawn, each at random.
  """
  right = [case for case in cases if case.right]
  found: dict[str, Any] = {}
  for name, rows in (
    ('right answers', right),
    ('wrong answers', [case for case in cases if not case.right]),
  ):
    if not rows:
      continue
    flagged = [case.judged is False for case in rows]
    unsound = [not case.human for case in rows]
    both = [a and b for a, b in zip(flagged, unsound)]
    judged = [case.judged is not None for case in rows]
    found[f'{name}: could be judged'] = intervals.mean(judged)
    found[f'{name}: unsound by people'] = intervals.mean(unsound)
    found[f'{name}: unsound by the checker'] = intervals.mean(flagged)
    found[f'{name}: precision'] = intervals.ratio(both, flagged, share=True)
    found[f'{name}: recall'] = intervals.ratio(both, unsound, share=True)
  if right and audit < len(right):
    found |= _audits(right, audit, repeats)
  return found


def _audits(right: Sequence[Case], audit: int, repeats: int) -> dict[str, Any]:
  judged = [case.judged is False for case in right]
  human = [not case.human for case in right]
  truth = sum(human) / len(human)
  values, widths, alone, held = [], [], [], 0
  for seed in range(repeats):
    chosen = set(random.Random(seed).sample(range(len(right)), audit))
    labels = [h if i in chosen else None for i, h in enumerate(human)]
    one = ppi.rate(judged, labels)
    values.append(one['value'])
    widths.append(one['high'] - one['low'])
    only = ppi.rate(judged, labels, trust=0)
    alone.append(only['high'] - only['low'])
    held += one['low'] <= truth <= one['high']
  return {
    f'corrected rate, {audit} audited, seed 0': _first(judged, human, audit),
    f'corrected rate, mean of {repeats} audits': sum(values) / repeats,
    'intervals that hold the human rate': held / repeats,
    'width of the interval': sum(widths) / repeats,
    'width from the audit alone': sum(alone) / repeats,
  }


def _first(
  judged: Sequence[bool], human: Sequence[bool], audit: int
) -> dict[str, Any]:
  """Returns the corrected rate of the first audit."""
  chosen = set(random.Random(0).sample(range(len(judged)), audit))
  return ppi.rate(
    judged, [h if i in chosen else None for i, h in enumerate(human)]
  )


def shown(value: Any) -> str:
  """Returns a figure for the terminal."""
  if not isinstance(value, dict):
    return f'{value:.3f}'
  if value['value'] is None:
    return f'unknown, n = {value["n"]}'
  if value['low'] is None:
    return f'{value["value"]:.3f}, n = {value["n"]}'
  return (
    f'{value["value"]:.3f} ({value["low"]:.3f} to {value["high"]:.3f}), '
    f'n = {value["n"]}'
  )


def main() -> int:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--data', required=True, help='labelled solutions, JSONL')
  parser.add_argument('--set', default='gsm8k', help='rows of it; empty: all')
  parser.add_argument('--audit', type=int, default=100, help='human labels')
  parser.add_argument('--repeats', type=int, default=1000, help='audits drawn')
  args = parser.parse_args()
  try:
    found = table(read(args.data, args.set), args.audit, args.repeats)
  except errors.InputError as error:
    print(error, file=sys.stderr)
    return 2
  for name, value in found.items():
    print(f'{name:<44}{shown(value)}')
  return 0


if __name__ == '__main__':
  sys.exit(main())
