"""The procedural data set: a function of its settings, and learnable."""

import pickle

import pytest
import torch

from fedemb.data.synthetic import SyntheticUsers
from fedemb.data.users import Described

SETTINGS = {"num_users": 12, "examples_per_user": 6, "classes": 12, "image_shape": (1, 16, 12), "seed": 3}


def test_users_are_a_function_of_the_settings_alone():
    first, second = SyntheticUsers(**SETTINGS), pickle.loads(pickle.dumps(SyntheticUsers(**SETTINGS)))
    second.load([7])  # asking for others first changes nothing
    one, two = first.load([2, 5]), second.load([2, 5])
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert torch.equal(first.load([5])["image"], one["image"][6:])
    assert not torch.equal(SyntheticUsers(**{**SETTINGS, "seed": 4}).load([2, 5])["image"], one["image"])


def test_shapes_and_types():
    batch = SyntheticUsers(**SETTINGS).load([0, 1])
    assert batch["image"].shape == (12, 1, 16, 12)
    assert batch["image"].dtype == torch.uint8
    assert batch["label"].tolist() == [0] * 6 + [1] * 6
    assert batch["label"].dtype == torch.int64
    none = SyntheticUsers(**SETTINGS).load([])
    assert (none["image"].shape, none["label"].shape) == ((0, 1, 16, 12), (0,))


def test_ragged_users_span_the_range_and_may_be_empty():
    users = SyntheticUsers(**{**SETTINGS, "num_users": 200, "min_examples": 0})
    counts = [users.num_examples(user) for user in range(200)]
    assert set(counts) == {0, 1, 2, 3, 4, 5, 6}
    assert [len(users.load([user])["label"]) for user in range(200)] == counts
    assert users.num_examples_total == sum(counts)


def test_the_number_of_images_is_known_without_a_pass_over_alike_users(monkeypatch):
    monkeypatch.setattr(SyntheticUsers, "num_examples", lambda self, user: pytest.fail("a pass over the users"))
    assert SyntheticUsers(**{**SETTINGS, "num_users": 10**9}).num_examples_total == 6 * 10**9


def test_several_labels_a_user():
    users = SyntheticUsers(**{**SETTINGS, "classes": 5, "labels_per_user": 3})
    assert users.load([1])["label"].tolist() == [3, 4, 0, 3, 4, 0]


def test_images_of_a_class_are_alike_and_classes_differ():
    """The nearest other image is of the same class: there is something to learn."""
    batch = SyntheticUsers(num_users=40, examples_per_user=5, classes=20, seed=0).load(range(40))
    distance = torch.cdist(batch["image"].flatten(1).float(), batch["image"].flatten(1).float())
    nearest = distance.fill_diagonal_(torch.inf).argmin(1)
    assert (batch["label"][nearest] == batch["label"]).float().mean() > 0.95


def test_the_checksum_changes_with_every_setting():
    changes = [
        {},
        {"num_users": 13},
        {"examples_per_user": 7},
        {"min_examples": 1},
        {"classes": 11},
        {"labels_per_user": 2},
        {"image_shape": (3, 16, 12)},
        {"seed": 4},
    ]
    users = [SyntheticUsers(**{**SETTINGS, **change}) for change in changes]
    assert len({user.checksum for user in users}) == len(changes)
    assert SyntheticUsers(**SETTINGS).checksum == users[0].checksum
    assert isinstance(users[0], Described)


@pytest.mark.parametrize(
    "change", [{"num_users": 0}, {"classes": 0}, {"min_examples": 7}, {"min_examples": -1}, {"labels_per_user": 0}]
)
def test_impossible_settings_are_refused(change):
    with pytest.raises(ValueError, match=r"must be .*got"):
        SyntheticUsers(**{**SETTINGS, **change})


def test_a_user_who_does_not_exist_is_refused():
    for user in (-1, 12):
        with pytest.raises(ValueError, match=r"0 \.\. 11"):
            SyntheticUsers(**SETTINGS).load([user])
