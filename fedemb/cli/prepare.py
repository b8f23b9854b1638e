"""`fedemb prepare NAME source=… out=…`: a data set's published archives to a store on disk."""

from __future__ import annotations

import sys
from collections.abc import Iterable

from hydra.utils import instantiate
from omegaconf import DictConfig
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from fedemb.data.manifest import Manifest
from fedemb.data.preparation import Prepared
from fedemb.data.record import UserRecord

CONFIG_PATH = "pkg://fedemb.conf"
CONFIG = "prepare"


def run(cfg: DictConfig) -> None:
    """Prepare the data set that `cfg.dataset` names and say what is there afterwards."""
    prepared: Prepared = instantiate(cfg.dataset.prepare, progress=show_progress)
    print(f"{'prepared' if prepared.written else 'already prepared:'} {cfg.dataset.name} in {prepared.path}")
    for manifest in prepared.manifests:
        print(_line(manifest))
    print(f"  licence: {prepared.manifests[0].info.licence}")


def show_progress(records: Iterable[UserRecord], *, label: str, total: int) -> Iterable[UserRecord]:
    """A bar on stderr if somebody is looking, else a line when done."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as bar:
        yield from bar.track(records, description=label, total=total)
    if not console.is_terminal:
        print(f"{label}: {total} users", file=sys.stderr)


def _line(manifest: Manifest) -> str:
    shape = "x".join(map(str, manifest.info.image_shape))
    return f"  {manifest.info.split}: {manifest.users} users, {manifest.examples} images of {shape}"
