"""Queries from the test set with the images that a model holds nearest, right and wrong ones marked."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import torch
from PIL import Image

from fedemb.data.pictures import from_pixels
from fedemb.report.embedded import Embedded

QUERIES, NEAREST = 6, 5
_PIXELS = 64  # longest side of a picture on the page


@dataclass(frozen=True, kw_only=True)
class Answer:
    """An image that was found. index: in `Embedded`. similarity: cosine. right: is it of the query's identity?"""

    index: int
    similarity: float
    right: bool


def queries(found: Embedded) -> list[int]:
    """The first image of identities that are evenly spread over those with several: not chosen by how they fare."""
    _, first, counts = np.unique(found.labels.numpy(), return_index=True, return_counts=True)
    able = np.sort(first[counts > 1])
    if len(able) == 0:
        return []
    places = np.linspace(0, len(able) - 1, min(QUERIES, len(able))).round().astype(int)
    return [int(able[place]) for place in places]


def nearest(found: Embedded, query: int) -> list[Answer]:
    """The images most similar to a query, itself left out."""
    similarities = found.embeddings @ found.embeddings[query]
    similarities[query] = -torch.inf
    top = similarities.topk(min(NEAREST, len(similarities) - 1))
    return [
        Answer(index=index, similarity=value, right=bool(found.labels[index] == found.labels[query]))
        for value, index in zip(top.values.tolist(), top.indices.tolist(), strict=True)
    ]


def panel(found: Embedded, asked: Sequence[int]) -> str:
    """A row a query: the query, then its nearest images."""
    rows = []
    for query in asked:
        answers = nearest(found, query)
        tiles = [_tile(found, query, "query", "query", f"query: identity {int(found.labels[query])}")]
        for answer in answers:
            kind, sign = ("right", "✓") if answer.right else ("wrong", "✗")
            told = f"{kind}: identity {int(found.labels[answer.index])}, similarity {answer.similarity:.3f}"
            tiles.append(_tile(found, answer.index, kind, f"{sign} {answer.similarity:.2f}", told))
        rows.append(f'<div class="answers">{"".join(tiles)}</div>')
    return f'<div class="neighbours">{"".join(rows)}</div>'


def _tile(found: Embedded, index: int, kind: str, under: str, told: str) -> str:
    return (
        f'<span class="tile {kind}" title="{escape(told)}"><img alt="{escape(told)}" '
        f'src="{data_uri(found.image(index))}"><span>{escape(under)}</span></span>'
    )


def data_uri(pixels: np.ndarray) -> str:
    """[Ch, H, W] uint8 as a small PNG within the page."""
    image = from_pixels(pixels)
    if max(image.size) > _PIXELS:
        image.thumbnail((_PIXELS, _PIXELS), Image.Resampling.LANCZOS)
    data = io.BytesIO()
    image.save(data, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(data.getvalue()).decode()}"
