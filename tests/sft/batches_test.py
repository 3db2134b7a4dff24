import itertools

import numpy as np
import pytest

from wcse_jax.sft import batches, data


def _rows(count):
  """Returns rows of which the first token tells which it is."""
  return [data.Encoded((i, 7, 8, 9)[: 2 + i % 3], 1, i) for i in range(count)]


def _order(rows, steps, seed, batch_size=4):
  found = _made(rows, seed).batches(batch_size)
  return [int(t[0]) for s in range(steps) for t in found[s]['tokens_BT']]


def _made(rows, seed=0, max_length=6, packing=False):
  return batches.Stream(rows, max_length=max_length, seed=seed, packing=packing)


def test_a_batch_is_padded_and_its_targets_are_the_completion():
  rows = [data.Encoded((2, 5, 6, 1), 2)]
  batch = _made(rows).batches(2)[0]
  assert batch['tokens_BT'].dtype == np.int32
  assert batch['target_BT'].dtype == np.int32
  assert batch['tokens_BT'].tolist() == [[2, 5, 6, 1, 0, 0]] * 2
  assert batch['target_BT'].tolist() == [[0, 0, 1, 1, 0, 0]] * 2


def test_every_epoch_is_a_permutation_of_its_own():
  # 10 rows in batches of 4: epochs end inside a batch.
  order = _order(_rows(10), 10, seed=0)
  epochs = [order[i : i + 10] for i in range(0, 40, 10)]
  assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
  assert len({tuple(epoch) for epoch in epochs}) == 4


def test_a_batch_is_a_function_of_seed_and_step():
  rows = _rows(10)
  first = _made(rows, 3).batches(4)
  other = _made(rows, 3).batches(4)
  for step in (7, 2, 0, 7):  # In any order, at any step.
    for key, value in first[step].items():
      np.testing.assert_array_equal(other[step][key], value)
  assert _order(rows, 5, seed=3) != _order(rows, 5, seed=4)


def test_fewer_rows_than_a_batch_come_again():
  order = _order(_rows(3), 3, seed=0, batch_size=2)
  assert sorted(order[:3]) == sorted(order[3:]) == [0, 1, 2]


@pytest.fixture(scope='module')
def sequences():
  """Sequences of 2 to 40 tokens; the first two of each say which it is."""
  sizes = np.random.default_rng(0).integers(2, 41, 200)
  return [
    data.Encoded((1 + i // 100, 1 + i % 100, *[7] * (size - 2)), i % 2, i)
    for i, size in enumerate(sizes)
  ]


@pytest.mark.parametrize('packing', [False, True])
def test_every_sequence_is_in_every_epoch_once(sequences, packing):
  stream = _made(sequences, max_length=64, packing=packing)
  ends = [stream.rows(epoch) for epoch in (0, 1, 2, 3)]
  orders = []
  for first, last in itertools.pairwise(ends):
    members = [i for row in range(first, last) for i in stream.members(row)]
    assert sorted(members) == list(range(200))
    orders.append(tuple(members))
  assert len(set(orders)) == 3
  assert ends[1] <= stream.rows(1.5) <= ends[2]
  if packing:
    filled = sum(len(s.tokens) for s in sequences) / ends[1] / 64
    assert filled > 0.9


def test_a_packed_row_keeps_its_sequences_apart(sequences):
  stream = _made(sequences, max_length=64, packing=True)
  for row in range(20):
    found = stream.arrays(row)
    assert set(found) == {'tokens_T', 'target_T', 'positions_T', 'segments_T'}
    start = 0
    for segment, which in enumerate(stream.members(row), 1):
      sequence = sequences[which]
      end = start + len(sequence.tokens)
      assert found['tokens_T'][start:end].tolist() == list(sequence.tokens)
      assert found['positions_T'][start:end].tolist() == list(
        range(end - start)
      )
      assert set(found['segments_T'][start:end]) == {segment}
      # The first token follows nothing, whatever the prompt.
      first = max(1, sequence.prompt_tokens)
      assert not found['target_T'][start : start + first].any()
      assert found['target_T'][start + first : end].all()
      start = end
    assert not found['segments_T'][start:].any()
    assert not found['target_T'][start:].any()


@pytest.mark.parametrize('packing', [False, True])
def test_a_stream_goes_on_where_another_stopped(sequences, packing):
  whole = list(_made(sequences, 5, 64, packing).steps(0, 90, 3))
  rest = list(_made(sequences, 5, 64, packing).steps(71, 90, 3))
  assert (len(whole), len(rest)) == (90, 19)
  for one, other in zip(whole[71:], rest):
    assert one.keys() == other.keys()
    for key, value in one.items():
      np.testing.assert_array_equal(other[key], value)


def test_a_step_names_its_examples(sequences):
  stream = _made(sequences, 5, 64, packing=True)
  members = [i for row in range(6, 9) for i in stream.members(row)]
  assert stream.numbers(2, 3) == members
  assert len(members) > 3


def test_every_scored_sequence_is_there_once():
  rows = [data.Encoded((i + 1, 7, 8), 1, i) for i in range(7)]
  found = list(batches.scored(rows, max_length=4, batch_size=3))
  assert len(found) == 3
  tokens = np.concatenate([batch['tokens_BT'] for batch in found])
  target = np.concatenate([batch['target_BT'] for batch in found])
  assert tokens[:, 0].tolist() == [1, 2, 3, 4, 5, 6, 7, 0, 0]
  assert target.sum() == 7 * 2
