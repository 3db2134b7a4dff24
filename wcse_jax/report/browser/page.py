"""The page of one problem: what each model wrote, without any script."""

import re
from collections.abc import Callable, Sequence

from wcse_jax import records
from wcse_jax.report import markup, names
from wcse_jax.report import style as sheets
from wcse_jax.report.browser import data, style


SHEET = sheets.SHEET + style.SHEET
# What a checker says of a step: the step, then what is wrong with it.
_STEP = re.compile(r'(.+?) (?:is false|uses )')


def render(
  problem: records.Problem,
  sources: Sequence[data.Source],
  found: Sequence[Sequence[data.Found]],
  check: Callable[[str], str],
) -> str:
  """Returns the page.

  Args:
    problem: the problem.
    sources: of each model.
    found: its samples.
    check: what is wrong with a text, where its grade does not say.
  """
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
        _column(source, kind, rows, check)
        for source, kind, rows in zip(
          sources, _kinds(sources), found, strict=True
        )
      ],
      class_='columns',
    ),
    class_='problem',
  )
  return markup.document(f'Problem {problem.id}', body, SHEET, policy())


def _kinds(sources: Sequence[data.Source]) -> list[str]:
  """Returns the kind, and so the colour, of each model."""
  models = {'models': {source.role: {} for source in sources}}
  return [names.kind(models, source.role) for source in sources]


def _column(
  source: data.Source,
  kind: str,
  rows: Sequence[data.Found],
  check: Callable[[str], str],
) -> markup.Html:
  counts = data.counts(rows)
  right = counts['right'] + counts['unsound']
  groups = []
  for name, word in data.KINDS.items():
    own = [(row, grade) for found, row, grade in rows if found == name]
    if own:
      groups.append(_group(name, word, own, check, first=not groups))
  return markup.tag(
    'section',
    markup.tag(
      'h2',
      markup.tag('span', source.title, class_=f'key {kind}'),
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


def policy() -> str:
  """Returns the content security policy of a problem's page: a style sheet."""
  return (
    f"default-src 'none'; style-src {markup.hashed(SHEET)}; base-uri 'none'; "
    "form-action 'none'"
  )
