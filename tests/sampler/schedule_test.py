import itertools
import random

import pytest

from wcse_jax.sampler import schedule, settings


def _requests(groups):
  """Returns requests for (problem, samples) in turn; one prompt a problem."""
  return [
    settings.Request(f'p{problem}', index, (2, 10 + problem))
    for problem, samples in groups
    for index in range(samples)
  ]


def _play(requests, slots, prompts, rng):
  """Runs a schedule with random finishes; returns (prefilled, placed)."""
  plan = schedule.Schedule(requests, slots=slots, prompts=prompts)
  prefilled, placed, rows = [], [], ()
  while True:
    while True:
      found = plan.prefill()
      if found:
        assert len(found) <= prompts
        prefilled += found
        rows = found
      before = dict(plan.running)
      new = plan.place()
      for placement in new:
        assert placement.slot in range(slots)
        assert placement.slot not in before
        before[placement.slot] = placement.request
        # The row of the last prefill holds the request's own prompt.
        assert rows[placement.row] == placement.request.prompt
      assert plan.running == before
      placed += [placement.request for placement in new]
      if not new:
        break
    if not plan.running:
      return prefilled, placed
    # No slot is idle while a request waits.
    assert len(plan.running) == min(
      slots, len(requests) - len(placed) + len(plan.running)
    )
    ending = rng.sample(sorted(plan.running), rng.randint(1, len(plan.running)))
    for slot in ending:
      request = plan.running[slot]
      assert plan.finish(slot) == request
      assert slot not in plan.running


@pytest.mark.parametrize('slots', [1, 2, 5, 16])
@pytest.mark.parametrize('prompts', [1, 3, 8])
def test_every_request_is_placed_once_and_in_order(slots, prompts):
  rng = random.Random(f'{slots} {prompts}')
  for _ in range(20):
    groups = [(p, rng.randint(1, 7)) for p in range(rng.randint(1, 9))]
    requests = _requests(groups)
    prefilled, placed = _play(requests, slots, prompts, rng)
    assert placed == requests
    assert prefilled == [(2, 10 + problem) for problem, _ in groups]


def test_a_prompt_is_prefilled_once_for_each_contiguous_group():
  requests = _requests([(0, 3), (1, 2), (0, 2)])
  prefilled, placed = _play(requests, 2, 2, random.Random(0))
  assert prefilled == [
    k for k, _ in itertools.groupby(r.prompt for r in placed)
  ]
  assert len(prefilled) == 3


def test_nothing_is_prefilled_without_a_free_slot():
  plan = schedule.Schedule(_requests([(0, 1), (1, 1)]), slots=1, prompts=1)
  assert plan.prefill() == [(2, 10)]
  assert plan.prefill() == ()  # The last prefill still waits for its slot.
  assert len(plan.place()) == 1
  assert plan.prefill() == ()
  assert plan.place() == []
  plan.finish(0)
  assert plan.prefill() == [(2, 11)]


def test_no_request_ends_at_once():
  plan = schedule.Schedule([], slots=2, prompts=2)
  assert plan.prefill() == ()
  assert plan.place() == []
  assert plan.running == {}


def test_a_slot_that_is_not_running_cannot_finish():
  plan = schedule.Schedule(_requests([(0, 1)]), slots=2, prompts=1)
  with pytest.raises(KeyError):
    plan.finish(0)
