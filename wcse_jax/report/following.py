"""The report of a study that may still run, kept up to date in a browser.

The run folder is read and never written: a study that holds it goes on as if
nobody watched.  The pages are made in a folder of their own, which goes with
the process.
"""

import contextlib
import hashlib
import json
import re
import tempfile
import time
from collections.abc import Callable
from typing import Any

from wcse_jax import errors, storage
from wcse_jax.report import html, live, serving


# Seconds between looks at the run folder; and how many times as long as the
# last rebuild took the next one waits, so that watching stays a small part of
# the machine's work.
_LOOK_S, _REST = 1.0, 4.0
# Files that say what is done; others are shards, weights, and what is made
# from them.
_SAYS = re.compile(
  r'(?!.*(?:^|/)(?:report|model|checkpoints|parts|tensorboard|profile|wandb)/)'
  r'.*\.json'
)


def serve(
  workdir: str,
  snapshot: Callable[[], dict[str, Any]],
  *,
  port: int = 0,
  look_s: float = _LOOK_S,
) -> None:
  """Serves the report that `snapshot` gives, until SIGINT or SIGTERM.

  Args:
    workdir: the run folder.
    snapshot: gives the results so far; it writes nothing.
    port: on the loopback address; 0 for any.
    look_s: seconds between looks at the folder.

  Raises:
    InputError: if the port is taken.
  """
  with (
    contextlib.suppress(KeyboardInterrupt, errors.Stopped),
    tempfile.TemporaryDirectory(prefix='report-') as folder,
  ):
    pages = Pages(workdir, snapshot, folder)
    # The samples are shown as the study wrote them last.
    folders = {
      '': folder,
      'samples/': storage.join(workdir, 'report', 'samples'),
    }
    with serving.Server(folders, port=port) as server:
      server.version = pages.write({}, 'The results are being read.')
      print(f'report: {server.url} (Ctrl-C ends it)', flush=True)
      while True:
        began = time.monotonic()
        pages.refresh()
        server.version = pages.version
        time.sleep(max(look_s, _REST * (time.monotonic() - began)))


class Pages:
  """The pages of a run folder, made again when it changed.

  Attributes:
    version: of the page as it is.
  """

  def __init__(
    self, workdir: str, snapshot: Callable[[], dict[str, Any]], folder: str
  ):
    """Writes nothing yet.

    Args:
      workdir: the run folder.
      snapshot: gives the results so far.
      folder: where the pages go.
    """
    self.version = ''
    self._workdir = workdir
    self._snapshot = snapshot
    self._folder = folder
    self._state = ''
    self._results: dict[str, Any] = {}

  def refresh(self) -> bool:
    """Looks at the run folder; returns whether the pages changed."""
    before = self.version
    state = stamp(self._workdir)
    if state == self._state:
      return False
    try:
      results = self._snapshot() | self._samples()
    except (errors.InputError, OSError) as error:
      # A file that was being replaced, or one that is not there yet; the state
      # is not kept, so that it is tried again.
      note = ' '.join(str(error).split())
      return self.write(self._results, f'Not newer yet: {note}') != before
    self._state, self._results = state, results
    return self.write(results) != before

  def write(self, results: dict[str, Any], note: str = '') -> str:
    """Writes the pages, where they say something new; returns their version."""
    text = json.dumps([results, note], sort_keys=True)
    version = hashlib.sha256(text.encode()).hexdigest()[:16]
    if version != self.version:
      html.write(results, self._folder, live.Live(version, note))
      self.version = version
    return version

  def _samples(self) -> dict[str, int]:
    """Returns how many samples can be read, where the study wrote them."""
    page = storage.join(self._workdir, 'report', 'samples', 'index.html')
    path = storage.join(self._workdir, 'results.json')
    if not (storage.exists(page) and storage.exists(path)):
      return {'samples_shown': 0}
    return {'samples_shown': storage.read_json(path).get('samples_shown') or 0}


def stamp(workdir: str) -> str:
  """Returns what changes with each stage of a study that ends.

  That is which files say what is done, and what the ledger has in it.
  """
  digest = hashlib.sha256()
  for name in storage.files(workdir):
    if not _SAYS.fullmatch(name):
      continue
    digest.update(f'{name}\n'.encode())
    if name.startswith('ledger/') or name == 'results.json':
      digest.update(storage.read_bytes(storage.join(workdir, name)))
  return digest.hexdigest()
