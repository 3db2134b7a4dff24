"""Rows of prompt and completion, and the batches made of them.

The batch of step s is a function of (rows, seed, s) alone, so a run resumes at
any step, on any number of processes, without state of its own.
"""

import collections
import dataclasses
import json
from collections.abc import Sequence

import grain
import numpy as np
from absl import logging

from wcse_jax import (
  errors,
  records,
  selection,
  shardfiles,
  storage,
  tasks,
)
from wcse_jax import tokenizer as tokenizers


@dataclasses.dataclass(frozen=True)
class Example:
  """One training sequence as text."""

  prompt: str
  completion: str


@dataclasses.dataclass(frozen=True)
class Encoded:
  """One training sequence as tokens.

  Attributes:
    tokens: ids of prompt and completion, with start and end token.
    prompt_tokens: how many of them are the prompt, which bears no loss.
  """

  tokens: tuple[int, ...]
  prompt_tokens: int


def read(
  path: str,
  task_name: str = '',
  data: str = '',
  rules: selection.Selection | None = None,
  *,
  bad_rows: str = 'refuse',
) -> tuple[list[Example], dict[str, int] | None]:
  """Returns examples, and what the rules dropped of them.

  Args:
    path: a JSONL file of `{"prompt", "completion"}`, or a graded run folder.
    task_name: the task of a run folder.
    data: where that task's set is.
    rules: which samples of a run folder to take; None: every right one.
    bad_rows: of that set, as `tasks.load` takes it.

  Returns:
    The examples; the counts of `read_graded`, None for a file.
  """
  if storage.is_folder(path):
    task = tasks.load(task_name, data, bad_rows=bad_rows)
    return read_graded(path, task, rules or selection.Selection())
  if not storage.exists(path):
    raise errors.InputError(
      f'train: wanted a JSONL file or a run folder; {path!r} does not exist.'
    )
  found = []
  for number, line in enumerate(storage.read_text(path).split('\n'), 1):
    if not line.strip():
      continue
    try:
      row = json.loads(line)
      prompt, completion = row['prompt'], row['completion']
    except (ValueError, KeyError, TypeError):
      raise errors.InputError(
        f'{path}: row {number}: wanted an object with "prompt" and '
        f'"completion"; got {line[:60]!r}.'
      ) from None
    if not (isinstance(prompt, str) and isinstance(completion, str)):
      raise errors.InputError(
        f'{path}: row {number}: wanted two strings; got '
        f'{type(prompt).__name__} and {type(completion).__name__}.'
      )
    found.append(Example(prompt, completion))
  return found, None


def read_graded(
  folder: str, task, rules: selection.Selection
) -> tuple[list[Example], dict[str, int]]:
  """Returns samples of a run folder as examples, and `selection`'s counts.

  The rules hold for the samples of each model on its own; counts are sums.
  """
  problems = {p.id: p for s in task.splits for p in task.problems(s)}
  root = storage.join(folder, 'samples')
  found: list[Example] = []
  counts: collections.Counter[str] = collections.Counter()
  for model in storage.names(root):
    samples = shardfiles.ShardFolder(storage.join(root, model))
    grades = shardfiles.ShardFolder(storage.join(folder, 'grades', model))
    graded = {(g.problem_id, g.index): g for g in grades.rows(records.Grade)}
    rows, dropped = selection.select(
      (
        selection.Row(problems[s.problem_id], s, graded[s.problem_id, s.index])
        for s in samples.rows(records.Sample)
        if (s.problem_id, s.index) in graded
      ),
      rules,
      task.chain,
      task.ballot,
    )
    counts.update(dropped)
    found += [example(task, row.problem, row.sample.text) for row in rows]
  if not found:
    raise errors.InputError(
      f'train: {folder} holds no right sample that fits the selection; grade '
      f'it first. Dropped by rule: '
      + ', '.join(f'{name} {counts[name]}' for name in selection.RULES)
      + f' of {counts["rows"]} rows.'
    )
  return found, dict(counts)


def example(task, problem: records.Problem, text: str) -> Example:
  """Returns the training example of one solution: zero-shot, as evaluated."""
  return Example(task.prompt(problem.question), task.completion(text))


def write(path: str, examples: Sequence[Example]) -> None:
  """Writes examples as the JSONL that `read` takes."""
  lines = [
    json.dumps(dataclasses.asdict(e), ensure_ascii=False) for e in examples
  ]
  storage.publish(path, '\n'.join(lines) + '\n')


def encode(
  examples: Sequence[Example],
  tokenizer: tokenizers.Tokenizer,
  max_length: int,
) -> list[Encoded]:
  """Returns the examples that fit `max_length` tokens; the others are logged.

  Prompt and completion are encoded apart and joined, so that no merge crosses
  the seam; the completion is a space and the stripped text, and the end token
  is a target.

  Raises:
    InputError: if none fits.
  """
  prompts = tokenizer.prompts([e.prompt for e in examples])
  texts = [e.completion.strip() for e in examples]
  completions = tokenizer.encode_all([f' {text}' for text in texts])
  found = []
  for prompt, text, completion in zip(prompts, texts, completions, strict=True):
    tokens = (*prompt, *completion, tokenizer.end_id)
    if text and len(tokens) <= max_length:
      found.append(Encoded(tokens, len(prompt)))
  dropped = len(examples) - len(found)
  if not found:
    raise errors.InputError(
      f'train: none of {len(examples)} examples has a completion and at most '
      f'max_length={max_length} tokens.'
    )
  if dropped:
    logging.warning(
      'train: %d of %d examples dropped: empty, or over max_length=%d tokens.',
      dropped,
      len(examples),
      max_length,
    )
  return found


def batches(
  rows: Sequence[Encoded], *, batch_size: int, max_length: int, seed: int
) -> grain.MapDataset:
  """Returns an endless dataset whose item s is the batch of step s.

  A batch has tokens_BT (int32) and target_BT (float32, 1 where the token is a
  target), padded to `max_length`.  Every epoch has its own order.
  """

  def pad(row: Encoded) -> dict[str, np.ndarray]:
    tokens_T = np.zeros(max_length, np.int32)
    target_T = np.zeros(max_length, np.float32)
    tokens_T[: len(row.tokens)] = row.tokens
    target_T[row.prompt_tokens : len(row.tokens)] = 1
    return {'tokens_BT': tokens_T, 'target_BT': target_T}

  return (
    grain.MapDataset.source(rows)
    .seed(seed)
    .shuffle()
    .repeat()
    .map(pad)
    .batch(batch_size)
  )
