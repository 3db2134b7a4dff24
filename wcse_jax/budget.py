"""What a sample costs, and how many samples the same budget buys.

Two rules.  `flops_per_token` is the paper's: 2P for each generated token, the
prompt for nothing.  `forward_flops` and what is built on it count every
multiplication and addition of the matrix products: the projections, the
feed-forward layers, the output head where logits are taken, and attention over
the positions that are attended to.  Norms, rotations, softmax and activations
are not matrix products, and are not counted.  All counts are Python ints.

Source: 2P per token: Kaplan et al. 2020, arXiv:2001.08361, table 1.
"""

import dataclasses
import decimal
import fractions
import math

from wcse_jax import errors
from wcse_jax.models import config


Number = int | float | fractions.Fraction


@dataclasses.dataclass(frozen=True)
class Match:
  """How many weak samples cost what the strong samples cost.

  Attributes:
    count_weak: whole samples per problem, rounded down.
    ratio: cost of a strong sample over cost of a weak one.
    exact: weak samples per problem before rounding.
    rounding: one sentence on what rounding did.
  """

  count_weak: int
  ratio: fractions.Fraction
  exact: fractions.Fraction
  rounding: str


def flops_per_token(cfg: config.ModelConfig) -> int:
  """Returns 2P, the paper's cost of a generated token.

  P are the parameters that the work on a token goes through, the embedding
  included: of experts those that it is sent to.
  """
  return 2 * cfg.active_parameters()


def forward_flops(
  cfg: config.ModelConfig,
  tokens: int,
  context_start: int = 0,
  *,
  logits: int | None = None,
) -> int:
  """Returns the FLOPs of the matrix products of one forward pass.

  Args:
    cfg: the model.
    tokens: tokens that are processed.
    context_start: position of the first of them; earlier positions are in the
      cache and cost nothing but to be attended to.
    logits: tokens whose logits are taken; None: of all.

  Raises:
    ValueError: if a number is negative, or `logits` is more than `tokens`.
  """
  logits = tokens if logits is None else logits
  if tokens < 0 or context_start < 0 or not 0 <= logits <= tokens:
    raise ValueError(
      'tokens, context_start and logits must be at least 0, and logits at most '
      f'tokens; got {tokens}, {context_start} and {logits}.'
    )
  end = context_start + tokens
  attended = {
    'global': _triangle(end) - _triangle(context_start),
    'local': _windowed(end, cfg.window) - _windowed(context_start, cfg.window),
  }
  matrices = 2 * tokens * cfg.matrix_parameters(active=True)
  head = 2 * logits * cfg.vocab_size * cfg.d_model
  # Scores and weighted values: each 2 * N * H for every position attended to.
  attention = sum(
    4 * cfg.num_heads * layer.head_dim * attended[layer.kind]
    for layer in cfg.layers
  )
  return matrices + head + attention


