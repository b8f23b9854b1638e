"""Recall at a false accept rate and AUC against hand arithmetic and scikit-learn."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score, roc_curve

from fedemb.evaluation import cells, verification
from fedemb.evaluation.pairs import Gallery, PairBlocks
from fedemb.evaluation.verification import verify

FARS = (0.0, 1e-3, 0.01, 0.1, 0.5)


def at_angles(*degrees: float) -> torch.Tensor:
    radians = torch.tensor(degrees, dtype=torch.float64) * math.pi / 180
    return torch.stack([radians.cos(), radians.sin()], dim=1).float()


def lattice(rows: list[list[int]]) -> torch.Tensor:
    """Rows of 16 signs: unit length after ÷4, so every cosine is an exact multiple of 1/8 and ties abound."""
    return torch.tensor(rows, dtype=torch.float32) * 2 - 1


def by_sklearn(similarity: torch.Tensor, labels: torch.Tensor, fars) -> tuple[list[float], float]:
    """The definition, by brute force on the float64 similarity matrix."""
    left, right = torch.triu_indices(len(labels), len(labels), offset=1)
    score, same = similarity[left, right].numpy(), (labels[left] == labels[right]).numpy()
    fpr, tpr, _ = roc_curve(same, score, drop_intermediate=False)
    return [float(tpr[fpr <= far].max()) for far in fars], float(roc_auc_score(same, score))


def test_hand_computed():
    # a: 0°, 10°; b: 30°, 90°; c: 85°. Positive pairs differ by 10° and 60°.
    # Negative pairs: a-b 30 90 20 80, a-c 85 75, b-c 55 5: N = 8, sorted 5 20 30 55 75 80 85 90.
    # FAR 0: threshold above cos 5°: 0 of 2. FAR 1/8: one negative (5°) passes, so everything nearer than 20° does:
    # the 10° pair, 1 of 2. FAR 1/2: nearer than 75°: both.
    # AUC: the 10° pair beats 7 of 8, the 60° pair beats 75 80 85 90, 4 of 8: 11/16.
    result = verify(at_angles(0, 10, 30, 90, 85), torch.tensor([0, 0, 1, 1, 2]), fars=(0.0, 0.125, 0.5))
    assert result.recalls == (0.0, 0.5, 1.0)
    assert result.auc == pytest.approx(11 / 16, abs=1e-12)
    assert (result.positive_pairs, result.negative_pairs) == (2, 8)


def test_a_far_below_one_pair_puts_the_threshold_strictly_above_the_largest_negative():
    # a: 0°, 20°; b: 20°, 40°. Positives 20° 20°; negatives a-b 20, 40, 0, 20: the largest is 0° (cosine 1).
    tied = verify(at_angles(0, 20, 20, 40), torch.tensor([0, 0, 1, 1]), fars=(1e-3,))
    assert tied.recalls == (0.0,)
    # a: 0°, 1°; b: 50°, 51°: the largest negative differs by 49°, both positives by 1°.
    apart = verify(at_angles(0, 1, 50, 51), torch.tensor([0, 0, 1, 1]), fars=(1e-3,))
    assert (apart.recalls, apart.auc) == ((1.0,), 1.0)


def test_positives_that_tie_with_the_first_refused_negative_are_refused():
    # Cosines are exact: a = e1, e2; b = e1, e3. Positives 0, 0; negatives e1e1=1, e1e3=0, e2e1=0, e2e3=0.
    # FAR 1/4 admits the 1 only; the next negative is 0, as are both positives.  AUC = (0 + 3·½)/4 for each = 3/8.
    e = torch.eye(3)
    result = verify(e[[0, 1, 0, 2]], torch.tensor([0, 0, 1, 1]), fars=(0.25, 0.99))
    assert result.recalls == (0.0, 0.0)
    assert result.auc == 3 / 8


@settings(max_examples=12, deadline=None)
@given(data=st.data())
def test_ties_equal_sklearn_for_every_block_size_and_order(data):
    n = data.draw(st.integers(4, 16))
    rows = data.draw(st.lists(st.lists(st.integers(0, 1), min_size=16, max_size=16), min_size=n, max_size=n))
    labels = torch.tensor([0, 0, 1, *data.draw(st.lists(st.integers(0, 4), min_size=n - 3, max_size=n - 3))])
    embeddings = lattice(rows)
    recalls, auc = by_sklearn(embeddings.double() @ embeddings.double().T / 16, labels, FARS)
    order = torch.tensor(data.draw(st.permutations(range(n))))
    for block_size in (data.draw(st.integers(1, 3)), 64):
        result = verify(embeddings[order], labels[order], fars=FARS, block_size=block_size)
        assert list(result.recalls) == pytest.approx(recalls, abs=1e-12)
        assert result.auc == pytest.approx(auc, abs=1e-9)


def scores_of(embeddings: torch.Tensor, labels: torch.Tensor, block_size: int) -> tuple[list[float], list[bool]]:
    """The float32 similarities of all pairs, as one list; tests/evaluation/test_pairs.py checks them."""
    scores, same = [], []
    for every, positive in PairBlocks(gallery=Gallery.of(embeddings, labels), block_size=block_size):
        rest = Counter(every.tolist()) - Counter(positive.tolist())
        negative = list(rest.elements())
        scores += positive.tolist() + negative
        same += [True] * len(positive) + [False] * len(negative)
    return scores, same


# 1.0: spread out; 1e-2: all cosines above 0.999; 1e-4: an untrained net, all on a few grid cells next to 1.
@pytest.mark.parametrize("block_size", [300, 64])
@pytest.mark.parametrize("spread", [1.0, 1e-2, 1e-4])
def test_random_embeddings_equal_sklearn(spread, block_size):
    stream = torch.Generator().manual_seed(3)
    labels = torch.arange(300) // 6
    noise = torch.randn(50, 32, generator=stream)[labels] + 1.5 * torch.randn(300, 32, generator=stream)
    embeddings = torch.ones(32) + spread * noise
    result = verify(embeddings, labels, fars=FARS, block_size=block_size)
    scores, same = scores_of(embeddings, labels, block_size)
    fpr, tpr, _ = roc_curve(same, scores, drop_intermediate=False)
    assert list(result.recalls) == [float(tpr[fpr <= far].max()) for far in FARS]
    assert abs(result.auc - roc_auc_score(same, scores)) <= result.auc_error + 1e-12


def test_crowded_similarities_get_a_finer_grid():
    # Cosines of mean 1 - 6e-4 and a spread of 1e-4 lie on about 500 cells of 2^-20, where ties would be of order
    # 1/500; float32 values there are 2^-24 apart, so the finer grid (2^21 cells for the range) leaves only real ties.
    stream = torch.Generator().manual_seed(5)
    labels = torch.arange(400) // 4
    embeddings = torch.ones(64) + 2.5e-2 * torch.randn(400, 64, generator=stream)
    result = verify(embeddings, labels, fars=(0.1,), block_size=128)
    scores, same = scores_of(embeddings, labels, 128)
    positive = Counter(score for score, is_same in zip(scores, same, strict=True) if is_same)
    negative = Counter(score for score, is_same in zip(scores, same, strict=True) if not is_same)
    real_ties = sum(number * negative[score] for score, number in positive.items())
    assert result.auc_error == pytest.approx(0.5 * real_ties / (positive.total() * negative.total()), rel=0.05)
    assert result.auc == pytest.approx(roc_auc_score(same, scores), abs=1e-6)


@pytest.mark.parametrize("block_size", [2, 4])
def test_thresholds_near_zero_are_exact(block_size):
    # Cosines of about 1e-6 and below: hundreds of millions of floats share the first grid cell above 0.
    # One positive pair at cosine p, negatives at p·(1 ± 2^-20) and near 0.
    p = 2.0**-23
    up, down = p * (1 + 2**-20), p * (1 - 2**-20)
    a = torch.tensor([[1.0, 0, 0, 0], [p, 1, 0, 0]])
    b = torch.tensor([[up, 0, 1, 0]])
    c = torch.tensor([[down, 0, 0, 1]])
    embeddings, labels = torch.cat([a, b, c]), torch.tensor([0, 0, 1, 2])
    # Positives: {p}. Negatives, N = 5: up, down, and three of order p² ≈ 1e-14. FAR 0: above `up`: 0.
    # FAR 1/5: above `down`: the positive passes.
    assert verify(embeddings, labels, fars=(0.0, 0.2), block_size=block_size).recalls == (0.0, 1.0)


def test_minus_zero_is_zero():
    keys = cells.ordered_key(torch.tensor([-0.0, 0.0, -1e-45, 1e-45, -1.0, 1.0]))
    assert keys[:4].tolist() == [0, 0, -2, 1]
    assert keys[4] < -2 < 1 < keys[5]


def test_keys_are_consecutive_for_consecutive_floats_and_invert():
    values = torch.tensor([-1.0, -0.5, 0.25, 1.0])
    after = torch.nextafter(values, torch.tensor(2.0))
    assert (cells.ordered_key(after) - cells.ordered_key(values)).tolist() == [1, 1, 1, 1]
    assert [float(cells.similarity_of(int(key))) for key in cells.ordered_key(values)] == values.tolist()


@pytest.mark.parametrize(
    ("labels", "positives", "negatives"), [([], 0, 0), ([7], 0, 0), ([1, 2, 3], 0, 3), ([5, 5, 5], 3, 0)]
)
def test_nothing_to_measure_is_none(labels, positives, negatives):
    result = verify(torch.ones(len(labels), 3), torch.tensor(labels, dtype=torch.long), fars=(1e-3, 0.1))
    assert (result.recalls, result.auc, result.auc_error) == ((None, None), None, None)
    assert (result.positive_pairs, result.negative_pairs) == (positives, negatives)


def test_a_broken_model_scores_like_a_constant_one():
    # All similarities are 0: no pair lies above the threshold, every comparison is a tie.
    result = verify(torch.full((6, 4), math.nan), torch.tensor([0, 0, 1, 1, 2, 2]), fars=(1e-3, 0.1))
    assert (result.recalls, result.auc) == ((0.0, 0.0), 0.5)


@pytest.mark.parametrize(
    ("far", "negatives", "allowed"),
    [
        (0.001, 1000, 1),
        (0.001, 999, 0),
        (0.1, 30, 3),
        (0.29, 100, 29),
        (0.7, 10, 7),
        (0.0, 5, 0),
        (1e-3, 86_724_400, 86724),
    ],
)
def test_allowed_negatives_survive_binary_rounding(far, negatives, allowed):
    # 0.29·100 = 28.999999999999996 in binary, yet 29/100 <= 0.29.
    assert verification._allowed(far, negatives) == allowed


@pytest.mark.parametrize("far", [-0.1, 1.0, 2.0, math.nan])
def test_a_far_outside_zero_to_one_is_refused(far):
    with pytest.raises(ValueError, match=r"^far must"):
        verify(torch.ones(2, 2), torch.tensor([0, 0]), fars=(far,))


def test_embeddings_that_want_gradients_or_come_from_inference_mode_are_fine():
    with torch.inference_mode():
        frozen = at_angles(0, 10, 30, 90, 85)
    labels = torch.tensor([0, 0, 1, 1, 2])
    live = at_angles(0, 10, 30, 90, 85).requires_grad_()
    assert verify(frozen, labels, fars=(0.125,)) == verify(live, labels, fars=(0.125,))
