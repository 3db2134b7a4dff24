"""A needle in haystacks: a sample is the same whatever is around it."""

import collections
import copy
import dataclasses
import json
import os
import pathlib
import random
import subprocess
import sys

import jax.numpy as jnp
import pytest

import wcse_jax
from wcse_jax.models import cache
from wcse_jax.sampler import device, engine, schedule, settings, shapes


_CONFIG = settings.SamplerConfig(
  temperature=1.0, max_new_tokens=12, slots=8, prefill_batch=4, chunk=16
)
_QUESTIONS = (
  'Ann has 12 pens.',
  'Ben has 3 pens. Ben buys 2 more.',
  'Cleo has 40 eggs.',
  'Dan has 7 nuts. Dan sells 3. Dan finds 5 more.',
  'Eva has 31 coins.',
  'Finn has 5 cups and 8 mugs.',
)
_NEEDLE = 'needle', 3
# No id: a sample ends at a stop string or the limit.
_NEVER = (1_000_000,)


@dataclasses.dataclass
class _Seen:
  """Where the needle sat.

  Attributes:
    slots: how often in each.
    mates: samples that were in other slots when it started, over all mixes.
    others: slots that held another sample before it.
  """

  slots: collections.Counter = dataclasses.field(
    default_factory=collections.Counter
  )
  mates: int = 0
  others: int = 0


class _Watched(schedule.Schedule):
  """Notes where the needle starts."""

  seen = _Seen()

  def __init__(self, *args, **more):
    super().__init__(*args, **more)
    self._used = set()

  def place(self):
    placed = super().place()
    for one in placed:
      if (one.request.problem_id, one.request.index) == _NEEDLE:
        self.seen.slots[one.slot] += 1
        self.seen.mates += len(self.running) - 1
        self.seen.others += one.slot in self._used
    self._used |= {one.slot for one in placed}
    return placed


@pytest.fixture
def seen(monkeypatch):
  found = _Seen()
  monkeypatch.setattr(_Watched, 'seen', found)
  monkeypatch.setattr(schedule, 'Schedule', _Watched)
  return found


@pytest.fixture(scope='module')
def prompts(loaded):
  found = loaded[1].prompts([f'Q: {q}\nA:' for q in _QUESTIONS])
  return [tuple(ids) for ids in found]


def _sampler(loaded, prompts, chunk=_CONFIG.chunk, stop=()):
  model, tokenizer = loaded
  tokenizer = copy.copy(tokenizer)
  tokenizer.end_ids = _NEVER
  config = dataclasses.replace(_CONFIG, chunk=chunk)
  shape = shapes.Shape.of(prompts)
  return engine.Sampler(model, tokenizer, config, shape=shape, stop=stop)


def _needle(prompts):
  return settings.Request(*_NEEDLE, prompts[1])


def _found(sampler, requests):
  """Returns the needle's sample."""
  (row,) = [
    row
    for row in sampler.generate(requests)
    if (row.problem_id, row.index) == _NEEDLE
  ]
  return row


def _mix(rng, prompts):
  """Returns a random haystack with the needle in it."""
  problems = [
    (name, prompt) for i, prompt in enumerate(prompts) for name in (i, i + 10)
  ]
  problems = rng.sample(problems, rng.randrange(1, len(problems)))
  # The needle's own prompt, too: its other samples, and another problem's.
  groups = [
    [
      settings.Request(f'p{name}', index, prompt)
      for index in rng.sample(range(9), rng.randrange(1, 5))
    ]
    for name, prompt in problems
  ]
  own = [settings.Request('needle', i, prompts[1]) for i in range(6) if i != 3]
  group = rng.sample(own, rng.randrange(len(own)))
  group.insert(rng.randrange(len(group) + 1), _needle(prompts))
  groups.insert(rng.randrange(len(groups) + 1), group)
  return [request for group in groups for request in group]


def _stop(loaded, row):
  """Returns a stop string that some samples reach, the needle not."""
  for text in 'etaoinsr':
    if text not in row.text:
      return (text,)
  raise AssertionError(f'wanted a letter that is not in {row.text!r}')


