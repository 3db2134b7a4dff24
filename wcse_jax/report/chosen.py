"""Whether the reasoning is sound, and which samples were trained on."""

from typing import Any

from wcse_jax.report import markup, names, text


# Rule of the selection -> the head of its column.
_RULES = {
  'right': 'Not right',
  'sound': 'Not sound',
  'distinct': 'Repeated',
  'per_problem': 'Over the cap',
}
_WHO = {'task': "the task's own check", '': 'people alone'}


def reasoning(results: names.Results) -> markup.Html:
  """Returns the false-positive rates by judge, corrected by an audit."""
  found = [
    (role, row)
    for role, rows in (results.get('judges') or {}).items()
    for row in rows or []
    if row
  ]
  if not found:
    return markup.absent('Judgement of the reasoning')
  audited = any(row.get('corrected') for _, row in found)
  return markup.join(
    markup.tag(
      'p',
      'Of all right samples drawn, the share whose reasoning is wrong: as a '
      'judge has it, and corrected for the errors of the judge by what people '
      'said of a random part (prediction-powered inference).'
      if audited
      else 'Of all right samples drawn, the share whose reasoning is wrong, as '
      'a judge has it. No person has audited it: run launch/audit.py to '
      'correct it.',
      class_='lead',
    ),
    markup.table(
      [
        'Samples',
        'Judge',
        'Judged',
        'No word',
        'By the judge',
        'Corrected',
        'By the audit alone',
        'Agrees with it',
      ],
      [
        [
          names.key(results, role),
          _WHO.get(row.get('judge'), row.get('judge')),
          text.count(row.get('judged')),
          text.count(row.get('unknown')),
          markup.estimate(row.get('rate'), 'percent'),
          markup.estimate(row.get('corrected'), 'percent'),
          markup.estimate(row.get('audit'), 'percent'),
          _agreement(row.get('agreement')),
        ]
        for role, row in found
      ],
      label='False positives by judge',
      numeric=range(2, 8),
    ),
    [_canaries(names.role(results, role), row) for role, row in found],
    [_levels(names.role(results, role), row) for role, row in found],
  )


def _agreement(found: dict[str, Any] | None) -> markup.Html:
  if not found or not found.get('n'):
    return markup.estimate(None, 'percent')
  return markup.estimate(found, 'percent')


def _canaries(label: str, row: dict[str, Any]) -> markup.Html | None:
  """Returns how often a judge accepted texts that were planted."""
  found = row.get('canaries')
  if not found:
    return None
  parts = [
    f'{kind} {text.count(one.get("accepted"))} of {text.count(one.get("n"))} '
    f'(right: {"all" if one.get("sound") else "none"}; no verdict: '
    f'{text.count(one.get("unparsed"))})'
    for kind, one in found.items()
    if one
  ]
  return markup.tag(
    'p',
    f'{label}, {row.get("judge")}: of planted texts the '
    f'judge accepted {"; ".join(parts)}. A judge that accepts hollow or '
    'corrupted texts is not to be believed without an audit.',
  )


def _levels(label: str, row: dict[str, Any]) -> markup.Html | None:
  levels = [level for level in row.get('by_level') or [] if level]
  if not levels:
    return None
  who = _WHO.get(row.get('judge'), row.get('judge'))
  return markup.details(
    f'{label} by level, judged by {who}',
    markup.table(
      ['Level', 'Judged', 'By the judge', 'Corrected'],
      [
        [
          level.get('level'),
          text.count(level.get('judged')),
          markup.estimate(level.get('rate'), 'percent'),
          markup.estimate(level.get('corrected'), 'percent'),
        ]
        for level in levels
      ],
      label='False positives by level',
      numeric=range(1, 4),
    ),
  )


def selected(results: names.Results) -> markup.Html:
  """Returns what became of each arm's samples, and the overlap of the sets."""
  rows = [row for row in results.get('selection') or [] if row]
  return markup.join(
    _counts(results, rows) if rows else markup.absent('Selection'),
    _exports(results),
    _overlap(results.get('contamination')),
  )


def _exports(results: names.Results) -> markup.Html | None:
  """Returns where the rows of each arm lie, to be trained on elsewhere."""
  rows = [row for row in results.get('exports') or [] if row]
  if not rows:
    return None
  return markup.join(
    markup.tag('h3', 'The data, to take along'),
    markup.table(
      ['Arm', 'Budget', 'Rows', 'Folder, in the run folder'],
      [
        [
          names.key(results, row.get('arm'), row.get('label')),
          row.get('budget'),
          text.count(row.get('rows')),
          markup.tag('code', row.get('folder')),
        ]
        for row in rows
      ],
      label='Exported data',
      numeric=(2,),
    ),
  )


def _counts(results: names.Results, rows: list[dict[str, Any]]) -> markup.Html:
  body = []
  for row in rows:
    counts = row.get('counts') or {}
    body.append(
      [
        names.key(results, row.get('arm'), row.get('label')),
        text.count(counts.get('rows')),
        *(text.count(counts.get(rule)) for rule in _RULES),
        text.count(counts.get('chosen')),
        f'{text.count(counts.get("problems_chosen"))} of '
        f'{text.count(counts.get("problems"))}',
        _share(counts.get('chosen_right'), counts.get('chosen_known')),
      ]
    )
  return markup.join(
    markup.tag(
      'p',
      'What became of the pool of replicate 0: each rule sees what the one '
      'before it left.',
      class_='lead',
    ),
    markup.table(
      ['Arm', 'Pool', *_RULES.values(), 'Trained on', 'Problems', 'Right'],
      body,
      label='What each rule dropped',
      numeric=range(1, 9),
    ),
  )


def _share(part: int | None, whole: int | None) -> str:
  if not whole or part is None:
    return 'unknown'
  return text.quantity(part / whole, 'percent')


def _overlap(found: dict[str, Any] | None) -> markup.Html:
  if not found:
    return markup.absent('Overlap of training and test problems')
  shares = [row for row in found.get('share_of_8_grams') or [] if row]
  return markup.join(
    markup.tag('h3', 'Are test problems among the training problems?'),
    markup.tag(
      'p',
      f'Of {text.count(found.get("test"))} test problems '
      f'{text.count(found.get("equal"))} have the words of a training problem '
      f'and {text.count(found.get("any_13_gram"))} share 13 words in a row '
      f'with one; {text.count(found.get("dropped"))} of '
      f'{text.count(found.get("train"))} training problems were left out of '
      'training for it. Templates alone make such matches: the shares tell how '
      'far they go.',
    ),
    markup.details(
      'Shares of 8-word stretches',
      markup.table(
        ['Share from', 'Test problems', 'Training problems'],
        [
          [
            text.quantity(row.get('share'), 'percent'),
            text.count(row.get('test')),
            text.count(row.get('train')),
          ]
          for row in shares
        ],
        label='Overlap of training and test problems',
        numeric=range(3),
      ),
    ),
  )
