"""Characters drawn from the user's number: pure, independent of N, disjoint by part, and recognisable."""

import pickle
import tracemalloc

import numpy as np
import pytest
import torch

from fedemb.core.rng import generator
from fedemb.data.procedural import ProceduralUsers, character, inked
from fedemb.data.users import Described
from fedemb.testing import check_user_dataset

SETTINGS = {"num_users": 50, "examples_per_user": 6, "seed": 3}


def images(user, **changes):
    return ProceduralUsers(**{**SETTINGS, **changes}).load([user])["image"]


def line(x0, y0, x1, y1):
    """[1, 1, 4, 2]: a straight stroke from one point of the unit square to another."""
    t = np.linspace(0, 1, 4)[:, None]
    return ((1 - t) * [x0, y0] + t * [x1, y1]).astype(np.float32)[None, None]


def test_users_are_a_function_of_the_settings_alone():
    first, second = ProceduralUsers(**SETTINGS), pickle.loads(pickle.dumps(ProceduralUsers(**SETTINGS)))
    second.load([7])  # asking for others first changes nothing
    one, two = first.load([2, 5, 2]), second.load([2, 5, 2])
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(first.load([5])["image"], one["image"][6:12])
    assert torch.equal(one["image"][:6], one["image"][12:])


def test_it_meets_the_contract_of_a_data_set():
    check_user_dataset(ProceduralUsers(num_users=10**8, examples_per_user=3, seed=0))
    check_user_dataset(ProceduralUsers(num_users=3, examples_per_user=0, size=8, seed=0))
    assert isinstance(ProceduralUsers(**SETTINGS), Described)


def test_shapes_labels_and_totals():
    users = ProceduralUsers(**SETTINGS, size=16)
    batch = users.load([4, 1])
    assert batch["image"].shape == (12, 1, 16, 16)
    assert batch["label"].tolist() == [4] * 6 + [1] * 6
    assert (users.num_examples(49), users.num_examples_total) == (6, 300)


def test_a_user_does_not_change_with_the_number_of_users_or_of_images():
    assert torch.equal(images(7), images(7, num_users=10**9))
    assert torch.equal(images(7), images(7, examples_per_user=9)[:6])


def test_parts_and_seeds_have_other_characters():
    """Without nuisance an image is its character, so equal characters would be equal images."""
    drawn = [
        ProceduralUsers(num_users=400, examples_per_user=1, seed=seed, part=part, nuisance=0.0).load(range(400))
        for seed, part in ((0, "train"), (0, "test"), (1, "train"))
    ]
    pictures = torch.cat([batch["image"] for batch in drawn]).flatten(1).numpy()
    assert len({picture.tobytes() for picture in pictures}) == 1200


def test_images_of_a_user_differ_as_much_as_the_nuisance_says():
    alike = images(7, nuisance=0.0)
    assert torch.equal(alike, alike[:1].expand_as(alike))
    spread = [images(7, nuisance=nuisance).float().std(0).mean() for nuisance in (0.1, 0.3, 1.0)]
    assert 0 < spread[0] < spread[1] < spread[2]


@pytest.mark.parametrize("num_users", [10**8, 10**12])
def test_any_number_of_users_costs_nothing(num_users):
    tracemalloc.start()
    users = ProceduralUsers(num_users=num_users, seed=0)
    assert users.num_examples_total == 20 * num_users
    assert users.num_examples(num_users - 1) == 20
    assert (len(users.checksum), users.name) == (32, "procedural")
    assert users.load([num_users - 1])["label"].tolist() == [num_users - 1] * 20
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2e6  # bytes; the arrays of the one user that was read


def test_the_pen_leaves_a_line_of_its_width_and_place():
    """Twice the radius wide: a line through the middle row of 101 pixels with a pen of 5 covers rows 45 .. 55."""
    covered = inked(line(0.2, 0.5, 0.8, 0.5), np.array([5 / 101], np.float32), 101)[0]
    assert covered[:, 50].sum() == pytest.approx(10.0, abs=0.1)
    assert np.allclose(covered[46:55, 50], 1.0)
    assert np.all(covered[[44, 56], 50] == 0.0)
    assert covered[50, 21:80].min() == 1.0  # from x = 0.2 to x = 0.8
    assert covered[50, :15].max() == covered[50, 86:].max() == 0.0
    upright = inked(line(0.5, 0.2, 0.5, 0.8), np.array([5 / 101], np.float32), 101)[0]
    assert np.allclose(upright, covered.T, atol=1e-4)  # x is to the right and y down


