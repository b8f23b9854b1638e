"""fedemb bench: suites of measurements on this machine."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

from omegaconf import DictConfig, OmegaConf

from fedemb.cli import bench_engine, bench_peers, bench_recipes, bench_users
from fedemb.cli.output import as_json, printer_of, write_files
from fedemb.cli.settings import path
from fedemb.core.files import made
from fedemb.report.machine import machine
from fedemb.report.record import versions

CONFIG_PATH = "pkg://fedemb.conf"
CONFIG = "bench"

BROKEN_OFF = 1
"""Exit code if some part of the suite did not come through."""

SUITES: dict[str, ModuleType] = {
    "peers": bench_peers,
    "recipes": bench_recipes,
    "engine": bench_engine,
    "users": bench_users,
}
"""Each has `measure` (settings -> JSON values; "complete" is false if something broke off), `table`, which prints them,
and `figure` (of them, as the text of an SVG file)."""


def run(cfg: DictConfig) -> None:
    """Measure, print, write."""
    if cfg.suite not in SUITES:
        raise ValueError(f"suite must be one of {', '.join(SUITES)}, got suite={cfg.suite}")
    suite = SUITES[cfg.suite]
    show = printer_of(cfg.format, table=suite.table, json=lambda answer: print(as_json(answer)))
    with _writable(None if cfg.out is None else path(cfg, "out")):
        answer = {**_circumstances(cfg), **suite.measure(cfg)}
        show(answer)
        written = write_files(cfg, {"bench.json": as_json(answer) + "\n"})
        written += write_files(cfg, {"bench.svg": suite.figure(answer)})
    if written and cfg.format == "table":
        print(f"written {' and '.join(map(str, written))}")
    if not answer["complete"]:
        sys.exit(BROKEN_OFF)


def _circumstances(cfg: DictConfig) -> dict[str, Any]:
    settings = OmegaConf.to_container(cfg, resolve=True)
    return {"suite": cfg.suite, "machine": machine(), "versions": versions(), "settings": settings}


@contextmanager
def _writable(folder: Path | None) -> Iterator[None]:
    """See before the measurement that its result can be written."""
    with ExitStack() as stack:
        if folder is not None:
            try:
                stack.enter_context(made(folder))
                tempfile.TemporaryFile(dir=folder).close()
            except OSError as error:
                raise ValueError(f"cannot write {folder}: {error.strerror}; take another out=") from error
        yield
