"""fedemb account compare: the same rounds by other accountants, and which of their numbers hold."""

from __future__ import annotations

import math
from dataclasses import asdict

from omegaconf import DictConfig
from rich.table import Table

from fedemb.cli.charged import Charged
from fedemb.cli.output import console, show
from fedemb.privacy.comparison import LOWER, Price, Settings, compare, settings_of
from fedemb.report.numbers import DASH, lower, small, upper

_STYLES = {"valid": "bold green", "valid but loose": "green", "invalid": "red", "lower bound": "cyan"}


def run(cfg: DictConfig, what: Charged) -> None:
    """Print every accountant's number with its status."""
    prices = compare(_schedule(what), what.delta)
    terms = {"unit": what.unit, "user": what.user, "relation": "substitute-one", "delta": what.delta}
    answer = {**terms, **what.settings, "prices": [asdict(price) for price in prices]}

    def table() -> None:
        out = console()
        sampling = what.settings["sampling"]
        out.print(
            f"ε at δ = {small(what.delta)} for {what.rounds:,} rounds of {sampling}, substitute-one", markup=False
        )
        grid = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
        grid.add_column("accountant", no_wrap=True)
        grid.add_column("ε", justify="right", no_wrap=True)
        grid.add_column("for these rounds", no_wrap=True)
        grid.add_column("why")
        for price in prices:
            style = _STYLES[price.status]
            grid.add_row(price.name, _shown(price), f"[{style}]{price.status}[/]", price.reason)
        out.print(grid)
        out.print("z: noise std on the sum over the clip norm C. Only the first two lines are claims of fedemb.")

    show(cfg, answer, table)


def _shown(price: Price) -> str:
    if price.epsilon is None:
        return DASH
    if math.isinf(price.epsilon):
        return "∞"
    text = lower(price.epsilon, digits=4) if price.status == LOWER else upper(price.epsilon, digits=4)
    return text if math.isfinite(price.epsilon) else "∞"


def _schedule(what: Charged) -> list[Settings]:
    """The rounds as settings that every accountant understands."""
    users = what.settings["users"]
    found = [settings_of(event, count, users) for event, count in what.events]
    known = [settings for settings in found if settings is not None]
    if len(known) < len(found):
        raise ValueError(
            "compare knows rounds with Gaussian noise of fixed size, or of Poisson sampling with users= known: "
            "these hold others, or have no noise (ε = ∞); take action=price"
        )
    return known
