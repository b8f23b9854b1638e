"""Data sets in memory, and example-level privacy as a special case."""

import pytest
import torch

from fedemb.data.users import Described, ExampleAsUser, InMemoryUsers


def ragged(counts=(2, 0, 3)):
    """Image i of user u has the pixel 10 u + i."""
    return InMemoryUsers(
        [
            {
                "image": (10 * user + torch.arange(count)).to(torch.uint8).reshape(count, 1, 1, 1),
                "label": torch.full((count,), user, dtype=torch.int64),
            }
            for user, count in enumerate(counts)
        ]
    )


def test_users_come_in_the_order_asked_for():
    users = ragged()
    assert users.num_users == 3
    assert [users.num_examples(user) for user in range(3)] == [2, 0, 3]
    batch = users.load([2, 1, 0])
    assert batch["image"].flatten().tolist() == [20, 21, 22, 0, 1]
    assert batch["label"].tolist() == [2, 2, 2, 0, 0]


def test_no_users_give_an_empty_batch_of_the_right_shape():
    batch = ragged().load([])
    assert batch["image"].shape == (0, 1, 1, 1)
    assert batch["label"].dtype == torch.int64


def test_a_data_set_needs_a_user():
    with pytest.raises(ValueError, match="at least one user"):
        InMemoryUsers([])


def person(images, labels):
    return {"image": images, "label": labels}


GOOD = person(torch.zeros(2, 1, 3, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64))
SHAPES = r"image uint8 \[n, Ch, H, W\] and label int64 \[n\]"


@pytest.mark.parametrize(
    ("wrong", "alone", "beside"),
    [
        (person(GOOD["image"].float(), GOOD["label"]), SHAPES, r"user 1 has image float32 \[2, 1, 3, 4\], label"),
        (person(GOOD["image"], GOOD["label"].int()), SHAPES, r"user 1 has .*label int32 \[2\] and user 0 has"),
        (person(GOOD["image"][0], GOOD["label"][:1]), SHAPES, r"user 1 has image uint8 \[1, 3, 4\]"),
        (person(GOOD["image"], GOOD["label"][:, None]), SHAPES, r"user 1 has .*label int64 \[2, 1\]"),
        (person(GOOD["image"][..., :2], GOOD["label"]), None, r"user 1 has image uint8 \[2, 1, 3, 2\]"),
        (person(GOOD["image"], GOOD["label"][:1]), "each must be", r"user 1 has .*label int64 \[1\]: each must be"),
        ({"image": GOOD["image"]}, SHAPES, r"user 1 has image uint8 \[2, 1, 3, 4\] and user 0 has .*label"),
        ({}, "user 0 has nothing: ", "user 1 has nothing and user 0 has image"),
        ({**GOOD, "age": torch.zeros(2)}, None, r"user 1 has age float32 \[2\], image .* and user 0 has image"),
        ({**GOOD, "age": torch.zeros(3)}, "each must be", "same names, types and shapes"),
        ({**GOOD, "age": torch.tensor(3)}, r"age int64 \[\], .*each must be", "same names, types and shapes"),
    ],
)
def test_what_would_stop_a_round_is_refused_at_the_start(wrong, alone, beside):
    """An error in a round would tell who was drawn. alone: the only user; beside: after a good one."""
    if alone is None:
        assert InMemoryUsers([wrong]).num_users == 1
    else:
        with pytest.raises(ValueError, match=alone) as caught:
            InMemoryUsers([wrong])
        assert "\n" not in str(caught.value)
    with pytest.raises(ValueError, match=beside) as caught:
        InMemoryUsers([GOOD, wrong])
    assert "\n" not in str(caught.value)


def test_other_values_are_allowed_if_every_user_has_them():
    users = InMemoryUsers([{**GOOD, "age": torch.tensor([3.0, 4.0])}] * 2)
    assert users.load([1])["age"].tolist() == [3.0, 4.0]


def test_an_image_of_two_users_is_two_examples():
    users = ExampleAsUser(InMemoryUsers([GOOD, GOOD]))
    assert users.num_users == 4


def test_the_description_counts_and_the_checksum_sees_every_pixel_and_owner():
    users = ragged()
    assert isinstance(users, Described)
    assert users.num_examples_total == 5
    assert users.checksum == ragged().checksum
    brighter = ragged()
    brighter.load([0])  # a copy, so that the next line changes the data set and not its batch
    brighter._examples[2]["image"][1] += 1
    assert brighter.checksum != users.checksum
    assert ragged((3, 0, 2)).checksum != users.checksum


def test_every_example_is_a_user_of_its_own():
    users = ExampleAsUser(ragged((0, 2, 0, 3, 0)))
    assert users.num_users == 5
    assert [users.num_examples(user) for user in range(5)] == [1] * 5
    assert [users.load([user])["image"].item() for user in range(5)] == [10, 11, 30, 31, 32]
    batch = users.load([4, 0, 2, 1])
    assert batch["image"].flatten().tolist() == [32, 10, 30, 11]
    assert batch["label"].tolist() == [3, 1, 3, 1]
    assert users.load([])["image"].shape == (0, 1, 1, 1)


def test_example_users_outside_the_range_are_refused():
    users = ExampleAsUser(ragged())
    for wrong in ([5], [-1]):
        with pytest.raises(ValueError, match=r"0 \.\. 4"):
            users.load(wrong)
    with pytest.raises(ValueError, match="at least one example"):
        ExampleAsUser(ragged((0, 0)))


def test_slots_are_as_many_for_every_user_and_hold_the_first_examples():
    """What group privacy rests on: another user in the place of one changes these slots and no other."""
    users = ExampleAsUser(ragged((0, 2, 3)), examples_per_user=2)
    assert (users.num_users, users.num_examples_total, users.examples_per_user) == (6, 4, 2)
    assert [users.num_examples(slot) for slot in range(6)] == [0, 0, 1, 1, 1, 1]
    assert users.load(range(6))["image"].flatten().tolist() == [10, 11, 20, 21]
    assert users.load([5, 0, 3])["image"].flatten().tolist() == [21, 11]
    other = ExampleAsUser(ragged((0, 1, 3)), examples_per_user=2)
    changed = [users.load([slot])["image"].tolist() != other.load([slot])["image"].tolist() for slot in range(6)]
    assert changed == [False, False, False, True, False, False]
    with pytest.raises(ValueError, match="examples_per_user"):
        ExampleAsUser(ragged(), examples_per_user=0)


def test_examples_are_described_as_their_base_is():
    users = ExampleAsUser(ragged())
    assert isinstance(users, Described)
    assert (users.name, users.num_examples_total, users.checksum) == ("in memory", 5, ragged().checksum)


class Counting(InMemoryUsers):
    """Reads single examples, and counts them."""

    read = 0

    def load_examples(self, users, places):
        self.read += sum(map(len, places))
        rows = [
            {name: value[place] for name, value in self.load([u]).items()}
            for u, place in zip(users, places, strict=True)
        ]
        return {name: torch.cat([row[name] for row in rows]) for name in rows[0]}


def test_a_base_that_can_reads_no_other_examples():
    counting = Counting([dict(ragged().load([user])) for user in range(ragged().num_users)])
    users, plain = ExampleAsUser(counting), ExampleAsUser(ragged())
    assert torch.equal(users.load([4, 0, 3])["image"], plain.load([4, 0, 3])["image"])
    assert counting.read == 3
