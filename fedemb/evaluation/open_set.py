"""Open-set identification: is this image of somebody enrolled, and of whom?

Shapes: p probes, g gallery images, D embedding width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from fedemb.core import check
from fedemb.core.rng import generator
from fedemb.evaluation.embedded import Embedded, Metrics, class_positions
from fedemb.evaluation.pairs import unit_rows

_BLOCK = 1024  # probes at a time


@dataclass(frozen=True, kw_only=True)
class OpenSet:
    """`dir@far=<far>`: detection and identification rate at rank 1, the mean over several draws.

    In a draw, half of the identities with more than `enrolled_images` images are enrolled with that many; their other
    images are the known probes, and all images of all other identities are the unknown ones. A probe's score is its
    largest similarity to the gallery. The threshold at a FAR is the smallest that at most this share of the unknown
    probes reaches; a known probe counts if it reaches the threshold and the image that it resembles most, with no
    other identity's as similar, is of its own identity (Phillips, Grother, Micheals 2011, handbook of face
    recognition, ch. 21).

    fars: in [0, 1). draws: who is enrolled, and with which images, is drawn so often, from `seed`.
    """

    fars: Sequence[float]
    enrolled_images: int
    draws: int
    seed: int
    test_users_only: ClassVar[bool] = True

    def __post_init__(self) -> None:
        for far in self.fars:
            check.fraction("far", far)
        check.at_least("enrolled_images", self.enrolled_images, 1)
        check.at_least("draws", self.draws, 1)

    def metrics(self, test: Embedded) -> Metrics:
        """None without known or without unknown probes."""
        rows, names = unit_rows(test.embeddings), [f"dir@far={far:g}" for far in self.fars]
        rates = [rate for draw in range(self.draws) if (rate := self._draw(rows, test.labels, draw)) is not None]
        if not rates:
            return dict.fromkeys(names)
        return dict(zip(names, torch.stack(rates).mean(dim=0).tolist(), strict=True))

    def _draw(self, rows: Tensor, labels: Tensor, draw: int) -> Tensor | None:
        """[fars] float64."""
        stream = generator(self.seed, "open-set", draw)
        classes = class_positions(labels, at_least=self.enrolled_images + 1)
        enrolled = [classes[number] for number in stream.permutation(len(classes))[: (len(classes) + 1) // 2]]
        if not enrolled:
            return None
        orders = [torch.from_numpy(stream.permutation(len(places))).to(places.device) for places in enrolled]
        shuffled = [places[order] for places, order in zip(enrolled, orders, strict=True)]
        gallery = torch.cat([places[: self.enrolled_images] for places in shuffled])
        known = torch.cat([places[self.enrolled_images :] for places in shuffled])
        others = torch.ones(len(labels), dtype=torch.bool, device=labels.device)
        others[torch.cat([gallery, known])] = False
        if not bool(others.any()):
            return None
        unknown_best, _ = nearest(rows[others], labels[others], rows[gallery], labels[gallery])
        other, own = nearest(rows[known], labels[known], rows[gallery], labels[gallery])
        return detection(unknown_best, torch.where(own > other, own, -torch.inf), self.fars)


def nearest(rows: Tensor, labels: Tensor, gallery: Tensor, gallery_labels: Tensor) -> tuple[Tensor, Tensor]:
    """([p] largest similarity to another identity of the gallery, [p] to the own one; -inf without one)."""
    other, own = [], []
    for some, some_labels in zip(torch.split(rows, _BLOCK), torch.split(labels, _BLOCK), strict=True):
        similarity, same = torch.mm(some, gallery.T), some_labels[:, None] == gallery_labels
        other.append(similarity.masked_fill(same, -torch.inf).amax(dim=1))
        own.append(similarity.masked_fill(~same, -torch.inf).amax(dim=1))
    return torch.cat(other), torch.cat(own)


def detection(unknown: Tensor, known: Tensor, fars: Sequence[float]) -> Tensor:
    """Share of the known probes above the threshold of each FAR, [fars] float64.

    Args: unknown: [u] scores of the unknown probes. known: [p] scores, -inf where the identity is wrong.
    """
    ordered = unknown.sort(descending=True).values
    rates = []
    for far in fars:
        allowed = int(far * len(ordered) + 1e-9)  # 0.29 · 100 is 28.999… in binary
        rates.append((known > ordered[allowed]).double().mean())
    return torch.stack(rates) if rates else torch.zeros(0, dtype=torch.float64)
