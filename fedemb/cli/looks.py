"""Models of finished runs at the test images that their configuration names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from fedemb.cli.build import device_of
from fedemb.cli.errors import one_line
from fedemb.cli.settings import check_settings
from fedemb.data.users import UserDataset
from fedemb.evaluation.roc import roc_curve
from fedemb.models.exported import EmbeddingModel, load_model
from fedemb.report.embedded import Embedded, embedded
from fedemb.report.model_chapters import Look
from fedemb.report.runs import Run

_BLOCK = 1024
_NOT_HERE = (ValueError, OSError, InstantiationException, OmegaConfBaseException)
"""What a model or data that are no longer where they were raise."""


@dataclass(frozen=True, kw_only=True)
class _Group:
    """Models that are measured on the same test users. models: by label."""

    settings: DictConfig
    models: dict[str, EmbeddingModel] = field(default_factory=dict)


def looks_of(
    runs: Mapping[str, Run], *, device: str, most_images: int, individuals: Callable[[Run], bool]
) -> tuple[list[Look], list[str]]:
    """(looks of the models that can be had here, a line for each that cannot).

    runs: label -> run. individuals: may single test images of a run be shown?
    """
    chosen = device_of(device)
    groups, troubles = dict[str, _Group](), dict[str, str]()
    for label, run in runs.items():
        try:
            settings, model = _test_settings(run.path), load_model(run.path).to(chosen)
        except _NOT_HERE as error:
            troubles[label] = one_line(error)
            continue
        key = OmegaConf.to_yaml(settings, resolve=True)
        groups.setdefault(key, _Group(settings=settings)).models[label] = model
    looks = dict[str, Look]()
    for group in groups.values():
        try:
            for found in embedded(group.models, _test_users(group.settings), chosen, most_images=most_images):
                looks[found.label] = _look(found, individuals(runs[found.label]))
        except _NOT_HERE as error:
            troubles |= dict.fromkeys(group.models.keys() - looks.keys(), one_line(error))
    notes = [
        f"no test images for {label} ({runs[label].path}): {troubles[label]}" for label in runs if label in troubles
    ]
    return [looks[label] for label in runs if label in looks], notes


def _look(found: Embedded, individuals: bool) -> Look:
    curve = roc_curve(found.embeddings, found.labels, block_size=_BLOCK)
    return Look(found=found, curve=(curve.far.tolist(), curve.recall.tolist()), individuals=individuals)


def _test_settings(run: Path) -> DictConfig:
    """What the run measured on."""
    stored = OmegaConf.load(run / "config.yaml")
    settings = stored.get("test_users") if isinstance(stored, DictConfig) else None
    if not isinstance(settings, DictConfig):
        raise ValueError("the run has no test users")
    return settings


def _test_users(settings: DictConfig) -> UserDataset:
    check_settings(settings)
    users: UserDataset = instantiate(settings)
    return users
