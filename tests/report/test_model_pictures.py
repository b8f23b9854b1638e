"""ROC, neighbours and map from embeddings that a hand can place."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image
from small import make_users

from fedemb.report import embedding_map, neighbours, roc
from fedemb.report.embedded import Embedded, embedded
from fedemb.report.model_chapters import Look, images, verification


def at(degrees, labels):
    """Embeddings on a circle, one image a user."""
    angles = torch.tensor(degrees, dtype=torch.float64).deg2rad()
    rows = torch.stack([angles.cos(), angles.sin()], dim=1).float()
    users = make_users(counts=(1,) * len(degrees))
    owners = [(user, 0) for user in range(len(degrees))]
    return Embedded(
        label="<m>", embeddings=rows, labels=torch.tensor(labels), owners=owners, users=users, total=len(degrees)
    )


FOUND = at([0, 10, 30, 60, 100, 150, 200], [0, 1, 0, 0, 1, 2, 1])


def test_the_nearest_come_first_without_the_query_and_are_judged_by_identity():
    answers = neighbours.nearest(FOUND, 0)
    assert [answer.index for answer in answers] == [1, 2, 3, 4, 5]
    assert [answer.right for answer in answers] == [False, True, True, False, False]
    assert answers[0].similarity == pytest.approx(np.cos(np.radians(10)), abs=1e-6)


def test_queries_are_the_first_images_of_identities_with_another_image():
    assert neighbours.queries(FOUND) == [0, 1]  # identity 2 has one image: nothing could be right
    many = at(list(range(40)), [i // 2 for i in range(40)])
    assert neighbours.queries(many) == [0, 8, 16, 22, 30, 38]


def test_pictures_are_the_pixels_themselves_or_small():
    pixels = FOUND.image(3)
    uri = neighbours.data_uri(pixels)
    data = base64.b64decode(uri.removeprefix("data:image/png;base64,"))
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels[0])
    large = neighbours.data_uri(np.zeros((3, 200, 100), dtype=np.uint8))
    assert Image.open(io.BytesIO(base64.b64decode(large.partition(",")[2]))).size == (32, 64)


def test_a_panel_marks_right_and_wrong_by_sign_and_words():
    panel = neighbours.panel(FOUND, [0])
    assert panel.count("✓") == 2
    assert panel.count("✗") == 3
    assert panel.count("<img") == 6


def test_test_users_are_spread_evenly_where_they_are_too_many():
    users = make_users(counts=(4, 0, 4, 4, 4, 4, 4, 4))
    forward = lambda batch: batch.float().flatten(1)[:, :3]  # noqa: E731
    models = {"m": forward, "n": lambda batch: -forward(batch)}
    some, opposite = embedded(models, users, torch.device("cpu"), most_images=14)
    assert (some.label, opposite.label) == ("m", "n")
    assert torch.equal(opposite.embeddings, -some.embeddings)
    assert some.owners == [(user, place) for user in (0, 2, 4, 6) for place in range(4)]
    assert some.total == 28
    assert some.labels.tolist() == [user for user, _ in some.owners]
    for index in (0, 7, 15):
        rows = torch.from_numpy(some.image(index)).float().flatten()[:3]
        torch.testing.assert_close(some.embeddings[index], rows / rows.norm())


def test_a_roc_is_thinned_to_the_steps_below():
    fars, recalls = [0.0, 0.001, 0.1, 1.0], [0.2, 0.5, 0.9, 1.0]
    found = roc.thinned(fars, recalls)
    assert found[0] == (pytest.approx(0.001), 0.5)
    assert found[-1] == (pytest.approx(1.0), 1.0)
    assert {recall for far, recall in found if far < 0.0999} == {0.5}
    assert {recall for far, recall in found if 0.1 < far < 0.999} == {0.9}
    assert roc.thinned([], []) == []


def test_principal_components_find_the_line_that_points_lie_on():
    places = np.array([-3.0, -1.0, 0.0, 4.0])
    flat = embedding_map.principal_components(np.outer(places, [0.6, 0.0, 0.8]) + 5.0)
    assert np.abs(flat[:, 0]) == pytest.approx(np.abs(places - places.mean()))
    assert flat[:, 1] == pytest.approx(0.0, abs=1e-12)


def test_whatever_is_installed_makes_a_map():
    name, project = embedding_map.projection()
    clouds = at([angle + 120 * cloud for cloud in range(3) for angle in range(6)], [i // 6 for i in range(18)])
    drawn = embedding_map.chart(clouds, project, name)
    assert drawn.count("<title>identity ") == 18
    assert "nan" not in drawn


def look(individuals):
    return Look(found=FOUND, curve=([0.0, 0.5, 1.0], [0.1, 0.5, 1.0]), individuals=individuals)


def test_single_images_are_for_those_who_may_be_shown():
    shown = images([look(True)], asked=False)
    assert "data:image/png" in shown.html
    assert "because these runs are simulations" in shown.html
    hidden = images([look(False)], asked=False)
    assert "<img" not in hidden.html
    assert "<svg" not in hidden.html
    assert "Left out, no simulation: &lt;m&gt;" in hidden.html
    assert list(verification([look(False)]).charts) == ["roc"]  # an exact function of all, as metrics are
    assert images([], asked=False).html == ""
