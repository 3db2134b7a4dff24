"""Makes a study's run folder of about a million graded samples, and times the
report of it.

  python tests/million.py --workdir=/tmp/million

The samples are worked solutions of `arith`, some with a digit changed; no model
draws them and no student is trained.  Prints the seconds that the report took,
and the peak memory of the process (GB).
"""

import argparse
import json
import random
import resource
import subprocess
import sys
import time

from wcse_jax import records, runlog, shardfiles, storage
from wcse_jax.study import design, run, settings
from wcse_jax.study import stages as staging
from wcse_jax.tasks import arith


def config(problems: int) -> settings.StudyConfig:
  return settings.StudyConfig(
    problems=problems,
    truth_samples=10,
    cost_ratios=(),
    replicates=3,
    setups={},
    budgets={'low': 1, 'high': 10},
  )


def make(study: design.Study) -> None:
  """Writes samples and grades of both models."""
  shardfiles.claim(study.workdir, study.fingerprint())
  placed = dict(study.placed)
  for name, wrong in (('wc', 0.5), ('se', 0.35)):
    stem = study.stem(name)
    rng = random.Random(stem)
    samples, grades = (
      shardfiles.ShardFolder(
        storage.join(study.workdir, kind, stem), {'made': stem}
      )
      for kind in ('samples', 'grades')
    )
    cost = {'flops': 1, 'chip_seconds': 1.0, 'prefill_tokens': 1}
    for shard in shardfiles.plan_shards(list(placed), study.drawn(name), ()):
      rows = [
        _sample(placed[position], index, rng, wrong)
        for position in range(shard.first_problem, shard.last_problem + 1)
        if position in placed
        for index in range(shard.first_index, shard.last_index + 1)
      ]
      drawn = {'decode_tokens': sum(row.output_tokens for row in rows)}
      samples.write(shard, rows, cost | drawn)
      grades.write(
        shard,
        [
          study.task.grade(placed[_position(row)], row.index, row.text)
          for row in rows
        ],
        {'chip_seconds': 1.0},
      )
    total = samples.cost()
    for stage in ('sample', 'grade'):
      runlog.book(
        study.workdir,
        f'{stage}-{stem}',
        {
          'stage': stage,
          'model': stem,
          'chips': 1,
          'chip_seconds': float(grades.cost()['chip_seconds']),
          'prefill_tokens': 1,
          'decode_tokens': int(total['decode_tokens']),
          'flops': 1,
          'usd': None,
        },
      )


def _position(row: records.Sample) -> int:
  return int(row.problem_id.rpartition('/')[2])


def _sample(problem, index: int, rng: random.Random, wrong: float):
  text = ' ' + arith.solution(problem, rng)
  if rng.random() < wrong:
    at = rng.randrange(len(text))
    text = text[:at] + str(rng.randrange(10)) + text[at + 1 :]
  tokens = tuple(rng.randrange(300) for _ in range(len(text) // 2))
  return records.Sample(
    problem_id=problem.id,
    index=index,
    text=text,
    tokens=tokens,
    finish_reason='stop',
    prompt_tokens=40,
    shared_prompt_tokens=1,
    output_tokens=len(tokens),
    logprob=-5.0,
  )


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--workdir', required=True)
  parser.add_argument('--problems', type=int, default=7000)
  parser.add_argument('--report', action='store_true', help='only that')
  flags = parser.parse_args()
  asked = config(flags.problems)
  if not flags.report:
    study = design.Study(asked, flags.workdir)
    if not staging.Stages(study).is_graded('se'):
      make(study)
    # A process of its own, whose peak is that of the report alone.
    sys.exit(subprocess.call([sys.executable, *sys.argv, '--report']))
  began = time.monotonic()
  results = run.rebuild(asked, flags.workdir)
  peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
  print(
    json.dumps(
      {
        'samples': results['samples_shown'],
        'seconds': round(time.monotonic() - began, 1),
        'peak_GB': round(peak, 2),
      }
    )
  )


if __name__ == '__main__':
  main()
