"""Studies to start from: the paper's two, and what may be added to any study.

What adds something takes a study and returns another one; several go together.

Source of the paper's settings: Bansal et al. 2024, arXiv:2408.16737.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from wcse_jax import errors
from wcse_jax import selection as selections
from wcse_jax.sampler import settings as sampler_settings
from wcse_jax.sft import settings as sft_settings
from wcse_jax.study import settings


def based(name: str) -> settings.StudyConfig:
  """Returns the study of a name: `tiny`, `math` or `gsm8k`."""
  known = {'tiny': tiny, 'math': math, 'gsm8k': gsm8k}
  if name not in known:
    raise errors.InputError(
      f'--config: wanted one of {", ".join(known)} behind the colon; got '
      f'{name!r}.'
    )
  return known[name]()


def tiny() -> settings.StudyConfig:
  """Returns the study of the embedded models, for any machine."""
  return settings.StudyConfig(
    title='Weaker and cheaper, or stronger and dearer? (embedded models)',
    problems=192,
    test=settings.TestSet(limit=256),
    validation_problems=64,
    budgets={'low': 1, 'high': 5},
    truth_samples=128,
    pilot_problems=96,
    replicates=3,
    power=settings.Power(accuracy=0.25, disagreement=0.2),
    sampler=sampler_settings.SamplerConfig(
      temperature=0.7,
      top_k=3,
      max_new_tokens=80,
      slots=512,
      prefill_batch=64,
    ),
    sft=sft_settings.SftConfig(
      steps=80,
      batch_size=16,
      accumulate=2,
      max_length=128,
      checkpoints=2,
      optimizer=sft_settings.OptimizerConfig(
        learning_rate=1e-4, warmup_steps=10
      ),
    ),
  )


def math() -> settings.StudyConfig:
  """Returns the paper's study of MATH."""
  return dataclasses.replace(
    _paper('MATH', most=1024, length=1024),
    expected=settings.Expected(output_tokens=250, spread=0.9),
    task='math',
    shots=4,
    test=settings.TestSet(task='math500'),
    transfer={'functional_math': settings.TestSet(task='functional_math')},
  )


def gsm8k() -> settings.StudyConfig:
  """Returns the paper's study of GSM8K; it has no transfer set there."""
  return dataclasses.replace(
    _paper('GSM8K', most=256, length=512),
    expected=settings.Expected(output_tokens=110, spread=0.45),
    task='gsm8k',
    shots=8,
    test=settings.TestSet(task='gsm8k'),
    transfer={'gsm_plus': settings.TestSet(task='gsm_plus', limit=2000)},
  )


def _paper(name: str, *, most: int, length: int) -> settings.StudyConfig:
  """Returns what both studies share.

  Samples cost as the sizes in the models' names, 9 and 27: 3 for 1.

  Args:
    name: of the set.
    most: drawn tokens of a sample at most; the paper does not say it.
    length: tokens of a training row; likewise.
  """
  models = {
    'wc': settings.Model(
      checkpoint='google/gemma-2-9b@main',
      label='WC',
      architecture='gemma2-9b',
      cost=9.0,
    ),
    'se': settings.Model(
      checkpoint='google/gemma-2-27b@main',
      label='SE',
      architecture='gemma2-27b',
      cost=27.0,
    ),
    'student': settings.Model(
      checkpoint='google/gemma-7b@main',
      label='student',
      architecture='gemma-7b',
    ),
  }
  sampler = sampler_settings.SamplerConfig(
    temperature=0.7, top_k=3, max_new_tokens=most, slots=256, prefill_batch=8
  )
  return settings.StudyConfig(
    title=f'{name}: Gemma 2 9B or 27B?',
    models=models,
    setups={
      f'{model}_{budget}': _paper_setup(model, title, budget, length)
      for model, title in (
        ('student', 'Knowledge distillation'),
        ('wc', 'Self-improvement'),
        ('se', 'Weak-to-strong improvement'),
      )
      for budget in ('low', 'high')
    },
    budgets={'low': 1, 'high': 10},
    problems=0,
    validation_problems=500,
    truth_samples=0,
    cost_ratios=(),
    replicates=3,
    majority=(4, 8, 16),
    power=settings.Power(accuracy=0.4, wanted=0.02),
    dtype='bfloat16',
    sampler=sampler,
  )


