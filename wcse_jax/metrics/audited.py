"""What people said in an audit: rates, and how far auditors agree."""

import itertools
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from wcse_jax import records
from wcse_jax.metrics import intervals, judged, measure, ppi


def figures(
  levels: Mapping[judged.Key, str],
  by_auditor: Mapping[str, Mapping[judged.Key, records.Judgement]],
  merged: Mapping[judged.Key, records.Judgement],
) -> dict[str, Any]:
  """Returns the figures of an audit, ready for JSON.

  Args:
    levels: level of every right sample.
    by_auditor: what each auditor said.
    merged: what `merge` returns.
  """
  sound = {key: merged[key].sound for key in levels if key in merged}
  sounds = {
    name: {key: row.sound for key, row in rows.items()}
    for name, rows in by_auditor.items()
  }
  return {
    'auditors': sorted(by_auditor),
    'false_positive_rate': false_positives(levels, sound),
    'all': _counts(levels, sound),
    'by_level': [
      {
        'level': level,
        **_counts(
          {key: name for key, name in levels.items() if name == level},
          sound,
        ),
      }
      for level, _ in measure.strata(list(levels.values()))
    ],
    'agreement': [
      {'a': a, 'b': b, **agreement(sounds[a], sounds[b])}
      for a, b in itertools.combinations(sorted(sounds), 2)
    ],
  }


def merge(
  by_auditor: Mapping[str, Mapping[judged.Key, records.Judgement]],
) -> dict[judged.Key, records.Judgement]:
  """Returns what all auditors say of a sample; None where they differ.

  A verdict beside another auditor's "unsure" counts as differing.
  """
  found = {}
  for key in dict.fromkeys(key for rows in by_auditor.values() for key in rows):
    rows = {name: r[key] for name, r in by_auditor.items() if key in r}
    sounds = {row.sound for row in rows.values()}
    if len(sounds) == 1:
      sound = sounds.pop()
      why = '; '.join(dict.fromkeys(r.why for r in rows.values() if r.why))
    else:
      sound = None
      why = 'unsure: auditors differ: ' + '; '.join(
        f'{name} says {words(row.sound, row.why)}'
        for name, row in sorted(rows.items())
      )
    found[key] = records.Judgement(
      problem_id=key[0], index=key[1], sound=sound, why=why
    )
  return found


def false_positives(
  levels: Mapping[judged.Key, str], sound: Mapping[judged.Key, bool | None]
) -> dict[str, Any]:
  """Returns the Estimate of the share of right samples that are unsound.

  Levels are weighted by their right samples, as an audit takes more than its
  share of small ones; levels with fewer than two verdicts are taken together
  with the one that has the next fewest.  It is `ppi.rate` without any trust in
  a judge, so its interval takes samples as drawn one by one.

  Args:
    levels: level of every right sample.
    sound: what people said of some of them.
  """
  said = {key: sound.get(key) for key in levels}
  counts = dict.fromkeys(levels.values(), 0)
  for key, level in levels.items():
    counts[level] += said[key] is not None
  groups = {level: (counts[level], [level]) for level in counts}
  while len(groups) > 1:
    least, more = sorted(groups, key=lambda g: (groups[g][0], g))[:2]
    if groups[least][0] >= 2:
      break
    count, members = groups.pop(least)
    groups[more] = (groups[more][0] + count, groups[more][1] + members)
  group_of = {
    level: name for name, (_, members) in groups.items() for level in members
  }
  return ppi.rate(
    np.zeros(len(levels)),
    [None if said[key] is None else not said[key] for key in levels],
    [group_of[level] for level in levels.values()],
    trust=0.0,
  )


def agreement(
  a: Mapping[judged.Key, bool | None],
  b: Mapping[judged.Key, bool | None],
  *,
  seed: int = 0,
) -> dict[str, Any]:
  """Returns the Estimate of Cohen's kappa of two auditors.

  `n` counts the samples that both called sound or unsound, `same` those of
  them on which they agree.  The value is None where n is 0 or where both give
  one and the same verdict throughout; the bootstrap interval is over samples.

  Source: Cohen 1960, A Coefficient of Agreement for Nominal Scales.
  """
  both = [
    (a[key], b[key])
    for key in a
    if a[key] is not None and b.get(key) is not None
  ]
  cells_C = np.bincount(
    [2 * first + second for first, second in both], minlength=4
  )
  found = {
    'value': None,
    'low': None,
    'high': None,
    'n': len(both),
    'same': int(cells_C[0] + cells_C[3]),
  }
  if not both:
    return found
  drawn_DC = np.random.default_rng(seed).multinomial(
    len(both), cells_C / len(both), intervals.DRAWS
  )
  value = _kappa(cells_C[None])[0]
  if not np.isnan(value):
    found['value'] = float(value)
    drawn_D = _kappa(drawn_DC)
    drawn_D = drawn_D[~np.isnan(drawn_D)]
    if len(both) > 1:
      low, high = np.quantile(drawn_D, intervals.TAILS)
      found['low'], found['high'] = float(low), float(high)
  return found


def words(sound: bool | None, why: str) -> str:
  """Returns a verdict with its reason."""
  word = {True: 'sound', False: 'unsound', None: 'unsure'}[sound]
  return f'{word} ({why})' if why else word


def _counts(
  keys: Collection[judged.Key], sound: Mapping[judged.Key, bool | None]
) -> dict[str, Any]:
  said = [sound[key] for key in keys if key in sound]
  labels = [not one for one in said if one is not None]
  return {
    'right': len(keys),
    'sound': said.count(True),
    'unsound': said.count(False),
    'unsure': said.count(None),
    'rate': ppi.rate(np.zeros(len(labels)), labels),
  }


def _kappa(cells_DC: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
  """Returns kappa of counts of (no, no), (no, yes), (yes, no), (yes, yes)."""
  shares_DC = cells_DC / cells_DC.sum(axis=1, keepdims=True)
  agreed_D = shares_DC[:, 0] + shares_DC[:, 3]
  a_D = shares_DC[:, 2] + shares_DC[:, 3]
  b_D = shares_DC[:, 1] + shares_DC[:, 3]
  chance_D = a_D * b_D + (1 - a_D) * (1 - b_D)
  with np.errstate(invalid='ignore', divide='ignore'):
    kappa_D = (agreed_D - chance_D) / (1 - chance_D)
  return np.where(chance_D < 1, kappa_D, np.nan)
