"""A grid of learning rates: the one that is best on validation is kept."""

import dataclasses
import math
from typing import Any

from absl import logging

from wcse_jax import processes, runlog, storage
from wcse_jax.sft import settings, train, watch


@processes.failing()
def run(config: settings.SftConfig, workdir: str) -> dict[str, Any]:
  """Fine-tunes once, or once for each of `config.learning_rates`.

  Each rate has a run folder `workdir/rate-RATE/` of its own, which a killed
  grid goes on from; the model of the one with the best score, of equals the
  first, goes to `workdir/model/`, and what `train.run` returns of it to
  `workdir/training.json`.  There, `rates` has the score of each, None for one
  that diverged, and FLOPs and chip-seconds are those of all that did not.

  Raises:
    InputError, Stopped: as `train.run`.
  """
  if not config.learning_rates:
    return train.run(config, workdir)
  config.validate()
  found = {}
  for rate in config.learning_rates:
    optimizer = dataclasses.replace(config.optimizer, learning_rate=rate)
    one = dataclasses.replace(config, optimizer=optimizer, learning_rates=())
    try:
      found[rate] = train.run(one, _folder(workdir, rate))
    except watch.Diverged as error:
      logging.warning('learning rate %g: %s', rate, error)
      last = error
  if not found:
    raise last
  scores = {
    rate: result['scores'][str(result['best_step'])]
    for rate, result in found.items()
  }

  def worth(rate: float) -> float:
    score = scores.get(rate)
    return -math.inf if score is None else score

  chosen = max(found, key=worth)
  result = found[chosen] | {
    'learning_rate': chosen,
    'rates': {f'{rate:g}': scores.get(rate) for rate in config.learning_rates},
  }
  for name in ('flops', 'chip_seconds'):
    result[name] = sum(one[name] for one in found.values())
  if processes.first():
    with runlog.writing(workdir, dataclasses.asdict(config)):
      _adopt(_folder(workdir, chosen), workdir)
      runlog.book(workdir, 'train', train.ledger_row(result, 'model'))
      runlog.merge_ledger(workdir)
      storage.publish_json(storage.join(workdir, 'training.json'), result)
  processes.meet('sft-grid')
  return result


def _folder(workdir: str, rate: float) -> str:
  return storage.join(workdir, f'rate-{rate:g}')


def _adopt(source: str, target: str) -> None:
  """Copies a run's model, the manifest last."""
  names = storage.files(storage.join(source, 'model'))
  for name in sorted(names, key=lambda name: name == 'manifest.json'):
    storage.publish(
      storage.join(target, 'model', name),
      storage.read_bytes(storage.join(source, 'model', name)),
    )
