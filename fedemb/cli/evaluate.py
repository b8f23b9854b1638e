"""fedemb evaluate: the metrics of a trained model, on its run's test users or on others."""

from __future__ import annotations

import json
from pathlib import Path

from hydra.utils import instantiate
from omegaconf import DictConfig, OmegaConf
from rich.console import Console
from rich.table import Table

from fedemb.cli.build import device_of
from fedemb.evaluation.users import embed_users
from fedemb.models.exported import load_model

CONFIG_PATH = "pkg://fedemb.conf"
CONFIG = "evaluate"


def run(cfg: DictConfig) -> None:
    """Load, embed, measure, print."""
    printers = {"table": _print_table, "json": _print_json}
    if cfg.format not in printers:
        raise ValueError(f"format must be one of {', '.join(printers)}, got format={cfg.format}")
    users = instantiate(_test_users(cfg))
    device = device_of(cfg.device)
    model = load_model(cfg.run).to(device)
    metrics = instantiate(cfg.evaluation).measure(*embed_users(model, users, device))
    printers[cfg.format](metrics, f"{cfg.run} on {users.num_users} users of {users.name}")


def _test_users(cfg: DictConfig) -> DictConfig:
    """test_users=, or those of the run."""
    if cfg.test_users is not None:
        return DictConfig(cfg.test_users)
    config = Path(cfg.run) / "config.yaml"
    if not config.is_file():
        raise ValueError(
            f"no run at {cfg.run}: no file {config}; name a run folder, or test_users= beside a model folder"
        )
    stored = OmegaConf.load(config)
    if OmegaConf.select(stored, "test_users") is None:
        raise ValueError(f"the run {cfg.run} has no test users: name some with test_users=")
    return DictConfig(stored.test_users)


def _print_json(metrics: dict[str, float | None], title: str) -> None:
    print(json.dumps(metrics, indent=2))


def _print_table(metrics: dict[str, float | None], title: str) -> None:
    table = Table(title=title, show_header=False, title_justify="left")
    for name, value in metrics.items():
        table.add_row(name, "–" if value is None else f"{value:.4f}")
    Console().print(table)
