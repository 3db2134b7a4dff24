import json

import pytest


@pytest.fixture(scope='session')
def problems(tmp_path_factory):
  """A file of five GSM8K rows."""
  path = tmp_path_factory.mktemp('data') / 'rows.jsonl'
  rows = [
    {'question': f'{i} + {i + 2} = ?', 'answer': f'#### {2 * i + 2}'}
    for i in range(5)
  ]
  path.write_text(''.join(json.dumps(row) + '\n' for row in rows))
  return str(path)
