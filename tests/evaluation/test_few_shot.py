"""Episodes against a loop in numpy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fedemb.evaluation.embedded import Embedded, class_positions
from fedemb.evaluation.few_shot import FewShot


def crowd(classes: int = 12, each: int = 8) -> Embedded:
    stream = torch.Generator().manual_seed(0)
    labels = torch.arange(classes).repeat_interleave(each)
    return Embedded.of_identities(
        torch.randn(classes, 6, generator=stream)[labels] + torch.randn(len(labels), 6, generator=stream), labels
    )


def test_equals_a_loop():
    test, measure = crowd(), FewShot(ways=4, shots=(1, 3), queries=2, episodes=70, seed=5)
    found = measure.metrics(test)
    unit = torch.nn.functional.normalize(test.embeddings.double(), dim=1).numpy()
    for shots in (1, 3):
        places = [p.numpy() for p in class_positions(test.labels, at_least=shots + 2)]
        scores = []
        for episode in measure._draw(places, shots).numpy():
            means = np.stack([unit[own[:shots]].mean(0) for own in episode])
            means /= np.linalg.norm(means, axis=1, keepdims=True)
            right = [np.argmax(means @ unit[query]) == way for way, own in enumerate(episode) for query in own[shots:]]
            scores.append(np.mean(right))
        assert found[f"few_shot@4way{shots}shot"] == pytest.approx(np.mean(scores), abs=1e-9)
        assert found[f"few_shot@4way{shots}shot:se"] == pytest.approx(np.std(scores, ddof=1) / 70**0.5, abs=1e-9)


def test_an_episode_has_distinct_classes_and_images_and_the_seed_decides():
    test, measure = crowd(), FewShot(ways=5, shots=(1,), queries=3, episodes=40, seed=1)
    places = [p.numpy() for p in class_positions(test.labels, at_least=4)]
    drawn = measure._draw(places, 1)
    classes = test.labels[drawn]
    assert bool((classes == classes[:, :, :1]).all())
    assert all(len(set(row.tolist())) == 5 for row in classes[:, :, 0])
    assert all(len(set(row.tolist())) == 20 for row in drawn.flatten(1))
    assert torch.equal(drawn, measure._draw(places, 1))
    assert not torch.equal(drawn, FewShot(ways=5, shots=(1,), queries=3, episodes=40, seed=2)._draw(places, 1))


def test_draws_count_as_wrong():
    test = Embedded.of_identities(torch.ones(30, 3), torch.arange(30) // 6)
    assert FewShot(ways=5, shots=(1,), queries=5, episodes=3, seed=0).metrics(test)["few_shot@5way1shot"] == 0.0


def test_too_few_classes_are_none():
    found = FewShot(ways=5, shots=(7,), queries=2, episodes=3, seed=0).metrics(crowd())
    assert found == {"few_shot@5way7shot": None, "few_shot@5way7shot:se": None}
