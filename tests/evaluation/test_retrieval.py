"""Leave-one-out retrieval against hand arithmetic and a brute-force ranking."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedemb.evaluation.retrieval import retrieve


def at_angles(*degrees: float) -> torch.Tensor:
    radians = torch.tensor(degrees, dtype=torch.float64) * math.pi / 180
    return torch.stack([radians.cos(), radians.sin()], dim=1).float()


def by_ranking(similarity: list[list[float]], labels: list[int], ks) -> tuple[list[float], float, int]:
    """Sort each query's list with the other identities first among ties, then read the definitions off."""
    hits, precision, queries = [0] * len(ks), 0.0, 0
    for query, identity in enumerate(labels):
        others = [i for i in range(len(labels)) if i != query]
        ranked = sorted(others, key=lambda i: (-similarity[query][i], labels[i] == identity))
        relevant = [labels[i] == identity for i in ranked]
        total = sum(relevant)
        if total == 0:
            continue
        queries += 1
        hits = [hit + any(relevant[:k]) for hit, k in zip(hits, ks, strict=True)]
        precision += sum(sum(relevant[: i + 1]) / (i + 1) for i in range(total) if relevant[i]) / total
    return [hit / queries for hit in hits], precision / queries, queries


def test_hand_computed():
    # a: 0°, 10°, 24°; b: 30°, 60°; c: 100° (alone: no query).
    # Rankings (distance):  a0: a10 a24 b30.. -> R=2, both first: AP 1.
    #   a10: a0(10) a24(14): AP 1.   a24: b30(6) a10(14) a0(24): within R=2: place 2 relevant: (1/2)/2 = 1/4.
    #   b30: a24(6) a10(20) then a tie a0/b60 at 30: R=1, AP 0.    b60: b30(30) first: AP 1.
    # recall@1: a0 a10 b60 = 3/5. recall@2: + a24 = 4/5. recall@5: all. mAP@R = (1 + 1 + 1/4 + 0 + 1)/5 = 0.65.
    embeddings = at_angles(0, 10, 24, 30, 60, 100)
    result = retrieve(embeddings, torch.tensor([3, 3, 3, 1, 1, 9]), ks=(1, 2, 5))
    assert result.recalls == (0.6, 0.8, 1.0)
    assert result.map_at_r == pytest.approx(0.65, abs=1e-12)
    assert result.queries == 5


def test_ties_go_to_the_other_identity():
    # Everything is one point, 2 + 4 images: behind their 4 and 2 strangers, the first positive is 5th and 3rd.
    result = retrieve(torch.ones(6, 3), torch.tensor([0, 0, 1, 1, 1, 1]), ks=(1, 3, 4, 5))
    assert result.recalls == pytest.approx((0, 4 / 6, 4 / 6, 1))
    # a has R = 1 and place 5; b has R = 3 and its first positive at place 3: (1/3)/3 = 1/9 for 4 of 6 queries.
    assert result.map_at_r == pytest.approx(4 / 6 / 9)


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_equals_brute_force_for_every_block_size_and_order(data):
    n = data.draw(st.integers(3, 20))
    signs = data.draw(st.lists(st.lists(st.integers(0, 1), min_size=16, max_size=16), min_size=n, max_size=n))
    labels = [0, 0, *data.draw(st.lists(st.integers(0, 4), min_size=n - 2, max_size=n - 2))]
    embeddings = torch.tensor(signs, dtype=torch.float32) * 2 - 1  # cosines are exact multiples of 1/8
    expected = by_ranking((embeddings @ embeddings.T).tolist(), labels, (1, 2, 5))
    order = torch.tensor(data.draw(st.permutations(range(n))))
    for block_size in (1, data.draw(st.integers(2, 7)), 64):
        result = retrieve(embeddings[order], torch.tensor(labels)[order], ks=(1, 2, 5), block_size=block_size)
        assert list(result.recalls) == pytest.approx(expected[0], abs=1e-12)
        assert result.map_at_r == pytest.approx(expected[1], abs=1e-12)
        assert result.queries == expected[2]


def test_many_chunks_and_one_large_identity():
    # 90 images, one identity of 60: larger than the 16 images of a chunk at block size 1.
    stream = torch.Generator().manual_seed(0)
    embeddings = torch.randn(90, 5, generator=stream, dtype=torch.float64)
    labels = torch.cat([torch.zeros(60, dtype=torch.long), 1 + torch.arange(30) // 3])
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    expected = by_ranking((unit @ unit.T).tolist(), labels.tolist(), (1, 5))
    for block_size in (1, 3, 1024):
        result = retrieve(embeddings, labels, ks=(1, 5), block_size=block_size)
        assert result.recalls == pytest.approx(expected[0])
        assert result.map_at_r == pytest.approx(expected[1], abs=1e-6)


def test_no_product_is_larger_than_sixteen_blocks(monkeypatch):
    seen = []
    original = torch.mm

    def spy(left, right):
        product = original(left, right)
        seen.append(product.numel())
        return product

    monkeypatch.setattr(torch, "mm", spy)
    stream = torch.Generator().manual_seed(0)
    retrieve(torch.randn(500, 4, generator=stream), torch.arange(500) // 5, ks=(1,), block_size=8)
    assert max(seen) <= 16 * 8**2 < 500 * 8


@pytest.mark.parametrize("labels", [[], [3], [1, 2, 3]])
def test_without_a_query_everything_is_none(labels):
    result = retrieve(torch.ones(len(labels), 2), torch.tensor(labels, dtype=torch.long), ks=(1, 5))
    assert (result.recalls, result.map_at_r, result.queries) == ((None, None), None, 0)


def test_fewer_images_than_k():
    result = retrieve(at_angles(0, 5), torch.tensor([1, 1]), ks=(1, 100))
    assert (result.recalls, result.map_at_r) == ((1.0, 1.0), 1.0)


def test_broken_embeddings_find_nothing():
    result = retrieve(torch.full((6, 2), math.nan), torch.tensor([0, 0, 1, 1, 2, 2]), ks=(1,))
    assert (result.recalls, result.map_at_r) == ((0.0,), 0.0)


def test_a_cut_off_below_one_is_refused():
    with pytest.raises(ValueError, match="k must be an integer of at least 1"):
        retrieve(torch.ones(2, 2), torch.tensor([0, 0]), ks=(0,))
