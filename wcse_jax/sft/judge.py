"""What the checkpoints of a run are compared by."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from flax import nnx

from wcse_jax import evaluate, sharding
from wcse_jax.sft import batches, data, settings
from wcse_jax.sft import step as steps


class Judge:
  """Scores weights by accuracy, by validation loss, or by how late they are.

  Attributes:
    metric: what it scores by.
    rows: what it scores on: problems or sequences.
    prompts: of them, as text.
  """

  def __init__(self, config: settings.SftConfig, tokenizer, chat: bool):
    """Reads what is to be scored on.

    Args:
      config: of the run.
      tokenizer: of the model.
      chat: whether prompts go through the chat template.
    """
    self._config = config
    self._tokenizer = tokenizer
    self._evaluator = None
    self.rows: Sequence[Any] = ()
    self.prompts: list[str] = []
    if config.validation_problems:
      self.metric = 'accuracy'
      self._evaluator = evaluate.Evaluator(
        evaluate.EvaluateConfig(
          task=config.task,
          data=config.data,
          bad_rows=config.bad_rows,
          split='validation',
          limit=config.validation_problems,
          # In the format of the training.
          chat='on' if chat else 'off',
          majority=(),
          validation_size=config.validation_size,
          sampler=config.sampler,
        )
      )
      self.rows = self._evaluator.problems
      self.prompts = self._evaluator.prompts(chat)
    elif config.validation:
      self.metric = 'validation loss'
      examples, _ = data.read(
        config.validation, config.task, config.data, chat=chat
      )
      self.prompts = [example.prompt for example in examples]
      self.rows, _ = data.encode(
        examples,
        tokenizer,
        config.max_length,
        chat=chat,
        long=config.long,
        what='validation',
      )
    else:
      self.metric = 'last step'

  def score(self, graph, params, frozen, at: int, recipe) -> float:
    """Returns what the best checkpoint has most of.

    Args:
      graph: from `step.split`.
      params: what is trained.
      frozen: what is not.
      at: steps that are done.
      recipe: of the steps.
    """
    if self._evaluator is not None:
      model = steps.merged(graph, params, frozen, self._config.dtype)
      return self._evaluator.accuracy(model, self._tokenizer)
    if not self.rows:
      return float(at)
    mesh = nnx.merge(graph, params, frozen).mesh
    sums = [
      steps.evaluate(
        params,
        frozen,
        {k: sharding.place_batch(v, 'BT', mesh) for k, v in batch.items()},
        graph=graph,
        recipe=recipe,
      )
      for batch in batches.scored(
        self.rows,
        max_length=self._config.max_length,
        batch_size=self._config.batch_size // self._config.accumulate,
      )
    ]
    total, count = np.sum(jax.device_get(sums), axis=0, dtype=np.float64)
    return -float(total / count)
