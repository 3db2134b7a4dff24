"""The table of prices."""

import datetime
import json
import re

import pytest

from wcse_jax import errors, prices
from wcse_jax.aot import slices


@pytest.mark.parametrize('name', prices.table())
def test_rows_are_dated_and_sourced(name):
  row = prices.table()[name]
  assert row.chip == name
  assert 0.1 < row.usd < 100
  assert datetime.date.fromisoformat(row.date).year >= 2025
  assert re.match(r'https://[\w.]+/', row.source)
  assert row.region


def test_has_the_tpus_and_the_gpus():
  # No list price was found for tpu7x.
  assert {*slices.CHIPS} - {*prices.table()} == {'tpu7x'}
  assert {'h100', 'h200', 'a100-40gb', 'a100-80gb'} <= {*prices.table()}


def test_price_of_a_million():
  # A chip for an hour draws 3,600 samples of one second.
  assert prices.usd_per_million(1.0, 3.6) == pytest.approx(1000)


@pytest.mark.parametrize('name', prices.api())
def test_api_rows_are_dated_and_sourced(name):
  row = prices.api()[name]
  assert row.model == name
  assert 0 < row.read < row.drawn < 100
  assert datetime.date.fromisoformat(row.date).year >= 2024
  assert re.match(r'https://[\w.]+/', row.source)


@pytest.fixture
def own():
  yield
  prices.use('')


def test_own_prices_come_first(own, tmp_path):
  row = {'region': '', 'date': '', 'source': ''}
  path = tmp_path / 'prices.json'
  path.write_text(
    json.dumps(
      {
        'rows': [{'chip': 'cpu', 'usd': 0.36, **row}],
        'api': [
          {'model': 'm', 'read': 1, 'drawn': 5, 'date': '', 'source': ''}
        ],
      }
    )
  )
  assert prices.usd('cpu', 1000) is None
  assert prices.usd_of_tokens('m', 1, 1) is None
  prices.use(str(path))
  assert prices.usd('cpu', 1000) == pytest.approx(0.1)
  assert prices.usd_of_tokens('m', 2_000_000, 1_000_000) == pytest.approx(7)
  # The others stay.
  assert prices.usd('h100', 3600) == prices.table()['h100'].usd
  # The paper's pair: 35 samples for one, drawn tokens alone.
  pro, flash = (
    prices.usd_of_tokens(f'gemini-1.5-{name}', 0, 100)
    for name in ('pro', 'flash')
  )
  assert pro / flash == pytest.approx(35)


@pytest.mark.parametrize(
  ('value', 'said'),
  [
    ([], 'wanted {"rows": [...]}'),
    ({'rows': 3}, 'rows: wanted a list'),
    ({'rows': [{'chip': 'x'}]}, 'row 1: wanted the fields chip, usd'),
    (
      {
        'rows': [
          {'chip': 'x', 'usd': -1, 'region': '', 'date': '', 'source': ''}
        ]
      },
      'usd: wanted a price >= 0; got -1',
    ),
    ({'api': [{'model': 'x'}]}, 'api: row 1: wanted the fields model'),
  ],
)
def test_bad_tables_are_refused(own, tmp_path, value, said):
  path = tmp_path / 'prices.json'
  path.write_text(json.dumps(value))
  with pytest.raises(errors.InputError) as caught:
    prices.use(str(path))
  assert said in str(caught.value)
