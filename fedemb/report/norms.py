"""How long updates were before clipping: exact values of training data, shown for simulations only."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from fedemb.report import axes
from fedemb.report.numbers import plain, share
from fedemb.report.plot import BOTTOM, HEIGHT, LEFT, RIGHT, TOP, WIDTH, element, frame, words
from fedemb.report.runs import Run

_BINS = 30
_ROUNDS = "rounds.jsonl"


@dataclass(frozen=True, kw_only=True)
class Norms:
    """values: of all virtual clients of all rounds. broken: updates that were not finite and became zero."""

    values: Sequence[float]
    broken: int

    def clipped(self, clip_norm: float) -> float:
        """The fraction of the finite updates that were longer than the clip norm."""
        return sum(value > clip_norm for value in self.values) / len(self.values)


def read_norms(run: Run) -> Norms | None:
    """From diagnostics/rounds.jsonl; None for a release, whatever lies there, and where there is no update.

    Raises: ValueError with the line of the file that is damaged.
    """
    path = run.path / "diagnostics" / _ROUNDS
    if not run.simulated or not path.is_file():
        return None
    found: list[float | None] = []
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1):
        try:
            found += [None if norm is None else float(norm) for norm in json.loads(line)["norms"]]
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} line {number} is damaged ({error}): remove the file or restore it") from None
    finite = [norm for norm in found if norm is not None and math.isfinite(norm)]
    return Norms(values=finite, broken=len(found) - len(finite)) if finite else None


def chart(name: str, norms: Norms, clip_norm: float | None, style: str) -> str:
    """Shares of the updates by norm, on a scale of powers of ten; "" where every update was zero.

    clip_norm: marked by a dashed line; None where it did not stand still.
    """
    positive = np.array([value for value in norms.values if value > 0])
    if len(positive) == 0:
        return ""
    edges = np.geomspace(positive.min() * 0.98, positive.max() * 1.02, _BINS + 1)
    counts, _ = np.histogram(positive, edges)
    shares = counts / len(norms.values)
    held = [edges[0], edges[-1], *([clip_norm] if clip_norm else [])]
    x, x_texts = axes.powers(held, LEFT, WIDTH - RIGHT)
    y, y_texts = axes.linear([0.0, 100 * float(shares.max())], HEIGHT - BOTTOM, TOP + 24)
    columns = [
        _column(x.at(left), x.at(right), y.at(100 * part), y.at(0.0), style, _told(left, right, int(count), part))
        for left, right, count, part in zip(edges[:-1], edges[1:], counts, shares, strict=True)
        if count
    ]
    body = [frame(x, x_texts, y, y_texts, "norm of an update before clipping", "share of updates, %"), *columns]
    if clip_norm:
        place = x.at(clip_norm)
        side, shift = ("end", -7) if place > (LEFT + WIDTH) / 2 else ("start", 7)
        told = f"clip norm C = {clip_norm:g}: {share(norms.clipped(clip_norm))} are longer"
        body.append(
            f'<g class="point"><title>{escape(told)}</title>'
            f'<line class="level bound" x1="{place:.1f}" x2="{place:.1f}" y1="{y.at(0.0):.1f}" y2="{TOP:g}"/></g>'
        )
        body.append(words(place + shift, TOP + 12, f"C = {clip_norm:g}", side, "name"))
    return element(f"{name}: norms of updates before clipping", "".join(body), height=HEIGHT)


def _column(left: float, right: float, top: float, bottom: float, style: str, told: str) -> str:
    return (
        f'<g class="point"><title>{escape(told)}</title><rect class="column {style}" x="{left:.1f}" y="{top:.1f}" '
        f'width="{max(right - left - 1, 1):.1f}" height="{bottom - top:.1f}"/></g>'
    )


def _told(left: float, right: float, count: int, part: float) -> str:
    return f"norm {left:.3g} to {right:.3g}: {plain(count)} updates, {share(part)}"
