"""wcse_jax: which model to sample training data from, at the same compute.

Dimension key.  Arrays of rank >= 1 end in the letters of their axes:

  B  sequences of a batch, or slots of the sampler
  T  tokens of this call
  S  positions of the key/value cache, or places of a slot
  U  tokens of the prefix that all prompts share
  L  layers, or the repeats of a stacked group of layers
  D  model width
  N  query heads (N = K * G)
  K  key/value heads
  G  query heads per key/value head
  H  head width
  F  feed-forward width
  V  vocabulary
  C  width of the inputs that each layer gets for itself
  E  experts, or what comes out of any product
  A  what goes into any product
  J  rank of a low-rank adapter
  X  experts of one token
  M  tokens of a whole batch
  Z  pairs of a token and one of its experts
  P  prompts of one prefill
  Q  problems (host)
  R  samples per problem (host)

Size-1 axes are written `1`.  Scalars take no letter.
"""

__version__ = '0.1.0'
