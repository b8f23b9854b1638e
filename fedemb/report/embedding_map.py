"""A map of test images in two dimensions, by UMAP, t-SNE or principal components, whichever is installed."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from html import escape
from importlib.util import find_spec

import numpy as np

from fedemb.report import looks
from fedemb.report.embedded import Embedded
from fedemb.report.plot import element

IDENTITIES = 12  # on a map: more are not told apart
_EACH = 20  # images of an identity, at most
_SIZE, _MARGIN = 520, 14

Projection = Callable[[np.ndarray], np.ndarray]
"""[n, D] unit rows -> [n, 2]."""


def projection() -> tuple[str, Projection]:
    """(name, function) of the best one that is installed here."""
    if find_spec("umap"):
        return "UMAP", _umap
    if find_spec("sklearn"):
        return "t-SNE", _tsne
    return "principal components", principal_components


def principal_components(rows: np.ndarray) -> np.ndarray:
    """[n, D] -> [n, 2]: along the two directions of the largest variance."""
    centred = rows - rows.mean(axis=0)
    _, _, directions = np.linalg.svd(centred, full_matrices=False)
    flat = centred @ directions[:2].T
    return np.pad(flat, ((0, 0), (0, 2 - flat.shape[1])))


def chart(found: Embedded, project: Projection, name: str) -> str:
    """Images of a few identities, evenly spread over the test set, each identity with a colour and a shape."""
    chosen = _chosen(found.labels.numpy())
    if len(chosen) < 4:
        return ""
    labels = found.labels.numpy()[chosen]
    flat = project(found.embeddings.numpy()[chosen].astype(np.float64))
    middle, half = (flat.max(axis=0) + flat.min(axis=0)) / 2, max(np.ptp(flat, axis=0).max() / 2, 1e-9)
    places = (flat - middle) / half * (_SIZE / 2 - _MARGIN) + _SIZE / 2
    order = {label: place for place, label in enumerate(dict.fromkeys(labels.tolist()))}
    marks = []
    for (x, y), label in zip(places, labels.tolist(), strict=True):
        style, shape = looks.method(order[label])
        marks.append(
            f'<g class="point" transform="translate({x:.1f} {y:.1f})"><title>{escape(f"identity {label}")}</title>'
            f'<path class="mark {style}" d="{shape}"/></g>'
        )
    edge = f'<rect class="edge" x="1" y="1" width="{_SIZE - 2}" height="{_SIZE - 2}"/>'
    return element(f"{found.label}: {name} of the test images", edge + "".join(marks), height=_SIZE, width=_SIZE)


def _chosen(labels: np.ndarray) -> np.ndarray:
    """Positions of the images on the map."""
    known = np.array(list(dict.fromkeys(labels.tolist())))
    kept = known[np.linspace(0, len(known) - 1, min(IDENTITIES, len(known))).round().astype(int)]
    return np.concatenate([np.flatnonzero(labels == label)[:_EACH] for label in kept])


def _umap(rows: np.ndarray) -> np.ndarray:
    import umap

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that a seed forbids several threads
        reducer = umap.UMAP(n_neighbors=min(15, len(rows) - 1), metric="cosine", random_state=0)
        return np.asarray(reducer.fit_transform(rows), dtype=float)


def _tsne(rows: np.ndarray) -> np.ndarray:
    from sklearn.manifold import TSNE

    reducer = TSNE(perplexity=min(15.0, (len(rows) - 1) / 3), init="pca", random_state=0)
    return np.asarray(reducer.fit_transform(rows), dtype=float)
