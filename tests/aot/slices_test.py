"""Slices by name, and what is derived of their chips' figures."""

import pytest

from wcse_jax import errors
from wcse_jax.aot import slices


def test_parses_sides():
  pieces = slices.parse('v5e:4x4')
  assert (pieces.name, pieces.chips, pieces.sides) == ('v5e:4x4', 16, (4, 4))
  assert slices.parse('v5p:2x2x4').chips == 16


@pytest.mark.parametrize(
  'text',
  ['', 'v5e', 'v5e:', 'v5e:4', 'v5e:4x0', 'v5e:4x4x4', 'v5p:2x2', 'v9:1'],
)
def test_refuses_what_is_no_slice(text):
  with pytest.raises(errors.InputError, match='topology: wanted') as caught:
    slices.parse(text)
  assert '\n' not in str(caught.value)


def test_unknown_chip_lists_the_known_ones():
  with pytest.raises(errors.InputError) as caught:
    slices.parse('v3:2x2')
  assert all(name in str(caught.value) for name in slices.CHIPS)


def test_wraps_around_whole_sides_and_cubes_only():
  assert slices.parse('v5e:4x4').wraps == (False, False)
  assert slices.parse('v5e:8x16').wraps == (False, True)
  assert slices.parse('v5p:2x2x4').wraps == (False, False, False)
  assert slices.parse('v5p:4x4x8').wraps == (True, True, True)


def test_links_are_what_the_documents_say():
  # 1,600 Gbps of a v5e chip: four links, one direction.
  assert 4 * slices.CHIPS['v5e'].link == 200e9
  assert slices.CHIPS['v5p'].link == 100e9


@pytest.mark.parametrize('name', slices.CHIPS)
def test_figures_are_in_their_units(name):
  chip = slices.CHIPS[name]
  assert 15e9 < chip.usable < 210e9
  assert 8e11 < chip.bandwidth < 1e13
  assert 1e14 < chip.bf16 <= chip.int8 < 1e16
  assert chip.ports == 2 * chip.axes
