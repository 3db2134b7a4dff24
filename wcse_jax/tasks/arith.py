"""`arith`: word problems without end, with a checker of every step.

A problem is a story about a count of things: a start, then events that add,
take away or multiply, and often a last question about sharing or packing, whose
answer lies in a small range.  Its level is the number of operations, 1 to 8.

A problem is fixed by its split and position.  `train` and `test` are fixed sets
(8,192 and 1,024 problems of levels 1 to 6 in turn) and `stream(seed)` has no
end.  The split of a question is decided by a hash of its text, so that no
question of one can occur in another.  `hard` is a fixed set to transfer to: 512
problems of levels 5 to 8, drawn as a stream is.  A stream of levels up to 4, as
the embedded models were trained on, has none of them.
"""

import dataclasses
import functools
import hashlib
import random
from collections.abc import Iterator, Sequence

from wcse_jax import records
from wcse_jax.grading import steps
from wcse_jax.tasks import base


LEVELS = (1, 2, 3, 4, 5, 6)
HARD = (5, 6, 7, 8)
SIZES = {'train': 8192, 'test': 1024, 'hard': 512}
# Running counts stay in [0, _MOST], so that numbers have at most two digits.
_MOST = 99

_NAMES = ('Ann', 'Ben', 'Cleo', 'Dan', 'Eva', 'Finn', 'Gia', 'Hugo')
_THINGS = ('pens', 'nuts', 'cards', 'eggs', 'coins', 'shells')
_GAIN = ('finds {x} more', 'buys {x} more', 'gets {x} from a friend')
_LOSS = ('loses {x}', 'gives away {x}', 'sells {x}')
_TIMES = {2: 'doubles the count', 3: 'triples the count'}
_GROUPS = ('buys {m} bags of {x}', 'finds {m} boxes of {x}')
_LEFT = (
  'packs all in boxes of {x}. How many are left over?',
  'puts all in rows of {x}. How many are left over?',
)
_EACH = (
  'shares all among {x} friends. How many does each get?',
  'packs all in boxes of {x}. How many boxes are full?',
)
_TOTAL = 'How many {thing} are there now?'


@dataclasses.dataclass(frozen=True)
class Event:
  """One event of a story.

  Attributes:
    kind: `gain`, `loss`, `times`, `groups` (m times x more), or the closing
      `left` (remainder) or `each` (quotient).
    x: the number.
    m: how many groups, for `groups`.
  """

  kind: str
  x: int
  m: int = 0

  def after(self, count: int) -> int:
    """Returns the count after this event; for a closing one, the answer."""
    match self.kind:
      case 'gain':
        return count + self.x
      case 'loss':
        return count - self.x
      case 'times':
        return count * self.x
      case 'groups':
        return count + self.m * self.x
      case 'left':
        return count % self.x
      case 'each':
        return count // self.x
    raise ValueError(f'kind: unknown event {self.kind!r}.')


class Arith(base.Task):
  """Arithmetic word problems with exact grading, of any number."""

  name = 'arith'
  splits = ('train', 'test', 'hard')
  stop = ('\nQ:',)

  def origin(self) -> base.Origin:
    return base.Origin('made by wcse_jax', 'apache-2.0')

  def problems(self, split: str) -> list[records.Problem]:
    return list(_fixed(split))

  def answer(self, text: str) -> str | None:
    return steps.final_answer(text)

  def equal(self, answer: str, reference: str) -> bool:
    return int(answer) == int(reference)

  def sound(self, problem, text):
    return steps.check(problem.meta['start'], problem.meta['events'], text)

  def chain(self, text: str) -> str:
    """Returns the equations in order, summands and factors sorted."""
    return steps.chain(text)


@functools.cache
def _fixed(split: str) -> tuple[records.Problem, ...]:
  levels = HARD if split == 'hard' else LEVELS
  found = stream(split, split=split, levels=levels)
  return tuple(next(found) for _ in range(SIZES[split]))


def split_of(question: str) -> str:
  """Returns the only split that `question` may occur in."""
  bucket = hashlib.sha256(question.encode()).digest()[0] % 8
  return {0: 'test', 1: 'train', 2: 'train'}.get(bucket, 'stream')


def stream(
  seed: int | str, *, levels: Sequence[int] = LEVELS, split: str = 'stream'
) -> Iterator[records.Problem]:
  """Yields problems without end, levels in turn, no question twice in a row.

  Args:
    seed: what the problems depend on.
    levels: numbers of operations.
    split: `train`, `test`, or `hard` or `stream` for questions that are in
      neither.
  """
  rng = random.Random(f'arith {seed}')
  bucket = 'stream' if split == 'hard' else split
  seen: set[str] = set()
  position = 0
  while True:
    level = levels[position % len(levels)]
    problem = _draw(rng, level, f'arith/{split}/{position}')
    if split_of(problem.question) != bucket or problem.question in seen:
      continue
    if split != 'stream':
      seen.add(problem.question)
    yield problem
    position += 1


