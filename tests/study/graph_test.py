"""Stages: their order, what they need, and what is run again."""

import contextlib

import pytest

from wcse_jax import errors
from wcse_jax.study import graph


class Files:
  """Stages over a set of files that stands in for the run folder."""

  def __init__(self, needs):
    self.there: set[str] = set()
    self.made: list[str] = []
    self.held: list[str] = []
    self.stages = graph.ordered([self._stage(*item) for item in needs.items()])

  def _stage(self, key, needs):
    def work():
      self.made.append(key)
      self.there.add(key)

    return graph.Stage(key, needs, lambda: key in self.there, work, 1.0)

  @contextlib.contextmanager
  def hold(self, key):
    self.held.append(key)
    yield

  def run(self, patterns='*'):
    chosen = graph.matching(self.stages, patterns)
    graph.run(self.stages, chosen, 'test', self.hold)


CHAIN = {'b': ('a',), 'a': (), 'd': ('b', 'c'), 'c': ('a',)}


def test_each_comes_behind_what_it_needs():
  files = Files(CHAIN)
  keys = [stage.key for stage in files.stages]
  for key, needs in CHAIN.items():
    assert all(keys.index(need) < keys.index(key) for need in needs)
  files.run()
  assert files.made == keys == files.held


def test_what_is_done_is_not_done_again():
  files = Files(CHAIN)
  files.there = {'a', 'b'}
  files.run()
  assert files.made == ['c', 'd']
  files.run()
  assert files.made == ['c', 'd']


def test_another_process_may_do_it_first():
  files = Files(CHAIN)

  @contextlib.contextmanager
  def hold(key):
    files.there.add(key)
    yield

  graph.run(files.stages, files.stages, 'test', hold)
  assert files.made == []


def test_some_stages_alone():
  files = Files(CHAIN)
  files.run('a,c')
  assert files.made == ['a', 'c']
  with pytest.raises(errors.InputError, match='d needs b, which is not done'):
    files.run('d')
  files.run('b, d')
  assert files.made == ['a', 'c', 'b', 'd']
  # What is done needs nothing.
  files.there.discard('b')
  files.run('d')


def test_unknown_stages_are_refused():
  with pytest.raises(errors.InputError, match="of a, b, c, d; got 'x") as found:
    graph.matching(Files(dict(sorted(CHAIN.items()))).stages, 'a,x*')
  assert '\n' not in str(found.value)


def test_circles_and_gaps_are_refused():
  with pytest.raises(errors.InputError, match='a, b need each other'):
    Files({'a': ('b',), 'b': ('a',)})
  with pytest.raises(errors.InputError, match='a needs z'):
    Files({'a': ('z',)})
