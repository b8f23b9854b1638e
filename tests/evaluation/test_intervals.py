"""Drawing identities again, against a bootstrap that copies similarities and calls scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from sklearn.metrics import auc, roc_curve

from fedemb.core.rng import generator
from fedemb.evaluation.embedded import Embedded
from fedemb.evaluation.guess import spread_thresholds
from fedemb.evaluation.intervals import IdentityIntervals, readings
from fedemb.evaluation.pairs import Gallery
from fedemb.evaluation.resampling import count_units, units_of
from fedemb.evaluation.verification import verify

FARS = (0.02, 0.2)


def crowd(identities: int, each: int = 3) -> tuple[torch.Tensor, torch.Tensor]:
    stream = torch.Generator().manual_seed(7)
    labels = torch.arange(identities).repeat_interleave(each)
    centres = torch.randn(identities, 8, generator=stream)[labels]
    return centres + torch.randn(len(labels), 8, generator=stream), labels[
        torch.randperm(len(labels), generator=stream)
    ]


def by_copying(similarity: np.ndarray, labels: np.ndarray, units: np.ndarray, weights: np.ndarray) -> list[float]:
    """One draw: every pair as often as the text of resampling.py says, in scikit-learn's curve."""
    left, right = np.triu_indices(len(labels), 1)
    own = units[left] == units[right]
    times = np.where(own, weights[units[left]], weights[units[left]] * weights[units[right]])
    same = labels[left] == labels[right]
    far, recall, _ = roc_curve(same, similarity[left, right], sample_weight=times, drop_intermediate=False)
    return [
        *np.interp(FARS, far, recall),
        auc(far, recall),
        brentq(lambda x: np.interp(x, far, recall) + x - 1, 0, 1),
    ]


@pytest.mark.parametrize("most_units", [100, 5])
def test_every_draw_equals_copying_the_pairs(most_units):
    """Identities alone, and in groups; thresholds below every distinct similarity make the curve exact."""
    embeddings, labels = crowd(12, each=2)
    units = units_of(labels, most_units=most_units, stream=generator(0, "test"))
    size = int(units.max()) + 1
    assert size == min(12, most_units)
    weights = torch.from_numpy(generator(1, "test").multinomial(size, [1 / size] * size, size=40))
    thresholds = spread_thresholds(Gallery.of(embeddings, labels), 1000)
    found = readings(*count_units(embeddings, labels, units, thresholds).curves(weights), FARS)
    unit = torch.nn.functional.normalize(embeddings.double(), dim=1).numpy()
    for row, draw in zip(found.tolist(), weights.numpy(), strict=True):
        expected = by_copying(unit @ unit.T, labels.numpy(), units.numpy(), draw)
        assert row == pytest.approx(expected, abs=1e-6)


def test_groups_are_of_equal_number_and_keep_identities_whole():
    labels = torch.arange(23).repeat_interleave(2)
    units = units_of(labels, most_units=5, stream=generator(0, "test"))
    assert bool((units.view(23, 2)[:, 0] == units.view(23, 2)[:, 1]).all())
    assert sorted(torch.bincount(units[::2]).tolist()) == [4, 4, 5, 5, 5]


def test_blocks_do_not_change_the_counts(monkeypatch):
    embeddings, labels = crowd(30)
    units = units_of(labels, most_units=7, stream=generator(0, "test"))
    thresholds = spread_thresholds(Gallery.of(embeddings, labels), 20)
    whole = count_units(embeddings, labels, units, thresholds)
    monkeypatch.setattr("fedemb.evaluation.resampling._BLOCK", 7)
    blocks = count_units(embeddings, labels, units, thresholds)
    assert torch.equal(whole.positive, blocks.positive)
    assert torch.equal(whole.negative, blocks.negative)
    assert int(whole.positive.sum()) == 30 * 3
    assert int(whole.negative.sum()) == 90 * 89 // 2 - 30 * 3


def test_few_thresholds_come_close():
    embeddings, labels = crowd(60)
    thresholds = spread_thresholds(Gallery.of(embeddings, labels), 128)
    assert len(thresholds) <= 128
    counts = count_units(embeddings, labels, labels, thresholds)
    (found,) = readings(*counts.curves(torch.ones(1, 60)), FARS).tolist()
    exact = verify(embeddings, labels, fars=FARS)
    assert found == pytest.approx([*exact.recalls, exact.auc, exact.eer], abs=0.01)


def measure(**changes) -> IdentityIntervals:
    settings = {"fars": FARS, "ks": (1,), "draws": 400, "confidence": 0.9, "seed": 0}
    return IdentityIntervals(**settings | changes)


def test_retrieval_bounds_are_percentiles_of_weighted_means():
    embeddings, labels = crowd(9)
    found = measure().metrics(Embedded.of_identities(embeddings, labels))
    unit = torch.nn.functional.normalize(embeddings, dim=1)
    similarity = (unit @ unit.T).fill_diagonal_(-2)
    right = (labels[similarity.argmax(dim=1)] == labels).double()
    per_identity = torch.stack([right[labels == identity].sum() for identity in range(9)]).numpy()
    weights = generator(0, "bootstrap").multinomial(9, [1 / 9] * 9, size=400)
    expected = np.quantile((weights @ per_identity) / 27, [0.05, 0.95])
    assert [found["recall@1:low"], found["recall@1:high"]] == pytest.approx(expected)


def test_bounds_enclose_the_value_and_narrow_with_more_identities():
    widths = []
    for identities in (20, 320):
        embeddings, labels = crowd(identities)
        found = measure().metrics(Embedded.of_identities(embeddings, labels))
        exact = verify(embeddings, labels, fars=FARS)
        assert found["recall@far=0.2:low"] < exact.recalls[1] < found["recall@far=0.2:high"]
        assert found["auc:low"] < exact.auc < found["auc:high"]
        widths.append(found["auc:high"] - found["auc:low"])
    assert 2 < widths[0] / widths[1] < 8  # 16 times the identities: about a quarter


def test_the_bounds_have_their_coverage():
    """Independent test sets of 40 identities: 90 % bounds hold the value of the population 4 times in 5 or more."""
    stream = torch.Generator().manual_seed(11)
    labels = torch.arange(40).repeat_interleave(3)
    values, bounds = [], []
    for _ in range(40):
        centres = torch.randn(40, 8, generator=stream)[labels]
        test = Embedded.of_identities(centres + torch.randn(120, 8, generator=stream), labels)
        values.append(verify(test.embeddings, labels, fars=()).auc)
        found = measure(fars=(), ks=(), draws=200).metrics(test)
        bounds.append((found["auc:low"], found["auc:high"]))
    truth = float(np.mean(values))
    assert sum(low <= truth <= high for low, high in bounds) >= 32


@pytest.mark.parametrize("labels", [[1, 2, 3], [4, 4, 4]])
def test_nothing_to_measure_is_none(labels):
    found = measure().metrics(Embedded.of_identities(torch.eye(3), torch.tensor(labels)))
    assert found["recall@far=0.2:low"] is found["auc:high"] is None
