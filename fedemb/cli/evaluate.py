"""fedemb evaluate: the metrics of a trained model, on its run's test users or on others."""

from __future__ import annotations

import json
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.table import Table

from fedemb.cli.build import device_of
from fedemb.cli.output import as_csv, console, printer_of
from fedemb.cli.settings import check_settings
from fedemb.core.files import write_atomically
from fedemb.data.users import Described, UserDataset
from fedemb.evaluation.embedded import Embedded, Measure
from fedemb.evaluation.roc import roc_curve
from fedemb.evaluation.users import embedded_users
from fedemb.models.exported import load_model

CONFIG_PATH = "pkg://fedemb.conf"
CONFIG = "evaluate"
_CONFIG_FILE = "config.yaml"


def run(cfg: DictConfig) -> None:
    """Load, embed, measure, print."""
    show = printer_of(cfg.format, table=_print_table, json=_print_json)
    stored = _stored(Path(cfg.run) / _CONFIG_FILE)
    test_users = _test_users(cfg, stored)
    check_settings(test_users)
    users: UserDataset = instantiate(test_users)
    settings = _evaluation(cfg, stored, list(HydraConfig.get().overrides.task))
    check_settings(settings)
    evaluation: Measure = instantiate(settings)
    device = device_of(cfg.device)
    model = load_model(cfg.run).to(device)
    test = embedded_users(model, users, device)
    metrics = evaluation.metrics(test)
    if cfg.roc is not None:
        _write_roc(Path(str(cfg.roc)).expanduser(), test)
    name = users.name if isinstance(users, Described) else type(users).__name__
    show(metrics, f"{cfg.run} on {users.num_users} users of {name}")


def _stored(config: Path) -> DictConfig | None:
    """The run's own configuration; None beside a model folder."""
    stored = OmegaConf.load(config) if config.is_file() else None
    if stored is not None and not isinstance(stored, DictConfig):
        raise ValueError(f"{config} is damaged: not a mapping; evaluate {config.parent / 'model'} with test_users=")
    return stored


def _test_users(cfg: DictConfig, stored: DictConfig | None) -> DictConfig:
    """test_users=, or those of the run."""
    if cfg.test_users is None and stored is None:
        raise ValueError(
            f"no run at {cfg.run}: no file {Path(cfg.run) / _CONFIG_FILE}; name a run folder, or test_users= beside a "
            "model folder"
        )
    users: DictConfig | None = cfg.test_users if stored is None else cfg.test_users or stored.get("test_users")
    if users is None:
        raise ValueError(f"the run {cfg.run} has no test users: name some with test_users=")
    return users


def _evaluation(cfg: DictConfig, stored: DictConfig | None, overrides: list[str]) -> DictConfig:
    """The run's, so that the numbers are those of its report; or what the command says instead.

    overrides: the command's words. evaluation=NAME replaces the run's; evaluation.KEY=VALUE changes that key of it.
    """
    own: DictConfig | None = None if stored is None else stored.get("evaluation")
    composed: DictConfig = cfg.evaluation
    keys = [word.split("=")[0].lstrip("+") for word in overrides]
    if own is None or any(key == "evaluation" or key.startswith("~evaluation") for key in keys):
        return composed
    for key in keys:
        group, _, name = key.partition(".")
        if group == "evaluation":
            OmegaConf.update(own, name, OmegaConf.select(composed, name), merge=False, force_add=True)
    return own


def _write_roc(path: Path, test: Embedded) -> None:
    """The points of the ROC curve as a table, written whole."""
    curve = roc_curve(test.embeddings, test.labels)
    points = zip(curve.far.tolist(), curve.recall.tolist(), strict=True)
    try:
        write_atomically(path, as_csv(("far", "recall"), points))
    except OSError as error:
        raise ValueError(f"cannot write {path}: {error.strerror}; take another roc=") from error


def _print_json(metrics: dict[str, float | None], title: str) -> None:
    print(json.dumps(metrics, indent=2))


def _print_table(metrics: dict[str, float | None], title: str) -> None:
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in metrics.items():
        table.add_row(name, "–" if value is None else f"{value:.4f}")
    console().print(table)
