"""What arms, roles and budgets are called, and which colour they have."""

from collections.abc import Mapping
from typing import Any

from wcse_jax.report import markup, text


Results = dict[str, Any]

ROLES = {'wc': 'WC', 'se': 'SE', 'student': 'student'}
ARMS = {
  'wc': 'WC',
  'se': 'SE',
  'wc_number_matched': 'WC, as many as SE',
}
_KINDS = {
  'wc': 'wc',
  'se': 'se',
  'wc_number_matched': 'wc-matched',
  'mix': 'mix',
  'cascade': 'cascade',
  'human': 'human',
}
# Kinds that models beyond WC and SE have, in order.
_FURTHER = ('m1', 'm2', 'm3', 'm4', 'm5', 'm6')


def title(results: Results) -> str:
  """Returns the title of a study's report."""
  return results.get('title') or 'Weaker and cheaper, or stronger and dearer?'


def further(results: Results) -> list[str]:
  """Returns the roles of models beyond WC, SE and the student."""
  return [role for role in results.get('models') or {} if role not in ROLES]


def sampled(results: Results) -> list[str]:
  """Returns the roles that may have samples: WC, SE, further ones."""
  return ['wc', 'se', *further(results)]


def kind(results: Results, name: Any) -> str:
  """Returns the kind (see `figures`), and so the colour, of an arm or role."""
  more = further(results)
  if name in more:
    return _FURTHER[more.index(name) % len(_FURTHER)]
  return _KINDS.get(name, 'other')


def role(results: Results, name: Any) -> str:
  """Returns what a role is called."""
  model = (results.get('models') or {}).get(name) or {}
  return ROLES.get(name) or str(model.get('label') or name)


def arm(results: Results, name: Any) -> str:
  """Returns what an arm is called where it has no label of its own."""
  return ARMS.get(name) or role(results, name)


def key(results: Results, name: Any, label: Any = None) -> markup.Html:
  """Returns the name of a role or an arm in its colour."""
  return markup.tag(
    'span',
    role(results, name) if label is None else label,
    class_=f'key {kind(results, name)}',
  )


def budgets(results: Results) -> list[dict[str, Any]]:
  """Returns the budgets of a study; none where they are not set yet."""
  return [b for b in results.get('budgets') or [] if b]


def budget_title(budget: Mapping[str, Any]) -> str:
  """Returns a budget's name with the samples of both models."""
  return (
    f'{budget["name"]}: {text.count(budget.get("wc"))} WC v '
    f'{text.count(budget.get("se"))} SE'
  )


def lead(gap: Mapping[str, Any] | None) -> str:
  """Returns the kind of what a difference speaks for: of WC, SE, or `other`."""
  words = text.reading(gap, 'wc', 'se')
  return words.split(' ')[0] if words.endswith(' ahead') else 'other'


def primary(contrast: Mapping[str, Any]) -> bool:
  """Returns whether a difference between arms is the one that was named."""
  return bool(contrast.get('primary')) or contrast.get('role') == 'primary'
