"""Samples that wait for their shard: none is lost, none is made up."""

import dataclasses
import json
import threading
import uuid

import hostile
import pytest

from wcse_jax import records, storage
from wcse_jax.sampler import journal


def row(index, text='x'):
  return records.Sample(
    problem_id='p',
    index=index,
    text=text,
    tokens=(),
    finish_reason='stop',
    prompt_tokens=3,
    shared_prompt_tokens=0,
    output_tokens=1,
    logprob=None,
  )


@pytest.fixture(params=['local', 'memory'])
def folder(request, tmp_path):
  if request.param == 'local':
    return str(tmp_path / 'run')
  return f'memory://{uuid.uuid4().hex}'


def names(folder):
  return storage.names(storage.join(folder, journal.FOLDER))


def test_what_was_added_is_there_until_it_is_dropped(folder):
  rows = {('p', i): row(i, text) for i, text in enumerate(hostile.TEXTS)}
  first = journal.Journal(folder)
  assert first.rows == {}
  threads = [
    threading.Thread(target=first.add, args=[one]) for one in rows.values()
  ]
  for thread in threads:
    thread.start()
  for thread in threads:
    thread.join()
  assert first.rows == journal.Journal(folder).rows == rows
  second = journal.Journal(folder)
  second.drop([('p', 0), ('p', 2), ('q', 0)])
  del rows['p', 0], rows['p', 2]
  assert second.rows == journal.Journal(folder).rows == rows
  second.tidy()
  assert len(names(folder)) == len(rows)
  second.drop([*rows])
  second.tidy()
  assert not storage.exists(storage.join(folder, journal.FOLDER))


def test_a_file_that_was_changed_is_moved_aside(folder, caplog):
  kept = journal.Journal(folder)
  kept.add(row(0))
  kept.add(row(1))
  for name in names(folder):
    path = storage.join(folder, journal.FOLDER, name)
    if json.loads(storage.read_text(path))['index'] == 0:
      torn = name
      storage.publish(path, storage.read_bytes(path)[:-5])
  again = journal.Journal(folder)
  assert again.rows == {('p', 1): row(1)}
  assert f'{torn}.bad' in names(folder)
  assert torn in caplog.text
  # It stays, also when all else is gone.
  again.drop([('p', 1)])
  again.tidy()
  assert names(folder) == [f'{torn}.bad']


def test_two_of_one_cell_are_one(folder):
  """As where a shard that was written is found bad, and made again."""
  kept = journal.Journal(folder)
  kept.add(row(0))
  kept.add(dataclasses.replace(row(0), text='y'))
  again = journal.Journal(folder)
  assert len(again.rows) == 1
  again.drop([('p', 0)])
  assert names(folder) == []
