"""The table of prices."""

import datetime
import re

import pytest

from wcse_jax import prices
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
