import jax
import pytest
from flax import nnx

from wcse_jax import errors
from wcse_jax.models import published, transformer
from wcse_jax.sampler import memory, settings


_CONFIG = settings.SamplerConfig(slots=6, max_new_tokens=40, prefill_batch=2)


@pytest.mark.parametrize('name', ['gemma3-270m', 'gemma2-2b', 'gemma4-e2b'])
@pytest.mark.parametrize(
  ('weights', 'scan', 'cache_dtype'),
  # Not scanned, as it runs on CPU, the cache is wide.
  [('', True, ''), ('int8', True, ''), ('', False, 'float32')],
)
def test_weights_and_caches_are_what_the_model_holds(
  name, weights, scan, cache_dtype
):
  config = published.configs()[name]
  dtype = 'bfloat16'
  found = memory.need(
    config,
    _CONFIG,
    prefix=700,
    suffix=600,
    dtype=dtype,
    cache_dtype=cache_dtype,
    weights=weights,
  )
  model = nnx.eval_shape(
    lambda: transformer.Transformer(
      config, dtype=dtype, rngs=nnx.Rngs(0), scan=scan, weights=weights
    )
  )

  def size(tree):
    return sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(tree))

  # Scales of int8 come on top.
  assert found.weights <= size(nnx.state(model)) <= 1.02 * found.weights
  cache = size(jax.eval_shape(lambda: model.make_cache(6, 640)))
  logits = 2 * 4 * config.vocab_size
  assert found.slots * (found.slot - logits) == cache


def test_a_mesh_shares_the_need():
  config = published.configs()['gemma2-27b']
  whole = memory.need(config, _CONFIG, prefix=9, suffix=9, dtype='float32')
  mesh = {'data': 3, 'fsdp': 1, 'tensor': 4}
  part = memory.need(
    config, _CONFIG, prefix=9, suffix=9, dtype='float32', mesh=mesh
  )
  assert part.slots == 2
  assert whole.slots == 6
  assert abs(part.weights - whole.weights / 4) < 4
  assert abs(part.slot - whole.slot / 4) < 4


def test_what_fits_is_said():
  need = memory.Need(weights=100, prompts=50, slot=10, slots=8)
  assert need.total == 230
  memory.check(need, 230, 1, 64)
  memory.check(need, None, 1, 64)
  with pytest.raises(errors.InputError) as caught:
    memory.check(need, 229, 2, 64)
  assert str(caught.value).startswith('sampler.slots: 16 slots of 64 positions')
  assert str(caught.value).endswith('14 slots would fit.')
  with pytest.raises(errors.InputError, match='not one slot would fit'):
    memory.check(need, 155, 1, 64)
