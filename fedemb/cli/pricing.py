"""What `account` and `calibrate` share: reading settings, pricing them, printing the answer."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from fedemb.privacy.accounting import ACCOUNTANT, default_delta, spend
from fedemb.privacy.crosscheck import pld_epsilon, rdp_epsilon
from fedemb.privacy.events import fixed_size_round, poisson_round
from fedemb.privacy.mechanism import Event
from fedemb.report.numbers import lower, small, upper
from fedemb.report.record import finite

PRICING = str(files("fedemb.conf") / "pricing")
"""Their own folder of configuration: in the main one, `users` is a group and cannot be a number."""

SAMPLINGS = {"fixed": "fixed-size sampling without replacement", "poisson": "Poisson sampling of single users"}
_HIDDEN = ("epsilon", "epsilon_attack", "delta", "unit", "relation", "accountant", "claim")


@dataclass(frozen=True, kw_only=True)
class Population:
    """Who is sampled how, and the delta that goes with it."""

    users: int
    users_per_client: int
    sampling: str
    delta: float

    @classmethod
    def of(cls, cfg: DictConfig) -> Population:
        """From the keys users, users_per_client, sampling, delta and allow_large_delta."""
        users, users_per_client, sampling = whole(cfg, "users"), whole(cfg, "users_per_client"), str(cfg.sampling)
        if sampling not in SAMPLINGS:
            raise ValueError(f"sampling must be one of {', '.join(SAMPLINGS)}, got {sampling=}")
        if sampling == "poisson" and users_per_client > 1:
            raise ValueError("Poisson sampling holds one user in a client: set users_per_client=1 or sampling=fixed")
        delta = default_delta(users) if cfg.delta is None else number(cfg, "delta")
        check_small(delta, users, allowed=bool(cfg.allow_large_delta))
        return cls(users=users, users_per_client=users_per_client, sampling=sampling, delta=delta)

    def event(self, users_per_round: int, noise_multiplier: float) -> Event:
        """One round."""
        if users_per_round % self.users_per_client:
            raise ValueError(f"users_per_client={self.users_per_client} must divide users_per_round={users_per_round}")
        if users_per_round > self.users:
            raise ValueError(f"users_per_round must be at most users, got {users_per_round=} users={self.users}")
        if self.sampling == "poisson":
            return poisson_round(sampling_rate=users_per_round / self.users, noise_multiplier=noise_multiplier)
        return fixed_size_round(users=self.users, users_per_round=users_per_round, noise_multiplier=noise_multiplier)

    def price(self, *, users_per_round: int, rounds: int, noise_multiplier: float) -> dict[str, Any]:
        """The record of equal rounds."""
        event = self.event(users_per_round, noise_multiplier)
        settings = {
            "sampling": SAMPLINGS[self.sampling],
            "users": self.users,
            "users_per_round": users_per_round,
            "users_per_client": self.users_per_client,
            "rounds": rounds,
            "noise_multiplier": noise_multiplier,
        }
        return record([(event, rounds)], self.delta, settings)


def record(
    events: Sequence[tuple[Event, int]], delta: float, settings: dict[str, Any], *, unit: str = "user"
) -> dict[str, Any]:
    """The answer in the words of report.json. unit: what the rounds drew, "user" or "example"."""
    spent = spend(events, delta)
    pair = f"(ε = {upper(spent.epsilon, digits=4)}, δ = {small(delta)})"
    secret = f"{pair}-DP for every {unit}, if the cohorts and the noise stay secret"
    claim = "no privacy guarantee: epsilon is infinite" if math.isinf(spent.epsilon) else secret
    price = {"epsilon": spent.epsilon, "epsilon_attack": spent.epsilon_attack, "delta": delta}
    terms = {"unit": unit, "relation": "substitute-one", "accountant": ACCOUNTANT, "claim": claim}
    return {**price, **settings, **terms, "cross_check": _cross_check(events, delta)}


def show(answer: dict[str, Any], form: str) -> None:
    """Print as `table` or `json`."""
    printers = {"table": _print_table, "json": _print_json}
    if form not in printers:
        raise ValueError(f"format must be one of {', '.join(printers)}, got format={form}")
    printers[form](answer)


def whole(cfg: DictConfig, key: str) -> int:
    """A required whole number of at least 1; 1e6 is one too."""
    value = number(cfg, key)
    if not (value.is_integer() and value >= 1):
        raise ValueError(f"{key} must be a whole number of at least 1, got {key}={cfg[key]}")
    return int(value)


def number(cfg: DictConfig, key: str) -> float:
    """A required finite number of at least 0."""
    value = cfg[key]
    if value is None:
        raise ValueError(f"{key} is missing: set {key}=… on the command line")
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{key} must be a finite number, 0 or above, got {key}={value}")
    return float(value)


def check_small(delta: float, users: int, *, allowed: bool) -> None:
    """Refuse delta >= 1 / users: such a guarantee allows publishing a random user outright."""
    if delta >= 1 / users and not allowed:
        raise ValueError(f"delta={delta:g} is not below 1/users={1 / users:g}: lower it, or set allow_large_delta=true")


def _cross_check(events: Sequence[tuple[Event, int]], delta: float) -> dict[str, Any]:
    """The first of dp-accounting's accountants that knows these rounds under substitute-one."""
    for name, accountant in (("RDP", rdp_epsilon), ("PLD", pld_epsilon)):
        try:
            return {"accountant": f"dp-accounting {name}", "epsilon": accountant(events, delta)}
        except ValueError:
            continue
    return {"accountant": None, "epsilon": None}


def _print_json(answer: dict[str, Any]) -> None:
    print(json.dumps(finite(answer), indent=2, allow_nan=False, ensure_ascii=False))


def _print_table(answer: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if "solved" in answer:
        console.print(f"{answer['solved']} = {answer['value']:.6g}", style="bold")
    interval = f"[{lower(answer['epsilon_attack'], digits=4)}, {upper(answer['epsilon'], digits=4)}]"
    sampling = answer["sampling"] or "rounds of several kinds"
    protected = f"substitute-one, {answer['unit']}-level"
    terms = f"δ = {answer['delta']:.3g}, {protected}, {sampling}; assumes secret cohorts and noise"
    console.print(f"ε ∈ {interval} at {terms}", markup=False)
    table = Table(show_header=False, box=None)
    for name, value in answer.items():
        if name not in (*_HIDDEN, "sampling", "solved", "value", "cross_check") and value is not None:
            table.add_row(name, f"{value:.6g}" if isinstance(value, float) else str(value))
    check = answer["cross_check"]
    if check["epsilon"] is not None:
        table.add_row("cross-check", f"ε ≤ {upper(check['epsilon'], digits=4)} by {check['accountant']}")
    console.print(table)
