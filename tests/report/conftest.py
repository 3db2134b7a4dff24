"""What tests of the report share: a finished study."""

from typing import Any

import made
import pytest


@pytest.fixture
def results() -> dict[str, Any]:
  """Returns the results of a finished study; each test may change its own."""
  return made.results()
