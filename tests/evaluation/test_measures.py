"""Suites and the measures that they are made of."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.optimize import brentq
from sklearn.metrics import roc_curve

from fedemb.evaluation.embedded import Embedded, Suite
from fedemb.evaluation.measures import AllPairs, LeaveOneOut


def perfect() -> Embedded:
    return Embedded.of_identities(torch.eye(3)[[0, 0, 1, 1, 2, 2]], torch.tensor([5, 5, 6, 6, 7, 7]))


def test_a_suite_joins_its_measures_in_their_order():
    suite = Suite(measures={"a": LeaveOneOut(ks=(1,)), "b": AllPairs(fars=(0.1,))})
    assert list(suite.metrics(perfect()).items()) == [
        ("recall@1", 1.0),
        ("map@r", 1.0),
        ("recall@far=0.1", 1.0),
        ("auc", 1.0),
        ("eer", 0.0),
    ]
    assert suite.test_users_only


def test_one_name_twice_is_refused():
    suite = Suite(measures={"first": LeaveOneOut(ks=(1,)), "again": LeaveOneOut(ks=(2,))})
    with pytest.raises(ValueError, match=r"^evaluation\.measures\.again measures map@r again"):
        suite.metrics(perfect())


@pytest.mark.parametrize("block_size", [1024, 50])
def test_eer_is_where_sklearns_curve_meets_the_falling_diagonal(block_size):
    stream = torch.Generator().manual_seed(4)
    labels = torch.arange(300) // 6
    embeddings = torch.randn(50, 16, generator=stream)[labels] + 1.5 * torch.randn(300, 16, generator=stream)
    unit = torch.nn.functional.normalize(embeddings.double(), dim=1)
    left, right = torch.triu_indices(300, 300, offset=1)
    far, recall, _ = roc_curve(labels[left] == labels[right], (unit @ unit.T)[left, right], drop_intermediate=False)
    expected = brentq(lambda x: np.interp(x, far, recall) + x - 1, 0, 1)
    test = Embedded.of_identities(embeddings, labels)
    assert AllPairs(fars=(), block_size=block_size).metrics(test)["eer"] == pytest.approx(expected, abs=1e-3)


def test_equal_similarities_have_an_eer_of_a_half():
    test = Embedded.of_identities(torch.ones(4, 2), torch.tensor([0, 0, 1, 1]))
    assert AllPairs(fars=()).metrics(test) == {"auc": 0.5, "eer": 0.5}


def test_a_length_that_does_not_fit_is_named():
    with pytest.raises(ValueError, match=r"must be \[3\]"):
        Embedded.of_identities(torch.eye(3), torch.tensor([1, 2]))
