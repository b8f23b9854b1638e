"""`fedemb prepare NAME source=… out=…`: a data set's published archives to stores on disk."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fedemb.cli import describe, export_store, owners
from fedemb.cli.settings import check_settings, path, text
from fedemb.cli.splits import terms
from fedemb.data.manifest import Manifest
from fedemb.data.preparation import Item, Prepared, Request
from fedemb.report.numbers import counted

CONFIG_PATH = "pkg://fedemb.conf"
CONFIG = "prepare"


def run(cfg: DictConfig) -> None:
    """Do what `cfg.action` asks with the data set that `cfg.name` names."""
    actions = {"prepare": _prepare, "describe": describe.run, "export": export_store.run}
    if cfg.action not in actions:
        raise ValueError(f"action must be one of {', '.join(actions)}, got action={cfg.action}")
    text(cfg, "name")
    actions[cfg.action](cfg)


def _prepare(cfg: DictConfig) -> None:
    """Make the stores that are not there yet and say what is there afterwards."""
    check_settings(cfg.prepare)
    prepare: Callable[[Request], Prepared] = instantiate(cfg.prepare, _partial_=True)
    prepared = prepare(_request(cfg))
    print(f"{'prepared' if prepared.written else 'already prepared:'} {cfg.name} in {prepared.path}")
    for manifest in prepared.manifests:
        print(_line(manifest))
        if manifest.shared_images:
            print(f"  {owners.for_ids(_have(manifest.shared_images), manifest.most_owners)}")
    for name, told in terms(prepared.manifests[0]):
        print(f"  {name}{': ' if name else ''}{told}")


def show_progress(items: Iterable[Item], *, label: str, total: int, done: int = 0) -> Iterable[Item]:
    """A bar on stderr if somebody is looking, else a line when done."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        task = bar.add_task(label, total=total, completed=done)
        for item in items:
            yield item
            bar.advance(task)
    if not console.is_terminal:
        print(f"{label}: {total} of {total}", file=sys.stderr)


def _request(cfg: DictConfig) -> Request:
    return Request(
        source=None if cfg.source is None else path(cfg, "source"),
        out=path(cfg, "out"),
        overwrite=_switch(cfg, "overwrite"),
        allow_partial=_switch(cfg, "allow_partial"),
        workers=_cores() if cfg.workers == "auto" else cfg.workers,
        progress=show_progress,
    )


def _switch(cfg: DictConfig, key: str) -> bool:
    """true or false; any other word, "no" among them, would count as true."""
    if not isinstance(cfg[key], bool):
        raise ValueError(f"{key} must be true or false, got {key}={cfg[key]}")
    return bool(cfg[key])


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _have(images: int) -> str:
    return f"{counted(images, 'image')} {'has' if images == 1 else 'have'}"


def _line(manifest: Manifest) -> str:
    channels, height, width = manifest.info.image_shape
    shape = f"{channels}x{height}x{width}" if height else f"{counted(channels, 'channel')}, kept in their own sizes"
    left_out = "".join(f"; {count} {reason}" for reason, count in manifest.left_out.items())
    return f"  {manifest.info.split}: {manifest.users} users, {manifest.examples} images of {shape}{left_out}"
