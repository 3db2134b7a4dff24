"""What a card says of the worth of its rows: selection, grading, overlap."""

from collections.abc import Mapping
from typing import Any

from wcse_jax import contamination, markdown, records, selection
from wcse_jax.exports import facts, table


def selected(known: facts.Facts, counts: Mapping[str, int] | None) -> list[str]:
  """Returns the lines on what each rule dropped."""
  if counts is None:
    return ['Nothing was selected: every solution is here.']
  chosen = markdown.count(counts.get('chosen', 0), 'row')
  lines = [
    f'Of {markdown.count(counts.get("rows", 0), "graded sample")} of '
    f'{markdown.count(counts.get("problems", 0), "problem")}, {chosen} of '
    f'{markdown.count(counts.get("problems_chosen", 0), "problem")} are left. '
    'The rules hold for each model on its own, and each sees what the last '
    'one left.'
    + ' A problem counts once for each model.'
    * (len(known.models) > 1),
    '',
    *markdown.table(
      ['rule', 'as asked', 'dropped'],
      [
        [
          markdown.code(rule),
          _rule(rule, known.rules),
          markdown.number(counts[rule]),
        ]
        for rule in selection.RULES
        if rule in counts
      ],
      numbers=1,
    ),
  ]
  if counts.get('unjudged'):
    kept = known.rules is not None and known.rules.unjudged
    lines += [
      '',
      f'The rule `sound` met {markdown.count(counts["unjudged"], "sample")} '
      'whose reasoning was not judged; they were '
      f'{"kept" if kept else "dropped"}.',
    ]
  if known.rules is not None and known.rules.verifier == 'majority':
    lines += [
      '',
      'What the majority is worth: of the rows left, '
      f'{markdown.number(counts.get("chosen_known", 0))} have a verdict, and '
      f'{markdown.number(counts.get("chosen_right", 0))} of these are right.',
    ]
  if known.rules is not None and known.rules.seed is not None:
    lines += [
      '',
      f'Which of several is kept was drawn by the seed {known.rules.seed}.',
    ]
  return lines


def _rule(rule: str, rules: selection.Selection | None) -> str:
  """Returns what was asked of a rule."""
  if rules is None:
    return 'unknown'
  if not getattr(rules, rule):
    return 'off'
  match rule:
    case 'right' if rules.verifier == 'majority':
      return (
        'the most frequent answer of its problem, had by at least '
        f'{rules.share:g} of the samples; no reference is looked at'
      )
    case 'right':
      return 'the verdict is right'
    case 'sound':
      rest = 'kept' if rules.unjudged else 'dropped'
      return f'the reasoning is sound; what is not judged is {rest}'
    case 'distinct':
      return 'of the solutions of a problem that reason alike, one'
    case 'per_problem':
      return f'at most {rules.per_problem} of a problem'
  return 'on'


def graded(known: facts.Facts, tally: table.Tally) -> list[str]:
  """Returns the lines on verdicts and false positives."""
  names = [model.name for model in known.models]
  if not names:
    return ['The solutions are those of the set and were not graded.']
  version = f', version {known.grader},' if known.grader else ''
  lines = [
    f'The grader of the task {markdown.code(known.problems.task)}{version} '
    'compares the final answer of a text with the reference, or runs its '
    'program on tests. Verdicts are right, wrong, unparsed (no answer was '
    'found), timeout and error; the last two say nothing of the answer. Where '
    'the task can check the steps, too, `sound` says what it found.',
    '',
    'Rows here:',
    '',
    *markdown.table(
      ['model', *records.VERDICTS, 'sound', 'not sound', 'not known'],
      [
        [
          markdown.code(name),
          *(markdown.number(tally.verdicts[name, v]) for v in records.VERDICTS),
          *(markdown.number(tally.sound[name, s]) for s in (True, False, None)),
        ]
        for name in names
      ],
      numbers=len(records.VERDICTS) + 3,
    ),
    '',
    'False positives, right answers by unsound reasoning:',
    '',
  ]
  rates = [
    [
      markdown.code(name),
      _judge(row.get('judge')),
      markdown.number(row['judged'])
      if isinstance(row.get('judged'), int)
      else 'unknown',
      _estimate(row.get('rate')),
      _estimate(row.get('corrected')),
    ]
    for name in names
    for row in known.judges.get(name, ())
  ]
  if not rates:
    return [*lines[:-2], 'The rate of false positives was not measured.']
  return [
    *lines,
    *markdown.table(
      ['model', 'judged by', 'samples', 'rate', 'corrected by an audit'],
      rates,
      numbers=3,
    ),
    '',
    'Rates are of all right samples of a model, before other rules of the '
    'selection, with 95% intervals over n problems.',
  ]


def _judge(name: Any) -> str:
  if name == 'task':
    return "the task's own check"
  if not name or not isinstance(name, str):
    return 'people'
  return markdown.code(name)


def _estimate(row: Any) -> str:
  """Returns a rate with its interval and n."""
  if not isinstance(row, Mapping):
    return '-'
  value, low, high, n = (row.get(k) for k in ('value', 'low', 'high', 'n'))
  if not isinstance(value, float | int):
    return 'unknown'
  text = f'{value:.1%}'
  if isinstance(low, float | int) and isinstance(high, float | int):
    text += f' ({low:.1%} to {high:.1%})'
  return text + (f', n = {n}' if isinstance(n, int) else '')


def overlapping(known: facts.Facts) -> list[str]:
  """Returns the lines on what the rows share with test problems."""
  found = known.overlap
  if found is None:
    lines = ['It was not looked for.']
  else:
    long, short = contamination.LONG, contamination.SHORT
    lines = [
      f'Of the {markdown.number(found["test"])} problems of the test split, '
      f'{markdown.number(found["equal"])} have the very words of a question '
      f'here, and {markdown.number(found[f"any_{long}_gram"])} share {long} '
      'words in a row with one. How many share how much of their '
      f'{short}-grams with a single question, of '
      f'{markdown.number(found["train"])} here:',
      '',
      *markdown.table(
        ['share', 'test problems', 'problems here'],
        [
          [
            _share(row['share']),
            *map(markdown.number, (row['test'], row['train'])),
          ]
          for row in found[f'share_of_{short}_grams']
        ],
        numbers=2,
      ),
    ]
  if known.decontaminate:
    lines += [
      '',
      f'{markdown.count(known.decontaminated, "problem")} with a share of '
      f'{known.decontaminate:.0%} or more of some test problem were left out '
      'before.',
    ]
  return lines


def _share(share: float) -> str:
  return 'all' if share == 1 else f'{share:.0%} or more'
