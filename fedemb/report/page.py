"""A run folder as one self-contained page: no network, no script, and a policy that forbids both."""

from __future__ import annotations

from html import escape
from pathlib import Path
from string import Template

from fedemb.core.files import write_atomically
from fedemb.report import sections
from fedemb.report.style import STYLE
from fedemb.report.summary import RunSummary, read_run

_PAGE = Template("""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; img-src data:">
<link rel="icon" href="data:,">
<title>$title</title>
<style>$style</style>
</head>
<body>
<main>
$body
</main>
</body>
</html>
""")


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
        "<footer>Made by fedemb. Nothing on this page was loaded from elsewhere.</footer>",
    )
    return _PAGE.substitute(title=escape(f"{run.name} – fedemb run"), style=STYLE, body="\n".join(filter(None, parts)))
