"""Parts of users: disjoint, complete, and each user's own images."""

import pytest

from fedemb.data.subset import PartOfUsers
from fedemb.data.synthetic import SyntheticUsers
from fedemb.data.users import share_images
from fedemb.testing import check_user_dataset

ALL = SyntheticUsers(num_users=10, examples_per_user=3, classes=10, seed=1, image_shape=(1, 4, 4))


def labels(part):
    return part.load(range(part.num_users))["label"][::3].tolist()


def test_parts_hold_every_user_once():
    every = ALL.load(range(10))["label"][::3].tolist()
    assert labels(PartOfUsers(of=ALL, parts=3, chosen=[1])) == every[1::3]
    parts = [labels(PartOfUsers(of=ALL, parts=4, chosen=chosen)) for chosen in ([0], [1, 2], [3])]
    assert sorted(label for part in parts for label in part) == sorted(every)


def test_keeps_the_contract_and_counts():
    part = PartOfUsers(of=ALL, parts=4, chosen=[1, 3])
    check_user_dataset(part)
    assert (part.num_users, part.num_examples_total) == (5, 15)
    assert part.name == "synthetic, parts 1, 3 of 4"
    assert part.privacy_unit == ALL.privacy_unit


def test_images_are_known_again():
    """What a release asks before it measures on them."""
    assert share_images(ALL, PartOfUsers(of=ALL, parts=4, chosen=[0]))


@pytest.mark.parametrize("chosen", [[4], [-1], [1, 1]])
def test_other_parts_are_refused(chosen):
    with pytest.raises(ValueError, match=r"distinct numbers of 0 \.\. 3"):
        PartOfUsers(of=ALL, parts=4, chosen=chosen)


def test_an_empty_part_is_refused():
    with pytest.raises(ValueError, match="no user of 10"):
        PartOfUsers(of=ALL, parts=20, chosen=[15])
