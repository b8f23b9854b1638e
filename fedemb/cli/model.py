"""The backbone of a configuration: made, changed as asked, and sure to be loadable again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from torch import nn

from fedemb.cli.settings import check_settings
from fedemb.models.change import Change
from fedemb.models.exported import check_rebuilds
from fedemb.models.functional import seeded
from fedemb.models.published import SelfContained


@dataclass(frozen=True, kw_only=True)
class BuiltModel:
    """A backbone and what a model folder says of it. notes: what was changed, a line each. images: (Ch, H, W)."""

    backbone: nn.Module
    spec: Mapping[str, Any]
    changes: Sequence[Mapping[str, Any]]
    notes: Sequence[str]
    images: Sequence[int] = ()


def build_model(cfg: DictConfig, seed: int) -> BuiltModel:
    """model=, with the layers that normalisation= and adapter= put in place of others.

    Raises: ValueError in one line if the trained model could not be loaded again.
    """
    for group in ("normalisation", "adapter"):
        check_settings(cfg[group])
    with seeded(seed):
        backbone: nn.Module = instantiate(cfg.model)
        spec, notes = _plain(cfg.model), list[str]()
        if isinstance(backbone, SelfContained):
            spec |= backbone.settings()
        if cfg.normalisation is not None:
            notes.append(_changed(cfg.normalisation, backbone))
        changes = [] if cfg.normalisation is None else [_plain(cfg.normalisation)]
        check_rebuilds(spec, backbone, changes)
        if cfg.adapter is not None:
            notes.append(_changed(cfg.adapter, backbone))
    return BuiltModel(backbone=backbone, spec=spec, changes=changes, notes=notes)


def _changed(node: DictConfig, backbone: nn.Module) -> str:
    change: Change = instantiate(node)
    return change.apply(backbone)


def _plain(node: DictConfig) -> dict[str, Any]:
    return OmegaConf.to_container(node, resolve=True)  # type: ignore[return-value]
