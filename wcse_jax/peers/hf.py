"""The peer `transformers`: its `generate`.  Wants the extra `parity`."""

import gc
import time

import torch
import transformers

from wcse_jax.peers import base


class Transformers:
  """A model of a Hugging Face folder; see `base.Peer`.

  It runs on a GPU where torch sees one, else on the CPU.  Prompts are padded on
  the left.  `num_return_sequences` copies each prompt before it is prefilled:
  so transformers does it.  Attention is what it takes by itself: torch's
  `scaled_dot_product_attention` where the model allows it.
  """

  # Caches: one that grows, one that is as long as it will be.
  variants = ('dynamic', 'static')
  schedules = False

  def __init__(
    self, folder: str, dtype: str, threads: int, *, random: bool = False
  ):
    """Loads the model.

    Args:
      folder: with config.json.
      dtype: of the weights.
      threads: of what runs on the CPU.
      random: whether to make the weights up.
    """
    torch.set_num_threads(threads)
    self._device = 'cuda' if torch.cuda.is_available() else 'cpu'
    auto, kind = transformers.AutoModelForCausalLM, getattr(torch, dtype)
    if random:
      config = transformers.AutoConfig.from_pretrained(folder)
      torch.manual_seed(0)
      with torch.device(self._device):
        model = auto.from_config(config, dtype=kind)
    else:
      model = auto.from_pretrained(folder, dtype=kind).to(self._device)
    self._model = model.eval()
    self.version = (
      f'transformers {transformers.__version__}, torch {torch.__version__}, '
      f'{self._model.config._attn_implementation} attention'
    )
    # Else it stands in for an end token that is None.
    self._model.generation_config.eos_token_id = None

  def run(self, task: base.Task, batch: int, variant: str) -> base.Run:
    """See `base.Peer`.

    Raises:
      RuntimeError: if transformers drew another number of tokens.
    """
    torch.manual_seed(task.seed)
    # Its greedy search refuses to return several sequences.
    greedy = task.temperature == 0
    config = transformers.GenerationConfig(
      do_sample=True,
      temperature=1.0 if greedy else task.temperature,
      top_k=1 if greedy else task.top_k,
      max_new_tokens=task.new_tokens,
      num_return_sequences=task.samples,
      cache_implementation=variant,
      eos_token_id=None,
      pad_token_id=0,
    )
    drawn, times = [], []
    for prompts in task.batches(batch):
      width = max(map(len, prompts))
      tokens_BT = torch.zeros((len(prompts), width), dtype=torch.long)
      mask_BT = torch.zeros_like(tokens_BT)
      for row, prompt in enumerate(prompts):
        tokens_BT[row, width - len(prompt) :] = torch.tensor(prompt)
        mask_BT[row, width - len(prompt) :] = 1
      tokens_BT = tokens_BT.to(self._device)
      mask_BT = mask_BT.to(self._device)
      clock = _Clock()
      with torch.inference_mode():
        out_BT = self._model.generate(
          tokens_BT,
          attention_mask=mask_BT,
          generation_config=config,
          stopping_criteria=transformers.StoppingCriteriaList([clock]),
        )
      want = len(prompts) * task.samples, width + task.new_tokens
      if tuple(out_BT.shape) != want:
        raise RuntimeError(
          f'transformers: wanted tokens of shape {want}; '
          f'got {tuple(out_BT.shape)}.'
        )
      drawn += out_BT[:, width:].tolist()
      times.append(clock.times)
    return base.Run.of(drawn, times)

  def close(self) -> None:
    """See `base.Peer`."""
    del self._model
    gc.collect()
    if self._device == 'cuda':
      torch.cuda.empty_cache()


class _Clock(transformers.StoppingCriteria):
  """Never stops; notes when each token is there."""

  def __init__(self):
    self.times = [_now()]

  def __call__(self, input_ids, scores, **_):
    self.times.append(_now())
    return torch.zeros_like(input_ids[:, 0], dtype=torch.bool)


def _now() -> float:
  """Returns the time (s) when all that was asked of a GPU is done."""
  if torch.cuda.is_available():
    torch.cuda.synchronize()
  return time.perf_counter()
