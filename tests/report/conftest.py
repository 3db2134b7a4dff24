"""What tests of the report share: a finished study, and a browser."""

from typing import Any

import browser
import made
import pytest


@pytest.fixture
def results() -> dict[str, Any]:
  """Returns the results of a finished study; each test may change its own."""
  return made.results()


@pytest.fixture(scope='session')
def chromium(tmp_path_factory):
  with browser.chromium(tmp_path_factory.mktemp('chromium')) as found:
    yield found
