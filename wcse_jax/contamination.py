"""Which test problems are found among the training problems.

Questions are compared by the n-grams of their words: stretches of letters and
digits in lower case, signs left out.

  python -m wcse_jax.contamination --train=train.jsonl --test=test.jsonl

A test problem is a *13-gram match* where 13 words in a row stand in a training
problem, too (all its words, if it has fewer: then only a training problem of
just these words matches).  Templates make such matches of problems that are not
the same, so its *share* is given besides: of its different 8-grams, how many
the best matching single training problem has.  Near 1 it is the same problem,
or the same with another question at its end.

Source: Brown et al. 2020, arXiv:2005.14165, appendix C (n-grams of 8 to 13
words without signs and case; any match counts).  The share is this project's.
"""

import argparse
import collections
import dataclasses
import json
import re
import sys
from collections.abc import Iterable, Sequence
from typing import Any

from wcse_jax import errors, records, storage
from wcse_jax.tasks import rows


LONG = 13
SHORT = 8
# Shares that the summary counts from.
SHARES = (0.25, 0.5, 0.75, 1.0)
_WORD = re.compile(r'[^\W_]+')


@dataclasses.dataclass(frozen=True)
class Match:
  """The best match of a test problem.

  Attributes:
    id: the test problem.
    train_id: the training problem that has most of its 8-grams; None where none
      has any n-gram of it.
    share: share of the test problem's 8-grams that it has; 0 for a problem of
      fewer than 8 words that matches nothing, 1 if it matches.
    long: whether any training problem has a 13-gram of it.
    equal: whether a training problem has all its words in order, and no other.
  """

  id: str
  train_id: str | None
  share: float
  long: bool
  equal: bool


@dataclasses.dataclass(frozen=True)
class Overlap:
  """What two sets of problems have in common.

  Attributes:
    matches: one a test problem, in order.
    shares: training problem -> the largest share of a test problem's 8-grams
      that it has; those without any are left out.
    train: how many training problems there are.
  """

  matches: tuple[Match, ...]
  shares: dict[str, float]
  train: int

  def summary(self) -> dict[str, Any]:
    """Returns the counts, ready for JSON."""
    return {
      'train': self.train,
      'test': len(self.matches),
      'equal': sum(one.equal for one in self.matches),
      f'any_{LONG}_gram': sum(one.long for one in self.matches),
      f'share_of_{SHORT}_grams': [
        {
          'share': share,
          'test': sum(one.share >= share for one in self.matches),
          'train': sum(one >= share for one in self.shares.values()),
        }
        for share in SHARES
      ],
    }


def overlap(
  train: Iterable[records.Problem], test: Sequence[records.Problem]
) -> Overlap:
  """Returns the overlap, in time linear in the words and the matches.

  Only n-grams of the test problems are held, so the training problems may be
  many.
  """
  # n-gram -> the test problems that have it.
  longs: dict[str, list[int]] = {}
  shorts: dict[str, list[int]] = {}
  wholes: dict[str, list[int]] = {}
  sizes = []
  for at, problem in enumerate(test):
    found = words(problem.question)
    for index, size in ((longs, LONG), (shorts, SHORT)):
      for gram in grams(found, size):
        index.setdefault(gram, []).append(at)
    wholes.setdefault(' '.join(found), []).append(at)
    sizes.append(len(grams(found, SHORT)))
  best: list[tuple[float, str | None]] = [(0.0, None)] * len(test)
  long, equal = set(), set()
  shares: dict[str, float] = {}
  count = 0
  for problem in train:
    count += 1
    found = words(problem.question)
    common = collections.Counter(
      at for gram in grams(found, SHORT) for at in shorts.get(gram, ())
    )
    same = wholes.get(' '.join(found), ())
    equal.update(same)
    long.update(at for gram in grams(found, LONG) for at in longs.get(gram, ()))
    scores = {at: number / sizes[at] for at, number in common.items()}
    scores |= dict.fromkeys(same, 1.0)
    for at, score in scores.items():
      # Of equal scores the first training problem stays.
      if score > best[at][0]:
        best[at] = score, problem.id
    if scores:
      shares[problem.id] = max(scores.values())
  return Overlap(
    tuple(
      Match(
        problem.id,
        best[at][1],
        best[at][0],
        at in long or at in equal,
        at in equal,
      )
      for at, problem in enumerate(test)
    ),
    shares,
    count,
  )


