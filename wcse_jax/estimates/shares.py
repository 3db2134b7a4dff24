"""Which part of a machine's peak is reached: the one table.  No jax here.

A share is the time at the peak over the time measured.  The peak of a decode
step is the slower of its products at the matrix rate and its least bytes at the
memory's; of reading prompts and of training, products at the matrix rate.
"""

import dataclasses
import math


PHASES = ('decode', 'prefill', 'train')
GUESS = 'a guess: nothing was measured'


@dataclasses.dataclass(frozen=True)
class Share:
  """One row.

  Attributes:
    platform: `cpu`, `gpu` or `tpu`.
    phase: one of `PHASES`.
    dtype: of the products; empty for any.
    parameters: of the model.
    share: of the peak that is reached.
    source: where it was measured.
  """

  platform: str
  phase: str
  dtype: str
  parameters: float
  share: float
  source: str


_STUDY = 'quickstart on 2 CPU cores'
_CPU = 'docs/results/sampling-cpu.md'
_GPU = 'docs/results/gpu.md'
_TRAINING = 'docs/results/training.md'

TABLE = (
  Share('cpu', 'decode', '', 0.10e6, 0.07, _STUDY),
  Share('cpu', 'decode', '', 0.31e6, 0.14, _STUDY),
  Share('cpu', 'decode', 'float32', 268e6, 0.53, _CPU),
  Share('cpu', 'decode', 'bfloat16', 268e6, 0.40, _CPU),
  Share('cpu', 'prefill', '', 0.10e6, 0.13, _STUDY),
  Share('cpu', 'prefill', '', 0.31e6, 0.19, _STUDY),
  Share('cpu', 'prefill', '', 268e6, 0.74, _CPU),
  Share('cpu', 'train', '', 0.10e6, 0.11, _STUDY),
  Share('cpu', 'train', '', 0.31e6, 0.125, _STUDY),
  Share('cpu', 'train', 'float32', 135e6, 0.44, _TRAINING),
  Share('cpu', 'train', 'float32', 268e6, 0.50, _TRAINING),
  Share('cpu', 'train', 'bfloat16', 268e6, 0.37, _TRAINING),
  # Of an H100; the mean of 64 and 256 slots.
  Share('gpu', 'decode', '', 268e6, 0.19, _GPU),
  Share('gpu', 'decode', '', 2.6e9, 0.52, _GPU),
  Share('gpu', 'decode', '', 9.2e9, 0.68, _GPU),
  Share('gpu', 'prefill', '', 9.2e9, 0.4, GUESS),
  Share('gpu', 'train', '', 9.2e9, 0.4, GUESS),
  Share('tpu', 'decode', '', 9.2e9, 0.6, GUESS),
  Share('tpu', 'prefill', '', 9.2e9, 0.4, GUESS),
  Share('tpu', 'train', '', 9.2e9, 0.4, GUESS),
)

# Seconds that a core works on the grade of a sample, by task.
# Source: docs/results/grading.md (a hundred thousand at once, with all
# measures, on 2 cores; programs: the reference solutions); `arith`: the
# quickstart.
_GRADING = {
  'arith': 0.25e-3,
  'gsm8k': 1.4e-3,
  'svamp': 1.4e-3,
  'gsm_plus': 1.4e-3,
  'math': 2.8e-3,
  'math500': 2.8e-3,
  'functional_math': 2.8e-3,
  'mbpp': 74e-3,
  'humaneval': 74e-3,
}

# Seconds of compiling, by platform and phase.
# Source: `launch/bench.py` and configs/bench_train.py with the embedded models
# on 2 CPU cores; with Gemma 3 270M docs/results/sampling-cpu.md (26 to 28).
_COMPILING = {('cpu', 'decode'): 25.0, ('cpu', 'train'): 15.0}


def of(
  platform: str, phase: str, dtype: str, parameters: int
) -> tuple[float, str]:
  """Returns (share of the peak, where from) for a model of some size.

  Between two rows it is interpolated over the logarithm of the size; beyond
  them it is that of the nearest.
  """
  rows = sorted(
    (
      row
      for row in TABLE
      if (row.platform, row.phase) == (platform, phase)
      and row.dtype in ('', dtype)
    ),
    key=lambda row: row.parameters,
  )
  below = [row for row in rows if row.parameters <= parameters]
  above = [row for row in rows if row.parameters > parameters]
  if not below or not above:
    row = (below or rows)[-1 if below else 0]
    return row.share, row.source
  low, high = below[-1], above[0]
  way = math.log(parameters / low.parameters) / math.log(
    high.parameters / low.parameters
  )
  source = ', '.join(dict.fromkeys((low.source, high.source)))
  return low.share + way * (high.share - low.share), source


def grading(task: str) -> float:
  """Returns the seconds that a core works on the grade of a sample.

  Of a task that is not known those of `math`.
  """
  return _GRADING.get(task, _GRADING['math'])


def compiling(platform: str, phase: str) -> float | None:
  """Returns the seconds of compiling; None where they are not known."""
  return _COMPILING.get((platform, phase))
