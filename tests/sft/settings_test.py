import dataclasses
import math

import pytest

from wcse_jax import errors
from wcse_jax.sampler import settings as sampler_settings
from wcse_jax.sft import settings


_GOOD = settings.SftConfig(checkpoint='model', train='rows.jsonl')


@pytest.mark.parametrize(
  ('fields', 'said'),
  [
    ({'checkpoint': ''}, 'checkpoint: wanted a path'),
    ({'train': ''}, 'train: wanted a path'),
    ({'epochs': 0.0}, 'steps: wanted steps or epochs above 0'),
    ({'batch_size': 0}, 'batch_size: wanted a count >= 1; got 0'),
    ({'accumulate': 0}, 'accumulate: wanted a count >= 1; got 0'),
    ({'max_length': 0}, 'max_length: wanted a count >= 1; got 0'),
    ({'checkpoints': 0}, 'checkpoints: wanted a count >= 1; got 0'),
    (
      {'batch_size': 8, 'accumulate': 3},
      'accumulate: wanted a divisor of batch_size=8; got 3',
    ),
    ({'validation_problems': 5}, 'task: wanted a task'),
    ({'validation_problems': -1}, 'validation_problems: wanted a count >= 0'),
    (
      {'validation_problems': 5, 'task': 'arith', 'validation': 'rows'},
      'validation: wanted a file or validation_problems; got both',
    ),
    ({'steps': -5}, 'steps: wanted steps or epochs above 0; got steps=-5'),
    ({'epochs': math.inf}, 'steps: wanted steps or epochs above 0'),
    ({'remat': 'some'}, 'remat: wanted one of none, dots, attention, full'),
    ({'attention': 'x'}, 'attention: wanted one of nothing, plain, splash'),
    ({'long': 'x'}, 'long: wanted one of drop, truncate'),
    ({'nonfinite': 'x'}, 'nonfinite: wanted one of stop, skip'),
    ({'chat': 'x'}, 'chat: wanted one of nothing, on, off'),
    ({'z_loss': -1.0}, 'z_loss: wanted a number >= 0'),
    ({'lora': settings.LoraConfig(rank=-1)}, 'lora.rank: wanted a count >= 0'),
    (
      {'lora': settings.LoraConfig(alpha=0.0)},
      'lora.alpha: wanted a number > 0',
    ),
    (
      {'lora': settings.LoraConfig(rank=1, targets='q,x')},
      "lora.targets: wanted one of q, k, v, o, gate, up, down; got 'x'",
    ),
    ({'lora': settings.LoraConfig(base='int8')}, 'lora.base: wanted nothing'),
    ({'dtype': 'float16'}, 'dtype: wanted one of float32, bfloat16; got'),
    (
      {'sampler': sampler_settings.SamplerConfig(top_p=0)},
      'sampler.top_p: wanted a number in (0, 1]; got 0',
    ),
  ],
)
def test_a_field_out_of_range_is_one_line_that_names_it(fields, said):
  config = dataclasses.replace(_GOOD, **fields)
  with pytest.raises(errors.InputError) as caught:
    config.validate()
  assert str(caught.value).startswith(said)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('fields', 'said'),
  [
    ({'name': 'sgd'}, "name: wanted one of adamw, adafactor; got 'sgd'"),
    ({'schedule': 'step'}, 'schedule: wanted one of constant, linear, cosine'),
    ({'learning_rate': -1.0}, 'learning_rate: wanted a number >= 0'),
    ({'learning_rate': math.nan}, 'learning_rate: wanted a number >= 0'),
    ({'warmup_steps': -1}, 'warmup_steps: wanted a number >= 0'),
    ({'weight_decay': -0.1}, 'weight_decay: wanted a number >= 0'),
    ({'clip': -1.0}, 'clip: wanted a number >= 0'),
    ({'b1': 1.0}, 'b1: wanted a number from 0 to below 1'),
    ({'b2': -0.1}, 'b2: wanted a number from 0 to below 1'),
    ({'eps': 0.0}, 'eps: wanted a number > 0'),
    ({'state_dtype': 'int8'}, 'state_dtype: wanted one of float32, bfloat16'),
    ({'name': 'adafactor', 'weight_decay': 0.1}, 'weight_decay: wanted 0 for'),
  ],
)
def test_a_field_of_the_optimizer_is_named_too(fields, said):
  optimizer = settings.OptimizerConfig(**fields)
  config = dataclasses.replace(_GOOD, optimizer=optimizer)
  with pytest.raises(errors.InputError) as caught:
    config.validate()
  assert str(caught.value).startswith(f'optimizer.{said}')
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  'fields',
  [
    {},
    {'steps': 1, 'epochs': 0.0},
    {'batch_size': 8, 'accumulate': 8},
    {'validation_problems': 5, 'task': 'arith'},
  ],
)
def test_good_settings_pass(fields):
  dataclasses.replace(_GOOD, **fields).validate()
