"""What the suites share whose ways do the same rounds in turn."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from omegaconf import DictConfig, ListConfig
from rich.console import Console
from rich.progress import track

from fedemb.bench.interleave import WARM_UP, Way, measure
from fedemb.bench.summary import rows
from fedemb.bench.ways import FOREIGN, PLAIN, Maker
from fedemb.bench.workloads import WORKLOADS
from fedemb.cli.build import device_of
from fedemb.cli.output import console, numbers_table
from fedemb.cli.pricing import number, whole
from fedemb.core import check
from fedemb.report.bars import Bar, Panel, bar_figure

_STYLES = {**dict.fromkeys(PLAIN, "rest"), **dict.fromkeys(FOREIGN, "second")}


def chosen(cfg: DictConfig, key: str, known: Iterable[str]) -> list[str]:
    """The names that a key lists, or all that are known."""
    if cfg[key] is None:
        return list(known)
    names = list(cfg[key]) if isinstance(cfg[key], ListConfig) else [cfg[key]]
    if not names or len(set(names)) < len(names) or not set(names) <= set(known):
        raise ValueError(f"{key} must list some of {', '.join(known)}, each once, got {key}={cfg[key]}")
    return names


def turns(cfg: DictConfig, words: str) -> Iterable[int]:
    """The rounds with those to warm up; a bar on stderr shows how far they are."""
    rounds = range(whole(cfg, "rounds") + WARM_UP)
    return track(rounds, description=words, console=Console(stderr=True), transient=True)


def threads(settings: Mapping[str, Any]) -> str:
    """How many, in words, and on which device if that is not the CPU."""
    words = "1 thread" if settings["threads"] == 1 else f"{settings['threads']} threads"
    return words if settings["device"] == "cpu" else f"device={settings['device']}, {words}"


def compare(cfg: DictConfig, workloads: Sequence[str], makers: Sequence[Maker]) -> dict[str, Any]:
    """All ways on all workloads, as JSON values."""
    count, seconds = whole(cfg, "threads"), number(cfg, "timeout_seconds")
    check.positive("timeout_seconds", seconds)
    device = str(device_of(cfg.device))
    models = [_model(cfg, name, [make(name, count, device) for make in makers], seconds) for name in workloads]
    return {"models": models, "complete": all(way["failure"] is None for model in models for way in model["ways"])}


def _model(cfg: DictConfig, name: str, ways: Sequence[Way], seconds: float) -> dict[str, Any]:
    workload = WORKLOADS[name]
    served = measure(ways, turns(cfg, name), seconds)
    return {
        "model": name,
        "parameters": workload.parameters,
        "workload": workload.settings(),
        "ways": rows(ways, served, workload.clients),
    }


def table(answer: Mapping[str, Any]) -> None:
    """A table a model, and a line for each way that broke off."""
    out = console()
    for model in answer["models"]:
        out.print(_heading(model, answer["settings"]))
        shown = numbers_table(["way", "updates/s", "times", "per CPU second", "times", "MB"])
        shown.columns[0].justify = "left"
        for way in model["ways"]:
            shown.add_row(*_cells(way))
        out.print(shown)
        for way in model["ways"]:
            if way["failure"] is not None:
                out.print(f"{way['label']}: {way['failure']}")
        out.print()


def figure(answer: Mapping[str, Any], title: str) -> str:
    """A panel a model: client updates a second."""
    settings, machine = answer["settings"], answer["machine"]
    return bar_figure(
        title=title,
        legend=[
            f"Client updates per second, and how many times that of the {answer['models'][0]['ways'][0]['label']}",
            f"Medians of {settings['rounds']} rounds in turn, {threads(settings)} a process, "
            f"{machine['cores']} cores, {machine['cpu']}",
        ],
        panels=[
            Panel(
                title=f"{model['model']}: {model['parameters']:,} parameters",
                bars=[_bar(way) for way in model["ways"]],
            )
            for model in answer["models"]
        ],
    )


def _heading(model: Mapping[str, Any], settings: Mapping[str, Any]) -> str:
    return (
        f"{model['model']}: {model['parameters']:,} parameters, {settings['rounds']} rounds of "
        f"{model['workload']['clients']} clients, {threads(settings)} a process; "
        f"times as fast as {model['ways'][0]['label']}"
    )


def _cells(way: Mapping[str, Any]) -> list[str]:
    return [
        way["label"],
        _shown(way["client_updates_per_second"], ".1f"),
        _shown(way["wall_ratio"], ".2f"),
        _shown(way["client_updates_per_processor_second"], ".1f"),
        _shown(way["processor_ratio"], ".2f"),
        _shown(way["peak_megabytes"], ",.0f"),
    ]


def _bar(way: Mapping[str, Any]) -> Bar:
    speed, ratio = way["client_updates_per_second"], _shown(way["wall_ratio"], ".2f")
    return Bar(
        label=way["label"],
        value=speed,
        words="broke off" if speed is None else f"{_shown(speed, '.1f')} ({ratio} ×)",
        style=_STYLES.get(way["way"], "first"),
    )


def _shown(value: float | None, form: str) -> str:
    return "–" if value is None else format(value, form)
