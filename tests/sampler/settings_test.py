import math

import pytest

from wcse_jax import errors
from wcse_jax.sampler import settings


@pytest.mark.parametrize(
  ('field', 'value'),
  [
    ('temperature', -0.1),
    ('temperature', math.nan),
    ('top_k', -1),
    ('top_p', 0.0),
    ('top_p', 1.1),
    ('top_p', math.nan),
    ('min_p', -0.1),
    ('min_p', 1.1),
    ('max_new_tokens', 0),
    ('slots', 0),
    ('prefill_batch', 0),
    ('chunk', 0),
  ],
)
def test_a_field_out_of_range_is_one_line_that_names_it(field, value):
  config = settings.SamplerConfig(**{field: value})
  with pytest.raises(errors.InputError) as caught:
    config.validate()
  message = str(caught.value)
  assert message.startswith(f'sampler.{field}: wanted ')
  assert message.endswith(f'got {value}.')
  assert '\n' not in message


@pytest.mark.parametrize(
  'fields',
  [
    {},
    {'temperature': 0.0, 'top_k': 0, 'top_p': 1.0, 'min_p': 0.0},
    {'top_p': 1e-6, 'min_p': 1.0},
    {'max_new_tokens': 1, 'slots': 1, 'prefill_batch': 1, 'chunk': 1},
  ],
)
def test_the_ends_of_the_ranges_are_in_them(fields):
  settings.SamplerConfig(**fields).validate()


def test_every_field_but_the_chunk_fixes_the_bits():
  config = settings.SamplerConfig(temperature=0.25, chunk=3)
  assert config.fingerprint() == {
    'temperature': 0.25,
    'top_k': 0,
    'top_p': 1.0,
    'min_p': 0.0,
    'max_new_tokens': 256,
    'slots': 64,
    'prefill_batch': 8,
  }


def test_what_reads_the_caches_fixes_the_bits_where_it_is_asked_for():
  config = settings.SamplerConfig(attention='xla')
  assert config.fingerprint()['attention'] == 'xla'
  with pytest.raises(errors.InputError, match=r'sampler\.attention: .*cuda'):
    settings.SamplerConfig(attention='cuda').validate()
