"""fedemb account: the certified epsilon of given settings, or of what a run's ledger has charged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fedemb.cli.pricing import PRICING, SAMPLINGS, Population, check_small, number, record, show, whole
from fedemb.privacy.accounting import default_delta
from fedemb.privacy.events import noise_multiplier_of, to_plain
from fedemb.privacy.ledger import Ledger

CONFIG_PATH = PRICING
CONFIG = "account"

_SETTINGS = ("users", "users_per_round", "rounds", "noise_multiplier")


def run(cfg: DictConfig) -> None:
    """Price and print."""
    show(_settings(cfg) if cfg.run is None else _ledger(cfg), str(cfg.format))


def _settings(cfg: DictConfig) -> dict[str, Any]:
    """The record of equal rounds."""
    return Population.of(cfg).price(
        users_per_round=whole(cfg, "users_per_round"),
        rounds=whole(cfg, "rounds"),
        noise_multiplier=number(cfg, "noise_multiplier"),
    )


def _ledger(cfg: DictConfig) -> dict[str, Any]:
    """The record of a run folder; what differs between its charges is null."""
    given = [key for key in _SETTINGS if cfg[key] is not None]
    if given:
        raise ValueError(f"run= prices what its ledger holds: leave out {', '.join(given)}")
    path = Path(cfg.run)
    ledger = Ledger.read(path / "ledger.jsonl" if path.is_dir() else path)
    if not ledger.entries:
        raise ValueError(f"the ledger of {cfg.run} is empty: no round has been charged")
    kinds = [_kind(to_plain(event)) for event, _ in ledger.events]
    same = {name: kinds[0][name] if len({kind[name] for kind in kinds}) == 1 else None for name in kinds[0]}
    populations = [kind["users"] for kind in kinds if kind["users"] is not None]
    delta = _delta(cfg, path, max(populations, default=None))
    settings = {**same, "users_per_client": None, "rounds": ledger.entries}
    return record(ledger.events, delta, settings, unit=_unit(path))


def _unit(path: Path) -> str:
    """What the run's report calls a user: "example" where every image was one; "user" before there is a report."""
    report = path / "report.json"
    if not report.is_file():
        return "user"
    try:
        return str(json.loads(report.read_text(encoding="utf-8"))["privacy"]["unit"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{report} is damaged: price the ledger alone, run={path}/ledger.jsonl") from None


def _kind(plain: dict[str, Any]) -> dict[str, Any]:
    """What one charge says of its round; None where it says nothing."""
    ratio = plain.get("release", {}).get("noise_over_sensitivity")
    return {
        "sampling": {"without-replacement": SAMPLINGS["fixed"], "poisson": SAMPLINGS["poisson"]}.get(plain["kind"]),
        "users": plain.get("users"),
        "users_per_round": plain.get("sampled"),
        "sampling_rate": plain.get("sampling_rate"),
        "noise_multiplier": None if ratio is None else noise_multiplier_of(ratio),
    }


def _delta(cfg: DictConfig, path: Path, users: int | None) -> float:
    """delta=, or that of the run's config, or users^-1.1."""
    config = path / "config.yaml"
    stored = OmegaConf.select(OmegaConf.load(config), "delta") if config.is_file() else None
    if cfg.delta is None and stored is None and users is None:
        raise ValueError(f"the ledger of {cfg.run} does not say how many users there are: set delta=")
    if cfg.delta is not None:
        delta = number(cfg, "delta")
    else:
        delta = float(stored) if stored is not None else default_delta(users or 2)
    if users is not None:
        check_small(delta, users, allowed=bool(cfg.allow_large_delta))
    return delta