def _paper_setup(
  model: str, title: str, budget: str, length: int
) -> settings.Setup:
  """Returns a setup with the batch, steps and rates that the paper has."""
  batch, steps = {
    ('student', 'low'): (8, 2400),
    ('student', 'high'): (8, 24_000),
    ('gemma2', 'low'): (32, 600),
    ('gemma2', 'high'): (32, 6000),
  }['student' if model == 'student' else 'gemma2', budget]
  arms = ('wc', 'se', 'human')
  if model == 'student':
    arms = ('wc', 'se', 'wc_number_matched', 'human')
  return settings.Setup(
    model=model,
    title=f'{title}, {budget} budget',
    arms=arms,
    budgets=(budget,),
    sft=sft_settings.SftConfig(
      steps=steps,
      batch_size=batch,
      max_length=length,
      checkpoints=10,
      learning_rates=(1e-7, 5e-7, 1e-6),
      remat='full',
      dtype='bfloat16',
    ),
  )


def with_arms(
  config: settings.StudyConfig,
  arms: Mapping[str, settings.Arm],
  *,
  models: Mapping[str, settings.Model] | None = None,
  setups: Sequence[str] = (),
) -> settings.StudyConfig:
  """Returns a study with more arms.

  Args:
    config: the study.
    arms: by name.
    models: what they sample from, where the study does not have it.
    setups: that train on them; none: the first of the student at the largest
      budget.
  """
  setups = setups or [_of_the_student(config)]
  return dataclasses.replace(
    config,
    models=config.models | dict(models or {}),
    arms=config.arms | dict(arms),
    setups={
      name: dataclasses.replace(
        setup, arms=tuple(dict.fromkeys((*setup.arms, *arms)))
      )
      if name in setups
      else setup
      for name, setup in config.setups.items()
    },
  )


def _of_the_student(config: settings.StudyConfig) -> str:
  """Returns the first setup of the student at the largest budget."""
  return next(
    name
    for name, setup in config.setups.items()
    if setup.model == 'student' and config.largest in config.budgets_of(name)
  )


def _rival(name: str, kind: str) -> str:
  """Returns the arm of SE that one of WC of the same kind is compared with."""
  return f'se_{kind}' if name == 'wc' else ''


def number_matched(config: settings.StudyConfig) -> settings.StudyConfig:
  """Adds WC data of as many samples as SE has: what is not the number?"""
  return with_arms(
    config, {'wc_number_matched': settings.usual_arms()['wc_number_matched']}
  )


def equal_epochs(
  config: settings.StudyConfig, epochs: float
) -> settings.StudyConfig:
  """Adds students trained for as many passes over their data, not steps."""
  return dataclasses.replace(
    config,
    setups=config.setups
    | {
      f'{name}_epochs': dataclasses.replace(
        setup,
        title=f'{setup.title}, equal epochs',
        arms=setup.primary,
        sft=dataclasses.replace(
          setup.sft or config.sft, steps=0, epochs=epochs
        ),
      )
      for name, setup in config.setups.items()
      if setup.model == 'student'
    },
  )


def coverage_against_diversity(
  config: settings.StudyConfig,
) -> settings.StudyConfig:
  """Adds one right sample a problem of each: coverage without diversity."""
  one = selections.Selection(per_problem=1, seed=0)
  return with_arms(
    config,
    {
      f'{name}_one': settings.Arm(
        label=f'{name.upper()} data, one a problem',
        samples={name: 1.0},
        selection=one,
        against=_rival(name, 'one'),
      )
      for name in settings.PAIR
    },
  )


