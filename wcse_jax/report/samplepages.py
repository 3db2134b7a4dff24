"""The sample browser: every sample of every model, problem by problem.

`index.html` lists the problems; its one script filters them.  What the models
wrote is on pages of its own, one a problem, without any script: the list shows
them in a frame.  So no more than one problem's samples are loaded at a time,
and no text of the study ever passes through a script that makes markup.
"""

import collections
import dataclasses
import functools
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from wcse_jax import records, shardfiles, storage
from wcse_jax.report import markup, names, samplescript, samplestyle, style


_SHEET = style.SHEET + samplestyle.SHEET
# Kinds of samples, in the order in which they are shown.
KINDS = {
  'unsound': 'false positive',
  'wrong': 'wrong',
  'cut': 'truncated',
  'ungraded': 'not graded',
  'right': 'right',
}
_TITLE = 'Samples'
# What a checker says of a step: the step, then what is wrong with it.
_STEP = re.compile(r'(.+?) (?:is false|uses )')
# Characters of a question in the list.
_SHOWN = 400


@dataclasses.dataclass(frozen=True)
class Source:
  """The samples of one model.

  Attributes:
    role: `wc` or `se`.
    name: the model's.
    samples: its samples.
    grades: their grades.
  """

  role: str
  name: str
  samples: shardfiles.ShardFolder
  grades: shardfiles.ShardFolder


def kind(sample: records.Sample, grade: records.Grade | None) -> str:
  """Returns one of `KINDS`."""
  if grade is None or grade.correct is None:
    return 'ungraded'
  if grade.correct:
    return 'unsound' if grade.sound is False else 'right'
  return 'cut' if sample.finish_reason == 'length' else 'wrong'


def write(
  problems: Sequence[tuple[int, records.Problem]],
  sources: Sequence[Source],
  folder: str,
  check: Callable[[records.Problem, str], str] = lambda problem, text: '',
) -> int:
  """Writes the browser; returns how many samples it shows.

  Args:
    problems: (position, problem).
    sources: of each model.
    folder: where `index.html` goes; the pages go to `pages/` beside it.
    check: what is wrong with a text, where its grade does not say.

  Raises:
    OSError: if it cannot be written.
  """
  rows, total = [], 0
  places = [
    (_Blocks(source.samples), _Blocks(source.grades)) for source in sources
  ]
  blocks: dict[int, list[tuple[int, records.Problem]]] = {}
  for position, problem in problems:
    block = position // shardfiles.BLOCK_PROBLEMS
    blocks.setdefault(block, []).append((position, problem))
  for block, members in sorted(blocks.items()):
    found = [_read(*pair, block) for pair in places]
    for position, problem in members:
      own = [one.get(problem.id, []) for one in found]
      page = f'{position:06d}.html'
      storage.publish(
        storage.join(folder, 'pages', page),
        _page(problem, sources, own, functools.partial(check, problem)),
      )
      rows.append(
        [
          page,
          problem.id,
          problem.level,
          _short(problem.question),
          problem.answer,
          [[counts[name] for name in KINDS] for counts in map(_counts, own)],
        ]
      )
      total += sum(map(len, own))
  storage.publish(
    storage.join(folder, 'index.html'), _index(rows, sources, total)
  )
  return total


_Found = tuple[str, records.Sample, records.Grade | None]


