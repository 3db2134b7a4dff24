"""Processes that serve a report, and what they answer."""

import contextlib
import os
import pathlib
import re
import subprocess
import urllib.request
from collections.abc import Iterator, Sequence


ROOT = pathlib.Path(__file__).parents[1]


@contextlib.contextmanager
def started(
  command: Sequence[str],
) -> Iterator[tuple[subprocess.Popen, str]]:
  """Starts a command; yields its process and the address that it told."""
  process = subprocess.Popen(
    command,
    cwd=ROOT,
    env=os.environ | {'PYTHONPATH': str(ROOT), 'JAX_PLATFORMS': 'cpu'},
    stdout=subprocess.PIPE,
    text=True,
  )
  try:
    line = process.stdout.readline()
    url = re.search(r'report: (http://127\.0\.0\.1:\d+/) ', line)
    assert url, f'no address: {line!r}'
    yield process, url[1]
  finally:
    process.kill()
    process.wait()
    process.stdout.close()


def get(url: str) -> str:
  """Returns the text of a page."""
  with urllib.request.urlopen(url, timeout=10) as answer:
    return answer.read().decode()
