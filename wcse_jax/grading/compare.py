"""Accuracy and time of graders on labelled cases, as a table.

    python -m wcse_jax.grading.compare --pairs=pairs.jsonl \\
      --responses=responses.jsonl

Pairs are rows of `gold`, `answer`, `equivalent_math` and `review` (only those
of review `ok` count); responses are rows of `gold`, `response`, `dataset`
(`math` or another, which is graded as GSM8K) and `final_answer_correct`.
"""

import argparse
import functools
import json
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

from wcse_jax.grading import latex, numeric, workers


# A gold that is a prompt, and programs, which are not executed here.
_PROMPT = "Let's think step by step."
_PROGRAMS = '-POT'

Case = tuple[str, str, bool]


def math_verify_alone(line: str) -> str:
  """Returns the verdict of math-verify with its own defaults, for a worker."""
  import math_verify

  text, gold = json.loads(line)
  same = math_verify.verify(math_verify.parse(gold), math_verify.parse(text))
  return 'right' if same else 'wrong'


def _numeric(line: str) -> str:
  text, gold = json.loads(line)
  answer = numeric.extract(text)
  same = answer is not None and numeric.equal(answer, gold)
  return 'right' if same else 'wrong'


def _strings(line: str, plain: Callable[[str], str]) -> str:
  text, gold = json.loads(line)
  answer = latex.extract(text) or ''
  gold = (latex.extract(gold) if 'boxed' in gold else gold) or gold
  return 'right' if plain(answer) == plain(gold) else 'wrong'


def _normalised(text: str) -> str:
  """Returns an answer normalised as the grader of PRM800K describes it.

  Dollars, spaces, degrees, percent, units in text and `left`, `right` go; the
  fractions get braces; 0.5 and .5, x=5 and 5, 1/2 and its fraction are one.

  Source: Lightman et al. 2023, arXiv:2305.20050 (grading), after the one of
  Hendrycks et al. 2021, arXiv:2103.03874.
  """
  for pattern, plain in (
    (r'\\!|\\left|\\right|\\\$|\$|\\%|%|\^\{?\\circ\}?|\n', ''),
    (r'\\[dt]frac', r'\\frac'),
    (r'\\text\{ .*', ''),
    (r'\\text\{([^{}]*)\}', r'\1'),
    (r'(?<=\d),(?=\d{3})', ''),
    (r'\\sqrt(\w)', r'\\sqrt{\1}'),
    (r'\\frac(\w)(\w)', r'\\frac{\1}{\2}'),
    (r'\A[a-z]\s*=', ''),
    (r'\A(-?\d+)/(\d+)\Z', r'\\frac{\1}{\2}'),
    (r'(?<!\d)\.(?=\d)', '0.'),
    (r'\.0+\Z|\.\Z| ', ''),
  ):
    text = re.sub(pattern, plain, text.strip())
  return text.lower()


def _local(grade: Callable[[str], str], lines: Iterable[str]) -> Iterator[str]:
  return map(grade, lines)


def _pooled(function: str, lines: Iterable[str]) -> Iterator[str]:
  with workers.Pool(function) as pool:
    for reply in pool.map(lines):
      yield reply.text if reply.status == 'done' else reply.status


def _ours(lines: Iterable[str]) -> Iterator[str]:
  texts = (json.dumps([*json.loads(line), None, False]) for line in lines)
  for text in _pooled(latex.WORKER, texts):
    yield json.loads(text)[0] if text.startswith('[') else text


GRADERS: dict[str, Callable[[Iterable[str]], Iterator[str]]] = {
  'this project': _ours,
  'math-verify alone': functools.partial(
    _pooled, 'wcse_jax.grading.compare:math_verify_alone'
  ),
  'prm800k-style': functools.partial(
    _local, functools.partial(_strings, plain=_normalised)
  ),
  'plain string': functools.partial(
    _local, functools.partial(_strings, plain=str.strip)
  ),
}


def read_pairs(path: str) -> list[Case]:
  """Returns (text, gold, is it right) of the reviewed pairs."""
  return [
    (row['answer'], row['gold'], row['equivalent_math'])
    for row in _rows(path)
    if row['review'] == 'ok'
  ]


def read_responses(path: str) -> tuple[dict[str, list[Case]], dict[str, int]]:
  """Returns (cases by task, counts of what was left out)."""
  cases: dict[str, list[Case]] = {'math': [], 'gsm8k': []}
  left_out = {'gold is a prompt': 0, 'programs': 0}
  for row in _rows(path):
    if row['dataset'].endswith(_PROGRAMS):
      left_out['programs'] += 1
    elif row['gold'] == _PROMPT:
      left_out['gold is a prompt'] += 1
    else:
      task = 'math' if row['dataset'] == 'math' else 'gsm8k'
      case = (row['response'], row['gold'], row['final_answer_correct'])
      cases[task].append(case)
  return cases, left_out


def measure(name: str, grade, cases: Sequence[Case]) -> str:
  """Returns a row of the table."""
  began = time.perf_counter()
  verdicts = list(grade(json.dumps(case[:2]) for case in cases))
  seconds = time.perf_counter() - began
  accepted = [verdict == 'right' for verdict in verdicts]
  right = sum(a == case[2] for a, case in zip(accepted, cases))
  false = sum(a and not case[2] for a, case in zip(accepted, cases))
  lost = sum(verdict in ('timeout', 'error') for verdict in verdicts)
  return (
    f'| {name} | {right / len(cases):.4f} ({right} of {len(cases)}) | {false} '
    f'| {lost} | {seconds:.1f} |'
  )


def _rows(path: str) -> list[dict]:
  with open(path, encoding='utf-8') as file:
    return [json.loads(line) for line in file if line.strip()]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
  parser.add_argument('--pairs', required=True)
  parser.add_argument('--responses', required=True)
  args = parser.parse_args()
  responses, left_out = read_responses(args.responses)
  print(f'left out: {left_out}')
  sets = {'pairs': read_pairs(args.pairs), **responses}
  for title, cases in sets.items():
    print(f'\n{title}\n\n| grader | agreement | false accepts |', end='')
    print(' timeout or error | seconds |\n|---|---|---|---|---|')
    graders = dict(GRADERS)
    if title == 'gsm8k':
      graders['this project'] = functools.partial(_local, _numeric)
    for name, grade in graders.items():
      print(measure(name, grade, cases), flush=True)


if __name__ == '__main__':
  main()