class _Blocks:
  """The shards of a folder by the blocks of problems that they are of."""

  def __init__(self, folder: shardfiles.ShardFolder):
    self._folder = folder
    self._shards: dict[int, list[shardfiles.Shard]] = {}
    size = shardfiles.BLOCK_PROBLEMS
    for shard in folder.shards:
      last = shard.last_problem // size
      for block in range(shard.first_problem // size, last + 1):
        self._shards.setdefault(block, []).append(shard)

  def rows(self, block: int, cls: type[records.RowT]) -> Iterator[records.RowT]:
    for shard in self._shards.get(block, ()):
      yield from self._folder.read(shard, cls)


def _read(
  samples: _Blocks, grades: _Blocks, block: int
) -> dict[str, list[_Found]]:
  """Returns problem -> its samples with their kinds, of a block of problems."""
  graded = {
    (row.problem_id, row.index): row
    for row in grades.rows(block, records.Grade)
  }
  found: dict[str, list[_Found]] = {}
  for row in samples.rows(block, records.Sample):
    grade = graded.get((row.problem_id, row.index))
    found.setdefault(row.problem_id, []).append((kind(row, grade), row, grade))
  return found


def _counts(rows: Sequence[_Found]) -> collections.Counter[str]:
  return collections.Counter(name for name, _, _ in rows)


def _short(question: str) -> str:
  text = ' '.join(question.split())
  return text if len(text) <= _SHOWN else f'{text[:_SHOWN]}…'


def _page(
  problem: records.Problem,
  sources: Sequence[Source],
  found: Sequence[Sequence[_Found]],
  check: Callable[[str], str],
) -> str:
  """Returns the page of one problem."""
  where = f'level {problem.level}' if problem.level else None
  body = markup.tag(
    'body',
    markup.tag(
      'header',
      markup.tag('h1', 'Problem ', problem.id),
      markup.tag('p', where, class_='lead') if where else None,
      markup.tag('div', problem.question, class_='text question'),
      markup.tag('p', 'Reference answer: ', markup.tag('b', problem.answer)),
      markup.details(
        'Reference solution',
        markup.tag('div', problem.solution, class_='text'),
      )
      if problem.solution
      else None,
    ),
    markup.tag(
      'main',
      [
        _column(source, rows, check)
        for source, rows in zip(sources, found, strict=True)
      ],
      class_='columns',
    ),
    class_='problem',
  )
  return _document(f'Problem {problem.id}', body, page_policy())


def _column(
  source: Source, rows: Sequence[_Found], check: Callable[[str], str]
) -> markup.Html:
  counts = _counts(rows)
  right = counts['right'] + counts['unsound']
  groups = []
  for name, word in KINDS.items():
    own = [(row, grade) for found, row, grade in rows if found == name]
    if own:
      groups.append(_group(name, word, own, check, first=not groups))
  return markup.tag(
    'section',
    markup.tag(
      'h2',
      markup.tag('span', names.ROLES[source.role], class_=f'key {source.role}'),
      ' ',
      source.name,
    ),
    markup.tag(
      'p',
      f'{right} of {len(rows)} samples have the right answer.'
      if rows
      else 'No samples.',
      class_='lead',
    ),
    groups,
  )


def _group(
  name: str, word: str, rows, check: Callable[[str], str], *, first: bool
) -> markup.Html:
  """Returns the samples of one kind, those with one text shown once."""
  texts: dict[tuple[str, str | None, str], list[int]] = {}
  for row, grade in rows:
    why = grade.why if grade else ''
    answer = grade.answer if grade else None
    texts.setdefault((row.text.strip(), answer, why), []).append(row.index)
  if name in ('wrong', 'cut'):
    # Of a wrong answer the grade says no more than that.
    texts = {
      (text, answer, why or check(text)): indices
      for (text, answer, why), indices in texts.items()
    }
  shown = [
    markup.tag(
      'article',
      markup.tag('p', _indices(indices), class_='indices'),
      markup.tag('div', marked(text, why), class_='text'),
      markup.tag(
        'p',
        'Answer: ',
        markup.tag('b', answer) if answer is not None else 'none found',
        f'; {why}' if why else None,
        class_='found',
      ),
    )
    for (text, answer, why), indices in sorted(
      texts.items(), key=lambda item: (-len(item[1]), item[1])
    )
  ]
  return markup.tag(
    'details',
    markup.tag(
      'summary',
      markup.tag('span', word, class_=f'kind {name}'),
      f' {len(rows)}',
      f' ({len(shown)} different)' if len(shown) < len(rows) else None,
    ),
    shown,
    open=first,
  )


def _indices(indices: Sequence[int]) -> str:
  if len(indices) == 1:
    return f'sample {indices[0]}'
  first = ', '.join(map(str, indices[:8]))
  more = f' and {len(indices) - 8} more' if len(indices) > 8 else ''
  return f'{len(indices)} samples: {first}{more}'


def marked(text: str, why: str) -> markup.Html:
  """Returns a text with the step marked that a checker found wrong."""
  step = _STEP.match(why)
  at = text.find(step.group(1)) if step else -1
  if step is None or at < 0:
    return markup.join(text)
  end = at + len(step.group(1))
  return markup.join(text[:at], markup.tag('mark', text[at:end]), text[end:])


def _index(
  rows: Sequence[Sequence[Any]], sources: Sequence[Source], total: int
) -> str:
  """Returns the page that lists the problems."""
  levels = sorted({row[2] for row in rows} - {''})
  data = {
    'rows': rows,
    'roles': [names.ROLES[source.role] for source in sources],
    'kinds': list(KINDS),
    'levels': levels,
  }
  models = [
    (str(i), f'{names.ROLES[source.role]}: {source.name}')
    for i, source in enumerate(sources)
  ]
  body = markup.tag(
    'body',
    markup.tag(
      'header',
      markup.tag('h1', _TITLE),
      markup.tag(
        'p',
        f'{total:,} samples of {len(rows):,} problems.',
        class_='lead',
      ),
      markup.tag(
        'noscript',
        markup.tag(
          'p',
          'Without its script this page cannot list the problems; they are in '
          'the folder pages, one file each.',
          class_='banner',
        ),
      ),
    ),
    markup.tag(
      'form',
      markup.tag(
        'label',
        'Search',
        markup.tag('input', id='search', type='search', autocomplete='off'),
      ),
      _choice('level', 'Level', [(one, one) for one in levels]),
      _choice('solved', 'Solved by', _solved(sources)),
      _choice('model', 'Samples of', models),
      _choice('kind', 'Samples that are', list(KINDS.items())),
      id='filters',
      hidden=True,
    ),
    markup.tag('p', '', id='count', role='status'),
    markup.tag(
      'div',
      markup.tag(
        'div',
        markup.tag('ol', id='list'),
        markup.tag(
          'button', 'Show more', id='more', type='button', hidden=True
        ),
        id='side',
      ),
      markup.tag(
        'iframe', id='frame', title='Samples of the problem', sandbox=True
      ),
      id='panes',
    ),
    markup.tag(
      'script',
      markup.raw(json.dumps(data, ensure_ascii=True).replace('<', '\\u003c')),
      type='application/json',
      id='data',
    ),
    markup.tag('script', markup.raw(samplescript.SCRIPT)),
    class_='browser',
  )
  return _document(_TITLE, body, policy())


def _solved(sources: Sequence[Source]) -> list[tuple[str, str]]:
  if len(sources) != 2:
    return [('all', 'a model'), ('none', 'no model')]
  first, second = (names.ROLES[source.role] for source in sources)
  return [
    ('0', f'{first} alone'),
    ('1', f'{second} alone'),
    ('all', 'both'),
    ('none', 'neither'),
  ]


def _choice(
  name: str, label: str, options: Sequence[tuple[str, str]]
) -> markup.Html:
  # Values are numbers: texts of the study are no attributes.
  return markup.tag(
    'label',
    label,
    markup.tag(
      'select',
      markup.tag('option', 'any', value=''),
      [
        markup.tag('option', shown, value=str(at))
        for at, (_, shown) in enumerate(options)
      ],
      id=name,
    ),
  )


def _document(title: str, body: markup.Html, content: str) -> str:
  return markup.document(title, body, _SHEET, content)


def page_policy() -> str:
  """Returns the content security policy of a problem's page: a style sheet."""
  return (
    f"default-src 'none'; style-src {markup.hashed(_SHEET)}; base-uri 'none'; "
    "form-action 'none'"
  )


def policy() -> str:
  """Returns the content security policy of the list.

  One style sheet, one script, and its own pages in the frame.
  """
  return (
    f"default-src 'none'; style-src {markup.hashed(_SHEET)}; "
    f"script-src {markup.hashed(samplescript.SCRIPT)}; frame-src 'self'; "
    "base-uri 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
  )


def sources(workdir: str, models: Mapping[str, str]) -> list[Source]:
  """Returns the sources of a run folder.

  Args:
    workdir: the run folder.
    models: role -> name of the model.
  """
  return [
    Source(
      role,
      name,
      shardfiles.ShardFolder(storage.join(workdir, 'samples', name)),
      shardfiles.ShardFolder(storage.join(workdir, 'grades', name)),
    )
    for role, name in models.items()
  ]