def solution(problem: records.Problem, rng: random.Random) -> str:
  """Returns a worked solution: one of several orders and wordings."""
  start = problem.meta['start']
  events = [Event(**event) for event in problem.meta['events']]
  order = rng.choice(('story', 'products first', 'changes first'))
  wording = rng.choice(('plain', 'plain', 'then', 'first'))
  lines = _derive(start, events, order, rng)
  body = _word(lines, wording)
  return f'{body} The answer is {problem.answer}.'


def _draw(rng: random.Random, level: int, identity: str) -> records.Problem:
  while True:
    start, events = _story(rng, level)
    count, fits = start, True
    for event in events:
      # A count of nothing on the way would make the later numbers ambiguous.
      fits = fits and 1 <= count <= _MOST
      count = event.after(count)
    if fits and 0 <= count <= _MOST:
      break
  question = _tell(rng, start, events)
  draft = records.Problem(
    id=identity,
    task='arith',
    question=question,
    answer=str(count),
    solution='',
    level=str(level),
    subject=events[-1].kind if events[-1].kind in ('left', 'each') else 'total',
    meta={
      'start': start,
      'events': [dataclasses.asdict(event) for event in events],
    },
  )
  return dataclasses.replace(draft, solution=solution(draft, rng))


def _story(rng: random.Random, level: int) -> tuple[int, list[Event]]:
  """Returns a start and events of `level` operations in all."""
  start = rng.randint(2, 40)
  events: list[Event] = []
  closing = level > 1 and rng.random() < 0.75
  left = level - closing
  while left:
    kind = rng.choices(
      ('gain', 'loss', 'times', 'groups'), (4, 4, 1.5, 3 if left > 1 else 0)
    )[0]
    if kind == 'times':
      events.append(Event('times', rng.choice((2, 3))))
    elif kind == 'groups':
      events.append(Event('groups', rng.randint(2, 9), rng.randint(2, 6)))
      left -= 1
    else:
      events.append(Event(kind, rng.randint(2, 30)))
    left -= 1
  if closing:
    events.append(
      Event(rng.choice(('left', 'each', 'each')), rng.randint(3, 9))
    )
  return start, events


def _tell(rng: random.Random, start: int, events: Sequence[Event]) -> str:
  name, thing = rng.choice(_NAMES), rng.choice(_THINGS)
  told = [f'{name} has {start} {thing}.']
  for event in events:
    forms = {
      'gain': _GAIN,
      'loss': _LOSS,
      'groups': _GROUPS,
      'left': _LEFT,
      'each': _EACH,
    }.get(event.kind)
    form = rng.choice(forms) if forms else _TIMES[event.x]
    sentence = f'{name} ' + form.format(x=event.x, m=event.m)
    told.append(sentence if sentence.endswith('?') else sentence + '.')
  if events[-1].kind not in ('left', 'each'):
    told.append(_TOTAL.format(thing=thing))
  return ' '.join(told)


def _derive(
  start: int, events: Sequence[Event], order: str, rng: random.Random
) -> list[str]:
  """Returns the equations of a valid derivation, in `order`."""
  lines: list[str] = []
  products: dict[int, int] = {}

  def product(i: int) -> int:
    event = events[i]
    if i not in products:
      products[i] = event.m * event.x
      lines.append(f'{event.m}*{event.x}={products[i]}')
    return products[i]

  if order == 'products first':
    for i, event in enumerate(events):
      if event.kind == 'groups':
        product(i)
  count, i = start, 0
  while i < len(events):
    event = events[i]
    behind = events[i + 1] if i + 1 < len(events) else None
    if event.kind in ('left', 'each'):
      lines.append(f'{count}/{event.x}={count // event.x} r{count % event.x}')
      count = event.after(count)
    elif event.kind == 'times':
      lines.append(f'{count}*{event.x}={count * event.x}')
      count *= event.x
    elif (
      order == 'changes first'
      and behind is not None
      and event.kind == 'gain'
      and behind.kind in ('gain', 'loss')
      and (behind.kind == 'gain' or behind.x < event.x)
    ):
      sign = '+' if behind.kind == 'gain' else '-'
      net = behind.after(event.x)
      lines.append(f'{event.x}{sign}{behind.x}={net}')
      lines.append(f'{count}+{net}={count + net}')
      count += net
      i += 1
    else:
      change = product(i) if event.kind == 'groups' else event.x
      if event.kind == 'loss':
        lines.append(f'{count}-{change}={count - change}')
        count -= change
      else:
        pair = [count, change]
        if rng.random() < 0.2:
          pair.reverse()
        lines.append(f'{pair[0]}+{pair[1]}={count + change}')
        count += change
    i += 1
  return lines


def _word(lines: Sequence[str], wording: str) -> str:
  match wording:
    case 'then':
      return ', then '.join(lines) + '.'
    case 'first':
      return '. Next '.join([f'First {lines[0]}', *lines[1:]]) + '.'
  return '. '.join(lines) + '.'