def test_a_line_is_as_thick_in_every_direction():
    def ink(x0, y0, x1, y1):
        return inked(line(x0, y0, x1, y1), np.array([0.05], np.float32), 64).sum()

    half = 0.3 / np.sqrt(2)
    slanted = ink(0.5 - half, 0.5 - half, 0.5 + half, 0.5 + half)
    assert slanted == pytest.approx(ink(0.2, 0.5, 0.8, 0.5), rel=0.02)


def test_a_character_is_three_or_four_strokes_in_a_frame():
    drawn = [character(generator(0, "test", user)) for user in range(300)]
    assert {len(strokes) for strokes in drawn} == {3, 4}
    t = np.linspace(0, 1, 200)[:, None, None, None]
    for strokes in drawn:
        a, b, c, d = np.moveaxis(strokes, 1, 0)
        curve = (1 - t) ** 3 * a + 3 * t * (1 - t) ** 2 * b + 3 * t**2 * (1 - t) * c + t**3 * d
        low, high = curve.min(axis=(0, 1, 2)), curve.max(axis=(0, 1, 2))
        assert (high - low).max() == pytest.approx(1.0, abs=0.02)
        assert np.allclose(low + high, 0.0, atol=0.03)


def test_ink_is_bright_on_black_and_covers_a_plausible_share():
    batch = ProceduralUsers(num_users=200, examples_per_user=5, seed=0).load(range(200))["image"].float()
    share = (batch > 128).float().mean(dim=(1, 2, 3))
    assert 0.08 < share.mean() < 0.25
    assert share.min() > 0.01
    assert share.max() < 0.5
    border = torch.cat([batch[:, 0, 0], batch[:, 0, -1], batch[:, 0, :, 0], batch[:, 0, :, -1]], dim=1)
    assert border.median() < 20


def test_a_character_can_be_recognised_but_not_by_pixels():
    """A user's mean of ten images finds fresh ones among 100 users far above chance (0.01), and far from surely."""
    seen = ProceduralUsers(num_users=100, examples_per_user=20, seed=0).load(range(100))["image"]
    seen = seen.reshape(100, 20, -1).double()
    means = seen[:, :10].mean(1)
    fresh = seen[:, 10:] - means.mean(0)
    means = torch.nn.functional.normalize(means - means.mean(0), dim=1)
    found = (fresh @ means.T).argmax(-1) == torch.arange(100)[:, None]
    assert 0.3 < found.double().mean() < 0.9


def test_the_checksum_changes_with_every_setting():
    changes = [
        {},
        {"num_users": 51},
        {"examples_per_user": 7},
        {"size": 32},
        {"seed": 4},
        {"part": "test"},
        {"nuisance": 0.5},
    ]
    users = [ProceduralUsers(**{**SETTINGS, **change}) for change in changes]
    assert len({user.checksum for user in users}) == len(changes)
    assert ProceduralUsers(**SETTINGS, nuisance=1).checksum == users[0].checksum  # 1 and 1.0 draw the same


@pytest.mark.parametrize(
    "change",
    [{"num_users": 0}, {"examples_per_user": -1}, {"size": 7}, {"nuisance": -0.1}, {"part": "a/b"}, {"part": ""}],
)
def test_impossible_settings_are_refused_in_one_line(change):
    with pytest.raises(ValueError, match=r"must be .*got") as error:
        ProceduralUsers(**{**SETTINGS, **change})
    assert "\n" not in str(error.value)
    assert next(iter(change)) in str(error.value)


def test_a_user_who_does_not_exist_is_refused():
    users = ProceduralUsers(**SETTINGS)
    for ask in (users.num_examples, lambda user: users.load([0, user])):
        for user in (-1, 50):
            with pytest.raises(ValueError, match=r"0 \.\. 49"):
                ask(user)
