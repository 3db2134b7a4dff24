import dataclasses
import json
import math
import pathlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from wcse_jax import sharding
from wcse_jax.checkpoints import hf
from wcse_jax.models import config, hf_config
from wcse_jax.models import transformer


_GOLDENS = pathlib.Path(__file__).parents[1] / 'goldens'
_FAMILIES = ('gemma2', 'gemma3')
_PROMPT, _MORE = 600, 32

_forward = nnx.jit(lambda model, tokens_BT: model(tokens_BT))


@nnx.jit
def _extend(model, tokens_BT, positions_BT, cache):
  """Returns (logits_BTV, cache)."""
  x_BTD, cache = model.extend(tokens_BT, positions_BT, cache)
  return model.logits(x_BTD), cache


@pytest.fixture(scope='module')
def models(hf_folders):
  """Returns the small float32 model of (family, scan), loaded once."""
  loaded = {}

  def get(family, scan):
    if (family, scan) not in loaded:
      folder = hf_folders[family, 'float32']
      loaded[family, scan] = hf.load(folder, scan=scan)
    return loaded[family, scan]

  return get


@pytest.fixture(scope='module')
def whole(models):
  """Returns (tokens_BT, logits_BTV) of the unrolled model, by family."""
  tokens_BT = np.random.default_rng(3).integers(3, 64, (8, 40), np.int32)
  return {
    family: (tokens_BT, np.asarray(_forward(models(family, False), tokens_BT)))
    for family in _FAMILIES
  }


# Parity with transformers: live where torch is there, by goldens anywhere.


@pytest.fixture(scope='module', params=_FAMILIES)
def reference(request, hf_folders):
  """Returns (family, tokens_T, logits_TV): a prompt and its continuation."""
  torch = pytest.importorskip('torch')
  import transformers

  name = {
    'gemma2': 'Gemma2ForCausalLM',
    'gemma3': 'Gemma3ForCausalLM',
  }[request.param]
  model, report = getattr(transformers, name).from_pretrained(
    hf_folders[request.param, 'float32'],
    attn_implementation='eager',
    output_loading_info=True,
  )
  assert not report['missing_keys']
  assert not report['unexpected_keys']
  # Its threads and those of jax would wait for each other's cores.
  torch.set_num_threads(1)
  prompt_T = np.random.default_rng(4).integers(3, 64, _PROMPT)
  # No end token: all of the continuation is wanted.
  model.generation_config.eos_token_id = None
  with torch.no_grad():
    tokens_BT = model.eval().generate(
      torch.from_numpy(prompt_T)[None], do_sample=False, max_new_tokens=_MORE
    )
    logits_BTV = model(tokens_BT).logits
  assert tokens_BT.shape == (1, _PROMPT + _MORE)
  return request.param, tokens_BT[0].numpy(), logits_BTV[0].numpy()


def test_logits_equal_transformers(reference, models):
  family, tokens_T, want_TV = reference
  got_BTV = _forward(models(family, True), tokens_T[None])
  assert np.abs(got_BTV[0] - want_TV).max() <= 1e-4


def test_greedy_continuation_equals_transformers(reference, models):
  family, tokens_T, want_TV = reference
  model = models(family, True)
  cache = model.make_cache(1, len(tokens_T))
  logits_BTV, cache = _extend(
    model, tokens_T[None, :_PROMPT], np.arange(_PROMPT)[None], cache
  )
  assert np.abs(logits_BTV[0] - want_TV[:_PROMPT]).max() <= 1e-4
  drawn = []
  for position in range(_PROMPT, len(tokens_T)):
    drawn.append(int(logits_BTV[0, -1].argmax()))
    logits_BTV, cache = _extend(
      model, np.array([drawn[-1:]]), np.array([[position]]), cache
    )
  assert drawn == tokens_T[_PROMPT:].tolist()
  # The walk is no loop of one token, which any model would get right.
  assert len(set(drawn)) > 4


@pytest.fixture(scope='module', params=_FAMILIES)
def golden(request, tmp_path_factory, write_hf):
  """Returns (model, tokens_BT, logits_BTV) of a committed golden file."""
  with np.load(_GOLDENS / f'{request.param}.npz') as file:
    row, shapes = (
      json.loads(str(file['config'])),
      json.loads(str(file['shapes'])),
    )
    flat, tokens_BT = file['weights'] / np.float32(64), file['tokens']
    logits_BTV = file['logits']
  ends = np.cumsum([math.prod(shape) for shape in shapes.values()])
  parts = zip(shapes.items(), np.split(flat, ends[:-1]))
  tensors = {name: part.reshape(shape) for (name, shape), part in parts}
  folder = write_hf(tmp_path_factory.mktemp(request.param), row, tensors)
  return hf.load(folder), tokens_BT, logits_BTV


