"""Several run folders: which there are, what they were set to, and which differ in nothing but the seed."""

from __future__ import annotations

import glob
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import zip_longest
from pathlib import Path
from typing import Any

import yaml

from fedemb.report.summary import EMA, RunSummary, read_run

_CONFIG, _REPORT = "config.yaml", "report.json"
_WHERE = ("run", "resume", "name", "method", "seed")
"""Keys that say where a run lies and what it is called, or are its seed."""
_HOW = ("device", "executor", "prefetch", "evaluate_every", "checkpoint_every", "evaluation", "hydra")
"""Groups that say how it was computed and measured: they change no result beyond rounding."""
_Loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


@dataclass(frozen=True, kw_only=True)
class Run:
    """A finished run. settings: config.yaml, dotted key -> value, without where the run lies and its seed."""

    path: Path
    summary: RunSummary
    settings: Mapping[str, Any]

    @property
    def method(self) -> str:
        """What the run calls its method; runs of one method are one line."""
        return str(self.summary.report.get("method") or self.summary.name)

    @property
    def unit(self) -> str:
        """The unit of privacy."""
        return str(self.summary.section("privacy").get("unit") or "user")

    @property
    def data(self) -> str:
        """The data set's name."""
        return str(self.summary.section("data").get("name") or "")

    @property
    def seed(self) -> int | None:
        """None for a release, which keeps none."""
        seed = self.summary.report.get("seed")
        return None if seed is None else int(seed)

    @property
    def simulated(self) -> bool:
        """May exact values of its training data be shown?"""
        return self.summary.report.get("mode") == "simulate"

    @property
    def epsilon(self) -> float:
        """Certified; infinite without a guarantee."""
        epsilon = self.summary.section("privacy").get("epsilon")
        return math.inf if epsilon is None else float(epsilon)

    @property
    def command(self) -> str:
        """What trains the same run again, into a folder of its own; "" where the run does not say."""
        said = str(self.summary.report.get("command") or "")
        return " ".join(word for word in _words(said) if not re.match(r"['\"]?(run|resume)=", word))

    def metric(self, name: str) -> float | None:
        """As the summary has it."""
        return self.summary.metric(name)

    def curve(self, name: str) -> list[tuple[float, float]]:
        """(round, value), of the same model."""
        return self.summary.curve(EMA + name) or self.summary.curve(name)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Runs that differ in nothing but the seed. label: what tells it from other settings of its method."""

    runs: tuple[Run, ...]
    label: str

    @property
    def first(self) -> Run:
        """Any of them: all have the same settings."""
        return self.runs[0]

    @property
    def epsilon(self) -> float:
        """The largest of the runs', which holds for each."""
        return max(run.epsilon for run in self.runs)


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """Everything that a page compares. page: all runs, where these are some.

    unfinished: folders without a report. damaged: what is wrong with each run that cannot be read.
    """

    runs: tuple[Run, ...]
    unfinished: tuple[Path, ...] = ()
    damaged: tuple[str, ...] = ()
    page: tuple[Run, ...] = ()

    @cached_property
    def methods(self) -> dict[str, list[Setting]]:
        """Method -> its settings, by epsilon; the name says the unit of privacy and the data set where they differ."""
        units, found = {run.unit for run in self.runs}, dict[str, list[Run]]()
        for run in self.runs:
            unit = f" ({run.unit}-level)" if len(units) > 1 else ""
            data = f", {run.data}" if len(self.data) > 1 else ""
            found.setdefault(f"{run.method}{unit}{data}", []).append(run)
        return {name: _settings(runs) for name, runs in found.items()}

    @cached_property
    def metrics(self) -> list[str]:
        """Every metric that some run has, in order of appearance."""
        return list(dict.fromkeys(name for run in self.runs for name in run.summary.metric_names()))

    @cached_property
    def data(self) -> list[str]:
        """Every data set, in order of appearance."""
        return list(dict.fromkeys(run.data for run in self.runs))

    def on(self, data: str) -> Sweep:
        """The runs on one data set."""
        return Sweep(runs=tuple(run for run in self.runs if run.data == data), page=self.page or self.runs)

    def place(self, run: Run) -> int:
        """Of a run's method among those of the page: it looks the same on every data set."""
        methods = dict.fromkeys((other.method, other.unit) for other in self.page or self.runs)
        return list(methods).index((run.method, run.unit))

    def best(self, metric: str) -> dict[str, Run]:
        """Method -> its run with the highest value, among those with a guarantee if there are any."""
        chosen = {}
        for name, settings in self.methods.items():
            measured = [run for setting in settings for run in setting.runs if run.metric(metric) is not None]
            private = [run for run in measured if math.isfinite(run.epsilon)]
            if measured:
                chosen[name] = max(private or measured, key=lambda run: run.metric(metric) or 0.0)
        return chosen

    def leading(self, metric: str, most: int) -> dict[str, Run]:
        """Of `best` at most so many, in turn from each data set: those with the highest values."""
        found = sorted(self.best(metric).items(), key=lambda pair: -(pair[1].metric(metric) or 0.0))
        own = [[pair for pair in found if pair[1].data == data] for data in self.data]
        turns = [pair for turn in zip_longest(*own) for pair in turn if pair is not None]
        return dict(turns[:most])


