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


def _play(requests, slots, prompts, rng, length=lambda _: 0):
  """Runs a schedule with random finishes; returns (batches, placed)."""
  plan = schedule.Schedule(
    requests, slots=slots, prompts=prompts, length=length
  )
  batches, placed = {}, []
  while True:
    while plan.free and plan.waiting:
      if not plan.ready or rng.random() < 0.2:
        batch = plan.prefill()
        if batch is not None:
          assert 1 <= len(batch.prompts) <= prompts
          assert {length(prompt) for prompt in batch.prompts} == {batch.length}
          assert batch.number == len(batches)
          batches[batch.number] = batch
      before = dict(plan.running)
      ready = plan.ready
      new = plan.place()
      assert new
      assert plan.ready == ready - len(new)
      assert len({placement.batch for placement in new}) == 1
      for placement in new:
        assert placement.slot in range(slots)
        assert placement.slot not in before
        before[placement.slot] = placement.request
        held = batches[placement.batch].prompts[placement.row]
        assert held == placement.request.prompt
      assert plan.running == before
      placed += [placement.request for placement in new]
    if not plan.running:
      assert plan.batches() == frozenset()
      return list(batches.values()), placed
    # No slot is idle while a request waits.
    assert len(plan.running) == min(
      slots, len(requests) - len(placed) + len(plan.running)
    )
    assert plan.free == slots - len(plan.running)
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
    batches, placed = _play(requests, slots, prompts, rng)
    assert placed == requests
    prefilled = [prompt for batch in batches for prompt in batch.prompts]
    assert prefilled == [(2, 10 + problem) for problem, _ in groups]


@pytest.mark.parametrize('prompts', [1, 4])
def test_prompts_of_one_length_are_prefilled_together(prompts):
  rng = random.Random(prompts)
  requests = _requests([(p, rng.randint(1, 4)) for p in range(60)])

  def length(prompt):
    return 16 if prompt[1] % 3 else 32

  batches, placed = _play(requests, 4, prompts, rng, length)
  assert sorted(placed, key=requests.index) == requests
  prefilled = [prompt for batch in batches for prompt in batch.prompts]
  assert len(prefilled) == len(set(prefilled)) == 60
  # But for the last of each length, batches are full.
  assert sum(len(batch.prompts) < prompts for batch in batches) <= 2
  # Nobody is overtaken for long.
  first = [placed.index(r) for r in requests]
  gaps = [abs(at - i) for i, at in enumerate(first)]
  assert max(gaps) < 4 * 8 * prompts


def test_a_prompt_is_prefilled_once_for_each_contiguous_group():
  requests = _requests([(0, 3), (1, 2), (0, 2)])
  batches, placed = _play(requests, 2, 2, random.Random(0))
  prefilled = [prompt for batch in batches for prompt in batch.prompts]
  assert prefilled == [
    k for k, _ in itertools.groupby(r.prompt for r in placed)
  ]
  assert len(prefilled) == 3


def test_a_batch_is_held_until_its_last_request_has_started():
  plan = schedule.Schedule(_requests([(0, 2), (1, 1)]), slots=1, prompts=1)
  assert plan.prefill().prompts == ((2, 10),)
  assert plan.ready == 2
  assert len(plan.place()) == 1
  assert plan.batches() == {0}
  assert plan.prefill().prompts == ((2, 11),)
  assert plan.prefill() is None
  assert plan.place() == []  # No slot is free.
  plan.finish(0)
  assert [p.request.index for p in plan.place()] == [1]
  assert plan.batches() == {1}
  assert plan.waiting


def test_no_request_ends_at_once():
  plan = schedule.Schedule([], slots=2, prompts=2)
  assert plan.prefill() is None
  assert plan.place() == []
  assert plan.running == {}
  assert not plan.waiting


def test_a_slot_that_is_not_running_cannot_finish():
  plan = schedule.Schedule(_requests([(0, 1)]), slots=2, prompts=1)
  with pytest.raises(KeyError):
    plan.finish(0)
