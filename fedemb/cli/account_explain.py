"""fedemb account explain: all that a report of the guarantee has to say, with this account's own numbers."""

from __future__ import annotations

import math
import textwrap
from typing import Any

from omegaconf import DictConfig

from fedemb.cli.charged import Charged
from fedemb.cli.output import console, show
from fedemb.cli.pricing import IN_TURN, SAMPLINGS
from fedemb.privacy.accounting import ACCOUNTANT, spend
from fedemb.report.numbers import lower, plain, small, upper

_WIDTH = 92


def run(cfg: DictConfig, what: Charged) -> None:
    """Print the list."""
    items = explanation(what)

    def table() -> None:
        out = console()
        margin = max(map(len, items)) + 2
        for topic, words in items.items():
            for i, line in enumerate(textwrap.wrap(words, _WIDTH)):
                out.print(f"{topic if i == 0 else '':<{margin}}{line}", markup=False)

    show(cfg, {"source": what.source, "delta": what.delta, **what.settings, "explanation": items}, table)


def explanation(what: Charged) -> dict[str, str]:
    """Topic -> statement, in the order in which a reviewer asks."""
    return {
        "guarantee": _guarantee(what),
        "unit of privacy": _unit(what),
        "relation": f"substitute-one: neighbouring data sets have equally many {what.unit}s and differ in one of them",
        "sensitivity": _sensitivity(what),
        "sampling": _sampling(what),
        "noise": _noise(what),
        "rounds": f"{what.rounds:,} charged, from {what.source}; one that crashed and was repeated counts twice",
        "must stay secret": _secret(what),
        "delta": _delta(what),
        "accountant": f"{ACCOUNTANT}; rounds may be chosen adaptively",
        "released": "every model after every round may be published: the guarantee is for all of them together",
        "not covered": (
            "the choice of hyper-parameters on the same users; metrics, which are exact functions of the test users' "
            "images; floating-point attacks on the noise; timing and other side channels; what is known about a user "
            "from other sources"
        ),
        "mode": _mode(what),
    }


def _guarantee(what: Charged) -> str:
    spent = spend(what.events, what.delta)
    if math.isinf(spent.epsilon):
        return "none: ε is infinite, as a round without noise publishes the sum of the updates"
    return (
        f"(ε = {upper(spent.epsilon, digits=4)}, δ = {small(what.delta)})-differential privacy for every {what.unit}; "
        f"an attack shows that no ε below {lower(spent.epsilon_attack, digits=4)} is true"
    )


def _unit(what: Charged) -> str:
    if what.user is not None:
        return f"{what.unit}; a user is {what.user}"
    return f"{what.unit}, all of its data; what a user is in the data is not known here: a run's report says it"


def _sensitivity(what: Charged) -> str:
    grouped = what.settings.get("users_per_client")
    ids = what.settings.get("ids_per_user") or 1
    if ids > 1:
        return (
            f"2jC with j = {ids}: one person can stand under {ids} user ids, and substituting that person swaps up to "
            f"{ids} updates, each clipped to l2 norm C, for any others"
        )
    joint = f", however many users it joins (here {grouped})" if grouped and grouped > 1 else ""
    return (
        "2C: every virtual client's update is clipped to l2 norm C; substituting a user swaps the update of the one "
        f"virtual client that the user is in for any other{joint}, which moves the sum by at most C + C"
    )


def _sampling(what: Charged) -> str:
    scheme, users, sampled = (what.settings.get(name) for name in ("sampling", "users", "users_per_round"))
    if scheme == SAMPLINGS["fixed"] and users and sampled:
        return (
            f"{scheme}: M = {sampled:,} of N = {users:,} users a round, q = M/N = {sampled / users:.4g}; users, not "
            "virtual clients, are what is counted"
        )
    if scheme == SAMPLINGS["poisson"]:
        rate = what.settings.get("sampling_rate") or (sampled / users if sampled and users else None)
        told = "q differs between rounds" if rate is None else f"each user takes part with chance q = {rate:.4g}"
        return f"{scheme}: {told}, one user a virtual client; the divisor is the expected number of users"
    if scheme == IN_TURN:
        return f"{scheme}: nobody takes part twice within the separation that the ledger states; no amplification"
    kinds = "settings differ between rounds" if scheme else "rounds of several kinds, or without sampling"
    return f"{scheme or 'as charged'}: {kinds}; each is priced as what it is"


def _noise(what: Charged) -> str:
    z = what.settings.get("noise_multiplier")
    if z is None:
        return "Gaussian, with a noise multiplier that differs between rounds or that the ledger states otherwise"
    ids = what.settings.get("ids_per_user") or 1
    over = "2C that is s = z/2" if ids == 1 else f"{2 * ids}C that is s = z/{2 * ids}"
    return (
        f"Gaussian, std z C on the sum, noise multiplier z = {plain(z)}; over the sensitivity {over} = "
        f"{plain(z / 2 / ids)}"
    )


def _secret(what: Charged) -> str:
    if what.settings.get("sampling") == IN_TURN:
        return "the noise: its seed may not become known, now or later; who is in which round may be known"
    return "who is in which round, and the noise: neither a seed nor a cohort may become known, now or later"


def _delta(what: Charged) -> str:
    users = what.settings.get("users")
    chosen = "as set" if what.delta_given else "by default N^-1.1"
    bound = f", below 1/N = {1 / users:.2g}" if users and what.delta < 1 / users else ""
    warning = (
        f", NOT below 1/N = {1 / users:.2g}: publishing a random user would meet it" if users and not bound else ""
    )
    return f"{small(what.delta)}, {chosen}{bound}{warning}: the chance that ε does not hold"


def _mode(what: Charged) -> str:
    modes: dict[Any, str] = {
        "simulate": "simulation: the run is seeded, so the guarantee would hold if the seed were secret",
        "release": "release: randomness from the operating system; no seed, cohort or diagnostics were written",
    }
    if what.mode == "release" and not what.finished:
        return (
            "release, not finished: randomness from the operating system; do not publish the run folder yet, as "
            "checkpoints of correlated noise hold noise that later rounds take back"
        )
    return modes.get(what.mode, "a calculation: no run is known to have kept to it")
