"""Which sequences each step is given, and the arrays made of them.

The rows of a run are one endless stream: epoch by epoch all sequences in an
order of their own, packed or not.  Row i, and so the batch of step s, is a
function of (sequences, seed, i) alone: a run resumes at any step, on any number
of processes, without state of its own.
"""

import bisect
import math
from collections.abc import Iterator, Sequence

import grain
import numpy as np

from wcse_jax.sft import data


# Rows that are being filled at a time: a sequence that fits none of them opens
# another, for which the oldest is closed.
_OPEN = 64
# Batches that are made ahead of the device, and the threads that make them.
_AHEAD, _THREADS = 4, 1


class Stream:
  """The rows of a run.

  Attributes:
    sequences: what they are made of.
    max_length: tokens of a row.
    packing: whether a row holds several sequences.
  """

  def __init__(
    self,
    sequences: Sequence[data.Encoded],
    *,
    max_length: int,
    seed: int,
    packing: bool = False,
  ):
    self.sequences = sequences
    self.max_length = max_length
    self.packing = packing
    self._order = (
      grain.MapDataset.range(len(sequences)).seed(seed).shuffle().repeat()
    )
    # Of the epochs so far: their rows, and how many rows end with each.
    self._epochs: list[list[tuple[int, ...]]] = []
    self._ends: list[int] = []

  def members(self, row: int) -> tuple[int, ...]:
    """Returns which sequences are in a row, in order."""
    if not self.packing:
      return (self._order[row],)
    while not self._ends or self._ends[-1] <= row:
      self._pack()
    epoch = bisect.bisect_right(self._ends, row)
    first = self._ends[epoch - 1] if epoch else 0
    return self._epochs[epoch][row - first]

  def rows(self, epochs: float) -> int:
    """Returns how many rows so many passes over the sequences take."""
    if not self.packing:
      return math.ceil(epochs * len(self.sequences))
    whole = max(1, math.ceil(epochs))
    while len(self._ends) < whole:
      self._pack()
    before = self._ends[whole - 2] if whole > 1 else 0
    share = epochs - (whole - 1)
    return before + math.ceil(share * (self._ends[whole - 1] - before))

  def numbers(self, step: int, batch_size: int) -> list[int]:
    """Returns which examples a step's batch holds, for messages."""
    return [row.number for row in self.between(step, step + 1, batch_size)]

  def between(
    self, first: int, last: int, batch_size: int
  ) -> list[data.Encoded]:
    """Returns the sequences of steps `first` to `last - 1`."""
    return [
      self.sequences[i]
      for row in range(first * batch_size, last * batch_size)
      for i in self.members(row)
    ]

  def arrays(self, row: int) -> dict[str, np.ndarray]:
    """Returns tokens_T and positions_T, segments_T and target_T of a row.

    `target_T` is 1 where a token bears loss.  Positions and segments, counted
    from 1 with 0 for padding, are there only where sequences are packed.
    """
    found = filled(
      [self.sequences[i] for i in self.members(row)], self.max_length
    )
    if not self.packing:
      del found['positions_T'], found['segments_T']
    return found

  def batches(self, batch_size: int) -> grain.MapDataset:
    """Returns an endless dataset whose item s is the batch of step s."""
    return (
      grain.MapDataset.source(_Rows(self))
      .batch(batch_size)
      .map(lambda batch: {f'{k[:-1]}BT': v for k, v in batch.items()})
    )

  def steps(
    self, first: int, last: int, batch_size: int
  ) -> Iterator[dict[str, np.ndarray]]:
    """Yields the batches of steps `first` to `last - 1`, made ahead."""
    whole = self.batches(batch_size).slice(slice(first, last))
    yield from whole.to_iter_dataset(
      grain.ReadOptions(num_threads=_THREADS, prefetch_buffer_size=_AHEAD)
    )

  def _pack(self) -> None:
    """Packs another epoch, first fit."""
    count = len(self.sequences)
    first = len(self._epochs) * count
    rows: list[list[int]] = []
    room: list[int] = []
    for place in range(first, first + count):
      which = self._order[place]
      need = len(self.sequences[which].tokens)
      low = max(0, len(rows) - _OPEN)
      fits = next((r for r in range(low, len(rows)) if room[r] >= need), None)
      if fits is None:
        fits = len(rows)
        rows.append([])
        room.append(self.max_length)
      rows[fits].append(which)
      room[fits] -= need
    before = self._ends[-1] if self._ends else 0
    self._epochs.append([tuple(row) for row in rows])
    self._ends.append(before + len(rows))


class _Rows:
  """A stream's rows, as grain reads them."""

  def __init__(self, stream: Stream):
    self._stream = stream

  def __len__(self) -> int:
    # As many as any run takes.
    return 1 << 40

  def __getitem__(self, row: int) -> dict[str, np.ndarray]:
    return self._stream.arrays(row)


def filled(
  sequences: Sequence[data.Encoded], max_length: int
) -> dict[str, np.ndarray]:
  """Returns the arrays of one row, as `Stream.arrays` describes them."""
  found = {
    f'{name}_T': np.zeros(max_length, np.int32)
    for name in ('tokens', 'target', 'positions', 'segments')
  }
  start = 0
  for segment, row in enumerate(sequences, 1):
    end = start + len(row.tokens)
    found['tokens_T'][start:end] = row.tokens
    # The first token of a sequence follows nothing.
    found['target_T'][start + max(1, row.prompt_tokens) : end] = 1
    found['positions_T'][start:end] = np.arange(end - start)
    found['segments_T'][start:end] = segment
    start = end
  return found


def scored(
  sequences: Sequence[data.Encoded], *, max_length: int, batch_size: int
) -> Iterator[dict[str, np.ndarray]]:
  """Yields batches of one shape in which each sequence is once.

  The last one is filled up with rows that have no target.
  """
  for first in range(0, len(sequences), batch_size):
    part = sequences[first : first + batch_size]
    rows = [filled([row], max_length) for row in part]
    rows += [filled([], max_length)] * (batch_size - len(rows))
    yield {
      f'{name}_BT': np.stack([row[f'{name}_T'] for row in rows])
      for name in ('tokens', 'target')
    }
