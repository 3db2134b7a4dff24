"""The peer `vllm`, on a GPU.  Wants vLLM, which brings its own torch."""

import os
import time

import torch
import vllm
from vllm import distributed

from wcse_jax.peers import base


# Of the GPU's memory: the rest is for who measures it in the same process.
_MEMORY = 0.85


class Vllm:
  """A model of a Hugging Face folder; see `base.Peer`.

  It is given all samples at once and puts them into batches by itself.  Its
  prefix cache finds what prompts share, and starts each run empty.  Attention,
  CUDA graphs and its sampler are what it takes by itself.
  """

  variants = ('default',)
  schedules = True

  def __init__(
    self, folder: str, dtype: str, *, sequences: int, random: bool = False
  ):
    """Loads the model.

    Args:
      folder: with config.json.
      dtype: of weights and cache.
      sequences: samples that it may run at once.
      random: whether to make the weights up.
    """
    # Its engine is a process of its own, and jax's threads survive no fork.
    os.environ.setdefault('VLLM_WORKER_MULTIPROC_METHOD', 'spawn')
    self._llm = vllm.LLM(
      model=folder,
      dtype=dtype,
      load_format='dummy' if random else 'auto',
      skip_tokenizer_init=True,
      enable_prefix_caching=True,
      max_num_seqs=sequences,
      gpu_memory_utilization=_MEMORY,
    )
    self.version = f'vllm {vllm.__version__}, torch {torch.__version__}'

  def run(self, task: base.Task, batch: int, variant: str) -> base.Run:
    """See `base.Peer`; `first` is measured by a run of one new token.

    `step` is the mean of the rest.  `task.seed` is not used: seeds of samples
    would take it off its fast way of drawing.

    Raises:
      RuntimeError: if vllm drew another number of tokens.
    """
    del batch, variant
    _, first = self._draw(task, 1)
    drawn, seconds = self._draw(task, task.new_tokens)
    return base.Run(
      drawn=drawn,
      first=first,
      step=max(seconds - first, 0.0) / (task.new_tokens - 1),
      seconds=seconds,
    )

  def _draw(
    self, task: base.Task, new_tokens: int
  ) -> tuple[list[list[int]], float]:
    """Returns (tokens of each sample, seconds)."""
    if not self._llm.reset_prefix_cache():
      raise RuntimeError('vllm: its prefix cache could not be emptied.')
    params = vllm.SamplingParams(
      n=task.samples,
      temperature=task.temperature,
      top_k=task.top_k,
      max_tokens=new_tokens,
      ignore_eos=True,
      detokenize=False,
    )
    prompts = [{'prompt_token_ids': list(prompt)} for prompt in task.prompts]
    began = time.perf_counter()
    rows = self._llm.generate(prompts, params, use_tqdm=False)
    seconds = time.perf_counter() - began
    drawn = [list(s.token_ids) for row in rows for s in row.outputs]
    want = [new_tokens] * len(prompts) * task.samples
    if list(map(len, drawn)) != want:
      raise RuntimeError(
        f'vllm: wanted {len(want)} samples of {new_tokens} tokens; got '
        f'{len(drawn)} of {sorted(set(map(len, drawn)))}.'
      )
    return drawn, seconds

  def close(self) -> None:
    """See `base.Peer`."""
    self._llm.llm_engine.engine_core.shutdown()
    del self._llm
    distributed.cleanup_dist_env_and_memory()
