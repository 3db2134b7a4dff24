import copy
import dataclasses
import itertools
import random

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from wcse_jax import checkpoints, errors, sharding
from wcse_jax.sampler import draw, engine, settings, shapes


_CONFIG = settings.SamplerConfig(
  temperature=1.0, max_new_tokens=16, slots=8, prefill_batch=4, chunk=16
)
_QUESTIONS = (
  'Ann has 12 pens.',
  'Ben has 3 pens. Ben buys 2 more.',
  'Cleo has 40 eggs.',
  'Dan has 7 nuts. Dan sells 3. Dan finds 5 more.',
  'Eva has 31 coins.',
)
_SAMPLES = 5
# An id that is never drawn: all samples run to the limit.
_NEVER = (1_000_000,)


def _with_ends(tokenizer, ends):
  changed = copy.copy(tokenizer)
  changed.end_ids = ends
  return changed


@pytest.fixture(scope='module')
def prompts(loaded):
  found = loaded[1].prompts([f'Q: {q}\nA:' for q in _QUESTIONS])
  return [tuple(ids) for ids in found]


@pytest.fixture(scope='module')
def requests(prompts):
  return [
    settings.Request(f'p{i}', index, prompt)
    for i, prompt in enumerate(prompts)
    for index in range(_SAMPLES)
  ]


@pytest.fixture(scope='module')
def generate(loaded, prompts):
  """Draws samples at the shape of all prompts; (id, index) -> sample."""
  model, tokenizer = loaded

  def generate(requests, *, ends=_NEVER, config=_CONFIG, **more):
    used = _with_ends(tokenizer, ends)
    more = {'shape': shapes.Shape.of(prompts), **more}
    sampler = engine.Sampler(model, used, config, **more)
    rows = list(sampler.generate(requests))
    found = {(row.problem_id, row.index): row for row in rows}
    assert len(found) == len(rows) == len(requests)
    assert sampler.decode_tokens == sum(row.output_tokens for row in rows)
    assert 0 < sampler.busy <= 1
    assert sampler.device_seconds > 0
    return found

  return generate


@pytest.fixture(scope='module')
def free(generate, requests):
  """The samples of all requests, in one go."""
  return generate(requests)


@pytest.fixture(scope='module')
def forward(loaded):
  """tokens_BT -> logits_BTV of the whole model, without a cache."""
  return jax.jit(lambda tokens_BT: loaded[0](tokens_BT))


def test_a_sample_alone_is_the_same_in_a_full_batch(generate, requests, free):
  for i in (0, 7, 24):
    key = requests[i].problem_id, requests[i].index
    assert generate([requests[i]]) == {key: free[key]}


@pytest.mark.parametrize('order', ['reversed', 'shuffled', 'every second'])
def test_batch_mates_and_their_order_change_nothing(
  generate, requests, free, order
):
  mixed = {
    'reversed': requests[::-1],
    'shuffled': random.Random(0).sample(requests, len(requests)),
    'every second': requests[1::2],
  }[order]
  found = generate(mixed)
  assert found == {key: free[key] for key in found}


def test_a_kernel_draws_the_same_text(generate, requests, free):
  config = dataclasses.replace(_CONFIG, attention='pallas')
  found = generate(requests, config=config)
  assert {k: s.tokens for k, s in found.items()} == {
    k: s.tokens for k, s in free.items()
  }


def test_the_chunk_changes_nothing(generate, requests, free):
  assert generate(requests, config=_chunked(3)) == free


def _chunked(chunk):
  return dataclasses.replace(_CONFIG, chunk=chunk)


def test_seed_problem_and_index_each_give_other_tokens(generate, prompts, free):
  tokens = free['p0', 0].tokens
  assert free['p0', 1].tokens != tokens
  first = settings.Request('p0', 0, prompts[0])
  assert generate([first], seed=1)['p0', 0].tokens != tokens
  other = dataclasses.replace(first, problem_id='q0')
  assert generate([other])['q0', 0].tokens != tokens


