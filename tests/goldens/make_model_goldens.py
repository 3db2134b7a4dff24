"""Writes what transformers computes for a small random model of each family.

  PYTHONPATH=tests python tests/goldens/make_model_goldens.py

A file holds all that a test needs: config.json (`config`), the shapes of the
tensors (`shapes`, JSON), their values in 64ths, one after the other (`weights`,
int8), prompts of unequal lengths, one after the other (`prompts`, `lengths`),
float32 logits at some positions of them (`logits`, `rows`, `positions`), the
tokens that greedy sampling puts behind each prompt (`drawn`) and the sum of
their log-probabilities (`logprobs`, nats).  The script wants torch and
transformers; the files were made with 2.13.0 and 5.23.0.
"""

import json
import pathlib
import tempfile

import families
import numpy as np
import references


# Every so many positions, and at the last one, the logits are kept.
_STEP = 40
_MORE = 64
# Nats between the two best tokens of any step: far above the differences
# between two correct implementations.
_MARGIN = 3e-3


def make(name: str, path: pathlib.Path) -> None:
  """Writes one golden.

  Raises:
    ValueError: if a continuation ends in a loop of a few tokens, which a wrong
      model could get right, or a step is near a tie, which a right one could
      get wrong: the family needs another seed.
  """
  row, tensors = families.ROWS[name], families.named(name)
  with tempfile.TemporaryDirectory() as folder:
    model = references.load(families.write(folder, row, tensors))
  prompts = families.prompts(row)
  rows, positions, logits, drawn, logprobs = [], [], [], [], []
  for i, prompt_T in enumerate(prompts):
    more_T = references.greedy(model, prompt_T, _MORE)
    logits_TV = references.logits(model, [*prompt_T, *more_T])
    # Position t decides on token t + 1.
    chosen_TV = np.float64(logits_TV[len(prompt_T) - 1 : -1])
    best_T = np.sort(chosen_TV)[:, -1]
    margin = (best_T - np.sort(chosen_TV)[:, -2]).min()
    if len(set(more_T[_MORE // 2 :])) < 7 or margin < _MARGIN:
      raise ValueError(f'{name}: prompt {i}: a loop, or a margin of {margin}.')
    sums_T = np.log(np.exp(chosen_TV).sum(axis=-1))
    at = sorted({*range(0, len(prompt_T), _STEP), len(prompt_T) - 1})
    rows += [i] * len(at)
    positions += at
    logits.append(logits_TV[at])
    drawn.append(more_T)
    logprobs.append((best_T - sums_T).sum())
  flat = np.concatenate([tensor.ravel() for tensor in tensors.values()])
  np.savez_compressed(
    path,
    config=json.dumps(row),
    shapes=json.dumps({name: t.shape for name, t in tensors.items()}),
    weights=np.rint(64 * flat).astype(np.int8),
    prompts=np.concatenate(prompts).astype(np.uint8),
    lengths=np.array([len(prompt_T) for prompt_T in prompts], np.int32),
    rows=np.array(rows, np.int32),
    positions=np.array(positions, np.int32),
    logits=np.concatenate(logits),
    drawn=np.array(drawn, np.uint8),
    logprobs=np.array(logprobs, np.float32),
  )


def main() -> None:
  for name in families.ROWS:
    make(name, pathlib.Path(__file__).with_name(f'{name}.npz'))


if __name__ == '__main__':
  main()
