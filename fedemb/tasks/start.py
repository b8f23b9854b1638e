"""Where the global parameters come from, and what that costs."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from fedemb.core.params import merge, split
from fedemb.core.types import Params
from fedemb.models.exported import load_params
from fedemb.models.functional import RUNNING_STATISTICS
from fedemb.models.lora import is_adapter
from fedemb.models.published import Published
from fedemb.privacy.events import composed
from fedemb.privacy.ledger import Ledger
from fedemb.privacy.mechanism import Event, NoNoise
from fedemb.tasks.backbone import HEAD
from fedemb.tasks.task import Task


class Start(ABC):
    """The parameters before round 0. provenance: "random", "public", "dp" or "private", for the report."""

    provenance: str

    @abstractmethod
    def params(self, task: Task, seed: int) -> Params:
        """All global parameters of the task."""

    @abstractmethod
    def cost(self) -> Event | None:
        """What the start has already spent on the users' data; None for nothing."""


@dataclass(frozen=True, kw_only=True)
class RandomStart(Start):
    """From the layers' own initialisers: costs nothing."""

    provenance: str = "random"

    def params(self, task: Task, seed: int) -> Params:
        """task.init(seed)."""
        return task.init(seed)

    def cost(self) -> Event | None:
        """Nothing."""
        return None


@dataclass(frozen=True, kw_only=True)
class PretrainedStart(Start):
    """From a stored model, with a declaration of what it was trained on.

    path: a run folder, a model folder or a .safetensors file.
    provenance: "public" if no private data was touched; "dp" for a run folder of fedemb, whose ledger is composed with
        this run's; "private" for anything else, which makes this run's epsilon infinite.
    fresh: name patterns (* and ?) of parameters that start at random, whatever the stored model holds, as a last layer
        of another width. Adapters that it lacks do so without being named.
    """

    path: str
    provenance: str
    fresh: Sequence[str] = ()

    def __post_init__(self) -> None:
        if self.provenance not in _COST:
            raise ValueError(f"provenance must be one of {', '.join(_COST)}, got provenance={self.provenance}")

    def params(self, task: Task, seed: int) -> Params:
        """The stored parameters; must fit the task's."""
        wanted, stored = task.init(seed), load_params(Path(self.path))
        named = _named(self.fresh, wanted)
        lacking = {name for name in wanted.keys() - stored.keys() if is_adapter(name)}
        anew = {name: wanted[name] for name in named | lacking}
        kept = {name: value for name, value in stored.items() if name not in anew}
        return fit({**kept, **anew}, wanted, self.path)

    def cost(self) -> Event | None:
        """What the provenance says."""
        return _COST[self.provenance](Path(self.path))


@dataclass(frozen=True, kw_only=True)
class PublishedStart(Start):
    """From the weights that a model library publishes for the task's `backbone`.

    provenance: "public" if no private data was touched; "private" otherwise, which makes this run's epsilon infinite.
    """

    provenance: str

    def __post_init__(self) -> None:
        if self.provenance not in ("public", "private"):
            raise ValueError(
                "provenance must be public or private: no ledger comes with published weights, got "
                f"provenance={self.provenance}"
            )

    def params(self, task: Task, seed: int) -> Params:
        """The published parameters, and those of task.init(seed) that they lack."""
        backbone = getattr(task, "backbone", task)
        if not isinstance(backbone, Published):
            raise ValueError(
                f"init=published: {type(backbone).__name__} has no published weights; take model=transformers or "
                "model=timm, or init=public path=MODEL"
            )
        wanted, stored = task.init(seed), backbone.published()
        return fit({**wanted, **stored}, wanted, "the published model")

    def cost(self) -> Event | None:
        """What the provenance says."""
        return _COST[self.provenance](Path())


def _named(patterns: Sequence[str], wanted: Params) -> set[str]:
    """The names that fit a pattern. Raises: ValueError for a pattern that none fits."""
    found = {pattern: {name for name in wanted if fnmatchcase(name, pattern)} for pattern in patterns}
    if idle := [pattern for pattern, names in found.items() if not names]:
        raise ValueError(f"init.fresh pattern '{idle[0]}' matches no parameter; the model has {', '.join(wanted)}")
    return set().union(*found.values())


def _of_ledger(path: Path) -> Event:
    """All that another run has charged."""
    ledger = path / "ledger.jsonl"
    if not ledger.is_file():
        raise ValueError(
            f"provenance=dp needs the run folder that trained the model, with its ledger: no file {ledger}"
        )
    spent = Ledger.read(ledger)
    if not spent.entries:
        raise ValueError(f"provenance=dp: the ledger {ledger} is empty, so it cannot be that of the model")
    return composed(spent.events)


_COST: dict[str, Callable[[Path], Event | None]] = {
    "public": lambda path: None,
    "dp": _of_ledger,
    "private": lambda path: NoNoise().event(1.0),
}


def fit(stored: Params, wanted: Params, path: str) -> Params:
    """The wanted names out of the stored ones; a wanted head stays as it is.

    Left behind are a stored head, and running statistics: layers that keep some are refused as backbones.
    Raises: ValueError that names the first parameter that is missing, left over or of another shape.
    """
    extra = sorted(name for name in stored.keys() - wanted.keys() if not _is_left_behind(name))
    head, backbone = split(wanted, lambda name: name.startswith(HEAD))
    for name, value in backbone.items():
        if name not in stored:
            raise ValueError(f"{path} lacks the parameter '{name}' of the model; has it another architecture?")
        if stored[name].shape != value.shape:
            have, need = list(stored[name].shape), list(value.shape)
            raise ValueError(f"{path}: parameter '{name}' has shape {have}, the model needs {need}")
    if extra:
        raise ValueError(f"{path} holds '{extra[0]}', which the model does not have; has it another architecture?")
    return merge({name: stored[name].to(value.dtype) for name, value in backbone.items()}, head)


def _is_left_behind(name: str) -> bool:
    return name.startswith(HEAD) or name.rpartition(".")[2] in RUNNING_STATISTICS