def read_sweep(places: Sequence[str]) -> Sweep:
    """The runs at these places, in natural order.

    places: run folders, folders with runs anywhere below them, or glob patterns of either.
    Raises: ValueError in one line where a place has no finished run, or none that can be understood.
    """
    folders = {folder.resolve(): folder for place in places for folder in _folders(place)}
    ordered = sorted(folders.values(), key=_natural)
    finished = [folder for folder in ordered if (folder / _REPORT).is_file()]
    if not finished:
        raise ValueError(
            f"no finished run at {', '.join(places)}: {len(ordered)} unfinished there; name run folders that have a "
            "report.json, a folder that holds such, or a pattern"
        )
    unfinished = tuple(folder for folder in ordered if folder not in finished)
    runs, damaged = list[Run](), list[str]()
    for folder in finished:
        try:
            runs.append(_read(folder))
        except ValueError as error:
            damaged.append(str(error))
    if not runs:
        more = f" (and {len(damaged) - 1} more are damaged)" if len(damaged) > 1 else ""
        raise ValueError(f"{damaged[0]}{more}; put back the file from a copy, or train the run again")
    return Sweep(runs=tuple(runs), unfinished=unfinished, damaged=tuple(damaged))


def differing(runs: Iterable[Run]) -> list[str]:
    """Keys of the settings whose values differ between runs, in the order of the configuration.

    Of keys that have the same value in every run, such as one that follows another, the first.
    """
    found = list(runs)
    columns = dict[tuple[str, ...], str]()
    for key in dict.fromkeys(key for run in found for key in run.settings):
        columns.setdefault(tuple(shown(run.settings.get(key)) for run in found), key)
    return [key for values, key in columns.items() if len(set(values)) > 1]


def is_result(key: str) -> bool:
    """Can this setting change what a run results in?"""
    return key.split(".")[0] not in _HOW


def _folders(place: str) -> list[Path]:
    """The run folders at a place."""
    named = Path(place).expanduser()
    found = [named] if named.exists() else [Path(name) for name in sorted(glob.glob(str(named), recursive=True))]
    if not found:
        raise ValueError(f"there is nothing at {place}: name a run folder, a folder that holds runs, or a pattern")
    return [run for path in found if path.is_dir() for run in _below(path)]


def _below(path: Path) -> list[Path]:
    """The folder itself if it is a run, or else the runs below it."""
    if (path / _REPORT).is_file() or (path / _CONFIG).is_file():
        return [path]
    return [run for child in sorted(path.iterdir()) if child.is_dir() and child.name[0] != "." for run in _below(child)]


def _natural(path: Path) -> list[tuple[int, str]]:
    """So that 10 comes after 9."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", str(path))]


def _read(path: Path) -> Run:
    summary = read_run(path)
    try:
        config = yaml.load(summary.config, Loader=_Loader) or {}
    except yaml.YAMLError as error:
        raise ValueError(f"{path / _CONFIG} is damaged: {' '.join(str(error).split())}") from error
    if not isinstance(config, dict):
        raise ValueError(f"{path / _CONFIG} is damaged: not a mapping")
    flat = dict(_flat(config, ""))
    kept = {key: _followed(value, flat) for key, value in flat.items() if key not in _WHERE}
    return Run(path=path, summary=summary, settings=kept)


def _followed(value: Any, flat: Mapping[str, Any]) -> Any:
    """What "${other.key}" stands for; anything else as it is."""
    named = re.fullmatch(r"\$\{([\w.]+)\}", value) if isinstance(value, str) else None
    return flat.get(named[1], value) if named else value


def _flat(value: Mapping[Any, Any], prefix: str) -> Iterable[tuple[str, Any]]:
    """(dotted key, scalar or list) of a nested mapping."""
    for key, item in value.items():
        if isinstance(item, dict) and item:
            yield from _flat(item, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", item


def _settings(runs: Sequence[Run]) -> list[Setting]:
    """Runs of one method, those of the same settings together."""
    groups: dict[str, list[Run]] = {}
    for run in runs:
        results = {key: value for key, value in run.settings.items() if is_result(key)}
        groups.setdefault(json.dumps([run.data, results], sort_keys=True, default=str), []).append(run)
    firsts = [group[0] for group in groups.values()]
    keys = [key for key in differing(firsts) if is_result(key) and not key.endswith("_convert_")]
    settings = [Setting(runs=tuple(group), label=_label(group[0], keys)) for group in groups.values()]
    return sorted(settings, key=lambda setting: setting.epsilon)


_SHORT = {"noise_multiplier": "z", "clip_norm": "C", "rounds": "T", "users_per_round": "M", "users_per_client": "k"}


def _label(run: Run, keys: Sequence[str]) -> str:
    """ "z = 0.1, T = 200": the first few settings that tell it from others."""
    told = [f"{_SHORT.get(key, key.split('.')[-1])} = {shown(run.settings.get(key))}" for key in keys[:3]]
    return ", ".join(told) + ("…" if len(keys) > 3 else "")


def shown(value: Any) -> str:
    """A setting in a word: of an importable name its last part."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value.rsplit(".", 1)[-1] if re.fullmatch(r"\w+(\.\w+)+", value) else value
    return f"{value:g}" if isinstance(value, float) else str(value)


def _words(said: str) -> list[str]:
    """The words of a command, each as it was quoted."""
    return re.findall(r"(?:[^\s'\"]|'[^']*'|\"[^\"]*\")+", said)