def test_logits_equal_the_golden(golden):
  model, tokens_BT, want_BTV = golden
  assert np.abs(model(tokens_BT) - want_BTV).max() <= 1e-5


@pytest.mark.parametrize(
  'change',
  [
    {'window': 4},
    {'window': 6},
    {'query_scale': 0.5},
    {'rope_global': config.Rope(base=90.0)},
    {'rope_local': config.Rope(base=9.0)},
    {'rope_global': config.Rope(base=100.0, scale=4.0)},
    {'attn_softcap': 4.0},
    {'final_softcap': 6.0},
    {'embed_scale': False},
    {'norm_eps': 1e-2},
  ],
  ids=lambda change: next(iter(change)),
)
def test_golden_notices_each_field(golden, change):
  model, tokens_BT, want_BTV = golden
  graph, state = nnx.split(model)
  changed = nnx.merge(graph, state)
  changed.config = dataclasses.replace(model.config, **change)
  assert np.abs(changed(tokens_BT) - want_BTV).max() > 1e-3


# The same numbers by every way through the model.


@pytest.mark.parametrize('family', _FAMILIES)
def test_scanned_equals_unrolled(family, models, whole):
  tokens_BT, want_BTV = whole[family]
  model = models(family, True)
  # A scanned part and a rest, or the test would not see both.
  assert [stack.repeats for stack in model.stacks] == [2, 1]
  got_BTV = _forward(model, tokens_BT)
  np.testing.assert_allclose(got_BTV, want_BTV, atol=1e-5)


@pytest.mark.parametrize(
  ('family', 'scan'), [('gemma2', False), ('gemma3', True)]
)
def test_prefill_and_decode_equal_the_whole(family, scan, models, whole):
  tokens_BT, want_BTV = whole[family]
  model = models(family, scan)
  B, T = tokens_BT.shape
  # Prompts of several lengths, filled up at the end with other tokens: what
  # they leave in the cache is overwritten or not seen.
  length_B1 = np.array([[25, 9, 25, 17, 1, 24, 25, 12]]).T
  prefix = int(length_B1.max())
  padded_BT = tokens_BT[:, :prefix].copy()
  padded_BT[np.arange(prefix) >= length_B1] = 0
  positions_BT = np.broadcast_to(np.arange(prefix), padded_BT.shape)
  cache = model.make_cache(B, T + 3)
  got_BTV, cache = _extend(model, padded_BT, positions_BT, cache)
  for b, length in enumerate(length_B1[:, 0]):
    np.testing.assert_allclose(
      got_BTV[b, :length], want_BTV[b, :length], atol=1e-5
    )
  for step in range(12):
    at_B1 = length_B1 + step
    next_B1 = np.take_along_axis(tokens_BT, at_B1, axis=1)
    got_BTV, cache = _extend(model, next_B1, at_B1, cache)
    want_B1V = np.take_along_axis(want_BTV, at_B1[..., None], axis=1)
    np.testing.assert_allclose(got_BTV, want_B1V, atol=1e-5)


def _spread(model, mesh):
  """Asserts that vocabulary and width are split as the mesh says."""
  table_VD = model.embedding[...]
  V, D = table_VD.shape
  want = V // mesh.shape['tensor'], D // mesh.shape['fsdp']
  assert table_VD.sharding.shard_shape((V, D)) == want


def test_sharded_forward_equals_one_device(hf_folders, whole):
  tokens_BT, want_BTV = whole['gemma2']
  mesh = sharding.make_mesh('data=2,fsdp=2,tensor=2')
  model = hf.load(hf_folders['gemma2', 'float32'], mesh=mesh)
  _spread(model, mesh)
  got_BTV = _forward(model, sharding.place_batch(tokens_BT, 'BT', mesh))
  np.testing.assert_allclose(got_BTV, want_BTV, atol=1e-5)


