"""Fine-tuning by transformers and torch.  Wants the extra `parity`.

The same weights, batches, optimiser and schedule as this project's trainer is
given, in the way a user of transformers would write the loop: the model's own
loss, `torch.optim.AdamW`, `clip_grad_norm_`.
"""

import os
import resource
import statistics
import sys
import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import transformers

from wcse_jax import bench_train, checkpoints, errors
from wcse_jax.models import config as model_config
from wcse_jax.sampler import inputs
from wcse_jax.sft import settings, step


class Trainer:
  """A model of a Hugging Face folder, and its optimiser.

  It runs on a GPU where torch sees one, else on the CPU.

  Attributes:
    version: of what does the work.
  """

  def __init__(
    self,
    folder: str,
    dtype: str,
    optimizer: settings.OptimizerConfig,
    *,
    threads: int,
  ):
    """Loads the model.

    Args:
      folder: with config.json.
      dtype: of weights and optimiser.
      optimizer: AdamW, as this project's trainer takes it.
      threads: of what runs on the CPU.

    Raises:
      InputError: if the optimiser is not AdamW.
    """
    if optimizer.name != 'adamw':
      raise errors.InputError(
        f'optimizer.name: wanted adamw for transformers; got '
        f'{optimizer.name!r}.'
      )
    torch.set_num_threads(threads)
    self._device = 'cuda' if torch.cuda.is_available() else 'cpu'
    auto = transformers.AutoModelForCausalLM
    model = auto.from_pretrained(folder, dtype=getattr(torch, dtype))
    self._model = model.to(self._device).train()
    self._clip = optimizer.clip
    parts = list(self._model.parameters())
    # Gains and biases do not decay.
    decay = [p for p in parts if p.ndim > 1]
    rest = [p for p in parts if p.ndim <= 1]
    self._optimizer = torch.optim.AdamW(
      [
        {'params': decay, 'weight_decay': optimizer.weight_decay},
        {'params': rest, 'weight_decay': 0.0},
      ],
      lr=optimizer.learning_rate,
      betas=(optimizer.b1, optimizer.b2),
      eps=optimizer.eps,
    )
    self.version = (
      f'transformers {transformers.__version__}, torch {torch.__version__}, '
      f'{self._model.config._attn_implementation} attention'
    )

  def step(
    self, batch: dict[str, np.ndarray], rate: float
  ) -> tuple[float, float]:
    """Returns (loss in nats a target token, gradient norm) of one step.

    Args:
      batch: tokens_BT and target_BT, not packed; what stands behind the last
        target of a row is padding.
      rate: the learning rate.
    """
    tokens_BT = torch.tensor(batch['tokens_BT'], dtype=torch.long)
    target_BT = torch.tensor(batch['target_BT']) != 0
    labels_BT = torch.where(target_BT, tokens_BT, -100)
    places_T = torch.arange(tokens_BT.shape[1])
    last_B = torch.where(target_BT, places_T, 0).max(dim=1).values
    mask_BT = (places_T <= last_B[:, None]).long()
    for group in self._optimizer.param_groups:
      group['lr'] = rate
    self._optimizer.zero_grad()
    loss = self._model(
      input_ids=tokens_BT.to(self._device),
      attention_mask=mask_BT.to(self._device),
      labels=labels_BT.to(self._device),
    ).loss
    loss.backward()
    norm = torch.nn.utils.clip_grad_norm_(
      self._model.parameters(), self._clip or float('inf')
    )
    self._optimizer.step()
    return float(loss.detach()), float(norm)


def run(
  trainer: Trainer,
  batches: Iterable[dict[str, np.ndarray]],
  rates: Sequence[float],
) -> list[tuple[float, float, float]]:
  """Returns (loss, gradient norm, seconds) of each step."""
  found = []
  for batch, rate in zip(batches, rates):
    began = time.perf_counter()
    loss, norm = trainer.step(batch, rate)
    if torch.cuda.is_available():
      torch.cuda.synchronize()
    found.append((loss, norm, time.perf_counter() - began))
  return found


def bench(config: bench_train.TrainBenchConfig) -> dict[str, Any]:
  """Does the steps of `bench_train.bench`; returns the same figures for JSON.

  The share of the machine's rate is left out.

  Raises:
    InputError: as training would, or if rows are packed or adapters asked for.
  """
  config.validate()
  for field, given in (('packing', config.packing), ('lora', config.lora.rank)):
    if given:
      raise errors.InputError(
        f'{field}: wanted none for transformers; got {given}.'
      )
  rows = bench_train.stream(config)
  folder = checkpoints.resolve(config.checkpoint)
  threads = config.threads or os.cpu_count() or 1
  trainer = Trainer(folder, config.dtype, config.optimizer, threads=threads)
  schedule = step.Recipe.of(config, config.steps).schedule()
  peak = config.optimizer.learning_rate
  rates = [peak * float(schedule(i)) for i in range(config.steps)]
  found = run(trainer, rows.steps(0, config.steps, config.batch_size), rates)
  seconds = [one[2] for one in found]
  took = statistics.median(seconds[config.warm :])
  architecture: model_config.ModelConfig = checkpoints.read_config(folder)
  tokens, flops = bench_train.work(config, rows, architecture, 0)
  memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
  memory *= 1 if sys.platform == 'darwin' else 1024
  if torch.cuda.is_available():
    memory = torch.cuda.max_memory_allocated()
  return {
    'engine': trainer.version,
    'model': inputs.model_name(config.checkpoint),
    'dtype': config.dtype,
    'batch_size': config.batch_size,
    'max_length': config.max_length,
    'threads': threads,
    'losses': [one[0] for one in found],
    'gradient_norms': [one[1] for one in found],
    'all_seconds': seconds,
    'step_seconds': took,
    'tokens_per_step': tokens,
    'tokens_per_second': tokens / took,
    'model_flops': flops,
    'peak_bytes': memory,
  }
