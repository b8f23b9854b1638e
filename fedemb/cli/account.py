"""fedemb account [ACTION]: what rounds cost, from settings or from what a run's ledger has charged."""

from __future__ import annotations

from collections.abc import Callable

from omegaconf import DictConfig

from fedemb.cli import account_compare, account_curve, account_explain, account_rdp
from fedemb.cli.charged import Charged, charged
from fedemb.cli.pricing import PRICING, record, show

CONFIG_PATH = PRICING
CONFIG = "account"


def run(cfg: DictConfig) -> None:
    """Do what `cfg.action` asks."""
    actions: dict[str, Callable[[DictConfig, Charged], None]] = {
        "price": _price,
        "curve": account_curve.run,
        "compare": account_compare.run,
        "explain": account_explain.run,
        "rdp": account_rdp.run,
    }
    if cfg.action not in actions:
        raise ValueError(f"action must be one of {', '.join(actions)}, got action={cfg.action}")
    if cfg.out is not None and cfg.action not in ("curve", "rdp"):
        raise ValueError(f"out= is for the files of curve and rdp; {cfg.action} prints: leave it out")
    actions[cfg.action](cfg, charged(cfg))


def _price(cfg: DictConfig, what: Charged) -> None:
    """The interval and what it means."""
    show(
        record(what.events, what.delta, what.settings, unit=what.unit, user=what.user, mode=what.mode), str(cfg.format)
    )
