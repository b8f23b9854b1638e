"""What commands hand out: JSON or a table on the console, files that are written whole."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from omegaconf import DictConfig
from rich.console import Console
from rich.table import Table

from fedemb.core.files import write_atomically
from fedemb.report.record import finite

Printer: TypeAlias = Callable[..., None]
"""Prints one form of a command's answer."""


def console() -> Console:
    """Lines as long as they are, plain numbers, and names with brackets as they are."""
    return Console(highlight=False, soft_wrap=True, markup=False)


def printer_of(form: object, *, table: Printer, json: Printer) -> Printer:
    """The one that format= names. Raises: ValueError for another word."""
    printers = {"table": table, "json": json}
    if form not in printers:
        raise ValueError(f"format must be one of {', '.join(printers)}, got format={form}")
    return printers[str(form)]


def show(cfg: DictConfig, answer: Mapping[str, Any], table: Callable[[], None]) -> None:
    """Print `answer` as JSON, or call `table`, which prints."""
    printer_of(cfg.format, table=table, json=lambda: print(as_json(answer)))()


def as_json(answer: Mapping[str, Any]) -> str:
    """Every float finite or null."""
    return json.dumps(finite(answer), indent=2, allow_nan=False, ensure_ascii=False)


def as_csv(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Comma-separated, with a head, full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return text.getvalue()


def write_files(cfg: DictConfig, files: Mapping[str, str]) -> list[Path]:
    """Write name -> text into the folder out=, if it is given; the paths."""
    if cfg.out is None:
        return []
    folder = Path(str(cfg.out)).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            write_atomically(folder / name, text)
    except OSError as error:
        raise ValueError(f"cannot write {folder}: {error.strerror}; take another out=") from error
    return [folder / name for name in files]


def aligned(value: float, towards: Callable[[float], int]) -> str:
    """Four decimals, rounded by math.floor or math.ceil, so that a column lines up."""
    return "∞" if math.isinf(value) else f"{towards(value * 1e4) / 1e4:.4f}"


def numbers_table(columns: Sequence[str]) -> Table:
    """A table of right-aligned columns."""
    table = Table(box=None, pad_edge=False, header_style="bold", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table
