import dataclasses
import json

import pytest

from wcse_jax import errors
from wcse_jax.sft import data, grid, settings, train, watch


_RATES = (1e-5, 3e-2, 1e-3)


@pytest.fixture
def config(tiny, sums, tmp_path):
  validation = str(tmp_path / 'validation.jsonl')
  data.write(
    validation, [data.Example(f'Q: 2{i} + 0?\nA:', f' 2{i}.') for i in range(8)]
  )
  return settings.SftConfig(
    checkpoint=tiny,
    train=sums,
    validation=validation,
    steps=8,
    batch_size=8,
    max_length=24,
    checkpoints=2,
    optimizer=settings.OptimizerConfig(schedule='constant'),
    learning_rates=_RATES,
  )


def test_the_best_rate_of_a_grid_is_kept(config, tmp_path, monkeypatch):
  folder = tmp_path / 'run'
  result = grid.run(config, str(folder))
  assert json.loads((folder / 'training.json').read_text()) == result
  scores = {float(rate): score for rate, score in result['rates'].items()}
  assert set(scores) == set(_RATES)
  # So small a rate learns next to nothing.
  assert result['learning_rate'] == max(scores, key=scores.get) != 1e-5
  best = folder / f'rate-{result["learning_rate"]:g}'
  assert (
    json.loads((best / 'training.json').read_text())['scores']
    == (result['scores'])
  )
  for path in (best / 'model').iterdir():
    assert (folder / 'model' / path.name).read_bytes() == path.read_bytes()
  ones = [
    json.loads((folder / f'rate-{rate:g}' / 'training.json').read_text())
    for rate in _RATES
  ]
  assert result['flops'] == sum(one['flops'] for one in ones)
  (row,) = map(json.loads, (folder / 'ledger.jsonl').read_text().splitlines())
  assert row['flops'] == result['flops']
  # Done again, nothing is trained.
  monkeypatch.setattr(train.loop, 'Loop', None)
  assert grid.run(config, str(folder)) == result


@pytest.mark.parametrize(
  ('fields', 'said'),
  [
    ({'learning_rates': (1e-3, 0.001)}, 'learning_rates: wanted numbers > 0'),
    ({'learning_rates': (0.0,)}, 'learning_rates: wanted numbers > 0'),
    ({'validation': ''}, 'learning_rates: wanted validation'),
  ],
)
def test_a_grid_that_cannot_be_chosen_from_is_refused(
  config, tmp_path, fields, said
):
  with pytest.raises(errors.InputError, match=said):
    grid.run(dataclasses.replace(config, **fields), str(tmp_path / 'run'))
  assert not (tmp_path / 'run').exists()


def test_a_rate_that_diverges_is_not_taken(config, tmp_path, monkeypatch):
  real = train.run

  def run(one, folder):
    if one.optimizer.learning_rate == 3e-2:
      raise watch.Diverged('training diverged: loss nan at step 1.')
    return real(one, folder)

  monkeypatch.setattr(train, 'run', run)
  result = grid.run(config, str(tmp_path / 'run'))
  assert result['rates']['0.03'] is None
  assert result['learning_rate'] == 1e-3
  monkeypatch.setattr(
    train, 'run', lambda *_: (_ for _ in ()).throw(watch.Diverged('all'))
  )
  with pytest.raises(errors.InputError, match='all'):
    grid.run(config, str(tmp_path / 'other'))