def test_a_shared_prefix_changes_no_token(generate, requests, prompts, free):
  shape = shapes.Shape.of(prompts)
  assert len(shape.prefix) >= 3
  cold = shapes.Shape((), shape.suffix_tokens + 16)
  found = generate(requests[:8], shape=cold)
  for key, row in found.items():
    assert row.tokens == free[key].tokens
    assert row.shared_prompt_tokens == 0
    assert abs(row.logprob - free[key].logprob) < 1e-4


def _naive(forward, requests, temperature, steps):
  """Draws without a cache; returns (tokens, summed log-probability) by key."""
  rows = range(len(requests))
  lengths = np.array([len(request.prompt) for request in requests])
  tokens_BT = np.zeros((len(requests), max(lengths) + steps), np.int32)
  for row, request in enumerate(requests):
    tokens_BT[row, : lengths[row]] = request.prompt
  keys_B = jnp.stack(
    [
      jax.random.fold_in(
        jax.random.fold_in(
          jax.random.key(0), engine.problem_number(request.problem_id)
        ),
        request.index,
      )
      for request in requests
    ]
  )
  sums_B = np.zeros(len(requests))
  for step in range(steps):
    logits_BTV = forward(tokens_BT)
    chosen_B, logprobs_B = draw.draw(
      logits_BTV[np.array(rows), lengths + step - 1],
      jax.vmap(lambda key, step=step: jax.random.fold_in(key, step))(keys_B),
      temperature=temperature,
    )
    tokens_BT[rows, lengths + step] = chosen_B
    sums_B += np.asarray(logprobs_B)
  return {
    (request.problem_id, request.index): (
      tuple(tokens_BT[row, lengths[row] : lengths[row] + steps].tolist()),
      sums_B[row],
    )
    for row, request in enumerate(requests)
  }


def test_prefill_and_decode_draw_what_a_naive_loop_draws(
  forward, requests, free
):
  naive = _naive(forward, requests, _CONFIG.temperature, 16)
  assert naive.keys() == free.keys()
  for key, (tokens, logprob) in naive.items():
    assert free[key].tokens == tokens
    assert abs(free[key].logprob - logprob) < 1e-4


def test_a_sample_says_how_it_came_about(loaded, prompts, requests, free):
  for request in requests:
    row = free[request.problem_id, request.index]
    assert row.prompt_tokens == len(request.prompt)
    assert row.shared_prompt_tokens == len(shapes.Shape.of(prompts).prefix)
    assert row.output_tokens == len(row.tokens) == 16
    assert row.finish_reason == 'length'
    assert row.text == loaded[1].decode(row.tokens)


def test_each_of_several_end_tokens_ends_a_sample(
  loaded, forward, generate, requests, free
):
  # Tokens that come up in the middle of some samples, and one at a start.
  ends = (
    free['p0', 0].tokens[5],
    free['p1', 2].tokens[9],
    free['p2', 1].tokens[0],
  )
  found = generate(requests, ends=ends)
  seen = set()
  for key, row in found.items():
    tokens = free[key].tokens
    at = [i for i, token in enumerate(tokens) if token in ends]
    want = tokens[: at[0] + 1] if at else tokens
    assert row.tokens == want
    assert row.text == loaded[1].decode(want)
    assert row.finish_reason == ('stop' if at else 'length')
    seen.update(row.tokens[-1:] if at else ())
  assert seen == set(ends)
  assert found['p2', 1].output_tokens == 1
  # The sum is over the tokens kept, the end token with them.
  request = next(r for r in requests if (r.problem_id, r.index) == ('p0', 0))
  kept = found['p0', 0]
  _, logprob = _naive(forward, [request] * 25, 1.0, kept.output_tokens)['p0', 0]
  assert abs(kept.logprob - logprob) < 1e-4


def _stopped(tokenizer, tokens, stop):
  """Returns (tokens, text, found) as a reader token by token would stop."""
  for count in range(1, len(tokens) + 1):
    text = tokenizer.decode(tokens[:count])
    places = [text.index(s) for s in stop if s in text]
    if places:
      return tokens[:count], text[: min(places)], True
  return tokens, tokenizer.decode(tokens), False


