"""What a task is: problems, a prompt, stop strings, and a verdict.

A task loads its problems, lays out the prompt, and grades a text.  It knows no
model and no tokenizer.  To bring one's own, subclass `Task` (three methods) and
name it in `wcse_jax/tasks/__init__.py`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from wcse_jax import errors, records, storage


# What a task does with bad rows of its set.
BAD_ROWS = ('refuse', 'skip')


@dataclasses.dataclass(frozen=True)
class Shot:
  """One worked example of the few-shot prompt."""

  question: str
  target: str


class Origin(NamedTuple):
  """Where the problems of a task come from, and on which terms.

  Attributes:
    source: of those at hand: a set of the Hugging Face hub, or what made them;
      empty for files of a user's.
    license: that it states, as the hub calls it; empty: not known.
    published: the set of the hub that the task reads by itself; empty for none.
    published_license: likewise of that.
  """

  source: str = ''
  license: str = ''
  published: str = ''
  published_license: str = ''


class Task:
  """A set of problems with a checkable answer.

  Attributes:
    name: the task's name on the command line.
    splits: the splits that exist, without `validation`.
    stop: strings that end a sample; the text ends before them.
    chat_stop: the same for a chat model; None: as `stop`.
    shots_file: name of the file of worked examples that users have beside the
      set; empty for none.
    blank_answers: whether an empty reference answer is one; elsewhere it means
      that there is none, and the verdict is `error`.
    instruction: what a chat model is told behind a question without shots.
    bad_rows: one of `BAD_ROWS`; a task that reads rows of a set heeds it.
    bad: by split: (row number, what is wrong with it) of the rows left out.
  """

  name: str = ''
  splits: tuple[str, ...] = ('train', 'test')
  stop: tuple[str, ...] = ()
  chat_stop: tuple[str, ...] | None = None
  shots_file: str = ''
  blank_answers: bool = False
  instruction: str = (
    'Solve it step by step. End with a line "The answer is X.", where X is the '
    'final answer alone.'
  )
  bad_rows: str = 'refuse'

  def __init__(self, data: str = '', prompts: str = ''):
    """`data`: folder, file or hub of the set; `prompts`: JSONL of shots."""
    self.data = data
    self.prompts = prompts
    self.bad: dict[str, list[tuple[int, str]]] = {}

  def origin(self) -> Origin:
    """Returns where the problems come from, as far as that is known."""
    return Origin()

  def problems(self, split: str) -> list[records.Problem]:
    """Returns the whole split, in its fixed order."""
    raise NotImplementedError

  def answer(self, text: str) -> str | None:
    """Returns the final answer stated in `text`; None if there is none."""
    raise NotImplementedError

  def equal(self, answer: str, reference: str) -> bool:
    """Returns whether an extracted answer equals the reference."""
    raise NotImplementedError

  def sound(
    self, problem: records.Problem, text: str
  ) -> tuple[bool | None, str]:
    """Returns (is the reasoning sound, why not); None where unknown."""
    del problem, text
    return None, ''

  def chain(self, text: str) -> str:
    """Returns the text's reasoning reduced to what makes two texts differ."""
    return ' '.join(text.split())

  def ballot(self, answer: str) -> str:
    """Returns what an answer is as a vote: one value in two spellings is one.

    It knows no reference, and may leave apart what `equal` would join.
    """
    return answer

  def default_prompts(self) -> str:
    """Returns the path of the task's own shots; empty if there are none.

    They are `shots_file` in the folder `prompts` beside the folder of `data`.
    """
    if not self.data or not self.shots_file or self.data.startswith('hub:'):
      return ''
    folder = self.data.rstrip('/')
    if not storage.is_folder(folder):
      folder = folder.rpartition('/')[0]
    # `..` means nothing in the name of an object of a bucket.
    above = (
      folder.rpartition('/')[0]
      if '://' in folder
      else storage.join(folder or '.', '..')
    )
    path = storage.join(above, 'prompts', self.shots_file)
    return path if storage.exists(path) else ''

  def grade(self, problem: records.Problem, index: int, text: str):
    """Returns the `records.Grade` of one sample text."""
    answer = self.answer(text)
    if answer is None:
      return records.Grade(
        problem_id=problem.id,
        index=index,
        answer=None,
        correct=False,
        verdict='unparsed',
        sound=None,
        why='no final answer found',
      )
    if not problem.answer and not self.blank_answers:
      return records.Grade(
        problem_id=problem.id,
        index=index,
        answer=answer,
        correct=None,
        verdict='error',
        sound=None,
        why='no reference answer',
      )
    correct = self.equal(answer, problem.answer)
    sound, why = self.sound(problem, text) if correct else (None, '')
    return records.Grade(
      problem_id=problem.id,
      index=index,
      answer=answer,
      correct=correct,
      verdict='right' if correct else 'wrong',
      sound=sound,
      why=why,
    )

  def grade_many(
    self, rows: Iterable[tuple[records.Problem, int, str]]
  ) -> Iterator[records.Grade]:
    """Yields the grade of each (problem, index, text), in order.

    A task whose grader is slow or dangerous overrides it with worker
    processes; `close` ends them.
    """
    for problem, index, text in rows:
      yield self.grade(problem, index, text)

  def close(self) -> None:
    """Ends what `grade_many` started."""

  def shots(self, count: int) -> list[Shot]:
    """Returns the first `count` worked examples.

    Source: `prompts` where given, else the task's own file, else the first
    training rows.
    """
    if not count:
      return []
    path = self.prompts or self.default_prompts()
    if path:
      found = read_shots(path)
    elif 'train' not in self.splits:
      raise errors.InputError(
        f'shots: wanted {count}, but {self.name} has no training split: name a '
        'file of worked examples in prompts.'
      )
    else:
      rows = self.problems('train')[:count]
      found = [Shot(row.question, row.solution) for row in rows]
    if len(found) < count:
      raise errors.InputError(
        f'shots: wanted {count}, but {path or "the training split"} has '
        f'{len(found)}.'
      )
    return found[:count]

  def prompt(self, question: str, shots: Sequence[Shot] = ()) -> str:
    """Returns the prompt text of one question behind the shots.

    Source: the chain-of-thought layout of Wei et al. 2022, arXiv:2201.11903.
    """
    blocks = [f'Q: {shot.question}\nA: {shot.target.strip()}' for shot in shots]
    return '\n\n'.join([*blocks, f'Q: {question}\nA:'])

  def ask(self, question: str, shots: Sequence[Shot] = ()) -> str:
    """Returns what the user says to a chat model.

    Behind shots it is the plain prompt: they show the form of an answer.
    """
    if shots:
      return self.prompt(question, shots)
    return f'{question}\n\n{self.instruction}'

  def completion(self, text: str) -> str:
    """Returns the training target of a solution text, without the end token."""
    return ' ' + text.strip()


