"""What `account` and `calibrate` share: reading settings, pricing them, printing the answer."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from omegaconf import DictConfig
from rich.table import Table

from fedemb.cli.output import as_json, console, printer_of
from fedemb.privacy.accounting import ACCOUNTANT, default_delta, epsilon, spend
from fedemb.privacy.crosscheck import pld_epsilon, rdp_epsilon
from fedemb.privacy.events import fixed_size_round, poisson_round
from fedemb.privacy.mechanism import Event
from fedemb.privacy.tradeoff import PROBED_DELTAS, attacker_tpr, gaussian_fit
from fedemb.report.numbers import lower, small, upper

PRICING = str(files("fedemb.conf") / "pricing")
"""Their own folder of configuration: in the main one, `users` is a group and cannot be a number."""

SAMPLINGS = {"fixed": "fixed-size sampling without replacement", "poisson": "Poisson sampling of single users"}
FALSE_POSITIVE_RATES = (1e-3, 1e-2)
_FEW_SETTINGS = 8
IN_TURN = "all users in turn"
"""How rounds are sampled whose cohorts need not be secret; only a ledger can hold them."""
_HIDDEN = (
    *("epsilon", "epsilon_attack", "delta", "unit", "user", "relation", "accountant", "mode", "claim"),
    *("gaussian_dp_fit", "attacker_tpr", "cross_check"),
)


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
        settings = self.settings(users_per_round=users_per_round, rounds=rounds, noise_multiplier=noise_multiplier)
        return record([(event, rounds)], self.delta, settings)

    def settings(self, *, users_per_round: int, rounds: int, noise_multiplier: float) -> dict[str, Any]:
        """What the record of equal rounds says of them."""
        return {
            "sampling": SAMPLINGS[self.sampling],
            "users": self.users,
            "users_per_round": users_per_round,
            "users_per_client": self.users_per_client,
            "rounds": rounds,
            "noise_multiplier": noise_multiplier,
        }


def record(
    events: Sequence[tuple[Event, int]],
    delta: float,
    settings: dict[str, Any],
    *,
    unit: str = "user",
    user: str | None = None,
    mode: str | None = None,
) -> dict[str, Any]:
    """The answer in the words of report.json.

    unit: what the rounds drew, "user" or "example". user: completes "a user is …"; None where that is not known.
    mode: of the run, "simulate" or "release"; None where there is none.
    """
    spent = spend(events, delta)
    pair = f"(ε = {upper(spent.epsilon, digits=4)}, δ = {small(delta)})"
    who = "" if user is None else f"; a user is {user}"
    condition = assumption(settings["sampling"], mode)
    secret = f"{pair}-DP for every {unit}; {condition}{who}"
    claim = "no privacy guarantee: epsilon is infinite" if math.isinf(spent.epsilon) else secret
    price = {"epsilon": spent.epsilon, "epsilon_attack": spent.epsilon_attack, "delta": delta}
    terms = {
        "unit": unit,
        "user": user,
        "relation": "substitute-one",
        "accountant": ACCOUNTANT,
        "mode": mode,
        "claim": claim,
    }
    meaning = {
        "gaussian_dp_fit": gaussian_fit(spent.epsilon, delta),
        "attacker_tpr": _attacker_tpr(events, (spent.epsilon, delta)),
    }
    return {**price, **settings, **terms, **meaning, "cross_check": _cross_check(events, delta)}


def assumption(sampling: str | None, mode: str | None) -> str:
    """What must stay secret, and that in a simulation it did not."""
    secret = "secret noise" if sampling == IN_TURN else "secret cohorts and noise"
    seeded = "; this run is a simulation, whose seed would have to be secret" if mode == "simulate" else ""
    return f"assumes {secret}{seeded}"


def show(answer: dict[str, Any], form: str) -> None:
    """Print as `table` or `json`."""
    printer_of(form, table=_print_table, json=_print_json)(answer)


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


def _attacker_tpr(events: Sequence[tuple[Event, int]], pair: tuple[float, float]) -> dict[str, float]:
    """False positive rate -> upper bound on an attacker's true positive rate, by certified pairs."""
    probes = PROBED_DELTAS if len(events) <= _FEW_SETTINGS else PROBED_DELTAS[4::4]
    pairs = [pair, *((epsilon(events, probe), probe) for probe in probes)]
    return {f"{rate:g}": attacker_tpr(pairs, rate) for rate in FALSE_POSITIVE_RATES}


def _cross_check(events: Sequence[tuple[Event, int]], delta: float) -> dict[str, Any]:
    """The first of dp-accounting's accountants that knows these rounds under substitute-one.

    None for many different rounds, each of which takes it a fifth of a second.
    """
    if len(events) > _FEW_SETTINGS:
        return {"accountant": None, "epsilon": None}
    for name, accountant in (("RDP", rdp_epsilon), ("PLD", pld_epsilon)):
        try:
            return {"accountant": f"dp-accounting {name}", "epsilon": accountant(events, delta)}
        except ValueError:
            continue
    return {"accountant": None, "epsilon": None}


def _print_json(answer: dict[str, Any]) -> None:
    print(as_json(answer))


def _print_table(answer: dict[str, Any]) -> None:
    out = console()
    if "solved" in answer:
        out.print(f"{answer['solved']} = {answer['value']:.6g}", style="bold")
    out.print(headline(answer))
    table = Table(show_header=False, box=None)
    for name, value in answer.items():
        if name not in (*_HIDDEN, "sampling", "solved", "value") and value is not None:
            table.add_row(name, f"{value:,}" if isinstance(value, int) else f"{value:.6g}")
    for name, words in _meaning(answer):
        table.add_row(name, words)
    out.print(table)


def headline(answer: Mapping[str, Any]) -> str:
    """The interval with all that it depends on, in one line."""
    sampling = answer["sampling"] or "rounds of several kinds"
    protected = f"substitute-one, {answer['unit']}-level"
    if math.isinf(answer["epsilon"]):
        return f"ε = ∞: no privacy guarantee at any δ ({protected}, {sampling}): a round without noise hides nobody"
    interval = f"[{lower(answer['epsilon_attack'], digits=4)}, {upper(answer['epsilon'], digits=4)}]"
    who = "" if answer["user"] is None else f"; a user is {answer['user']}"
    return (
        f"ε ∈ {interval} at δ = {answer['delta']:.3g}, {protected}, {sampling}; "
        f"{assumption(answer['sampling'], answer['mode'])}{who}"
    )


def _meaning(answer: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Rows that say what a finite epsilon means."""
    if math.isinf(answer["epsilon"]):
        return
    bounds = [f"≤ {upper(bound, digits=3)} at FPR {rate}" for rate, bound in answer["attacker_tpr"].items()]
    yield "attacker's TPR", ", ".join(bounds)
    yield "Gaussian DP", f"µ = {upper(answer['gaussian_dp_fit'], digits=4)}: a fit at this δ, not a bound"
    check = answer["cross_check"]
    if check["epsilon"] is not None:
        yield "cross-check", f"ε ≤ {upper(check['epsilon'], digits=4)} by {check['accountant']}"
