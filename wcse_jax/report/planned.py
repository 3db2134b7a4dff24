"""What a pilot foretold, beside what came of it."""

from typing import Any

from wcse_jax.report import markup, names, text


_VERDICTS = {
  'weak': 'the weaker model covers more',
  'strong': 'the stronger model covers more',
  'equal': 'no difference worth having',
  'cannot tell': 'the pilot cannot tell',
}
_KINDS = {
  'pure': 'one model a problem',
  'mix': 'both models for all',
  'cascade': 'one model, then the other on what is left',
  'adaptive': 'rounds until a problem is solved',
}


def planned(results: names.Results) -> markup.Html:
  """Returns plan beside outcome."""
  found = results.get('plan')
  if not found:
    return markup.absent('A plan from a pilot')
  pair, plan = found.get('pair') or {}, found.get('allocation') or {}
  return markup.join(
    markup.tag(
      'p',
      f'A pilot: {text.count(found.get("pilot_samples"))} samples by each '
      f'model of {text.count(found.get("pilot_problems"))} of the problems. '
      'From it alone the planner foretold the gap at equal cost, and chose how '
      'to spend the high budget; the plan was then followed with samples of '
      'its own. Outcomes of the gap and of the pure arm are by brute force on '
      'the problems of the study; that of the plan is of one run.',
    ),
    markup.tag(
      'p',
      markup.tag(
        'b', f'Verdict: {_VERDICTS.get(pair.get("verdict"), "unknown")}'
      ),
      f' at {text.count(pair.get("k_weak"))} samples of {pair.get("weak")} '
      f'against {text.count(pair.get("k_strong"))} of {pair.get("strong")}. ',
      _break_even(pair, found.get('pilot_problems')),
    ),
    _table(found, pair, plan),
    markup.tag('ul', [_part(part) for part in plan.get('parts') or []]),
    _kinds(plan),
  )


def _break_even(pair: dict[str, Any], problems: int | None) -> str:
  ratio = pair.get('break_even_ratio')
  if ratio is None:
    return 'No cost ratio would make them equal.'
  row = {
    'value': ratio,
    'low': pair.get('break_even_low'),
    'high': pair.get('break_even_high'),
    'n': problems,
  }
  return (
    f'Break-even cost ratio {text.estimate(row, "number")}; here a sample of '
    f'the stronger costs {text.number(pair.get("ratio"))} times as much.'
  )


def _table(found, pair, plan) -> markup.Html:
  gap = {
    'value': pair.get('gap'),
    'low': pair.get('gap_low'),
    'high': pair.get('gap_high'),
    'n': found.get('pilot_problems'),
  }
  followed = found.get('followed') or {}
  problems = {'n': found.get('pilot_problems')}
  pure = (plan.get('best_pure') or {}) | problems
  return markup.table(
    ['', 'Foretold by the pilot', 'Outcome'],
    [
      [
        'Gap in coverage at equal cost',
        markup.estimate(gap, 'points'),
        markup.estimate(found.get('gap'), 'points'),
      ],
      [
        f'Coverage of the best pure arm, {text.count(pure.get("samples"))} of '
        f'{pure.get("model")}',
        markup.estimate(pure, 'percent'),
        markup.estimate(found.get('pure'), 'percent'),
      ],
      [
        'Coverage of the plan',
        markup.estimate(plan | problems, 'percent'),
        markup.estimate(followed.get('covered'), 'percent'),
      ],
      [
        f'Cost of the plan a problem, {found.get("currency")}',
        text.scaled(plan.get('cost')),
        text.scaled(
          followed['cost'] / followed['problems']
          if followed.get('problems')
          else None
        ),
      ],
    ],
    label='Plan and outcome',
  )


def _part(part: dict[str, Any]) -> markup.Html:
  stages = ', then '.join(
    f'{text.count(one["samples"])} of {one["model"]}'
    + (
      f' in rounds of {text.count(one["round"])}'
      if one['round'] < one['samples']
      else ''
    )
    for one in part['stages']
  )
  level = f' of level {part["level"]}' if part['level'] else ''
  until = f', until {text.count(part["until"])} right' if part['until'] else ''
  return markup.tag(
    'li',
    f'{text.quantity(part["share"], "percent")} of the problems{level}: at '
    f'most {stages or "nothing"}{until}',
  )


def _kinds(plan: dict[str, Any]) -> markup.Html | None:
  rows = [row for row in plan.get('kinds') or [] if row]
  if not rows:
    return None
  return markup.table(
    ['The best plan among', 'Coverage foretold'],
    [
      [
        _KINDS.get(row['kind'], row['kind']) + (', or simpler' if i else ''),
        text.quantity(row.get('coverage'), 'percent'),
      ]
      for i, row in enumerate(rows)
    ],
    label='The best plan of each kind',
  )
