"""A sweep as one self-contained page and its figures: no network; the one script on it is named by its digest."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files

from fedemb.report import chapters, model_chapters
from fedemb.report.document import document
from fedemb.report.model_chapters import Look
from fedemb.report.plot_style import PAGE_STYLE
from fedemb.report.runs import Sweep


@dataclass(frozen=True, kw_only=True)
class Overview:
    """html: the page. charts: file name without ending -> <svg>, as the page has them."""

    html: str
    charts: dict[str, str]


def overview(
    sweep: Sweep,
    *,
    metric: str,
    populations: Sequence[int],
    looks: Sequence[Look] = (),
    asked: bool = False,
    notes: Sequence[str] = (),
) -> Overview:
    """The page about these runs.

    metric: the one that methods are compared by. populations: as for `chapters.frontiers`. looks: models at their
    test images. asked: was it asked for single images? notes: what could not be shown, a line each.
    """
    parts = [
        chapters.heading(sweep, metric),
        chapters.frontiers(sweep, metric, populations),
        chapters.rounds(sweep, metric),
        chapters.deployments(sweep, metric),
        model_chapters.verification(looks),
        model_chapters.images(looks, asked=asked),
        chapters.updates(sweep, metric),
        chapters.runs(sweep),
    ]
    left = "".join(f'<p class="note left-out">{escape(note)}</p>' for note in notes)
    html = document(
        [*(part.html for part in parts), left],
        title=f"{', '.join(sweep.methods)} – fedemb report",
        style=PAGE_STYLE,
        script=files("fedemb.report").joinpath("page.js").read_text(encoding="utf-8"),
    )
    return Overview(html=html, charts={name: svg for part in parts for name, svg in part.charts.items()})
