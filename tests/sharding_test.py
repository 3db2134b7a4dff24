import jax
import numpy as np
import pytest
from jax.sharding import PartitionSpec

from wcse_jax import errors, sharding


@pytest.mark.parametrize(
  ('text', 'shape'),
  [
    ('', (8, 1, 1)),
    ('data=8', (8, 1, 1)),
    ('tensor=4,data=2', (2, 1, 4)),
    ('data=2,fsdp=2,tensor=2', (2, 2, 2)),
  ],
)
def test_mesh_has_the_stated_sizes(text, shape):
  mesh = sharding.make_mesh(text)
  assert tuple(mesh.shape[axis] for axis in sharding.AXES) == shape
  assert mesh.size == len(jax.devices()) == 8
  assert sharding.make_mesh(sharding.describe(mesh)) == mesh


def test_mesh_of_fewer_devices():
  mesh = sharding.make_mesh('', jax.devices()[:2])
  assert sharding.describe(mesh) == 'data=2,fsdp=1,tensor=1'


@pytest.mark.parametrize('text', ['', 'fsdp=2,tensor=4'])
def test_one_process_is_the_only_replica(text):
  found = sharding.replica(text)
  assert found.mesh == sharding.make_mesh(text)
  assert (found.number, found.count, found.leads) == (0, 1, True)


def test_what_would_fit_is_named():
  assert sharding.divisors(12) == [1, 2, 3, 4, 6, 12]
  assert sharding.any_of([1]) == '1'
  assert sharding.any_of([1, 2]) == '1 or 2'
  assert sharding.any_of(n for n in (1, 2, 4)) == '1, 2 or 4'


@pytest.mark.parametrize(
  ('text', 'named'),
  [
    (
      'data=4',
      "'data=4' wants 4 devices; there are 8, and sizes that multiply to 8",
    ),
    ('data=16', 'wants 16 devices'),
    ('model=8', "'model=8'"),
    ('data', "'data'"),
    ('data=0', "'data=0'"),
    ('data=-8', "'data=-8'"),
    ('data=two', "'data=two'"),
    ('data=2,data=8', 'wanted data once'),
    ('data=8;tensor=1', "'data=8;tensor=1'"),
  ],
)
def test_names_what_is_wrong_with_a_mesh(text, named, nothing_compiled):
  with pytest.raises(errors.InputError) as caught:
    sharding.make_mesh(text)
  assert str(caught.value).startswith('mesh: ')
  assert named in str(caught.value)
  assert '\n' not in str(caught.value)


@pytest.mark.parametrize(
  ('letters', 'table', 'want'),
  [
    ('BT', sharding.ACTIVATIONS, (('data', 'fsdp'), None)),
    ('BTNH', sharding.ACTIVATIONS, (('data', 'fsdp'), None, 'tensor', None)),
    (
      'LBSKH',
      sharding.ACTIVATIONS,
      (None, ('data', 'fsdp'), None, 'tensor', None),
    ),
    ('VD', sharding.WEIGHTS, ('tensor', 'fsdp')),
    ('LND', sharding.WEIGHTS, (None, 'tensor', 'fsdp')),
    ('_', sharding.WEIGHTS, (None,)),
  ],
)
def test_letters_say_where_an_axis_lives(letters, table, want):
  mesh = sharding.make_mesh('data=2,fsdp=2,tensor=2')
  got = sharding.sharding(mesh, letters, table)
  assert got.mesh == mesh
  assert got.spec == PartitionSpec(*want)


def test_two_letters_of_one_axis_are_refused():
  mesh = sharding.make_mesh('')
  with pytest.raises(ValueError, match="'FV' uses a mesh axis twice"):
    sharding.sharding(mesh, 'FV', sharding.WEIGHTS)


def test_placed_weight_is_split_and_whole():
  mesh = sharding.make_mesh('data=2,fsdp=2,tensor=2')
  weight_DF = np.arange(4 * 6, dtype=np.float32).reshape(4, 6)
  placed_DF = sharding.place(weight_DF, 'DF', mesh)
  assert {s.data.shape for s in placed_DF.addressable_shards} == {(2, 3)}
  np.testing.assert_array_equal(placed_DF, weight_DF)


def test_a_size_that_does_not_divide_is_refused(nothing_compiled):
  mesh = sharding.make_mesh('fsdp=2,tensor=4')
  with pytest.raises(errors.InputError) as caught:
    sharding.place(np.zeros((4, 6)), 'DF', mesh, name='gate')
  assert str(caught.value) == (
    'mesh: gate has 6 along F, which data=1,fsdp=2,tensor=4 splits into 4; it '
    'must divide.'
  )


def test_letters_that_do_not_fit_the_shape_are_refused():
  mesh = sharding.make_mesh('')
  with pytest.raises(ValueError, match='gate: wanted the axes'):
    sharding.check(mesh, 'DF', (4,), sharding.WEIGHTS, 'gate')


def test_constraint_is_kept_by_the_compiler():
  mesh = sharding.make_mesh('data=4,tensor=2')
  double = jax.jit(lambda x_BF: sharding.constrain(2 * x_BF, 'BF', mesh))
  x_BF = np.arange(32, dtype=np.float32).reshape(8, 4)
  out_BF = double(x_BF)
  assert out_BF.sharding.shard_shape(out_BF.shape) == (2, 2)
  np.testing.assert_array_equal(out_BF, 2 * x_BF)


def test_one_device_needs_no_constraint():
  mesh = sharding.make_mesh('', jax.devices()[:1])
  x = np.ones(3)
  assert sharding.constrain(x, 'B', mesh) is x
  assert sharding.constrain(x, 'B', None) is x
