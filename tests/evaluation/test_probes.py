"""Probes against scikit-learn, and who teaches whom."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from fedemb.evaluation.embedded import Embedded
from fedemb.evaluation.probes import KnnProbe, LinearProbe, logistic_regression, teachers


def writers(users: int = 20, classes: int = 5, each: int = 3) -> Embedded:
    """Every user has `each` images of every class."""
    stream = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat_interleave(each).repeat(users) + 3
    owners = torch.arange(users).repeat_interleave(classes * each)
    centres = torch.randn(classes + 3, 8, generator=stream)
    embeddings = centres[labels] + 1.5 * torch.randn(len(labels), 8, generator=stream)
    return Embedded(embeddings=torch.nn.functional.normalize(embeddings, dim=1), labels=labels, owners=owners)


def test_half_of_the_users_teach_where_classes_are_shared():
    test = writers(users=7)
    teach = teachers(test, seed=0)
    per_user = teach.view(7, -1)
    assert bool((per_user.all(dim=1) | ~per_user.any(dim=1)).all())
    assert int(per_user.any(dim=1).sum()) == 4
    assert not torch.equal(teach, teachers(test, seed=1)) or not torch.equal(teach, teachers(test, seed=2))


def test_half_of_the_images_teach_where_a_class_is_a_user():
    test = Embedded.of_identities(torch.randn(11, 4), torch.tensor([9, 9, 9, 9, 2, 2, 2, 5, 9, 2, 2]))
    teach = teachers(test, seed=0)
    assert [int(teach[test.labels == label].sum()) for label in (9, 2, 5)] == [3, 3, 1]


def halves(test: Embedded) -> tuple[np.ndarray, ...]:
    teach = teachers(test, seed=0)
    return tuple(
        value.numpy() for part in (teach, ~teach) for value in (test.embeddings[part].double(), test.labels[part])
    )


def test_one_neighbour_and_all_pairs_of_votes_equal_sklearn():
    test = writers()
    taught, classes, asked, truth = halves(test)
    one = KNeighborsClassifier(1).fit(taught, classes).score(asked, truth)
    assert KnnProbe(k=1, seed=0).metrics(test) == {"knn@1": pytest.approx(one, abs=1e-12)}
    # Votes without draws: sklearn's own probabilities tell which queries have one; they agree on all others.
    model = KNeighborsClassifier(5).fit(taught, classes)
    shares = np.sort(model.predict_proba(asked), axis=1)
    clear = shares[:, -1] > shares[:, -2]
    right = (model.predict(asked) == truth) & clear
    drawn = int((~clear).sum())
    found = KnnProbe(k=5, seed=0).metrics(test)["knn@5"] * len(asked)
    assert right.sum() <= round(found) <= right.sum() + drawn
    assert drawn < len(asked) / 4


def test_a_draw_goes_to_the_nearer_class():
    # k = 2: one vote each, for 0 at cosine 0.8 and for 1 at 0.6.
    rows = torch.tensor([[0.8, 0.6], [0.6, 0.8], [1.0, 0.0], [1.0, 0.0]])
    test = Embedded(embeddings=rows, labels=torch.tensor([0, 1, 0, 1]), owners=torch.tensor([0, 0, 1, 1]))
    answers = {KnnProbe(k=2, seed=seed).metrics(test)["knn@2"] for seed in range(8)}
    assert answers == {0.5}  # (1, 0) twice, once of each class; the other way round both answers are one class, too


def test_more_neighbours_than_taught_images_are_all_of_them():
    assert KnnProbe(k=500, seed=0).metrics(writers(users=2, classes=2, each=1))["knn@500"] is not None


def test_linear_probe_equals_sklearn():
    test = writers()
    taught, classes, asked, truth = halves(test)
    model = LogisticRegression(C=3.0, tol=1e-8, max_iter=2000).fit(taught, classes)
    weight = logistic_regression(
        torch.from_numpy(taught),
        torch.from_numpy(classes) - 3,
        classes=5,
        strength=3.0,
        iterations=2000,
        tolerance=1e-7,
    )
    np.testing.assert_allclose(weight[:, :-1], model.coef_, atol=2e-4)
    # Biases are not penalised: only their differences count.
    np.testing.assert_allclose(
        weight[:, -1] - weight[:, -1].mean(), model.intercept_ - model.intercept_.mean(), atol=2e-4
    )
    found = LinearProbe(strength=3.0, iterations=500, seed=0).metrics(test)["linear"]
    assert found == pytest.approx(model.score(asked, truth), abs=1.5 / len(asked))


@pytest.mark.parametrize("probe", [KnnProbe(k=1, seed=0), LinearProbe(strength=1.0, iterations=5, seed=0)])
def test_nobody_to_ask_is_none(probe):
    test = Embedded.of_identities(torch.eye(3), torch.tensor([1, 2, 3]))
    assert list(probe.metrics(test).values()) == [None]
