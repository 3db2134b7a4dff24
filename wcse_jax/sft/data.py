"""Rows of prompt and completion, as text and as tokens."""

import collections
import dataclasses
import json
from collections.abc import Collection, Iterator, Mapping, Sequence

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
    number: which example it was made of, counted from 1, for messages.
  """

  tokens: tuple[int, ...]
  prompt_tokens: int
  number: int = 0

  @property
  def targets(self) -> int:
    """How many tokens bear loss: the first of a sequence never does."""
    return len(self.tokens) - max(1, self.prompt_tokens)


def read(
  path: str,
  task_name: str = '',
  data: str = '',
  rules: selection.Selection | None = None,
  *,
  bad_rows: str = 'refuse',
  chat: bool = False,
) -> tuple[list[Example], dict[str, int] | None]:
  """Returns examples, and what the rules dropped of them.

  Args:
    path: a JSONL file of `{"prompt", "completion"}`, or a graded run folder.
    task_name: the task of a run folder.
    data: where that task's set is.
    rules: which samples of a run folder to take; None: every right one.
    bad_rows: of that set, as `tasks.load` takes it.
    chat: as in `example`.

  Returns:
    The examples; the counts of `read_graded`, None for a file.
  """
  if storage.is_folder(path):
    task = tasks.load(task_name, data, bad_rows=bad_rows)
    return read_graded(path, task, rules or selection.Selection(), chat=chat)
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
  folder: str, task, rules: selection.Selection, *, chat: bool = False
) -> tuple[list[Example], dict[str, int]]:
  """Returns samples of a run folder as examples, and `selection`'s counts.

  The rules hold for the samples of each model on its own; counts are sums.
  """
  problems = {p.id: p for s in task.splits for p in task.problems(s)}
  found: list[Example] = []
  counts: collections.Counter[str] = collections.Counter()
  for model in storage.names(storage.join(folder, 'samples')):
    rows, dropped = chosen(folder, model, task, problems, rules)
    counts.update(dropped)
    found += [
      example(task, row.problem, row.sample.text, chat=chat) for row in rows
    ]
  if not found:
    raise errors.InputError(
      f'train: {folder} holds no right sample that fits the selection; grade '
      f'it first. Dropped by rule: '
      + ', '.join(f'{name} {counts[name]}' for name in selection.RULES)
      + f' of {counts["rows"]} rows.'
    )
  return found, dict(counts)


def chosen(
  folder: str,
  model: str,
  task,
  problems: Mapping[str, records.Problem],
  rules: selection.Selection,
  *,
  without: Collection[str] = (),
) -> tuple[list[selection.Row], dict[str, int]]:
  """Returns what the rules take of one model of a run folder, and counts.

  Args:
    folder: the run folder.
    model: its name there.
    task: the task that was graded.
    problems: by id, all that were sampled among them.
    rules: which samples to take.
    without: ids of problems whose samples are passed over, and not counted.

  Raises:
    InputError: if samples, grades and problems do not belong together.
  """
  samples = shardfiles.ShardFolder(storage.join(folder, 'samples', model))
  grades = shardfiles.ShardFolder(storage.join(folder, 'grades', model))
  name = grades.fingerprint.get('task', task.name)
  if name != task.name:
    raise errors.InputError(
      f'task: wanted {name!r}, as {grades.path} was graded; got {task.name!r}.'
    )
  of = grades.fingerprint.get('samples', samples.fingerprint)
  if of != samples.fingerprint:
    raise errors.InputError(
      f'{grades.path}: wanted the grades of the samples in {samples.path}; '
      'got those of others.'
    )
  graded = {(g.problem_id, g.index): g for g in grades.rows(records.Grade)}

  def rows() -> Iterator[selection.Row]:
    for sample in samples.rows(records.Drawn):
      grade = graded.get((sample.problem_id, sample.index))
      if grade is None or sample.problem_id in without:
        continue
      if sample.problem_id not in problems:
        raise errors.InputError(
          f'{samples.path}: problem {records.shorten(sample.problem_id)} is '
          f'not in the set of task {task.name}; is --config.data the set that '
          'was sampled?'
        )
      yield selection.Row(
        problems[sample.problem_id],
        sample,
        grade,
        model,
      )

  return selection.select(rows(), rules, task.chain, task.ballot)


def example(
  task, problem: records.Problem, text: str, *, chat: bool = False
) -> Example:
  """Returns the training example of one solution: zero-shot, as evaluated.

  Args:
    task: lays out prompt and completion.
    problem: what is asked.
    text: the solution.
    chat: whether the prompt is what a user says to a chat model.
  """
  ask = task.ask if chat else task.prompt
  return Example(ask(problem.question), task.completion(text))


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
  *,
  chat: bool = False,
  long: str = 'drop',
  what: str = 'train',
) -> tuple[list[Encoded], dict[str, int]]:
  """Returns the examples as tokens, and how many were left out or cut.

  Prompt and completion are encoded apart and joined, so that no merge crosses
  the seam.  An end token is a target, too: of a plain prompt that which ends a
  text, in a chat that which ends a turn.  Blanks at the end of a completion go,
  and in a chat those before it.  Of a plain prompt they stay, as code may begin
  with some; where neither has one at the seam, a space is put there.

  Args:
    examples: as text.
    tokenizer: of the model.
    max_length: tokens of a sequence.
    chat: whether prompts are messages to the model's chat template.
    long: `drop` for leaving out what is longer, `truncate` for cutting it at
      its end, which then has no end token.
    what: what messages call the examples.

  Returns:
    The sequences; `empty`, without a completion, and `long`, longer than
    `max_length` or, to be cut, in its prompt alone: left out; `truncated`: cut.

  Raises:
    InputError: if none is left.
  """
  if chat:
    prompts = tokenizer.chats(
      [[{'role': 'user', 'content': e.prompt}] for e in examples]
    )
  else:
    prompts = tokenizer.prompts([e.prompt for e in examples])
  end = tokenizer.turn_end() if chat else tokenizer.end_id
  texts = [e.completion.strip() if chat else _joined(e) for e in examples]
  completions = tokenizer.encode_all(texts)
  found = []
  counts = dict.fromkeys(('empty', 'long', 'truncated'), 0)
  parts = zip(prompts, texts, completions, strict=True)
  for number, (prompt, text, completion) in enumerate(parts, 1):
    row = Encoded((*prompt, *completion, end), len(prompt), number)
    if not text.strip():
      counts['empty'] += 1
      continue
    if len(row.tokens) > max_length:
      row = dataclasses.replace(row, tokens=row.tokens[:max_length])
      if long == 'drop' or row.targets < 1:
        counts['long'] += 1
        continue
      counts['truncated'] += 1
    found.append(row)
  if not found:
    raise errors.InputError(
      f'{what}: none of {len(examples)} examples has a completion and at most '
      f'max_length={max_length} tokens ({counts["empty"]} empty, '
      f'{counts["long"]} too long).'
    )
  if any(counts.values()):
    logging.warning(
      '%s: of %d examples %d dropped as empty and %d as longer than '
      'max_length=%d tokens; %d cut there.',
      what,
      len(examples),
      counts['empty'],
      counts['long'],
      max_length,
      counts['truncated'],
    )
  return found, counts


def _joined(example: Example) -> str:
  """Returns a completion as it follows a plain prompt."""
  text = example.completion.rstrip()
  apart = text[:1].isspace() or example.prompt[-1:].isspace()
  return text if apart else f' {text}'


def check_apart(
  train: Sequence[Example], prompts: Sequence[str], what: str
) -> None:
  """Raises InputError if a prompt of the validation is trained on.

  Args:
    train: what is trained on.
    prompts: of the validation.
    what: what messages call it.
  """
  seen = {e.prompt: number for number, e in enumerate(train, 1)}
  both = [(i, seen[p]) for i, p in enumerate(prompts, 1) if p in seen]
  if both:
    raise errors.InputError(
      f'{what}: wanted prompts that are not trained on; {len(both)} of '
      f'{len(prompts)} are, the first is example {both[0][0]}, as train '
      f'example {both[0][1]}.'
    )