def read_shots(path: str) -> list[Shot]:
  """Returns the shots of a JSONL file of `{"question", "target"}` rows."""
  found = []
  lines = storage.read_text(path).split('\n')
  for number, line in enumerate(lines, 1):
    if not line.strip():
      continue
    try:
      row: dict[str, Any] = json.loads(line)
    except ValueError as error:
      raise errors.InputError(
        f'{path}: row {number} is not JSON ({error}).'
      ) from None
    if not isinstance(row, dict):
      raise errors.InputError(
        f'{path}: row {number}: wanted an object; got {type(row).__name__}.'
      )
    question = row.get('question', row.get('problem'))
    target = row.get('target', row.get('solution', row.get('answer')))
    if not isinstance(question, str) or not isinstance(target, str):
      raise errors.InputError(
        f'{path}: row {number}: wanted the strings "question" and "target"; '
        f'got the fields {sorted(row)}.'
      )
    found.append(Shot(question, target))
  return found


def shots_sha256(shots: Sequence[Shot]) -> str:
  """Returns the digest of worked examples, as samples' fingerprints have it."""
  return _sha256([f'{shot.question}\n{shot.target}' for shot in shots])


def prompt_sha256(task: Task) -> str:
  """Returns the digest of how a task lays out its prompts, likewise."""
  return _sha256([task.prompt('', []), task.ask('')])


def data_sha256(problems: Iterable[records.Problem]) -> str:
  """Returns the digest of the problems of a split, likewise."""
  return _sha256([problem.to_json() for problem in problems])


def _sha256(parts: Sequence[str]) -> str:
  whole = hashlib.sha256()
  for part in parts:
    data = part.encode()
    whole.update(len(data).to_bytes(8, 'big'))
    whole.update(data)
  return whole.hexdigest()


def held_out(problems: Sequence[records.Problem], size: int) -> frozenset[str]:
  """Returns the ids of the validation problems of a training split.

  They are the `size` problems of smallest sha256(id), kept out of sampling and
  training.
  """
  order = sorted(
    problems, key=lambda p: hashlib.sha256(p.id.encode()).hexdigest()
  )
  return frozenset(problem.id for problem in order[:size])


def select(
  task: Task, split: str, *, limit: int = 0, validation_size: int = 500
) -> list[tuple[int, records.Problem]]:
  """Returns (position in the whole split, problem) of what a run works on.

  Args:
    task: the task.
    split: one of `task.splits`, or `validation`.
    limit: number of problems; 0 for all.
    validation_size: number of training problems that are held out.
  """
  known = dict.fromkeys((*task.splits, 'validation'))
  if split not in known:
    raise errors.InputError(
      f'split: wanted one of {", ".join(known)} for task {task.name}; got '
      f'{split!r}.'
    )
  # A set that publishes a validation split needs none held out of `train`.
  published = 'validation' in task.splits
  held = split == 'validation' and not published
  whole = task.problems('train' if held else split)
  chosen = list(enumerate(whole))
  if split in ('train', 'validation') and validation_size and not published:
    aside = held_out(whole, validation_size)
    chosen = [
      (i, p) for i, p in chosen if (p.id in aside) == (split == 'validation')
    ]
  if not chosen:
    raise errors.InputError(
      f'split: {split} of task {task.name} holds no problem.'
    )
  return chosen[:limit] if limit else chosen
