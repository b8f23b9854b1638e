"""What a few models do with the test images: ROC, nearest neighbours, a map."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from fedemb.report import embedding_map, neighbours, roc
from fedemb.report.chapters import Chapter
from fedemb.report.choices import MOST, choice
from fedemb.report.embedded import Embedded

INDIVIDUALS = (
    "Single test images are shown because {why}; the guarantee does not cover test users. Left out where a run is no "
    "simulation, unless individuals=always asks for them."
)


@dataclass(frozen=True, kw_only=True)
class Look:
    """A model at its test images. curve: its ROC. individuals: may single images be shown?"""

    found: Embedded
    curve: roc.Curve
    individuals: bool


def verification(looks: Sequence[Look]) -> Chapter:
    """ROC of all pairs."""
    chart = roc.chart({look.found.label: look.curve for look in looks})
    if not chart:
        return Chapter()
    counts = "; ".join(
        f"{look.found.label}: {len(look.found.labels):,} of {look.found.total:,} test images" for look in looks
    )
    return Chapter(
        html=f'<section><h2>Verification</h2><p class="note">{escape(f"All pairs of test images. {counts}.")}</p>'
        f'<figure class="wide-figure">{chart}</figure></section>',
        charts={"roc": chart},
    )


def images(looks: Sequence[Look], *, asked: bool) -> Chapter:
    """Neighbours and maps of the models whose single images may be shown."""
    shown = [look.found for look in looks if look.individuals]
    hidden = [look.found.label for look in looks if not look.individuals]
    left = f" Left out, no simulation: {', '.join(hidden)}." if hidden else ""
    if not shown:
        if not hidden:
            return Chapter()
        words = f"Neighbours and map of single test images are for simulations, or individuals=always.{left}"
        return Chapter(html=f'<section><h2>Test images</h2><p class="note">{escape(words)}</p></section>')
    why = "it was asked for" if asked else "these runs are simulations"
    note = INDIVIDUALS.format(why=why) + left
    panels, charts, maps = [], {}, []
    name, project = embedding_map.projection()
    for place, found in enumerate(shown[:MOST]):
        panels.append((found.label, neighbours.panel(found, neighbours.queries(found))))
        chart = embedding_map.chart(found, project, name)
        if chart:
            charts[f"map-{place + 1}"] = chart
            maps.append(f"<figure><h3>{escape(found.label)}</h3>{chart}</figure>")
    words = (
        "Each row: a query, and the five other test images with the most similar embeddings. Solid blue frame, ✓: the "
        "query's identity; dashed orange, ✗: another one. Queries are evenly spread over the test identities, not "
        "chosen by how they fare."
    )
    html = (
        f'<section><h2>Nearest neighbours</h2><p class="note">{escape(words)}</p>'
        f'<p class="note">{escape(note)}</p>{choice("model", "Model", panels)}</section>'
    )
    if maps:
        told = (
            f"{name} of the embeddings of at most {embedding_map.IDENTITIES} test identities, evenly spread; colour "
            "and shape stand for the identity. Distances across the map mean little."
        )
        html += (
            f'<section><h2>Map of the embeddings</h2><p class="note">{escape(told)}</p><div class="maps">'
            f"{''.join(maps)}</div></section>"
        )
    return Chapter(html=html, charts=charts)
