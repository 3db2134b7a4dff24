"""What a data set's card says of where its rows come from."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

from wcse_jax import checkpoints, errors, selection, shardfiles, storage
from wcse_jax.checkpoints import card as cards
from wcse_jax.tasks import base


# Stands in a shown prompt where the question goes.
QUESTION = '{question}'
# Of a fingerprint what the card shows at other places than among the settings.
_APART = (
  'weights',
  'tokenizer',
  'data_sha256',
  'shots_sha256',
  'prompt_sha256',
  'versions',
)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Prompt:
  """How a model was asked.

  Attributes:
    plain: the whole plain prompt, `QUESTION` in the question's place; empty
      where the text is not at hand.
    chat: what a chat model was told, likewise.
    shots: worked examples in it; None where that is not known.
    sha256: of these, as the samples' manifest has it.
    template: `on`, `off`, or empty for as the tokenizer says.
  """

  plain: str = ''
  chat: str = ''
  shots: int | None = None
  sha256: str = ''
  template: str = ''


@dataclasses.dataclass(frozen=True, kw_only=True)
class Model:
  """A model that was sampled.

  Attributes:
    name: as rows call it.
    checkpoint: by what others find it: a name of the hub with its revision, or
      of an embedded model; empty for one of this machine's folders.
    card: what its own files state, terms above all.
    architecture: name of its transformers class; empty where it is not known.
    weights: sha256 of the weights; empty where it is not known.
    tokenizer: likewise.
    settings: how its samples were drawn, by dotted name.
    versions: of the software that drew them.
    prompt: how it was asked.
    samples: how many there are, whatever became of them.
    problems: how many problems they are of; 0 where that is not known.
    cost: of all its samples, by name, as `flops`.
  """

  name: str
  checkpoint: str = ''
  card: cards.Card = dataclasses.field(default_factory=cards.Card)
  architecture: str = ''
  weights: str = ''
  tokenizer: str = ''
  settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  versions: Mapping[str, Any] = dataclasses.field(default_factory=dict)
  prompt: Prompt = dataclasses.field(default_factory=Prompt)
  samples: int = 0
  problems: int = 0
  cost: Mapping[str, float] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Problems:
  """The set that was asked.

  Attributes:
    task: its name.
    split: the split; empty where it is not known.
    origin: where the problems come from.
    card: what the files of the user's own set state.
    sha256: of the problems of the split; empty where it is not known.
  """

  task: str
  split: str = ''
  origin: base.Origin = dataclasses.field(default_factory=base.Origin)
  card: cards.Card = dataclasses.field(default_factory=cards.Card)
  sha256: str = ''

  @property
  def license(self) -> str:
    """The licence of the problems at hand; empty where none is stated."""
    return self.origin.license or self.card.license


@dataclasses.dataclass(frozen=True, kw_only=True)
class Facts:
  """What the card of a data set tells besides its rows.

  Attributes:
    problems: what was asked.
    models: who was asked, in the order in which they are told.
    title: of the card; empty for one made of the rest.
    rules: by which the rows were chosen; None where none were.
    budget: what limited the samples, as a sentence; may be empty.
    chat: whether a prompt is what a user says to a chat model.
    grader: version of the grader; 0 where that is not known.
    judges: model -> what judges and people say of the reasoning of its right
      samples, as `grade.reasoning` returns it.
    overlap: of these problems with those of the test split, as
      `contamination.Overlap.summary` returns it; None where it was not looked
      for.
    decontaminate: share of 8-grams from which on a problem was left out; 0: all
      problems were kept.
    decontaminated: how many problems were left out for it.
    notes: sentences to add.
  """

  problems: Problems
  models: Sequence[Model] = ()
  title: str = ''
  rules: selection.Selection | None = None
  budget: str = ''
  chat: bool = False
  grader: int = 0
  judges: Mapping[str, Sequence[Mapping[str, Any]]] = dataclasses.field(
    default_factory=dict
  )
  overlap: Mapping[str, Any] | None = None
  decontaminate: float = 0.0
  decontaminated: int = 0
  notes: Sequence[str] = ()


def of_model(
  workdir: str,
  name: str,
  task: base.Task | None = None,
  *,
  checkpoint: str = '',
) -> Model:
  """Returns what a run folder and its checkpoint say of a model.

  Args:
    workdir: has `samples/<name>/`.
    name: of the model there.
    task: that was sampled, for the text of the prompt.
    checkpoint: of the model; empty for what the run folder says.
  """
  path = storage.join(workdir, 'samples', name)
  folder = shardfiles.ShardFolder(path)
  held = folder.fingerprint
  place = storage.join(path, 'source.json')
  if not checkpoint and storage.exists(place):
    found = storage.read_json(place)
    checkpoint = _text(found, 'checkpoint') if isinstance(found, dict) else ''
  known = checkpoint in checkpoints.EMBEDDED or checkpoints.hub_name(checkpoint)
  versions = held.get('versions')
  return Model(
    name=name,
    checkpoint=checkpoint if known else '',
    card=checkpoints.stated(checkpoint),
    architecture=_architecture(checkpoint),
    weights=_text(held, 'weights'),
    tokenizer=_text(held, 'tokenizer'),
    settings=_flat({k: v for k, v in held.items() if k not in _APART}),
    versions=versions if isinstance(versions, dict) else {},
    prompt=of_prompt(held, task),
    samples=sum(map(folder.size, folder.shards)),
    cost=folder.cost(),
  )


def of_prompt(held: Mapping[str, Any], task: base.Task | None) -> Prompt:
  """Returns how the model of a fingerprint was asked.

  The text is that of the task at hand, if its worked examples and its layout
  are those of the fingerprint.
  """
  shots = held.get('shots')
  found = Prompt(
    shots=shots if type(shots) is int else None,
    sha256=_text(held, 'shots_sha256'),
    template=_text(held, 'chat'),
  )
  if task is None or found.shots is None:
    return found
  try:
    worked = task.shots(found.shots)
  except errors.InputError:
    return found
  same = base.shots_sha256(worked) == found.sha256
  if not same or base.prompt_sha256(task) != held.get('prompt_sha256'):
    return found
  return dataclasses.replace(
    found,
    plain=task.prompt(QUESTION, worked),
    chat=task.ask(QUESTION, worked),
  )


def of_problems(task: base.Task, split: str, sha256: str = '') -> Problems:
  """Returns what is known of the problems of a task."""
  card = cards.Card()
  origin = task.origin()
  if not origin.source and task.data and storage.is_folder(task.data):
    card = cards.read(task.data)
  return Problems(
    task=task.name, split=split, origin=origin, card=card, sha256=sha256
  )


def _architecture(checkpoint: str) -> str:
  """Returns the architecture of a folder; nothing is fetched for it."""
  if checkpoints.hub_name(checkpoint) or checkpoint.endswith('.gguf'):
    return ''
  try:
    return checkpoints.read_config(checkpoint).architecture
  except errors.InputError:
    return ''


def _text(found: Mapping[str, Any], key: str) -> str:
  value = found.get(key)
  return value if isinstance(value, str) else ''


def _flat(found: Mapping[str, Any], prefix: str = '') -> dict[str, Any]:
  flat: dict[str, Any] = {}
  for key, value in found.items():
    if isinstance(value, Mapping):
      flat |= _flat(value, f'{prefix}{key}.')
    else:
      flat[f'{prefix}{key}'] = value
  return flat
