"""Who takes part in a collective, and how long it takes."""

import pytest

from wcse_jax.aot import collectives, slices


@pytest.mark.parametrize(
  ('text', 'want'),
  [
    ('replica_groups={{0,2},{1,3}}, x=1', (0, 2)),
    ('replica_groups=[2,4]<=[8]', (0, 1, 2, 3)),
    ('replica_groups=[2,4]<=[4,2]T(1,0)', (0, 2, 4, 6)),
    ("replica_groups=mesh['a'=8] {'a'}", tuple(range(8))),
    ("replica_groups=mesh['a'=4,'b'=2] {'a'}", (0, 2, 4, 6)),
    ("replica_groups=mesh['a'=4,'b'=2] {'b'}, y=2", (0, 1)),
    # The inner half of an axis of 8, then the outer quarter.
    ("replica_groups=mesh['a'=8] {'a':(4)2}", (0, 1)),
    ("replica_groups=mesh['a'=8] {'a':(1)4}", (0, 2, 4, 6)),
    ('source_target_pairs={{2,6},{3,7}}', (2, 6)),
    ('to_apply=%add', (0, 1, 2, 3)),
  ],
)
def test_first_group(text, want):
  assert collectives.group(text, 4 if 'to_apply' in text else 8) == want


def _seconds(kind, size, group, topology, places=None):
  pieces = slices.parse(topology)
  if places is None:
    x, y = pieces.sides[:2]
    places = [(i // y, i % y, 0) for i in range(x * y)]
  item = collectives.Collective(kind, size, group, 1)
  return collectives.seconds(item, places, pieces)


def test_line_has_one_link_and_ring_two():
  # v5e links carry 50 GB/s one way.
  line = _seconds('all-gather', 1e9, (0, 1, 2, 3), 'v5e:4x4')
  assert line == pytest.approx(0.75e9 / 50e9 + 3e-6)
  ring = _seconds('all-gather', 1e9, tuple(range(16)), 'v5e:16x16')
  assert ring == pytest.approx(15 / 16 * 1e9 / 100e9 + 8e-6)


def test_both_axes_share_the_work():
  both = _seconds('all-gather', 1e9, tuple(range(16)), 'v5e:4x4')
  assert both == pytest.approx(15 / 16 * 1e9 / 100e9 + 6e-6)


def test_all_reduce_passes_twice():
  group = tuple(range(8))
  once = _seconds('reduce-scatter', 1e8, group, 'v5e:2x4')
  assert _seconds('all-reduce', 1e8, group, 'v5e:2x4') == pytest.approx(
    2 * once
  )


def test_permute_takes_its_hops():
  near = _seconds('collective-permute', 1e6, (0, 1), 'v5e:4x4')
  far = _seconds('collective-permute', 1e6, (0, 15), 'v5e:4x4')
  assert near == pytest.approx(1e6 / 50e9 + 1e-6)
  assert far - near == pytest.approx(5e-6)


def test_all_to_all_is_held_up_by_the_middle():
  few = _seconds('all-to-all', 1e9, (0, 1), 'v5e:16x16')
  many = _seconds('all-to-all', 1e9, tuple(range(16)), 'v5e:16x16')
  assert few < many


def test_chiplets_of_a_chip_share_no_link():
  places = [(0, 0, 0), (0, 0, 0), (1, 0, 0), (1, 0, 0)]
  inside = _seconds('all-reduce', 1e9, (0, 1), 'tpu7x:2x1x1', places)
  across = _seconds('all-reduce', 1e9, (0, 1, 2, 3), 'tpu7x:2x1x1', places)
  assert inside == pytest.approx(1e9 / 600e9)
  assert across == pytest.approx(inside + 2 * (0.5e9 / 100e9 + 1e-6))