def clean(
  train: Sequence[records.Problem], found: Overlap, share: float
) -> tuple[list[records.Problem], list[records.Problem]]:
  """Returns (kept, dropped) training problems.

  Args:
    train: the problems that `found` was made of.
    found: their overlap with the test problems.
    share: those are dropped that have at least this share of some test
      problem's 8-grams.

  Raises:
    InputError: if `share` is not above 0 and at most 1.
  """
  if not 0 < share <= 1:
    raise errors.InputError(
      f'share: wanted a number above 0 and at most 1; got {share}.'
    )
  kept, dropped = [], []
  for problem in train:
    far = found.shares.get(problem.id, 0.0) < share
    (kept if far else dropped).append(problem)
  return kept, dropped


def words(text: str) -> list[str]:
  """Returns the words of a text, in lower case and without signs."""
  return _WORD.findall(text.casefold())


def grams(found: Sequence[str], size: int) -> set[str]:
  """Returns the different stretches of `size` words."""
  return {
    ' '.join(found[at : at + size]) for at in range(len(found) - size + 1)
  }


def read(path: str) -> list[records.Problem]:
  """Returns the questions of a JSONL file.

  Rows have the text `question` (or `problem`); `id` is the row's number where
  it is not given.

  Raises:
    InputError: by row number.
  """
  report = rows.gather(
    path, rows.lines(path), _problem, lambda number, _: f'row {number}'
  )
  if not report.rows:
    raise errors.InputError(f'{path}: wanted rows of problems; it is empty.')
  report.check()
  return report.problems


def _problem(row: dict[str, Any], default_id: str) -> records.Problem:
  question = row.get('question', row.get('problem'))
  if not isinstance(question, str):
    raise errors.InputError(
      'wanted a text in field "question" or "problem"; got '
      f'{records.shorten(question)}.'
    )
  return records.Problem(
    id=str(row.get('id', default_id)), task='', question=question, answer=''
  )


def main(arguments: Sequence[str] | None = None) -> int:
  """Prints the overlap of two files; returns the exit status."""
  parser = argparse.ArgumentParser(prog='python -m wcse_jax.contamination')
  parser.add_argument('--train', required=True, help='JSONL of problems')
  parser.add_argument('--test', required=True, help='JSONL of problems')
  parser.add_argument(
    '--matches', default='', help='where to write the matches, as JSONL'
  )
  parser.add_argument(
    '--keep', default='', help='where to write the rows of --train to keep'
  )
  parser.add_argument(
    '--share', type=float, default=0.5, help='rows from this share on are not'
  )
  flags = parser.parse_args(arguments)
  try:
    train, test = read(flags.train), read(flags.test)
    found = overlap(train, test)
    _, dropped = clean(train, found, flags.share)
    if flags.matches:
      matches = [dataclasses.asdict(one) for one in found.matches]
      storage.publish(
        flags.matches,
        ''.join(json.dumps(row, ensure_ascii=False) + '\n' for row in matches),
      )
    if flags.keep:
      _write_kept(flags.train, flags.keep, train, dropped)
  except (errors.InputError, OSError) as error:
    print(f'{parser.prog}: {error}', file=sys.stderr)
    return 2
  result = found.summary() | {
    'dropped': {'share': flags.share, 'train': len(dropped)}
  }
  print(json.dumps(result, indent=2))
  return 0


def _write_kept(source, target, train, dropped) -> None:
  """Copies the lines of the training problems that were not dropped."""
  gone = {problem.id for problem in dropped}
  lines = [
    line for line in storage.read_text(source).split('\n') if line.strip()
  ]
  storage.publish(
    target,
    ''.join(
      line + '\n'
      for line, problem in zip(lines, train, strict=True)
      if problem.id not in gone
    ),
  )


if __name__ == '__main__':
  sys.exit(main())