def test_sharded_cache_equals_one_device(hf_folders, whole):
  tokens_BT, want_BTV = whole['gemma3']
  mesh = sharding.make_mesh('fsdp=2,tensor=4')
  model = hf.load(hf_folders['gemma3', 'float32'], mesh=mesh, scan=True)
  _spread(model, mesh)
  cache = nnx.jit(lambda model: model.make_cache(*tokens_BT.shape))(model)
  key_LBSKH = cache[0][0]['k']
  L, B, S, K, H = key_LBSKH.shape
  want = L, B // 2, S, K // 4, H
  assert key_LBSKH.sharding.shard_shape(key_LBSKH.shape) == want
  at_BT = np.broadcast_to(np.arange(S), (B, S))
  tokens_BT = sharding.place_batch(tokens_BT, 'BT', mesh)
  at_BT = sharding.place_batch(at_BT, 'BT', mesh)
  got_BTV, _ = _extend(model, tokens_BT, at_BT, cache)
  np.testing.assert_allclose(got_BTV, want_BTV, atol=1e-5)


def test_packed_sequences_do_not_see_each_other(golden):
  model, tokens_BT, want_BTV = golden
  half = tokens_BT.shape[1] // 2
  got_BTV = model(
    np.tile(tokens_BT[:, :half], (1, 2)),
    positions_BT=np.tile(np.arange(half), 2)[None],
    segments_BT=np.repeat([1, 2], half)[None],
  )
  want_BTV = want_BTV[:, :half]
  np.testing.assert_allclose(got_BTV[:, :half], want_BTV, atol=1e-5)
  np.testing.assert_allclose(got_BTV[:, half:], want_BTV, atol=1e-5)


def test_bfloat16_stays_close_to_float32(hf_folders, whole):
  tokens_BT, want_BTV = whole['gemma3']
  folder = hf_folders['gemma3', 'bfloat16']
  model = hf.load(folder, dtype=jnp.bfloat16, scan=True)
  assert model.embedding[...].dtype == jnp.bfloat16
  got_BTV = _forward(model, tokens_BT)
  assert got_BTV.dtype == jnp.float32
  want_BTV = jax.nn.log_softmax(want_BTV)
  gap_BTV = want_BTV - jax.nn.log_softmax(got_BTV)
  divergence_BT = jnp.sum(jnp.exp(want_BTV) * gap_BTV, axis=-1)
  assert 0 < float(divergence_BT.mean()) <= 1e-2


@pytest.mark.parametrize(
  ('kinds', 'want'),
  [
    ('LGLGLG', [(0, 2, 3)]),
    ('LGLGL', [(0, 2, 2), (4, 1, 1)]),
    ('LLLLLG' * 4 + 'LL', [(0, 6, 4), (24, 1, 2)]),
    ('LLGLL', [(0, 1, 2), (2, 1, 1), (3, 1, 2)]),
    ('GGLLL', [(0, 1, 2), (2, 1, 3)]),
    ('GGGG', [(0, 1, 4)]),
    ('LLLG', [(0, 1, 3), (3, 1, 1)]),
    ('L', [(0, 1, 1)]),
  ],
)
def test_layers_are_stacked_in_whole_groups(kinds, want, hf_rows):
  names = tuple({'L': 'local', 'G': 'global'}[kind] for kind in kinds)
  shape = dataclasses.replace(
    hf_config.from_hf(hf_rows['gemma3']),
    num_layers=len(kinds),
    layer_kinds=names,
  )
  for scan, stacks in (
    (True, want),
    (False, [(i, 1, 1) for i in range(len(kinds))]),
  ):
    model = _shapes(shape, scan)
    got = [(s.first, len(s.blocks), s.repeats) for s in model.stacks]
    assert got == stacks
    # Every layer is there once, with its own kind.
    layers = {
      stack.first + place + len(stack.blocks) * i: block.layer.kind
      for stack in model.stacks
      for place, block in enumerate(stack.blocks)
      for i in range(stack.repeats)
    }
    assert layers == dict(enumerate(names))


def _shapes(shape, scan):
  return nnx.eval_shape(
    lambda: transformer.Transformer(shape, rngs=nnx.Rngs(0), scan=scan)
  )


@pytest.mark.parametrize('scan', [False, True])
@pytest.mark.parametrize('family', _FAMILIES)
@pytest.mark.parametrize('tied', [False, True])
def test_has_the_parameters_that_its_config_counts(family, scan, tied, hf_rows):
  row = {**hf_rows[family], 'tie_word_embeddings': tied}
  shape = hf_config.from_hf(row)
  params = jax.tree.leaves(nnx.state(_shapes(shape, scan), nnx.Param))
  assert sum(leaf.size for leaf in params) == shape.parameters()
