"""Sets on the Hugging Face hub, by way of the package `datasets`."""

import dataclasses
from collections.abc import Iterator
from typing import Any

from wcse_jax import errors


@dataclasses.dataclass(frozen=True)
class Hub:
  """Where a set lies on the Hugging Face hub.

  Attributes:
    path: its id, as `openai/gsm8k`; empty for a set that is not there.
    configs: the configurations, whose rows follow one another; an empty name
      for the only one.
    revision: a commit or tag; empty for the newest.
    split: the hub's split that serves any split; empty: the one asked for.
    license: that the set states there, at this revision; empty: not known.
  """

  path: str
  configs: tuple[str, ...] = ('',)
  revision: str = ''
  split: str = ''
  license: str = ''

  def named(self, data: str) -> 'Hub | None':
    """Returns what `data` names: empty (this), or `hub:ORG/NAME@REVISION`.

    Without a revision it is the newest; configurations and split are this
    one's, and the licence is not known.  None where `data` is a path.

    Raises:
      InputError: if the name or the revision is missing.
    """
    if not data:
      return self
    if not data.startswith('hub:'):
      return None
    path, at, revision = data.removeprefix('hub:').rpartition('@')
    path, revision = (path, revision) if at else (revision, '')
    if not path or (at and not revision):
      raise errors.InputError(
        f'data: wanted hub:ORG/NAME or hub:ORG/NAME@REVISION; got {data!r}.'
      )
    return dataclasses.replace(self, path=path, revision=revision, license='')

  def __str__(self) -> str:
    return f'{self.path}@{self.revision}' if self.revision else self.path

  def fetch(self, split: str) -> Iterator[Any]:
    """Yields the rows of a split, of one configuration after another.

    Raises:
      InputError: if the set, or the package that fetches it, is missing.
    """
    if not self.path:
      raise errors.InputError(
        'data: wanted a folder, a file or hub:ORG/NAME@REVISION; it is empty, '
        'and the set is not on the hub.'
      )
    try:
      import datasets
    except ImportError:
      raise errors.InputError(
        f'data: wanted a folder or file, as the package `datasets` that would '
        f'fetch {self} from the hub is not installed.'
      ) from None
    for config in self.configs:
      yield from self._load(datasets, config, self.split or split)

  def _load(self, datasets: Any, config: str, split: str) -> Any:
    try:
      return datasets.load_dataset(
        self.path,
        config or None,
        split=split,
        revision=self.revision or None,
      )
    # Unknown sets, revisions, configurations and splits, a missing network, and
    # sets that cannot be built: errors of the package's own classes.
    except Exception as error:
      own = type(error).__module__.partition('.')[0] == 'datasets'
      if not own and not isinstance(error, OSError | ValueError):
        raise
      part = f', configuration {config},' if config else ''
      said = (str(error).splitlines() or [''])[0]
      raise errors.InputError(
        f'data: wanted split {split} of {self}{part} from the hub; got '
        f'{type(error).__name__}: {said[:200]}'
      ) from None
