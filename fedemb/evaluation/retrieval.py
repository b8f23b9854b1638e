"""Leave-one-out retrieval: every image asks for the other images of its identity.

A query with R other images of its identity ("positives") ranks all other images by similarity. Ties are resolved
against the model: an image of another identity goes first. So results do not depend on the order of the images, and
an embedding that maps everything to one point scores 0.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from fedemb.core import check
from fedemb.evaluation.pairs import Gallery

_CHUNK_BLOCKS = 16  # a block of queries meets the images in chunks of so many blocks


@dataclass(frozen=True, kw_only=True)
class Retrieval:
    """Means over the queries whose identity has another image; None where there is no such query.

    recalls: for each k, the fraction of queries with a positive among the k most similar images.
    map_at_r: mean over queries of (1/R) Σ_{i<=R} [i-th is positive]·precision@i (Musgrave et al. 2020, §3.2,
        arXiv:2003.08505).
    """

    recalls: tuple[float | None, ...]
    map_at_r: float | None
    queries: int


def retrieve(embeddings: Tensor, labels: Tensor, *, ks: Sequence[int], block_size: int = 1024) -> Retrieval:
    """Measure nearest-neighbour search by cosine similarity among the images themselves.

    Args: embeddings: [n, D]; normalised here (a zero or non-finite row has similarity 0 to all).
          labels: [n] integer identities.
          ks: cut-offs, each at least 1.
          block_size: b queries at a time, or fewer where one identity has many images; 16 b² similarities are held.
    """
    answers = answer_queries(embeddings, labels, ks=ks, block_size=block_size)
    if len(answers.labels) == 0:
        return Retrieval(recalls=(None,) * len(ks), map_at_r=None, queries=0)
    return Retrieval(
        recalls=tuple(answers.hits.double().mean(dim=0).tolist()),
        map_at_r=float(answers.precision.mean()),
        queries=len(answers.labels),
    )


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What every query found, q of them, sorted by label.

    labels: [q]. hits: [q, ks] bool, a positive among the k most similar. precision: [q] float64, the terms of mAP@R.
    """

    labels: Tensor
    hits: Tensor
    precision: Tensor


def answer_queries(embeddings: Tensor, labels: Tensor, *, ks: Sequence[int], block_size: int = 1024) -> Answers:
    """One by one what `retrieve` takes the means of."""
    for k in ks:
        check.at_least("k", k, 1)
    check.at_least("block_size", block_size, 1)
    gallery = Gallery.of(embeddings, labels)
    sizes = gallery.identity_sizes()
    ends = sizes.cumsum(0)
    spans = torch.stack([ends - sizes, ends], dim=1).repeat_interleave(sizes, dim=0)  # [n, 2]
    queries = torch.nonzero(spans[:, 1] - spans[:, 0] > 1).flatten()
    hits = torch.zeros(len(queries), len(ks), dtype=torch.bool, device=queries.device)
    precision = torch.zeros(len(queries), dtype=torch.float64, device=queries.device)
    chunk = _CHUNK_BLOCKS * block_size
    rows = max(1, min(block_size, block_size * chunk // int(sizes.max()))) if len(queries) else 1
    cut_offs = torch.tensor(list(ks), dtype=torch.int64, device=queries.device)
    for start in range(0, len(queries), rows):
        block = queries[start : start + rows]
        ranks, others = _ranks(gallery, block, spans[block], depth=max(ks, default=1), chunk=chunk)
        hits[start : start + rows] = ranks[:, :1] <= cut_offs
        position = torch.arange(1, ranks.shape[1] + 1, device=ranks.device)
        counted = torch.where(ranks <= others[:, None], position / ranks.double(), 0.0)
        precision[start : start + rows] = counted.sum(dim=1) / others
    return Answers(labels=gallery.labels[queries], hits=hits, precision=precision)


def _ranks(gallery: Gallery, block: Tensor, spans: Tensor, *, depth: int, chunk: int) -> tuple[Tensor, Tensor]:
    """Places of the positives of q queries in their rankings.

    Args: block: [q] positions of the queries, ascending. spans: [q, 2] first and last+1 image of their identity.
          depth: ranks must be right up to max(depth, R); beyond they only have to be larger than that.
    Returns: (ranks [q, max R], 1 for the top, ascending, "infinite" in the padding; R [q]).
    """
    rows, labels = gallery.embeddings, gallery.labels
    asking, asking_labels = rows[block], labels[block]
    others = spans[:, 1] - spans[:, 0] - 1
    width = int(others.max())
    first, last = int(spans[0, 0]), int(spans[-1, 1])
    near = torch.mm(asking, rows[first:last].T)
    mine = asking_labels[:, None] == labels[None, first:last]
    mine[torch.arange(len(block), device=block.device), block - first] = False
    positive = near.masked_fill_(~mine, -torch.inf).topk(width, dim=1).values  # [q, max R], -inf in the padding

    deep = max(depth, width)
    negative = positive.new_full((len(block), 0), -torch.inf)  # the most similar ones so far
    for start in range(0, len(rows), chunk):
        similarities = torch.mm(asking, rows[start : start + chunk].T)
        if start < last and first < start + chunk:
            similarities.masked_fill_(asking_labels[:, None] == labels[None, start : start + chunk], -torch.inf)
        best = similarities.topk(min(deep, similarities.shape[1]), dim=1, sorted=False).values
        pool = torch.cat([negative, best], dim=1)
        negative = pool.topk(min(deep, pool.shape[1]), dim=1).values
    ascending = negative.flip(1).contiguous()
    ahead = ascending.shape[1] - torch.searchsorted(ascending, positive)  # negatives at least as similar
    position = torch.arange(1, width + 1, device=positive.device)
    padding = position > others[:, None]
    return (position + ahead).masked_fill_(padding, torch.iinfo(torch.int64).max), others
