import json

import pytest


@pytest.fixture(scope='session')
def sums(tmp_path_factory):
  """A JSONL file of twelve sums with their results."""
  path = tmp_path_factory.mktemp('data') / 'train.jsonl'
  rows = [
    {'prompt': f'Q: {i} + {i % 5}?\nA:', 'completion': f' {i + i % 5}.'}
    for i in range(12)
  ]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)
