"""fedemb account compare: the same rounds by other accountants, and which of their numbers hold."""

from __future__ import annotations

import math
from dataclasses import asdict

from omegaconf import DictConfig
from rich.text import Text

from fedemb.cli.charged import Charged
from fedemb.cli.output import aligned, console, show
from fedemb.privacy.accounting import epsilon
from fedemb.privacy.comparison import LOWER, Price, Settings, compare, settings_of
from fedemb.report.numbers import DASH, small

_STYLES = {"valid": "bold green", "valid but loose": "green", "invalid": "red", "lower bound": "cyan"}


def run(cfg: DictConfig, what: Charged) -> None:
    """Print every accountant's number with its status."""
    hidden = math.isfinite(epsilon(what.events, what.delta))
    prices = compare(_schedule(what), what.delta) if hidden else []
    terms = {"unit": what.unit, "user": what.user, "relation": "substitute-one", "delta": what.delta}
    answer = {**terms, **what.settings, "prices": [asdict(price) for price in prices]}

    def table() -> None:
        out = console()
        if not hidden:
            out.print("ε = ∞ by every accountant: a round without noise hides nobody")
            return
        sampling = what.settings["sampling"]
        out.print(f"ε at δ = {small(what.delta)}, substitute-one, {what.rounds:,} rounds of {sampling}")
        for price in prices:
            line = (f"{price.name:<40}{_shown(price):>8}  ", (price.status, _STYLES[price.status]), f": {price.reason}")
            out.print(Text.assemble(*line))
        out.print("z: noise std on the sum / clip norm C. Only fedemb's own lines are its claims.")

    show(cfg, answer, table)


def _shown(price: Price) -> str:
    """Bounds are rounded outwards."""
    if price.epsilon is None:
        return DASH
    return aligned(price.epsilon, math.floor if price.status == LOWER else math.ceil)


def _schedule(what: Charged) -> list[Settings]:
    """The rounds as settings that every accountant understands."""
    users = what.settings["users"]
    found = [settings_of(event, count, users) for event, count in what.events]
    known = [settings for settings in found if settings is not None]
    if len(known) < len(found):
        raise ValueError(
            "compare knows rounds of Gaussian noise, all of one sampling, Poisson ones of a known number of users: "
            "there are others here; take action=price"
        )
    return known