def sample_flops(
  cfg: config.ModelConfig,
  prompt_tokens: int,
  shared_prompt_tokens: int,
  output_tokens: int,
  shared_by: int = 1,
) -> int:
  """Returns the FLOPs of one sample, its share of the shared prefix included.

  The first token is drawn from the logits of the last prompt token and the last
  drawn token is not processed, so n tokens take n sets of logits and n - 1
  steps of decoding.

  Args:
    cfg: the model.
    prompt_tokens: length of the prompt, the shared prefix included.
    shared_prompt_tokens: length of the prefix that is processed once.
    output_tokens: drawn tokens, the ending included.
    shared_by: samples that use the prefix; the share is rounded up, by less
      than one FLOP a sample.

  Raises:
    ValueError: if a number is out of range.
  """
  if not 0 <= shared_prompt_tokens <= prompt_tokens or prompt_tokens < 1:
    raise ValueError(
      'prompt_tokens must be at least 1 and shared_prompt_tokens between 0 and '
      f'it; got {prompt_tokens} and {shared_prompt_tokens}.'
    )
  if output_tokens < 0 or shared_by < 1:
    raise ValueError(
      'output_tokens must be at least 0 and shared_by at least 1; got '
      f'{output_tokens} and {shared_by}.'
    )
  shared = forward_flops(cfg, shared_prompt_tokens, logits=0)
  own = prompt_tokens - shared_prompt_tokens
  prefill = forward_flops(cfg, own, shared_prompt_tokens, logits=0)
  if not output_tokens:
    return -(-shared // shared_by) + prefill
  decode = forward_flops(cfg, output_tokens - 1, prompt_tokens)
  first_logits = 2 * cfg.vocab_size * cfg.d_model
  return -(-shared // shared_by) + prefill + first_logits + decode


def training_flops(
  cfg: config.ModelConfig,
  tokens: int,
  *,
  logits: int | None = None,
  adapters: int = 0,
) -> int:
  """Returns the FLOPs of a training step on one sequence.

  The backward pass takes twice the forward pass: one product for the gradient
  of each factor; where a matrix is not trained, its own is left out.  Nothing
  is added for activations that are computed again.

  Args:
    cfg: the model.
    tokens: length of the sequence.
    logits: tokens whose logits are taken; None: of all.
    adapters: parameters of low-rank adapters, where they alone are trained; 0
      where the whole model is.
  """
  whole = forward_flops(cfg, tokens, logits=logits)
  if not adapters:
    return 3 * whole
  logits = tokens if logits is None else logits
  fixed = 2 * tokens * cfg.matrix_parameters(active=True)
  fixed += 2 * logits * cfg.vocab_size * cfg.d_model
  return 3 * whole - fixed + 6 * tokens * adapters


def matched(count_strong: int, cost_strong: Number, cost_weak: Number) -> Match:
  """Returns how many weak samples the budget of the strong ones buys.

  Rounded down: the weak arm never costs more than the strong one.

  Args:
    count_strong: strong samples per problem, at least 1.
    cost_strong: cost of one strong sample, in any unit.
    cost_weak: cost of one weak sample, in the same unit.  A float counts as
      the decimal it is printed as: 10.5 over 0.3 is 35.

  Raises:
    InputError: if a cost is not positive, or if the budget does not buy one
      weak sample.

  Source: n_WC = (P_SE / P_WC) * n_SE; arXiv:2408.16737, section 3.
  """
  if count_strong < 1:
    raise errors.InputError(
      f'count_strong: wanted at least 1 sample; got {count_strong}.'
    )
  ratio = cost_ratio(cost_strong, cost_weak)
  exact = count_strong * ratio
  count = math.floor(exact)
  if count < 1:
    raise errors.InputError(
      f'cost_weak: wanted at most the cost of {count_strong} strong samples; '
      f'{float(exact):.3g} weak samples cost as much.'
    )
  if count == exact:
    rounding = (
      f'{count} weak samples cost exactly as much as {count_strong} strong.'
    )
  else:
    rounding = (
      f'{float(exact):.2f} weak samples were rounded down to {count}, which '
      f'cost {100 * float(count / exact):.1f}% of {count_strong} strong.'
    )
  return Match(count, ratio, exact, rounding)


def cost_ratio(cost_strong: Number, cost_weak: Number) -> fractions.Fraction:
  """Returns cost_strong / cost_weak; see `matched`."""
  return _exact('cost_strong', cost_strong) / _exact('cost_weak', cost_weak)


def _triangle(end: int) -> int:
  """Returns the positions attended to by positions 0 to end-1, causally."""
  return end * (end + 1) // 2


def _windowed(end: int, window: int) -> int:
  """Returns the same where each position sees `window`, itself included."""
  full = min(end, window)
  return _triangle(full) + (end - full) * window


def _exact(name: str, cost: Number) -> fractions.Fraction:
  good = isinstance(cost, (int, float, fractions.Fraction))
  if not good or not 0 < cost < math.inf:
    raise errors.InputError(f'{name}: wanted a positive number; got {cost!r}.')
  if isinstance(cost, float):
    return fractions.Fraction(decimal.Decimal(repr(float(cost))))
  return fractions.Fraction(cost)
