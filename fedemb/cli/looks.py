"""Models of finished runs at the test images that their configuration names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
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
from fedemb.models.exported import load_model
from fedemb.report.embedded import embedded
from fedemb.report.model_chapters import Look
from fedemb.report.runs import Run

_BLOCK = 1024
_NOT_HERE = (ValueError, OSError, InstantiationException, OmegaConfBaseException)
"""What a model or data that are no longer where they were raise."""


def looks_of(
    runs: Mapping[str, Run], *, device: str, most_images: int, individuals: Callable[[Run], bool]
) -> tuple[list[Look], list[str]]:
    """(looks of the models that can be had here, a line for each that cannot).

    runs: label -> run. individuals: may single test images of a run be shown?
    """
    looks, notes = list[Look](), list[str]()
    for label, run in runs.items():
        try:
            looks.append(_look(label, run, device, most_images, individuals(run)))
        except _NOT_HERE as error:
            notes.append(f"no test images for {label} ({run.path}): {one_line(error)}")
    return looks, notes


def _look(label: str, run: Run, device: str, most_images: int, individuals: bool) -> Look:
    chosen = device_of(device)
    model = load_model(run.path).to(chosen)
    found = embedded(label, model, _test_users(run.path), chosen, most_images=most_images)
    curve = roc_curve(found.embeddings, found.labels, block_size=_BLOCK)
    return Look(found=found, curve=(curve.far.tolist(), curve.recall.tolist()), individuals=individuals)


def _test_users(run: Path) -> UserDataset:
    """Those that the run measured on."""
    stored = OmegaConf.load(run / "config.yaml")
    settings = stored.get("test_users") if isinstance(stored, DictConfig) else None
    if settings is None:
        raise ValueError("the run has no test users")
    check_settings(settings)
    users: UserDataset = instantiate(settings)
    return users
