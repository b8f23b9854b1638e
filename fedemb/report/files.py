"""Plots as files: SVG by itself, PNG and PDF drawn from the same SVG by CairoSVG."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from fedemb.core.files import write_atomically
from fedemb.report.plot_style import file_style

_SCALE = 3  # pixels of a PNG for each of the SVG
MISSING = "no PNG and PDF figures: CairoSVG is not installed; pip install 'fedemb[figures]'"


def standalone(chart: str) -> str:
    """A chart of a page as an SVG file that needs nothing else."""
    left, top, width, height = re.findall(r'viewBox="(\S+) (\S+) (\S+) (\S+)"', chart)[0]
    opened = chart.replace(
        '<svg class="plot"', f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}"', 1
    )
    end = opened.index(">") + 1
    paper = f'<rect class="paper" x="{left}" y="{top}" width="{width}" height="{height}"/>'
    return f"{opened[:end]}<style>{file_style()}</style>{paper}{opened[end:]}\n"


def write_figures(folder: Path, charts: Mapping[str, str]) -> bool:
    """Write <folder>/<name>.svg of each chart, and .png and .pdf if CairoSVG is here: was it?

    Raises: OSError where the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    drawn = find_spec("cairosvg") is not None
    for name, chart in charts.items():
        text = standalone(chart)
        write_atomically(folder / f"{name}.svg", text)
        if drawn:
            _draw(folder / name, text)
    return drawn


def _draw(stem: Path, text: str) -> None:
    import cairosvg

    cairosvg.svg2png(bytestring=text.encode(), write_to=f"{stem}.png", scale=_SCALE)
    cairosvg.svg2pdf(bytestring=text.encode(), write_to=f"{stem}.pdf")
