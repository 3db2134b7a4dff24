"""A training set for others: Parquet, JSON lines and a card, in one folder.

    FOLDER/data/train-00000-of-00002.parquet   the rows
    FOLDER/train.jsonl                         the same rows
    FOLDER/README.md                           the card
    FOLDER/manifest.json                       sha256 of each, written last

`datasets.load_dataset(FOLDER)` reads the Parquet files alone.  The lines are
what `sft.data.read` takes, too.
"""

import itertools
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from wcse_jax import errors, selection, storage
from wcse_jax.exports import card, facts, table
from wcse_jax.sft import data


MANIFEST = 'manifest.json'
_PART = re.compile(r'train-[0-9]{5}-of-[0-9]{5}\.parquet')


def write(
  folder: str,
  *,
  rows: Sequence[selection.Row],
  examples: Iterable[data.Example],
  facts: facts.Facts,
  counts: Mapping[str, int] | None = None,
  models: Sequence[str | None] | None = None,
  chain: Callable[[str], str] | None = None,
) -> dict[str, Any]:
  """Writes a data set; returns its manifest.

  The same rows and facts give the same bytes.  Of the rows at most one group is
  held besides what is given, and the examples pass once, so that they may be
  made as they are asked for.

  Args:
    folder: where to; files of an older data set there are replaced.
    rows: what is trained on, in order.  A row of a problem's own solution has
      None as sample and as grade.
    examples: prompt and completion of each row.
    facts: what the card tells besides.
    counts: what each rule of the selection dropped, as `selection.select`
      returns it; None where there was no selection.
    models: name of the model of each row, None for a problem's own solution;
      None: all samples are of the facts' only model.
    chain: text -> what makes two solutions differ, as `tasks.base.Task.chain`;
      None: the text but for white space.

  Raises:
    InputError: if there is no row, or a text cannot be written.
    ValueError: if there are not as many examples and models as rows.
  """
  if not rows:
    raise errors.InputError('rows: wanted at least one; got none.')
  if models is None:
    models = _only(facts, rows)
  sizes = table.parts(rows)
  names = [
    f'data/train-{i:05d}-of-{len(sizes):05d}.parquet' for i in range(len(sizes))
  ]
  _clear(folder, names)
  tally = table.Tally()
  files: dict[str, str] = {}
  items = map(table.Item._make, zip(rows, examples, models, strict=True))
  with storage.stream(storage.join(folder, card.LINES)) as lines:
    for name, size in zip(names, sizes):
      with storage.stream(storage.join(folder, name)) as file:
        with table.writer(file) as parquet:
          part = itertools.islice(items, size)
          for columns in table.groups(part, chain):
            parquet.write_batch(table.batch(columns))
            lines.write(table.lines(columns))
            tally.add(columns)
      files[name] = file.sha256()
    # More examples or models than rows are told here.
    next(items, None)
  files[card.LINES] = lines.sha256()
  text = card.render(facts, tally, counts)
  files['README.md'] = storage.publish(storage.join(folder, 'README.md'), text)
  manifest = {
    'rows': tally.rows,
    'problems': tally.problems,
    'selection': dict(counts) if counts is not None else None,
    'files': {name: {'sha256': files[name]} for name in sorted(files)},
  }
  storage.publish_json(storage.join(folder, MANIFEST), manifest)
  return manifest


def whole(folder: str) -> bool:
  """Returns whether a folder holds a data set, every file as it was written."""
  path = storage.join(folder, MANIFEST)
  if not storage.exists(path):
    return False
  try:
    files = storage.read_json(path)['files']
    return all(
      storage.sha256(storage.join(folder, name)) == entry['sha256']
      for name, entry in files.items()
    )
  except (errors.InputError, AttributeError, KeyError, TypeError):
    return False


def _only(
  known: facts.Facts, rows: Sequence[selection.Row]
) -> list[str | None]:
  """Returns the model of each row where there is one model at most."""
  if len(known.models) > 1:
    raise ValueError(
      f'models: wanted the model of each row, as the facts name '
      f'{len(known.models)}; got None.'
    )
  name = known.models[0].name if known.models else None
  return [None if row.sample is None else name for row in rows]


def _clear(folder: str, names: Sequence[str]) -> None:
  """Removes what would make a data set of two: its manifest, other parts."""
  storage.remove(storage.join(folder, MANIFEST))
  for name in storage.names(storage.join(folder, 'data')):
    if _PART.fullmatch(name) and f'data/{name}' not in names:
      storage.remove(storage.join(folder, 'data', name))
