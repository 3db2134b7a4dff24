"""What transformers computes for a model: read from a golden, or computed now.

torch is imported only by who calls `load`, `logits` and `greedy`.
"""

import dataclasses
import json
import math
import pathlib
from collections.abc import Sequence
from typing import Any

import families
import numpy as np


@dataclasses.dataclass(frozen=True)
class Golden:
  """What transformers computes for a model.

  Attributes:
    folder: the model, a Hugging Face folder with a tokenizer.
    row: its config.json.
    tensors: its weights.
    prompts: token ids of each prompt.
    rows: the prompt of each of `logits_AV`.
    positions: its position there.
    logits_AV: float32 logits.
    drawn: the greedy tokens behind each prompt.
    logprobs: the sum of their log-probabilities, nats.
  """

  folder: str
  row: dict[str, Any]
  tensors: dict[str, np.ndarray]
  prompts: list[np.ndarray]
  rows: np.ndarray
  positions: np.ndarray
  logits_AV: np.ndarray
  drawn: np.ndarray
  logprobs: np.ndarray


def read_golden(name: str, folder: pathlib.Path) -> Golden:
  """Returns a committed golden, its model written to the folder."""
  path = pathlib.Path(__file__).with_name('goldens') / f'{name}.npz'
  with np.load(path) as file:
    row, shapes = (json.loads(str(file[key])) for key in ('config', 'shapes'))
    sizes = [math.prod(shape) for shape in shapes.values()]
    flat = file['weights'] / np.float32(64)
    parts = np.split(flat, np.cumsum(sizes)[:-1])
    weights = {
      name: part.reshape(shape)
      for (name, shape), part in zip(shapes.items(), parts, strict=True)
    }
    lengths = file['lengths']
    families.write(folder, row, weights)
    families.write_tokenizer(folder, row['vocab_size'])
    return Golden(
      folder=str(folder),
      row=row,
      tensors=weights,
      prompts=np.split(file['prompts'].astype(int), np.cumsum(lengths)[:-1]),
      rows=file['rows'],
      positions=file['positions'],
      logits_AV=file['logits'],
      drawn=file['drawn'].astype(int),
      logprobs=file['logprobs'],
    )


def padded(prompts: Sequence[np.ndarray]) -> np.ndarray:
  """Returns int32 tokens_BT, zeros behind the shorter ones."""
  tokens_BT = np.zeros((len(prompts), max(map(len, prompts))), np.int32)
  for row, prompt_T in zip(tokens_BT, prompts, strict=True):
    row[: len(prompt_T)] = prompt_T
  return tokens_BT


def load(folder: str, dtype: str = 'float32'):
  """Returns the transformers model of a folder."""
  import torch
  import transformers

  config = json.loads((pathlib.Path(folder) / 'config.json').read_text())
  model, report = getattr(
    transformers, config['architectures'][0]
  ).from_pretrained(
    folder,
    dtype=getattr(torch, dtype),
    attn_implementation='eager',
    experts_implementation='eager',
    output_loading_info=True,
  )
  for problem in ('missing_keys', 'unexpected_keys', 'mismatched_keys'):
    assert not report[problem], (problem, report[problem])
  # Its threads and those of jax would wait for each other's cores.
  torch.set_num_threads(1)
  return model.eval()


def logits(model, tokens_T: Sequence[int]) -> np.ndarray:
  """Returns float32 logits_TV of one sequence."""
  import torch

  with torch.no_grad():
    tokens_BT = torch.from_numpy(np.asarray(tokens_T, np.int64))[None]
    return model(tokens_BT).logits[0].float().numpy()


def greedy(model, tokens_T: Sequence[int], count: int) -> list[int]:
  """Returns the `count` tokens that `generate` puts behind a sequence."""
  import torch

  with torch.no_grad():
    tokens_BT = torch.from_numpy(np.asarray(tokens_T, np.int64))[None]
    out_BT = model.generate(
      tokens_BT,
      attention_mask=torch.ones_like(tokens_BT),
      do_sample=False,
      max_new_tokens=count,
    )
  return out_BT[0, len(tokens_T) :].tolist()


def divergence(p_TV: np.ndarray, q_TV: np.ndarray) -> np.ndarray:
  """Returns KL(p || q) of each position, in nats, of two arrays of logits."""

  def log_softmax(logits_TV):
    wide_TV = logits_TV.astype(np.float64)
    wide_TV -= wide_TV.max(axis=-1, keepdims=True)
    return wide_TV - np.log(np.exp(wide_TV).sum(axis=-1, keepdims=True))

  p_TV, q_TV = log_softmax(p_TV), log_softmax(q_TV)
  return (np.exp(p_TV) * (p_TV - q_TV)).sum(axis=-1)
