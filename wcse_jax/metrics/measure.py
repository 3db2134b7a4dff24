"""All measures of one model's samples on one task, from graded rows."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from wcse_jax.metrics import extrapolation, intervals, quantity
from wcse_jax.metrics import table as tables


# What callers make tables with.
Table = tables.Table
Text = tables.Text


def measure(
  table: Table,
  ks: Sequence[int],
  *,
  beyond: Sequence[int] = (),
  draws: int = intervals.DRAWS,
  seed: int = 0,
) -> dict[str, Any]:
  """Returns every measure of a table, ready for JSON.

  Denominators, all over problems, with n the number of problems that are in:

  - `coverage`: mean over the problems with at least k graded samples.
  - `extrapolated`: coverage at the k of `beyond`, over the problems with a
    graded sample; `extrapolated` in a row says whether it was.
  - `diversity`: distinct exact texts of right samples, per *solved* problem
    (sum over problems over sum of coverage), as the paper has it.
  - `distinct_normalised`, `distinct_chains`: distinct normalised texts and
    distinct chains of right samples, mean over *all* the problems with at least
    k graded samples.
  - `majority`: maj@k, mean over the problems with at least k graded samples
    (`metrics.majority` says how).
  - `pass@1`: share of right samples, mean over the problems with a graded one.
  - `ngram_entropy`: bits, mean over the problems with enough right samples
    (`metrics.entropy`).
  - `vote`: the majority answer among all n, taken as the reference: `accuracy`
    over the problems with any answer; `sample_accuracy`, of the samples that
    agree with it, the share that is right; by `share` of the problem's samples
    that it must have at least: `kept`, the share of the graded problems, and
    `accuracy` on those.
  - `false_positive_rate`: of the right samples that were judged (`samples` of
    them), the share whose reasoning is wrong; n counts the problems they are
    of.

  What needs texts is empty where the table was made of grades alone, and
  `mean_output_tokens` is None where no length is known.

  Args:
    table: the graded samples.
    ks: the numbers of samples drawn; a k that no problem has enough samples
      for gets n = 0.
    beyond: the numbers of samples at which coverage is extrapolated.
    draws: number of bootstrap resamples.
    seed: of the resampling.
  """
  verdicts = np.bincount(table.verdict_M, minlength=len(tables.VERDICTS))
  finish = np.bincount(
    table.finish_M[table.finish_M >= 0], minlength=len(tables.FINISHES)
  )
  samples = table.verdict_M.size
  known_M = table.tokens_M[table.tokens_M >= 0]
  found = quantity.of(table, ks)
  options = {'draws': draws, 'seed': seed}
  whole = _described(table, found, None, options)
  return {
    'problems': len(table.ids),
    'samples': samples,
    'graded': int(table.n_Q.sum()),
    'right': int(table.right_Q.sum()),
    'verdicts': dict(zip(tables.VERDICTS, verdicts.tolist())),
    'finish': dict(zip(tables.FINISHES, finish.tolist())),
    'mean_output_tokens': float(known_M.mean()) if known_M.size else None,
    **whole,
    'extrapolated': (
      extrapolation.coverage_at(table.n_Q, table.right_Q, beyond, seed=seed)
      if len(beyond)
      else []
    ),
    **{
      f'by_{kind}': [
        {
          kind: name,
          'problems': int(mask_Q.sum()),
          **_described(table, found, mask_Q, options),
        }
        for name, mask_Q in strata(names)
      ]
      for kind, names in (('level', table.levels), ('subject', table.subjects))
    },
  }


def arrange(
  quantities: Sequence[quantity.Quantity], estimates: Sequence[dict[str, Any]]
) -> dict[str, Any]:
  """Returns estimates under the keys of `measures.json`."""
  curves: dict[str, list[dict[str, Any]]] = {
    name: [] for name in quantity.CURVES
  }
  single: dict[str, dict[str, Any]] = {}
  entropies: list[dict[str, Any]] = []
  shares: dict[float, dict[str, Any]] = {}
  for one, estimate in zip(quantities, estimates, strict=True):
    if one.name in curves:
      curves[one.name].append({'k': one.at, **estimate})
    elif one.name == 'ngram_entropy':
      entropies.append({'order': one.at, **estimate})
    elif one.name == 'vote_kept':
      shares.setdefault(one.at, {'share': one.at})['kept'] = estimate
    elif one.name == 'vote_kept_accuracy':
      shares.setdefault(one.at, {'share': one.at})['accuracy'] = estimate
    else:
      single[one.name] = estimate
  return {
    **curves,
    'pass@1': single['pass@1'],
    'ngram_entropy': entropies,
    'vote': {
      'accuracy': single['vote_accuracy'],
      'sample_accuracy': single['vote_sample_accuracy'],
      'by_share': list(shares.values()),
    },
    'false_positive_rate': single['false_positive_rate'],
  }


def strata(
  names: Sequence[str],
) -> list[tuple[str, npt.NDArray[np.bool_]]]:
  """Returns levels or subjects, numbers in order of size, with their problems.

  None where no problem has a name.
  """
  if not any(names):
    return []
  names_Q = np.array(names, dtype=object)
  order = sorted(
    set(names),
    key=lambda name: (0, int(name), '') if name.isdecimal() else (1, 0, name),
  )
  return [(name, names_Q == name) for name in order]


def _described(
  table: Table,
  quantities: Sequence[quantity.Quantity],
  mask_Q: npt.NDArray[np.bool_] | None,
  options: dict[str, int],
) -> dict[str, Any]:
  found = arrange(quantities, quantity.estimates(quantities, mask_Q, **options))
  judged_Q = table.judged_Q if mask_Q is None else table.judged_Q[mask_Q]
  found['false_positive_rate']['samples'] = int(judged_Q.sum())
  return found
