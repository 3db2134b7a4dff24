"""A text in every place of a study's results that holds free text."""

from typing import Any


def plant(results: dict[str, Any], string: str) -> None:
  """Puts a string in every place that holds free text."""
  results['title'] = string
  results['answer'] = {'sentence': string, 'details': [string]}
  results['task'].update(name=string, split=string, levels=[string])
  results['sampling'] = {string: string}
  for model in results['models'].values():
    model['name'] = string
  for budget in results['budgets']:
    budget.update(currency=string, rounding=string)
  for row in results['ratios'] + results['dial']:
    row['budget'] = row['verdict'] = string
  _plant_further(results, string)
  results['break_even'] = {string: {'ratio': 2.0, 'low': 1.5, 'high': 2.5}}
  results['training']['budget'] = string
  for arms in results['quality'].values():
    arms[string] = arms.pop('wc')
    for m in arms.values():
      for at, level in enumerate(m['by_level']):
        level['level'] = f'{string}{at}'
  for setup in results['training']['setups']:
    setup.update(title=string, model=string, setup=string)
    for arm in setup['arms']:
      arm.update(arm=string, label=string)
    for contrast in setup['contrasts']:
      contrast.update(a=string, b=string, reading=string)
  for row in results['ledger']['rows']:
    row.update(stage=string, model=string)
  for row in results['ledger']['by_stage']:
    row['stage'] = string
  for check in results['truth']['checks']:
    check['model'] = string
  for example in results['examples']:
    for key in ('problem_id', 'level', 'question', 'reference', 'answer'):
      example[key] = string
    for sample in example['samples']:
      sample.update(model=string, text=string, verdict=string, why=string)
  results['provenance'] = {string: string}
  results['config'] = {string: {string: string}}
  results['notes'] = [string]


def _plant_further(results: dict[str, Any], string: str) -> None:
  """Plants it in the parts that not every study has."""
  model = results['models'].pop('se_hot')
  results['models'][string] = {**model, 'label': string}
  for tree in (*results['quality'].values(), results['curves']):
    tree[string] = tree.pop('se_hot')
  results['majority'][string] = results['majority'].pop('wc')
  for row in results['gaps_of']:
    row.update(budget=string, model=string, against=string, verdict=string)
  for row in results['currencies']:
    row.update({string: row.pop('se_hot')})
  results['currencies'][-1]['currency'] = string
  for row in results['prompts']:
    row.update(model=string, sha256=string, text=string)
  for row in results['exports']:
    row.update(arm=string, budget=string, label=string, folder=string)
  training = results['training']
  training['underpowered'] = string
  training['transfer'] = [
    {'name': string, 'task': string, 'split': string, 'problems': 3}
  ]
  for setup in training['setups']:
    setup['budget'] = string
    for row in (setup['untuned'], *setup['arms']):
      row[f'{string}: pass@1'] = row.pop('svamp: pass@1')
    for arm in setup['arms']:
      for run in arm['replicates']:
        run[f'{string}: pass@1'] = run.pop('svamp: pass@1')
    setup['contrasts'][-1]['metric'] = f'{string}: pass@1'
