"""What the study cost, samples to read, and how it was run."""

from collections.abc import Iterator
from typing import Any

from wcse_jax.report import figures, markup, names, text


def cost(results: names.Results) -> markup.Html:
  """Returns the ledger: every stage in tokens, FLOPs, chip time and money."""
  ledger = results.get('ledger') or {}
  stages = [stage for stage in ledger.get('by_stage') or [] if stage]
  rows = [row for row in ledger.get('rows') or [] if row]
  if not stages and not rows:
    return markup.absent('Cost')
  return markup.join(
    markup.tag(
      'p',
      'Counts, not estimates: they have no interval. Compiling is left out of '
      'chip time; a process on a CPU counts as one chip.',
      class_='lead',
    ),
    markup.tag(
      'div',
      figures.bars(
        'cost-flops',
        'FLOPs by stage',
        'Multiplications and additions of matrix products, and the share of '
        'the whole study.',
        [
          (
            str(stage['stage']),
            stage.get('flops') or 0,
            f'{text.scaled(stage.get("flops"), "FLOP")} '
            f'({text.quantity(stage.get("share_of_flops"), "percent")})',
          )
          for stage in stages
        ],
        unit='FLOP',
      ),
      figures.bars(
        'cost-time',
        'Chip time by stage',
        'Seconds times chips.',
        [
          (
            str(stage['stage']),
            stage.get('chip_seconds') or 0,
            text.duration(stage.get('chip_seconds')),
          )
          for stage in stages
        ],
        unit='chip-seconds',
      ),
      class_='grid',
    ),
    _ledger_table(rows) if rows else None,
  )


def examples(results: names.Results) -> markup.Html:
  """Returns a few problems with what the models wrote."""
  found = [example for example in results.get('examples') or [] if example]
  shown = results.get('samples_shown')
  if not found:
    return markup.absent('Examples')
  return markup.join(
    markup.tag(
      'p',
      'As the models wrote them. A false positive has the right answer and '
      'wrong reasoning.',
      class_='lead',
    ),
    markup.tag(
      'p',
      markup.tag(
        'a',
        f'All {text.count(shown)} samples, problem by problem',
        href='samples/index.html',
      ),
    )
    if shown
    else None,
    [_example(example) for example in found],
  )


def notes(results: names.Results) -> markup.Html:
  """Returns the notes on how to read the study."""
  own = [markup.tag('li', note) for note in results.get('notes') or []]
  return markup.tag(
    'ul',
    markup.tag(
      'li',
      'Intervals hold 95% and come from resampling problems, and for students '
      'the runs too; n counts problems. An interval of width 0 means that no '
      'problem differed, not that the number is certain.',
    ),
    markup.tag(
      'li',
      'Where an interval of a difference holds 0, the study cannot tell which '
      'is better. That is not the same as having shown that both are equal.',
    ),
    own,
  )


def origin(results: names.Results) -> markup.Html:
  """Returns where the numbers come from: versions and the configuration."""
  provenance, config = results.get('provenance'), results.get('config')
  return markup.join(
    markup.details('Provenance', markup.facts(_flat(provenance)))
    if provenance
    else markup.absent('Provenance'),
    markup.details('Configuration', markup.facts(_flat(config)))
    if config
    else markup.absent('Configuration'),
  )


def _ledger_table(rows: list[dict[str, Any]]) -> markup.Html:
  cells = [
    [
      row.get('stage'),
      row.get('model'),
      text.count(row.get('prefill_tokens')),
      text.count(row.get('decode_tokens')),
      text.scaled(row.get('flops'), 'FLOP'),
      text.duration(row.get('chip_seconds')),
      text.count(row.get('chips')),
      text.money(row.get('usd')),
    ]
    for row in rows
  ]
  sums = {
    key: sum(row.get(key) or 0 for row in rows)
    for key in ('prefill_tokens', 'decode_tokens', 'flops', 'chip_seconds')
  }
  prices = [row['usd'] for row in rows if text.known(row.get('usd'))]
  cells.append(
    [
      'together',
      '',
      text.count(sums['prefill_tokens']),
      text.count(sums['decode_tokens']),
      text.scaled(sums['flops'], 'FLOP'),
      text.duration(sums['chip_seconds']),
      '',
      text.money(sum(prices) if prices else None),
    ]
  )
  heads = [
    'Stage',
    'Model',
    'Prompt tokens',
    'Drawn tokens',
    'FLOPs',
    'Chip time',
    'Chips',
    'Price',
  ]
  return markup.table(
    heads, cells, label='Ledger', numeric=range(2, 8), marked=[len(rows)]
  )


def _example(example: dict[str, Any]) -> markup.Html:
  samples = [sample for sample in example.get('samples') or [] if sample]
  level = example.get('level')
  return markup.tag(
    'article',
    markup.tag(
      'h3',
      f'Problem {example.get("problem_id")}',
      f', level {level}' if level not in (None, '') else None,
    ),
    markup.tag('p', example.get('question')),
    markup.tag('p', 'Answer: ', markup.tag('b', example.get('answer'))),
    markup.details(
      'Reference solution', markup.tag('pre', example.get('reference'))
    )
    if example.get('reference')
    else None,
    [_sample(sample) for sample in samples],
  )


def _sample(sample: dict[str, Any]) -> markup.Html:
  role = str(sample.get('model'))
  verdict, sound = sample.get('verdict'), sample.get('sound')
  words = str(verdict)
  if verdict == 'right' and sound is False:
    words = 'right answer, wrong reasoning: a false positive'
  elif verdict == 'right' and sound:
    words = 'right answer, sound reasoning'
  elif verdict == 'right':
    words = 'right answer, reasoning not judged'
  return markup.tag(
    'div',
    markup.tag(
      'p',
      markup.tag('span', names.ROLES.get(role, role), class_='key'),
      ': ',
      markup.tag('b', words),
      f'. {sample["why"]}' if sample.get('why') else None,
    ),
    markup.tag('pre', sample.get('text')),
    class_=f'sample {names.kind(role)}',
  )


def _flat(tree: Any, prefix: str = '') -> Iterator[tuple[str, str]]:
  """Yields the leaves of nested dicts with their dotted names."""
  for key, value in tree.items():
    if isinstance(value, dict) and value:
      yield from _flat(value, f'{prefix}{key}.')
    else:
      yield f'{prefix}{key}', str(value) or '(empty)'
