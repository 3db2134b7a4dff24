import jax
import pytest
from flax import nnx

from wcse_jax import errors
from wcse_jax.estimates import sizes
from wcse_jax.models import hf_config, published, transformer
from wcse_jax.sft import lora, settings


@pytest.mark.parametrize('family', ['gemma2', 'gemma4_e', 'gemma4_dense'])
@pytest.mark.parametrize('targets', ['q,k,v,o,gate,up,down', 'k,v,down'])
def test_adapters_are_those_that_are_trained(hf_rows, family, targets):
  config = hf_config.from_hf(hf_rows[family])

  def make():
    model = transformer.Transformer(config, dtype='bfloat16', rngs=nnx.Rngs(0))
    lora.add(
      model,
      rank=4,
      alpha=1.0,
      targets=tuple(targets.split(',')),
      seed=0,
      place=False,
    )
    return model

  state = nnx.state(nnx.eval_shape(make), nnx.LoRAParam)
  trained = sum(leaf.size for leaf in jax.tree.leaves(state))
  asked = settings.LoraConfig(rank=4, targets=targets)
  assert sizes.adapter_parameters(config, asked) == trained


@pytest.mark.parametrize(
  ('devices', 'rows', 'mesh'),
  [
    (16, 32, 'data=1,fsdp=16,tensor=1'),
    # Fewer rows than devices: the rest splits heads.
    (16, 8, 'data=1,fsdp=8,tensor=2'),
    (64, 32, 'data=1,fsdp=32,tensor=2'),
    (7, 7, 'data=7,fsdp=1,tensor=1'),
  ],
)
def test_a_mesh_divides_rows_and_model(devices, rows, mesh):
  model = published.configs()['gemma2-27b']
  assert sizes.training_mesh(devices, model, rows) == mesh


def test_rows_that_no_mesh_divides_are_refused():
  model = published.configs()['gemma2-27b']
  with pytest.raises(errors.InputError, match='batch_size: wanted rows'):
    sizes.training_mesh(7, model, 3)


def test_axes_of_a_mesh():
  assert sizes.axes('data=2,tensor=4') == {'data': 2, 'fsdp': 1, 'tensor': 4}
  assert sizes.axes('') == {'data': 1, 'fsdp': 1, 'tensor': 1}
  with pytest.raises(errors.InputError, match='mesh: wanted AXIS=SIZE'):
    sizes.axes('rows=2')
