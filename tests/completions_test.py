"""Replies of a checkpoint: each depends on its own text alone."""

import pytest

from wcse_jax import completions, errors
from wcse_jax.sampler import settings


COMMON = ('Q: Ann has ', 'Q: Ben has ', 'Q: 3 ')
TEXTS = [f'Q: {name} has 3 pens.\nA:' for name in ('Ann', 'Ben', 'Eva', 'Dan')]


def checkpoint(slots=8):
  sampler = settings.SamplerConfig(
    temperature=0.7, max_new_tokens=4, slots=slots, prefill_batch=8
  )
  return completions.Checkpoint(
    'tiny-wc', sampler, common=COMMON, mesh='data=8'
  )


@pytest.mark.slow
def test_replies():
  asked = checkpoint()
  assert len(asked.devices) == 8
  done = []
  beyond = 'Q: ' + 'Ann has 3 pens. ' * 2000
  texts = [*TEXTS, beyond, TEXTS[0], 'pens']
  replies = asked.complete(texts, done.append)
  assert replies[4] is None
  assert replies[5] == replies[0]
  # The last does not begin as the others do.
  assert all(isinstance(replies[i], str) for i in (0, 1, 2, 3, 6))
  assert any(replies)
  assert done == [1, 2, 3, 4, 5]
  cost = asked.cost()
  assert set(cost) == set(completions.COSTS)
  assert all(value > 0 for value in cost.values())
  # Alone, and in another order.
  assert asked.complete([TEXTS[2]]) == [replies[2]]
  assert asked.complete(TEXTS[::-1]) == replies[:4][::-1]
  assert asked.complete([]) == []
  assert asked.cost()['flops'] > cost['flops']


def test_what_does_not_fit_is_told_before_anything_is_asked():
  asked = checkpoint(slots=2)
  with pytest.raises(errors.InputError, match='multiple of data x fsdp = 8'):
    asked.load()