def _stops(tokenizer, free):
  """Returns stop strings inside a token, across tokens, and entangled."""
  inside = across = None
  for row in free.values():
    pieces = [tokenizer.decode([token]) for token in row.tokens]
    for first, second in itertools.pairwise(pieces):
      plain = (first + second).isascii()
      if len(first) > 4 and plain:
        inside = inside or first[1:-1]
      if plain and first[-1:].isalpha() and len(second) > 2:
        across = across or first[-2:] + second[:2]
  assert inside
  assert across
  long = next(
    row.text[2:12] for row in free.values() if row.text[2:12].isascii()
  )
  # The longer one begins first and is whole last.
  return (inside,), (across,), (long, long[2:6])


def test_a_stop_string_cuts_the_text_and_not_the_tokens(
  loaded, generate, requests, free
):
  tokenizer = loaded[1]
  for stop in _stops(tokenizer, free):
    found = generate(requests, stop=stop)
    reached = 0
    for key, row in found.items():
      tokens, text, ended = _stopped(tokenizer, free[key].tokens, stop)
      assert row.tokens == tokens
      assert row.text == text
      assert row.output_tokens == len(tokens)
      assert row.finish_reason == ('stop' if ended else 'length')
      if ended:
        reached += 1
        assert not any(s in row.text for s in stop)
        assert any(s in tokenizer.decode(row.tokens) for s in stop)
    assert reached
    # However often the host looks.
    assert generate(requests, stop=stop, config=_chunked(3)) == found


def test_a_stop_string_before_a_broken_character_is_seen(
  loaded, generate, requests, free
):
  # The decoder hides an ASCII byte when half a character follows it.
  tokenizer = loaded[1]
  hidden = None
  for row in free.values():
    for count in range(1, 16):
      text = tokenizer.decode(row.tokens[:count])
      after = tokenizer.decode(row.tokens[: count + 1])
      if text[-1:].isascii() and not after.startswith(text) and text:
        hidden = text[-1]
        key = row.problem_id, row.index
  assert hidden
  found = generate(requests, stop=(hidden,))
  tokens, text, _ = _stopped(tokenizer, free[key].tokens, (hidden,))
  assert (found[key].tokens, found[key].text) == (tokens, text)
  assert generate(requests, stop=(hidden,), config=_chunked(3)) == found


def test_no_request_gives_no_sample(loaded):
  sampler = engine.Sampler(*loaded, _CONFIG)
  assert list(sampler.generate([])) == []
  assert sampler.tokens_per_second == 0


@pytest.mark.parametrize(
  ('change', 'said'),
  [
    ({'max_new_tokens': 0}, 'sampler.max_new_tokens: wanted a count >= 1'),
    ({'top_p': 1.5}, 'sampler.top_p: wanted a number in (0, 1]; got 1.5'),
  ],
)
def test_a_setting_out_of_range_is_refused(loaded, change, said):
  config = dataclasses.replace(_CONFIG, **change)
  with pytest.raises(errors.InputError) as caught:
    engine.Sampler(*loaded, config)
  assert said in str(caught.value)
  assert '\n' not in str(caught.value)


def test_more_than_the_model_has_positions_for_is_refused(
  loaded, requests, nothing_compiled
):
  config = dataclasses.replace(_CONFIG, max_new_tokens=8192)
  with pytest.raises(errors.InputError) as caught:
    list(engine.Sampler(*loaded, config).generate(requests))
  assert str(caught.value).startswith('sampler.max_new_tokens: 8192 new tokens')
  assert 'the model has 8192' in str(caught.value)


def test_a_prompt_that_does_not_fit_the_shape_is_refused(
  loaded, prompts, nothing_compiled
):
  shape = shapes.Shape.of(prompts)
  sampler = engine.Sampler(*loaded, _CONFIG, shape=shape)
  filler = (9,) * shape.suffix_tokens
  for prompt in (
    shape.prefix + filler + (9,),  # Too long.
    shape.prefix,  # Nothing behind the prefix.
    (9, *prompts[0][1:]),  # Another prefix.
  ):
    with pytest.raises(errors.InputError) as caught:
      list(sampler.generate([settings.Request('long', 0, prompt)]))
    message = str(caught.value)
    assert message.startswith('prompt of long: wanted ')
    assert f'got {len(prompt)}' in message
    assert '\n' not in message


