"""A run folder as one self-contained page: no network, no script, and a policy that forbids both."""

from __future__ import annotations

from pathlib import Path

from fedemb.core.files import write_atomically
from fedemb.report import sections
from fedemb.report.document import document
from fedemb.report.style import STYLE
from fedemb.report.summary import RunSummary, read_run


def write_page(run: Path) -> Path:
    """Write <run>/report.html from report.json, metrics.csv and config.yaml, in one step.

    Raises: ValueError where report.json is missing or unreadable.
    """
    page = run / "report.html"
    write_atomically(page, render(read_run(run)))
    return page


def render(run: RunSummary) -> str:
    """The page's HTML."""
    parts = (
        sections.heading(run),
        sections.privacy(run),
        sections.metrics(run),
        sections.curves(run),
        sections.details(run),
        sections.extrapolation(run),
        sections.reproduction(run),
    )
    return document(parts, title=f"{run.name} – fedemb run", style=STYLE)
