"""fedemb bench suite=engine: what a round takes beside the clients' training."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig

from fedemb.bench import engine
from fedemb.bench.workload import vectorised
from fedemb.bench.workloads import WORKLOADS
from fedemb.cli.bench_ways import chosen, threads, turns
from fedemb.cli.build import device_of
from fedemb.cli.output import console, numbers_table
from fedemb.cli.pricing import whole
from fedemb.core.allocator import keep_freed_memory
from fedemb.execution.executor import Executor, Sequential
from fedemb.report.bars import Bar, Panel, bar_figure

_EXECUTORS: dict[str, Callable[[], Executor]] = {"sequential": Sequential, "vectorised": vectorised}
_MODELS = ("cnn",)  # a million parameters


def measure(cfg: DictConfig) -> dict[str, Any]:
    """Every chosen model by every chosen executor, in this process; files go where temporary ones do."""
    executors = chosen(cfg, "ways", _EXECUTORS)
    models = list(_MODELS) if cfg.models is None else chosen(cfg, "models", WORKLOADS)
    torch.set_num_threads(whole(cfg, "threads"))
    device = str(device_of(cfg.device))
    keep_freed_memory()
    found = []
    for model in models:
        workload = replace(WORKLOADS[model], device=device)
        for way in executors:
            with tempfile.TemporaryDirectory() as folder:
                rounds = turns(cfg, f"{model}, {way}")
                seconds = engine.measure(workload, _EXECUTORS[way](), rounds, Path(folder))
            found.append({"model": model, "way": way, **engine.record(WORKLOADS[model], seconds)})
    return {"models": found, "complete": True}


def table(answer: Mapping[str, Any]) -> None:
    """Print seconds and shares of each part."""
    out = console()
    for model in answer["models"]:
        out.print(f"{_heading(model)}: a round of {model['clients']} clients takes {model['round_seconds']:.3g} s")
        shown = numbers_table(["part", "ms", "% of the round"])
        shown.columns[0].justify = "left"
        for part in model["parts"]:
            shown.add_row(part["part"], f"{1e3 * part['seconds']:.2f}", f"{100 * part['share']:.2f}")
        out.print(shown)
        out.print()


def figure(answer: Mapping[str, Any]) -> str:
    """A panel a model and executor."""
    settings, machine = answer["settings"], answer["machine"]
    return bar_figure(
        title="A round beside the clients' training",
        legend=[
            "Share of the round, with a checkpoint due",
            f"Medians of {settings['rounds']} rounds, {threads(settings)}, {machine['cores']} cores, {machine['cpu']}",
        ],
        panels=[
            Panel(title=_heading(model), bars=[_bar(part) for part in model["parts"]]) for model in answer["models"]
        ],
    )


def _heading(model: Mapping[str, Any]) -> str:
    return f"{model['model']}, {model['parameters']:,} parameters, {model['way']}"


def _bar(part: Mapping[str, Any]) -> Bar:
    words = f"{100 * part['share']:.2f} %, {1e3 * part['seconds']:.2f} ms"
    return Bar(label=part["part"], value=part["share"], words=words, style="first")