def _survives(loaded, prompts, seen, mixes, chunks=(5, 16)):
  """Draws the needle alone, then in random mixes; asserts equality."""
  alone = _found(_sampler(loaded, prompts), [_needle(prompts)])
  assert alone.output_tokens == _CONFIG.max_new_tokens
  stop = _stop(loaded, alone)
  rng = random.Random(0)
  samplers = {
    (chunk, used): _sampler(loaded, prompts, chunk, used)
    for chunk in chunks
    for used in ((), stop)
  }
  drawn = 0
  for _ in range(mixes):
    requests = _mix(rng, prompts)
    # Each sampler is used many times, and for mixes of any size.
    row = _found(samplers[rng.choice(list(samplers))], requests)
    assert row == alone, 'the needle changed'
    drawn += len(requests) > _CONFIG.slots
  # It was no mere repetition: other slots, mates, and used slots.
  assert sum(seen.slots.values()) == mixes + 1
  assert len(seen.slots) >= 4
  assert seen.mates > mixes
  assert seen.others >= mixes // 4
  assert drawn >= mixes // 2


def test_a_sample_is_the_same_in_random_mixes(loaded, prompts, seen):
  _survives(loaded, prompts, seen, 12)


@pytest.mark.slow
def test_a_sample_is_the_same_in_a_hundred_random_mixes(loaded, prompts, seen):
  _survives(loaded, prompts, seen, 100, chunks=(1, 2, 3, 5, 16, 64))


def _uncached(monkeypatch):
  # Programs that were compiled of what is patched must not be found again.
  monkeypatch.setattr(device, '_COMPILED', {})
  for program in (engine.programs.decode, engine.programs.insert):
    program.clear_cache()


@pytest.mark.parametrize('fault', ['noise by slot', 'cache not masked'])
def test_the_test_sees_what_depends_on_others(
  loaded, prompts, seen, monkeypatch, fault
):
  if fault == 'noise by slot':
    arrays = engine.Sampler._arrays

    def by_slot(self, placed, size, start):
      slots, rows, tokens, own, _, samples, seed = arrays(
        self, placed, size, start
      )
      return slots, rows, tokens, own, slots.astype('uint32'), samples, seed

    monkeypatch.setattr(engine.Sampler, '_arrays', by_slot)
  else:
    _uncached(monkeypatch)
    monkeypatch.setattr(
      cache,
      'visible',
      lambda own_B, count: jnp.ones((own_B.shape[0], count), bool),
    )
  with pytest.raises(AssertionError, match='the needle changed'):
    _survives(loaded, prompts, seen, 12)
  if fault == 'cache not masked':
    _uncached(monkeypatch)


_COLD = """
import json, sys, dataclasses
sys.path.insert(0, sys.argv[2])
import needle_test
from wcse_jax import checkpoints
loaded = checkpoints.load(sys.argv[1])
prompts = [tuple(p) for p in json.loads(sys.argv[3])]
row = needle_test._found(
  needle_test._sampler(loaded, prompts), [needle_test._needle(prompts)]
)
print(json.dumps(dataclasses.asdict(row)))
"""


def test_a_prefix_that_was_there_before_changes_nothing(tiny, loaded, prompts):
  # Warm: the process has computed the prefix, and other runs' prefixes.
  sampler = _sampler(loaded, prompts)
  haystack = _mix(random.Random(1), prompts)
  assert len(shapes.Shape.of(prompts).prefix) >= 3
  list(_sampler(loaded, prompts[:2]).generate([_needle(prompts)]))
  list(sampler.generate(haystack))
  warm = _found(sampler, [_needle(prompts)])
  assert _found(_sampler(loaded, prompts), [_needle(prompts)]) == warm
  # Cold: a process that has computed nothing.
  done = subprocess.run(
    [
      sys.executable,
      '-c',
      _COLD,
      tiny,
      str(pathlib.Path(__file__).parent),
      json.dumps(prompts),
    ],
    env=os.environ
    | {'PYTHONPATH': str(pathlib.Path(wcse_jax.__file__).parents[1])},
    capture_output=True,
    text=True,
    check=True,
  )
  cold = json.loads(done.stdout)
  assert cold == json.loads(json.dumps(dataclasses.asdict(warm)))
  # As sharp: another problem's number gives another sample.
  other = settings.Request('other', 3, prompts[1])
  (row,) = sampler.generate([other])
  assert row.tokens != warm.tokens