def test_a_refused_request_disturbs_no_other(loaded, prompts, requests, free):
  model, tokenizer = loaded
  used = _with_ends(tokenizer, _NEVER)
  shape = shapes.Shape.of(prompts)
  sampler = engine.Sampler(model, used, _CONFIG, shape=shape)
  long = settings.Request('long', 0, requests[0].prompt + (9,) * 99)
  rows = sampler.generate([requests[0], long, *requests[1:]])
  found = [next(rows) for _ in requests]
  assert {(row.problem_id, row.index): row for row in found} == free
  with pytest.raises(
    errors.InputError, match=r'1 of \d+ requests drew nothing'
  ):
    next(rows)


def test_slots_that_memory_cannot_hold_are_refused(
  loaded, prompts, requests, monkeypatch, nothing_compiled
):
  shape = shapes.Shape.of(prompts)
  sampler = engine.Sampler(*loaded, _CONFIG, shape=shape)
  need = sampler.need(shape)
  free = need.prompts + need.slot * (_CONFIG.slots - 1)
  monkeypatch.setattr(engine.machine, 'free_memory', lambda device: free)
  with pytest.raises(errors.InputError) as caught:
    list(sampler.generate(requests))
  message = str(caught.value)
  assert message.startswith(f'sampler.slots: {_CONFIG.slots} slots of ')
  assert message.endswith(f': {_CONFIG.slots - 1} slots would fit.')
  assert '\n' not in message
  monkeypatch.setattr(engine.machine, 'free_memory', lambda device: 1000)
  with pytest.raises(errors.InputError, match='not one slot would fit'):
    list(sampler.generate(requests))


@pytest.mark.parametrize(
  'text',
  [
    'data=2,fsdp=2,tensor=2',
    pytest.param('data=8', marks=pytest.mark.slow),
    pytest.param('fsdp=8', marks=pytest.mark.slow),
    pytest.param('data=4,tensor=2', marks=pytest.mark.slow),
    pytest.param('fsdp=4,tensor=2', marks=pytest.mark.slow),
  ],
)
def test_a_mesh_draws_the_same_but_for_near_ties(
  tiny, loaded, prompts, requests, forward, text
):
  mesh = sharding.make_mesh(text)
  model, tokenizer = checkpoints.load(tiny, mesh=mesh)
  greedy = dataclasses.replace(_CONFIG, temperature=0.0, prefill_batch=8)
  requests = [r for r in requests if r.index == 0]
  shape = shapes.Shape.of(prompts)
  tokenizer = _with_ends(tokenizer, _NEVER)
  sampler = engine.Sampler(model, tokenizer, greedy, shape=shape)
  lengths = {r.problem_id: len(r.prompt) for r in requests}
  tokens_BT = np.zeros((25, max(lengths.values()) + 16), np.int32)
  rows = sorted(sampler.generate(requests), key=lambda row: row.problem_id)
  for i, (request, row) in enumerate(zip(requests, rows, strict=True)):
    assert request.problem_id == row.problem_id
    tokens_BT[i, : lengths[row.problem_id] + 16] = request.prompt + row.tokens
  want_BTV = np.asarray(forward(tokens_BT))
  on_mesh_BTV = jax.jit(lambda tokens_BT: model(tokens_BT))(
    sharding.place_batch(tokens_BT[:8], 'BT', mesh)
  )
  assert len(on_mesh_BTV.sharding.device_set) == 8
  np.testing.assert_allclose(np.asarray(on_mesh_BTV), want_BTV[:8], atol=1e-4)
  for i, row in enumerate(rows):
    for step, token in enumerate(row.tokens):
      logits_V = want_BTV[i, lengths[row.problem_id] + step - 1]
      assert logits_V[token] > logits_V.max() - 1e-4


@pytest.mark.parametrize('field', ['slots', 'prefill_batch'])
def test_rows_that_the_mesh_does_not_divide_are_refused(tiny, field):
  model, tokenizer = checkpoints.load(
    tiny, mesh=sharding.make_mesh('data=2,fsdp=2,tensor=2')
  )
  sizes = {'slots': 8, 'prefill_batch': 8} | {field: 6}
  config = settings.SamplerConfig(**sizes)
  said = f'sampler.{field}.*= 4; got 6; 4 or 8 would fit'
  with pytest.raises(errors.InputError, match=said):
    engine.Sampler(model, tokenizer, config)