def data_size(
  config: settings.StudyConfig, shares: Sequence[float] = (0.25, 0.5)
) -> settings.StudyConfig:
  """Adds data of a part of the problems, each part within the next."""
  return with_arms(
    config,
    {
      f'{name}_{share:g}': settings.Arm(
        label=f'{name.upper()} data, {share:.0%} of the problems',
        samples={name: 1.0},
        problems=share,
        against=_rival(name, f'{share:g}'),
      )
      for share in shares
      for name in settings.PAIR
    },
  )


def mixing(
  config: settings.StudyConfig, shares: Sequence[float] = (0.25, 0.5, 0.75)
) -> settings.StudyConfig:
  """Adds mixes of both models, by the share of the budget that WC has."""
  return with_arms(
    config,
    {
      f'mix_{share:g}': settings.Arm(
        label=f'mix, {share:.0%} of the budget for WC',
        samples={'wc': share, 'se': round(1 - share, 9)},
      )
      for share in shares
    },
  )


def no_reference(
  config: settings.StudyConfig, share: float = 0.0
) -> settings.StudyConfig:
  """Adds data chosen by majority vote, without reference answers.

  Args:
    config: the study.
    share: of a problem's samples that the majority must have.
  """
  rules = selections.Selection(verifier='majority', share=share)
  return with_arms(
    config,
    {
      f'{name}_majority': settings.Arm(
        label=f'{name.upper()} data, majority answers',
        samples={name: 1.0},
        selection=rules,
        against=_rival(name, 'majority'),
      )
      for name in settings.PAIR
    },
  )


def hotter(
  config: settings.StudyConfig, temperature: float = 1.0
) -> settings.StudyConfig:
  """Adds SE at another temperature: is it diversity that SE lacks?"""
  label = f'SE at temperature {temperature:g}'
  return with_arms(
    config,
    {'se_hot': settings.Arm(label=f'{label}, data', samples={'se_hot': 1.0})},
    models={
      'se_hot': dataclasses.replace(
        config.models['se'], label=label, temperature=temperature
      )
    },
  )


def prompts(
  config: settings.StudyConfig, *, shots: int, path: str = ''
) -> settings.StudyConfig:
  """Adds the pair asked in another way: does the outcome hang on the prompt?

  Args:
    config: the study.
    shots: worked examples of the other prompt.
    path: JSONL of those; empty: as the study's.
  """
  names = {name: f'{name}_prompt' for name in settings.PAIR}
  return with_arms(
    config,
    {
      other: settings.Arm(
        label=f'{name.upper()} data, {shots} worked examples',
        samples={other: 1.0},
        against=_rival(name, 'prompt'),
      )
      for name, other in names.items()
    },
    models={
      other: dataclasses.replace(
        config.models[name],
        label=f'{name.upper()}, {shots} worked examples',
        shots=shots,
        prompts=path or None,
      )
      for name, other in names.items()
    },
  )


def rounds(
  config: settings.StudyConfig, count: int = 2
) -> settings.StudyConfig:
  """Adds rounds: a student samples what the next student is trained on.

  The first round is the arm `wc`; every student begins from the same model.

  Args:
    config: the study.
    count: rounds, the first included.
  """
  setup = _of_the_student(config)
  arm = 'wc'
  for number in range(2, count + 1):
    name = f'round{number}'
    config = with_arms(
      config,
      {
        name: settings.Arm(
          label=f'round {number}: a student of round {number - 1}',
          samples={name: 1.0},
          against=arm,
        )
      },
      models={
        name: settings.Model(
          checkpoint=f'{settings.STUDENT}{setup}-{config.largest}-{arm}-r0',
          label=f'student of round {number - 1}',
        )
      },
      setups=[setup],
    )
    arm = name
  return config


def planned(
  config: settings.StudyConfig, problems: int, samples: int = 8
) -> settings.StudyConfig:
  """Adds data drawn as the plan of a pilot says.

  Args:
    config: the study.
    problems: of the pilot.
    samples: of each of them.
  """
  config = dataclasses.replace(
    config, pilot_problems=problems, pilot_samples=samples
  )
  return with_arms(
    config, {'planned': settings.Arm(label='as a pilot planned', plan=True)}
  )
