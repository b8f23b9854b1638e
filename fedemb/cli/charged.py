"""What `fedemb account` is about: equal rounds by settings, or the charges of a ledger with the words of its run."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fedemb.cli.pricing import IN_TURN, SAMPLINGS, Population, check_small, number, whole
from fedemb.privacy.accounting import default_delta
from fedemb.privacy.events import noise_multiplier_of, to_plain
from fedemb.privacy.ledger import RELATION, Ledger, charges
from fedemb.privacy.mechanism import Event

_SAME = 0.01  # relative; noise on a grid of integers differs a little from what was asked for
_SAMPLING_OF = {
    "without-replacement": SAMPLINGS["fixed"],
    "poisson": SAMPLINGS["poisson"],
    "in-turn": IN_TURN,
}
_SETTINGS = ("users", "users_per_round", "rounds", "noise_multiplier")


@dataclass(frozen=True, kw_only=True)
class Charged:
    """Rounds in the order in which they are charged.

    sequence: events with counts, the next after the one before. settings: what all have in common; None where they
        differ. delta_given: was delta set, or is it users^-1.1?
    unit, user: what the rounds drew, and what that is in words, if that is known.
    mode: "simulate", "release", or None where nothing says so. finished: has the run a report?
    source: where all this comes from.
    """

    sequence: Sequence[tuple[Event, int]]
    settings: dict[str, Any]
    delta: float
    delta_given: bool
    unit: str
    user: str | None
    mode: str | None
    finished: bool
    source: str

    @property
    def events(self) -> list[tuple[Event, int]]:
        """Distinct events with their counts."""
        counts: dict[str, int] = {}
        known: dict[str, Event] = {}
        for event, count in self.sequence:
            key = json.dumps(to_plain(event), sort_keys=True)
            known.setdefault(key, event)
            counts[key] = counts.get(key, 0) + count
        return [(known[key], count) for key, count in counts.items()]

    @property
    def rounds(self) -> int:
        """How many charges."""
        return sum(count for _, count in self.sequence)

    def first(self, rounds: int) -> Charged:
        """The same after so many charges."""
        kept: list[tuple[Event, int]] = []
        for event, count in self.sequence:
            kept.append((event, min(count, rounds)))
            rounds -= kept[-1][1]
            if rounds == 0:
                break
        return Charged(**{**vars(self), "sequence": kept})


def charged(cfg: DictConfig) -> Charged:
    """From the settings, or from the ledger that run= names."""
    if cfg.relation != RELATION:
        raise ValueError(
            f"relation must be {RELATION}, got relation={cfg.relation}: no other has a certified price here; "
            "'fedemb account compare' shows what others print"
        )
    return _from_settings(cfg) if cfg.run is None else _from_ledger(cfg)


def _from_settings(cfg: DictConfig) -> Charged:
    population = Population.of(cfg)
    users_per_round, rounds = whole(cfg, "users_per_round"), whole(cfg, "rounds")
    noise_multiplier = number(cfg, "noise_multiplier")
    event = population.event(users_per_round, noise_multiplier)
    return Charged(
        sequence=[(event, rounds)],
        settings=population.settings(users_per_round=users_per_round, rounds=rounds, noise_multiplier=noise_multiplier),
        delta=population.delta,
        delta_given=cfg.delta is not None,
        unit="user",
        user=None,
        mode=None,
        finished=False,
        source="settings",
    )


def _from_ledger(cfg: DictConfig) -> Charged:
    """A run folder, or a ledger alone."""
    given = [key for key in _SETTINGS if cfg[key] is not None]
    if given:
        raise ValueError(f"run= prices what its ledger holds: leave out {', '.join(given)}")
    folder = Path(str(cfg.run))
    path = folder / "ledger.jsonl" if folder.is_dir() else folder
    ledger = Ledger.read(path)
    if ledger.incomplete:
        print(
            f"fedemb: the last line of {path} is cut off: it paid for no round and is left out; {ledger.entries} "
            "charges before it are complete",
            file=sys.stderr,
        )
    if not ledger.entries:
        raise ValueError(f"the ledger of {cfg.run} is empty: no round has been charged")
    kinds = {key: _kind(json.loads(key)) for key in ledger.counts}
    same = {name: _common([kind[name] for kind in kinds.values()]) for name in next(iter(kinds.values()))}
    populations = [kind["users"] for kind in kinds.values() if kind["users"] is not None]
    report, config = _report(folder), _config(folder)
    if not populations and isinstance(report.get("users"), int):  # not all charges hold N
        same["users"] = report["users"]
        populations = [report["users"]]
    told = {**{key: config.get(key) for key in ("users_per_round", "noise_multiplier")}, **report}
    _refuse_another_run(folder, kinds.values(), ledger.entries, told)
    delta, delta_given = _delta(cfg, config, max(populations, default=None))
    return Charged(
        sequence=_runs(charges(path)),
        settings={**same, "users_per_client": None, "rounds": ledger.entries},
        delta=delta,
        delta_given=delta_given,
        unit=str(report.get("unit", "user")),
        user=report.get("user"),
        mode=config.get("mode"),
        finished=bool(report),
        source=str(path),
    )


def _runs(events: Sequence[Event]) -> list[tuple[Event, int]]:
    """Neighbours that are equal, with counts."""
    runs: list[tuple[Event, int]] = []
    for event in events:
        if runs and runs[-1][0] is event:
            runs[-1] = event, runs[-1][1] + 1
        else:
            runs.append((event, 1))
    return runs


def _kind(plain: dict[str, Any]) -> dict[str, Any]:
    """What one charge says of its round; None where it says nothing."""
    ids = plain.get("ids", 1)
    plain = plain["event"] if plain["kind"] == "person" else plain
    release = plain
    while "release" in release:
        release = release["release"]
    ratio = release.get("noise_over_sensitivity")
    return {
        "sampling": _SAMPLING_OF.get(plain["kind"]),
        "users": plain.get("users"),
        "users_per_round": plain.get("sampled"),
        "sampling_rate": plain.get("sampling_rate"),
        "noise_multiplier": None if ratio is None else noise_multiplier_of(ratio),
        "ids_per_user": ids,
    }


def _common(values: Sequence[Any]) -> Any:
    """The value of all, or None."""
    return values[0] if len(set(values)) == 1 else None


def _report(folder: Path) -> dict[str, Any]:
    """What report.json says of privacy; nothing before there is one."""
    path = folder / "report.json"
    if not path.is_file():
        return {}
    try:
        privacy = dict(json.loads(path.read_text(encoding="utf-8"))["privacy"])
        privacy["unit"] = str(privacy["unit"])
    except (ValueError, KeyError, TypeError):
        raise ValueError(f"{path} is damaged: price the ledger alone, run={folder}/ledger.jsonl") from None
    if privacy.get("relation", RELATION) != RELATION:
        raise ValueError(f"{path} is about {privacy['relation']}; fedemb prices {RELATION} only")
    return privacy


def _config(folder: Path) -> dict[str, Any]:
    """config.yaml of a run folder; nothing where there is none."""
    path = folder / "config.yaml"
    if not path.is_file():
        return {}
    stored = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    if not isinstance(stored, dict):
        raise ValueError(f"{path} is damaged: not a mapping; price the ledger alone, run={folder}/ledger.jsonl")
    return {str(key): value for key, value in stored.items()}


def _refuse_another_run(folder: Path, kinds: Any, entries: int, told: dict[str, Any]) -> None:
    """Raise ValueError if no charge has a setting that the run folder's report or configuration names."""
    for name in ("users", "users_per_round", "noise_multiplier"):
        expected, found = told.get(name), {kind[name] for kind in kinds if kind[name] is not None}
        if not isinstance(expected, int | float) or not found:
            continue
        if not any(abs(value - expected) <= _SAME * abs(expected) for value in found):
            shown = ", ".join(f"{value:g}" for value in sorted(found)[:3])
            raise _another_run(folder, f"it charges rounds with {name}={shown}, the run has {name}={expected:g}")
    least = told.get("rounds_charged") or told.get("rounds")
    if "epsilon" in told and isinstance(least, int) and entries < least:
        raise _another_run(folder, f"it holds {entries} charges, the run reports {least} rounds")


def _another_run(folder: Path, what: str) -> ValueError:
    return ValueError(
        f"{folder}/ledger.jsonl is the ledger of another run: {what}; to price it alone, run={folder}/ledger.jsonl"
    )


def _delta(cfg: DictConfig, config: dict[str, Any], users: int | None) -> tuple[float, bool]:
    """(delta=, or that of the run's config, or users^-1.1; whether it was set)."""
    stored = config.get("delta")
    if cfg.delta is None and stored is None and users is None:
        raise ValueError(f"the ledger of {cfg.run} does not say how many users there are: set delta=")
    if cfg.delta is not None:
        delta = number(cfg, "delta")
    else:
        delta = float(stored) if stored is not None else default_delta(users or 2)
    if users is not None:
        check_small(delta, users, allowed=bool(cfg.allow_large_delta))
    return delta, cfg.delta is not None or stored is not None
