import fractions
import itertools

import pytest

from wcse_jax import budget, errors
from wcse_jax.models import config, published


def _tiny(kinds=('local', 'global', 'local'), window=3):
  return config.ModelConfig(
    vocab_size=11,
    d_model=4,
    d_ff=6,
    num_layers=len(kinds),
    num_heads=4,
    num_kv_heads=2,
    head_dim=2,
    query_scale=1.0,
    qk_norm=True,
    window=window,
    layer_kinds=kinds,
    rope_local=config.Rope(base=10_000.0),
    rope_global=config.Rope(base=10_000.0),
    max_positions=64,
    architecture='Gemma3ForCausalLM',
  )


def _by_loop(cfg, positions, logits):
  """Counts every matrix product of every position, one by one."""
  total = 0
  for position in positions:
    for kind in cfg.layer_kinds:
      for width in (cfg.num_heads, cfg.num_kv_heads, cfg.num_kv_heads):
        total += 2 * cfg.d_model * width * cfg.head_dim
      total += 2 * cfg.num_heads * cfg.head_dim * cfg.d_model
      total += 3 * 2 * cfg.d_model * cfg.d_ff
      for other in range(position + 1):
        if kind == 'global' or position - other < cfg.window:
          total += 2 * 2 * cfg.num_heads * cfg.head_dim
  return total + logits * 2 * cfg.vocab_size * cfg.d_model


def test_paper_rule_is_two_per_parameter():
  models = published.configs()
  weak, strong = models['gemma2-9b'], models['gemma2-27b']
  assert budget.flops_per_token(weak) == 2 * 9_241_705_984
  ratio = budget.flops_per_token(strong) / budget.flops_per_token(weak)
  assert ratio == pytest.approx(2.946, abs=0.001)


def test_forward_of_one_token_by_hand():
  # Query 4x8, key and value 4x4, output 8x4, three of 4x6: 168 weights a layer.
  # One position attended to: 4 heads of 2, scores and values: 32 a layer.
  got = budget.forward_flops(_tiny(), 1)
  assert got == 3 * (2 * 168 + 32) + 2 * 11 * 4
  assert budget.forward_flops(_tiny(), 1, logits=0) == got - 88


@pytest.mark.parametrize(
  ('tokens', 'start', 'window'),
  list(itertools.product((0, 1, 2, 5, 9), (0, 1, 2, 3, 7), (1, 3, 100))),
)
def test_forward_equals_a_loop_over_positions(tokens, start, window):
  cfg = _tiny(window=window)
  for logits in {0, tokens}:
    got = budget.forward_flops(cfg, tokens, start, logits=logits)
    assert got == _by_loop(cfg, range(start, start + tokens), logits)
    assert isinstance(got, int)


def test_forward_in_parts_equals_the_whole():
  cfg = published.configs()['gemma2-2b']
  whole = budget.forward_flops(cfg, 6000)
  parts = budget.forward_flops(cfg, 4097) + budget.forward_flops(
    cfg, 1903, 4097
  )
  assert parts == whole


def test_long_sequences_stay_exact():
  cfg = published.configs()['gemma3-27b']
  got = budget.forward_flops(cfg, 10**9, 10**9)
  assert got > 2**63
  # Of window w, each of these positions sees w; globally, position + 1.
  attended = 52 * 1024 * 10**9 + 10 * (
    (2 * 10**9) * (2 * 10**9 + 1) // 2 - 10**9 * (10**9 + 1) // 2
  )
  rest = 2 * 10**9 * (cfg.matrix_parameters() + 262_208 * 5376)
  assert got == rest + 4 * 32 * 128 * attended


