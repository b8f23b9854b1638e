"""Retrieval with queries and an index apart, scored as Google Landmarks v2 is (Weyand et al. 2020, arXiv:2004.01804).

Shapes: q queries, n index images, D embedding width.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from fedemb.core import check
from fedemb.data.formats.archive import FolderArchive
from fedemb.data.formats.tables import open_table, read_rows
from fedemb.data.pictures import is_image
from fedemb.evaluation.embedded import Embedded, Metrics
from fedemb.evaluation.pictures import embed_members, model_of

_USAGES = ("Public", "Private", "Ignored")
_CHUNK = 2**16  # index images at a time
_QUERIES = 256


@dataclass(frozen=True, kw_only=True)
class Solution:
    """usage: "Public" or "Private" -> query id -> ids of the index images that are right."""

    usage: Mapping[str, Mapping[str, frozenset[str]]]
    where: str


def read_solution(path: Path) -> Solution:
    """A table with the columns id, images (ids divided by spaces) and Usage; rows of usage Ignored are left out.

    Raises: ValueError in one line with file and line for another usage, an id that comes twice, or a query without
        an image.
    """
    table = open_table(path.parent, path.name)
    seen: set[str] = set()
    found: dict[str, dict[str, frozenset[str]]] = {usage: {} for usage in _USAGES[:2]}
    for line, (query, images, usage) in read_rows(table, ("id", "images", "Usage")):
        if usage not in _USAGES:
            raise ValueError(f"{table.where}, line {line}: Usage must be one of {', '.join(_USAGES)}, got {usage!r}")
        if query in seen:
            raise ValueError(f"{table.where}, line {line}: the query {query} again: remove one of the lines")
        seen.add(query)
        if usage == "Ignored":
            continue
        if not images.split():
            raise ValueError(f"{table.where}, line {line}: the query {query} has no image: get the table again")
        found[usage][query] = frozenset(images.split())
    return Solution(usage=found, where=table.where)


def mean_average_precision(
    ranked: Mapping[str, Sequence[str]], relevant: Mapping[str, frozenset[str]], *, depth: int
) -> float | None:
    """mAP@depth: mean over queries of (1 / min(|relevant|, depth)) Σ_{k <= depth} precision@k · [k-th is relevant].

    An image that comes again in a ranking counts once but keeps its place; a query without a ranking counts 0.
    """
    total = 0.0
    for query, right in relevant.items():
        found, seen = 0, set[str]()
        precision = 0.0
        for place, image in enumerate(ranked.get(query, ())[:depth], 1):
            if image in right and image not in seen:
                found += 1
                precision += found / place
            seen.add(image)
        total += precision / min(len(right), depth)
    return total / len(relevant) if relevant else None


@dataclass(frozen=True, kw_only=True)
class QueryIndex:
    """`map@<depth>:public` and `map@<depth>:private` of queries that search an index, by cosine similarity.

    Equal similarities rank in the order of the images' ids.

    solution: a table as read_solution has it. queries, index: folders with <id>.jpg, however deep; all images of the
    index folder are searched. depth: how many images a ranking has.
    """

    solution: str
    queries: str
    index: str
    depth: int = 100
    test_users_only: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check.at_least("depth", self.depth, 1)

    def metrics(self, test: Embedded) -> Metrics:
        """Raises: ValueError in one line for a file that is missing or damaged, or an id without an image."""
        solution, model = read_solution(Path(self.solution)), model_of(test, f"map@{self.depth}")
        wanted = {query for usage in solution.usage.values() for query in usage}
        right = {image for usage in solution.usage.values() for images in usage.values() for image in images}
        index, queries = _members(self.index, right, solution), _members(self.queries, wanted, solution)
        ids, asked = sorted(index), sorted(wanted)
        folders = FolderArchive(Path(self.queries)), FolderArchive(Path(self.index))
        rows = embed_members(model, folders[0], [queries[id] for id in asked])
        places = most_similar(rows, embed_members(model, folders[1], [index[id] for id in ids]), depth=self.depth)
        ranked = {query: [ids[place] for place in row] for query, row in zip(asked, places.tolist(), strict=True)}
        return {
            f"map@{self.depth}:{usage.lower()}": mean_average_precision(ranked, relevant, depth=self.depth)
            for usage, relevant in solution.usage.items()
        }


def _members(folder: str, needed: set[str], solution: Solution) -> dict[str, str]:
    """Id -> file below the folder. Raises: ValueError if an id is there twice, or one that is needed is not."""
    if not Path(folder).is_dir():
        raise ValueError(f"no folder {folder}: pass the one that the images of {solution.where} lie in")
    found: dict[str, str] = {}
    for name in FolderArchive(Path(folder), is_image).names():
        id = Path(name).stem
        if id in found:
            raise ValueError(f"{folder} holds image {id} twice, {found[id]} and {name}: remove one of the two")
        found[id] = name
    if missing := sorted(needed - found.keys()):
        raise ValueError(f"{folder} lacks {len(missing)} images of {solution.where}, the first is {missing[0]}")
    return found


def most_similar(queries: Tensor, index: Tensor, *, depth: int) -> Tensor:
    """[q, min(depth, n)] positions in the index, the most similar first; of equal ones the first position."""
    return torch.cat([_most_similar(some, index, depth) for some in torch.split(queries, _QUERIES)])


def _most_similar(queries: Tensor, index: Tensor, depth: int) -> Tensor:
    values = queries.new_zeros(len(queries), 0)
    places = torch.zeros(len(queries), 0, dtype=torch.int64, device=queries.device)
    for start in range(0, len(index), _CHUNK):
        similarity = torch.mm(queries, index[start : start + _CHUNK].T)
        own = torch.arange(start, start + similarity.shape[1], device=queries.device).expand_as(similarity)
        values, places = torch.cat([values, similarity], dim=1), torch.cat([places, own], dim=1)
        order = torch.argsort(values, dim=1, descending=True, stable=True)[:, :depth]
        values, places = values.gather(1, order), places.gather(1, order)
    return places
