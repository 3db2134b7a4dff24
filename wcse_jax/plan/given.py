"""What a plan is made of."""

import dataclasses

from wcse_jax.plan import allocation, costs, curves


@dataclasses.dataclass(frozen=True)
class Given:
  """What a plan is made of.

  Attributes:
    pilot: the counts.
    levels: of each problem of the pilot; empty where there are none.
    paid: what samples cost.
    worth: the objective.
    rates: share of the right samples of each model whose reasoning is wrong;
      None where it is not known.
    sources: where each model's pilot is, and its checkpoint.
    dollars: of a million right samples of each model; None where no price is
      known.
  """

  pilot: curves.Pilot
  levels: tuple[str, ...]
  paid: costs.Prices
  worth: allocation.Worth
  rates: tuple[float | None, ...]
  sources: tuple[tuple[str, str], ...]
  dollars: tuple[float | None, ...]
