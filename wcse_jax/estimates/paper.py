"""The paper's study as jobs.  No jax here.

Source: Bansal et al., arXiv:2408.16737: models, problems, samples, batches,
steps, learning rates, checkpoints and sets; what it does not say is assumed
below, and marked so.
"""

import dataclasses

from wcse_jax.estimates import jobs, shares
from wcse_jax.models import published
from wcse_jax.sft import settings


# Role -> (model, rows of a training step, steps at the low and high budget).
MODELS = {
  'student': ('gemma-7b', 8, 2_400, 24_000),
  'wc': ('gemma2-9b', 32, 600, 6_000),
  'se': ('gemma2-27b', 32, 600, 6_000),
}
# Samples a problem at the high budget; those of the low one are among them.
SAMPLES = {'wc': 30, 'se': 10}
# Learning rates that are tried, checkpoints that validation chooses from.
RATES, CHECKPOINTS = 3, 10
# Answers that vote.
VOTES = 16
# Assumed: problems that a checkpoint is validated on.
VALIDATION = 500
# Data that a model learns from at the two budgets, and that of people, which
# is assumed to take the steps of the low budget.
_ARMS = {'high': 2, 'low': 2, 'human': 1}
# Temperature, top-k, top-p, min-p.
_DRAWS = (0.7, 3, 1.0, 0.0)


@dataclasses.dataclass(frozen=True)
class Task:
  """A set and its lengths.

  Tokens are those of Gemma 3's tokenizer, counted over all problems; of
  outputs, those of the reference solutions and their last sentence.

  Attributes:
    problems: of the training set.
    shared: tokens of the few-shot prompt that all prompts start with.
    question: tokens behind it, on average.
    longest: tokens of the longest prompt.
    asked: tokens of a zero-shot prompt on average, and of the longest.
    output: drawn tokens on average: assumed.
    spread: standard deviation of that over its mean.
    most: drawn tokens at most: assumed.
    length: tokens of a row of training: assumed.
    tests: problems of the test and transfer sets.
  """

  problems: int
  shared: int
  question: int
  longest: int
  asked: tuple[int, int]
  output: int
  spread: float
  most: int
  length: int
  tests: tuple[int, ...]


TASKS = {
  # MATH, with MATH-500 and Functional MATH.
  'math': Task(
    problems=7_500,
    shared=635,
    question=79,
    longest=2_465,
    asked=(83, 1_834),
    output=250,
    spread=0.9,
    most=1_024,
    length=1_024,
    tests=(500, 1_745),
  ),
  'gsm8k': Task(
    problems=7_473,
    shared=701,
    question=62,
    longest=916,
    asked=(65, 218),
    output=110,
    spread=0.45,
    most=256,
    length=512,
    tests=(1_319,),
  ),
}


def study(
  task: str,
  *,
  rates: int = RATES,
  replicates: int = 1,
  cores: int = 64,
  most_question: int = 0,
) -> list[jobs.Job]:
  """Returns the jobs of the study on one task, in order.

  Args:
    task: one of `TASKS`.
    rates: learning rates that each student is trained with.
    replicates: of everything, with samples of its own.
    cores: of the host, for grading.
    most_question: tokens of a question beyond which a problem is left out; 0
      for none.  Few are so long, and each slot has places for the longest.
  """
  configs = published.configs()
  t = TASKS[task]
  found: list[jobs.Job] = []
  longest, asked = t.longest, t.asked[1]
  if most_question:
    longest = min(longest, t.shared + most_question)
    asked = min(asked, t.asked[0] - t.question + most_question)
  for role, count in SAMPLES.items():
    name = MODELS[role][0]
    found.append(
      jobs.Sampling(
        stage=f'sample {role}',
        name=name,
        model=configs[name],
        prompts=t.problems,
        samples=t.problems * count * replicates,
        prompt_tokens=t.shared + t.question,
        shared_prompt_tokens=t.shared,
        longest_prompt=longest,
        output_tokens=t.output,
        spread=t.spread,
        max_new_tokens=t.most,
        draws=_DRAWS,
      )
    )
  for role, count in SAMPLES.items():
    found.append(
      jobs.Grading(
        stage=f'grade {role}',
        name=task,
        samples=t.problems * count * replicates,
        cpu_seconds=shares.grading(task),
        cores=cores,
      )
    )
  for role, (name, rows, low, high) in MODELS.items():
    for budget, arms in _ARMS.items():
      found.append(
        jobs.Training(
          stage=f'train {role}, {budget}',
          name=name,
          model=configs[name],
          sft=settings.SftConfig(
            steps=high if budget == 'high' else low,
            batch_size=rows,
            max_length=t.length,
            dtype='bfloat16',
            remat='',
          ),
          tokens_per_sequence=t.asked[0] + t.output,
          target_tokens=t.output,
          runs=arms * rates * replicates,
        )
      )
  for role, (name, *_) in MODELS.items():
    arms = sum(_ARMS.values()) * replicates
    # Each rate's checkpoints greedily; the best of an arm greedily and by vote,
    # on every set.
    checks = arms * rates * CHECKPOINTS
    drawn = checks * VALIDATION + arms * (1 + VOTES) * sum(t.tests)
    found.append(
      jobs.Sampling(
        stage=f'evaluate {role}',
        name=name,
        model=configs[name],
        prompts=checks * VALIDATION + 2 * arms * sum(t.tests),
        samples=drawn,
        block=0,
        rounds=checks + 2 * arms * len(t.tests),
        prompt_tokens=t.asked[0],
        shared_prompt_tokens=t.asked[0] - t.question,
        longest_prompt=asked,
        output_tokens=t.output,
        spread=t.spread,
        max_new_tokens=t.most,
        draws=_DRAWS,
      )
    )
  return found