def test_sample_equals_a_loop_over_its_steps():
  cfg = _tiny()
  # 7 prompt tokens, 4 of them shared by 2 samples; 3 drawn, 2 of them fed back.
  shared = _by_loop(cfg, range(4), 0)
  own = _by_loop(cfg, range(4, 7), 1)
  decode = _by_loop(cfg, range(7, 9), 2)
  got = budget.sample_flops(cfg, 7, 4, 3, shared_by=2)
  assert got == (shared + 1) // 2 + own + decode
  alone = budget.sample_flops(cfg, 7, 0, 3)
  assert alone == _by_loop(cfg, range(9), 3)
  assert budget.sample_flops(cfg, 7, 4, 3) == alone


def test_sample_without_output_is_its_prefill():
  cfg = _tiny()
  assert budget.sample_flops(cfg, 7, 0, 0) == _by_loop(cfg, range(7), 0)


def test_a_share_is_rounded_up_by_less_than_one():
  cfg = _tiny()
  own = budget.sample_flops(cfg, 5, 4, 1, shared_by=10**12)
  assert own == _by_loop(cfg, range(4, 5), 1) + 1
  for shared_by in (1, 3, 7, 64):
    total = shared_by * budget.sample_flops(cfg, 5, 4, 1, shared_by)
    apart = shared_by * (own - 1) + _by_loop(cfg, range(4), 0)
    assert 0 <= total - apart < shared_by


def test_training_is_three_times_forward():
  cfg = _tiny()
  assert budget.training_flops(cfg, 9) == 3 * _by_loop(cfg, range(9), 9)
  assert budget.training_flops(cfg, 9, logits=4) == 3 * _by_loop(
    cfg, range(9), 4
  )


@pytest.mark.parametrize(
  'call',
  [
    lambda: budget.forward_flops(_tiny(), -1),
    lambda: budget.forward_flops(_tiny(), 1, -1),
    lambda: budget.forward_flops(_tiny(), 1, logits=2),
    lambda: budget.sample_flops(_tiny(), 3, 4, 1),
    lambda: budget.sample_flops(_tiny(), 0, 0, 1),
    lambda: budget.sample_flops(_tiny(), 3, 0, -1),
    lambda: budget.sample_flops(_tiny(), 3, 0, 1, 0),
  ],
)
def test_refuses_numbers_out_of_range(call):
  with pytest.raises(ValueError, match='at least'):
    call()


def test_matched_rounds_down_and_says_so():
  got = budget.matched(10, 27_227_128_320, 9_241_705_984)
  assert got.count_weak == 29
  assert got.ratio == fractions.Fraction(27_227_128_320, 9_241_705_984)
  assert got.exact == 10 * got.ratio
  assert got.rounding == (
    '29.46 weak samples were rounded down to 29, which cost 98.4% of 10 strong.'
  )


@pytest.mark.parametrize(
  ('count', 'strong', 'weak', 'want'),
  [
    (1, 27, 9, 3),
    (10, 27, 9, 30),
    (1, 10.5, 0.3, 35),  # price-matched pair of the paper
    (1, 1, 0.1, 10),  # in binary 0.1 is more than a tenth
    (3, 0.3, 0.9, 1),
    (1, 1, fractions.Fraction(1, 3), 3),
    (1, 1.0, 1.0, 1),
  ],
)
def test_matched_is_exact_where_the_ratio_is(count, strong, weak, want):
  got = budget.matched(count, strong, weak)
  assert got.count_weak == got.exact == want
  assert 'exactly' in got.rounding


@pytest.mark.parametrize(
  ('arguments', 'named'),
  [
    ((0, 3, 1), 'count_strong'),
    ((1, 0, 1), 'cost_strong'),
    ((1, 3, -1), 'cost_weak'),
    ((1, float('nan'), 1), 'cost_strong'),
    ((1, float('inf'), 1), 'cost_strong'),
    ((1, 3, None), 'cost_weak'),
    ((1, 1, 3), '0.333 weak samples'),
  ],
)
def test_matched_refuses_what_buys_nothing(arguments, named):
  with pytest.raises(errors.InputError, match=named):
    budget.matched(*arguments)
