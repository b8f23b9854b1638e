"""What similarities look like, from a sample of pairs: where thresholds will lie, and where to put some.

Shapes: n images, D embedding width, s images in a group.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from fedemb.core.rng import generator
from fedemb.evaluation.cells import Cells, Window, disjoint, ordered_key
from fedemb.evaluation.pairs import Gallery

_SAMPLED_PAIRS = 2**22
_DEVIATIONS = 6.0  # half the width of a window, in standard deviations of the sample's rank
_LINEAR_SHARE = 4  # one in so many thresholds is spread over FAR itself


def sample_pairs(gallery: Gallery) -> tuple[np.ndarray, np.ndarray]:
    """Similarities of some (negative pairs, positive pairs), each ascending; of all pairs where they are few.

    The images are dealt into groups of s at random, and all pairs of a group are looked at: every image is in equally
    many, so what one image adds to the similarities of its pairs averages out. The same images are always dealt in the
    same way, as it changes how long a measurement takes, and not what is found.
    """
    images, width = gallery.embeddings.shape
    group = min(images, max(2, math.ceil(2 * _SAMPLED_PAIRS / images)))
    groups = images // group
    dealt = torch.from_numpy(generator(0, "sampled pairs", images).permutation(images)[: groups * group])
    rows = gallery.embeddings[dealt.to(gallery.embeddings.device)].view(groups, group, width)
    labels = gallery.labels[dealt.to(gallery.labels.device)].view(groups, group)
    above = torch.ones(group, group, dtype=torch.bool, device=rows.device).triu_(diagonal=1)
    same = labels[:, :, None] == labels[:, None, :]
    similarity = torch.bmm(rows, rows.transpose(1, 2)).clamp_(-1.0, 1.0)
    negative, positive = (np.sort(similarity[kind & above].cpu().numpy()) for kind in (~same, same))
    return negative, positive


def spread_thresholds(gallery: Gallery, count: int) -> Tensor:
    """[at most count] float32, falling: spread over log FAR, and a quarter of them over FAR.

    Where the sampled pairs have no more distinct similarities than that, one below each of them.
    """
    negative, positive = sample_pairs(gallery)
    distinct = np.unique(np.concatenate([negative, positive]))
    if len(distinct) > count:
        linear = count // _LINEAR_SHARE
        ranks = np.concatenate(
            [np.geomspace(1, len(negative), count - linear), np.linspace(1, len(negative), linear)]
        ).astype(np.int64)
        distinct = np.unique(negative[len(negative) - ranks])
    below = np.concatenate([[-2.0], distinct[:-1]])
    return torch.from_numpy(((below + distinct) / 2).astype(np.float32)).flip(0).to(gallery.embeddings.device)


def guess_cells(gallery: Gallery, negative_fractions: Sequence[float]) -> Cells:
    """A grid over the sampled negative pairs, and a window around each fraction's quantile from above."""
    sample, _ = sample_pairs(gallery)
    if len(sample) == 0 or sample[0] == sample[-1]:
        return Cells(low=-1.0, high=1.0, windows=[])
    windows = []
    for fraction in negative_fractions:
        rank = fraction * len(sample)
        reach = _DEVIATIONS * math.sqrt(rank + 1) + _DEVIATIONS
        low, high = (
            float(sample[int(np.clip(len(sample) - place, 0, len(sample) - 1))])
            for place in (rank + reach, rank - reach)
        )
        if rank < reach:  # the threshold may lie above all that was sampled
            high = min(1.0, 2 * high - low)
        first, last = ordered_key(torch.tensor([low, high])).tolist()
        windows.append(Window(low=first - 1, high=last + 1))
    return Cells(low=float(sample[0]), high=float(sample[-1]), windows=disjoint(windows))
