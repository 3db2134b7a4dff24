"""Inputs of decode attention, and what must come of them."""

import dataclasses
from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np

from wcse_jax.kernels import decode


# The layer of `make`'s stack that is asked for.
LAYER = 1


@dataclasses.dataclass
class Case:
  """Inputs; beyond what is filled lies NaN.

  Attributes:
    q_BKGH: queries.
    k: keys k_LBKSH of two layers.
    v: values likewise.
    filled_B: places that hold a token.
    softcap: bound on the logits.
  """

  q_BKGH: np.ndarray
  k: np.ndarray
  v: np.ndarray
  filled_B: np.ndarray
  softcap: float | None

  @property
  def arrays(self):
    """What a kernel takes."""
    layer = jnp.int32(LAYER)
    return self.q_BKGH, self.k, self.v, layer, jnp.asarray(self.filled_B)

  @property
  def one_layer(self):
    """What `decode.reference` takes."""
    return self.q_BKGH, self.k[LAYER], self.v[LAYER], self.filled_B

  def put(self, slot: int, other: 'Case') -> None:
    """Makes one slot that of another case."""
    for name in ('q_BKGH', 'filled_B'):
      getattr(self, name)[slot] = getattr(other, name)[slot]
    for name in ('k', 'v'):
      getattr(self, name)[:, slot] = getattr(other, name)[:, slot]


def make(
  *,
  B: int = 4,
  K: int = 2,
  G: int = 3,
  S: int = 64,
  H: int = 64,
  dtype='float32',
  filled: Sequence[int] | None = None,
  softcap: float | None = None,
  seed: int = 0,
) -> Case:
  """Returns random inputs; some slots hold one token, some all they can."""
  rng = np.random.default_rng(seed)
  if filled is None:
    filled = rng.integers(1, S + 1, B)
    filled[0], filled[-1] = 1, S
  filled_B = np.asarray(filled, np.int32)
  q_BKGH = 3 * H**-0.5 * rng.normal(size=(B, K, G, H))
  k, v = rng.normal(size=(2, 2, B, K, S, H))
  empty_BS = np.arange(S)[None] >= filled_B[:, None]
  for x in (k, v):
    x[:] = np.where(empty_BS[None, :, None, :, None], np.nan, x)
  kind = jnp.dtype(dtype)
  return Case(
    q_BKGH.astype(kind), k.astype(kind), v.astype(kind), filled_B, softcap
  )


def check(got, case: Case, atol: float) -> None:
  """Checks what a kernel returned against the reference, in float32."""
  wide = [np.asarray(a, np.float32) for a in case.one_layer[:3]]
  want = decode.reference(*wide, case.filled_B, softcap=case.softcap)
  for name, g, w in zip(('out', 'lse'), got, want, strict=True):
    assert g.dtype == jnp.float32
    assert g.shape == w.shape
    np.testing.assert_allclose(g, w, atol=atol, err_msg=name)
