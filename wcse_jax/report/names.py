"""What arms, roles and budgets are called, and which colour they have."""

from typing import Any

from wcse_jax.report import text


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


def role(name: str) -> str:
  """Returns what a model of a study is called."""
  return ROLES.get(name, name)


def kind(name: str) -> str:
  """Returns the kind (see `figures`), and so the colour, of an arm or role."""
  return _KINDS.get(name, 'other')


def budgets(results: Results) -> list[dict[str, Any]]:
  """Returns the budgets of a study; none where they are not set yet."""
  return [b for b in results.get('budgets') or [] if b]


def budget_title(budget: dict[str, Any]) -> str:
  """Returns a budget's name with the samples of both models."""
  return (
    f'{budget["name"]}: {text.count(budget.get("wc"))} WC v '
    f'{text.count(budget.get("se"))} SE'
  )


def lead(gap: dict[str, Any] | None) -> str:
  """Returns the kind of what a difference speaks for: of WC, SE, or `other`."""
  words = text.reading(gap, 'wc', 'se')
  return words.split(' ')[0] if words.endswith(' ahead') else 'other'
