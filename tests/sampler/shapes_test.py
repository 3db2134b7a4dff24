import pytest

from wcse_jax import errors
from wcse_jax.sampler import shapes


@pytest.mark.parametrize(
  ('prompts', 'prefix'),
  [
    ([(2, 5, 6), (2, 5, 7, 8)], (2, 5)),
    # The last token of a prompt is not of the prefix.
    ([(2, 5), (2, 5, 7)], (2,)),
    ([(2, 5, 6)], (2, 5)),
    ([(3, 5), (4, 5)], ()),
    ([(2,), (2, 2)], ()),
  ],
)
def test_the_prefix_is_what_all_prompts_begin_with(prompts, prefix):
  shape = shapes.Shape.of(prompts)
  assert shape.prefix == prefix
  longest = max(len(prompt) for prompt in prompts)
  assert shape.suffix_tokens >= longest - len(prefix)


def test_a_shape_of_nothing_is_refused():
  with pytest.raises(errors.InputError, match=r'prompts: wanted at least one'):
    shapes.Shape.of([])


def test_prompts_fit_behind_the_prefix():
  shape = shapes.Shape((2, 5), 16)
  assert shape.longest == 18
  assert shape.fits((2, 5, 7))
  assert shape.fits((2, 5, *range(16)))
  assert not shape.fits((2, 5))
  assert not shape.fits((2, 6, 7))
  assert not shape.fits((2, 5, *range(17)))
  assert shape.places(5) == 32


def test_prefills_are_of_few_lengths_and_never_shorter_than_a_prompt():
  shape = shapes.Shape((), 400)
  lengths = [shape.prefilled(rest) for rest in range(1, 401)]
  assert sorted(set(lengths)) == [
    16,
    24,
    32,
    48,
    64,
    96,
    128,
    192,
    256,
    384,
    400,
  ]
  # The last token of a prompt is fed by the first decode step.
  assert all(length >= rest - 1 for rest, length in enumerate(lengths, 1))
  assert lengths == sorted(lengths)
