"""Minibatches of a virtual client. Every image carries its own number in its pixels, so that it can be followed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedemb.core.rng import generator
from fedemb.core.types import VirtualClient
from fedemb.data.batching import Batcher, pad_steps
from fedemb.data.transforms import Compose, LocalLabels, ScalePixels
from fedemb.data.users import InMemoryUsers, UserDataset

KEEP = Compose()


def numbered(counts, label=lambda user: user):
    """User u has counts[u] images of one pixel; the pixel is the image's number + 1 in the whole data set."""
    users, first = [], 1
    for user, count in enumerate(counts):
        pixels = torch.arange(first, first + count, dtype=torch.uint8).reshape(count, 1, 1, 1)
        users.append({"image": pixels, "label": torch.full((count,), label(user), dtype=torch.int64)})
        first += count
    return InMemoryUsers(users)


def client(*users, seed=0):
    return VirtualClient(round=0, seed=seed, users=users)


def trained_on(batch):
    """Numbers of the images with mask 1, in training order."""
    return batch["image"].flatten()[batch["mask"].flatten() == 1].tolist()


def test_each_epoch_sees_each_example_exactly_once_in_a_new_order():
    batcher = Batcher(users=numbered([4, 0, 6]), batch_size=4, epochs=3, transform=KEEP)
    batch = batcher.load(client(2, 1, 0))
    order = trained_on(batch)
    epochs = [order[:10], order[10:20], order[20:]]
    assert [sorted(epoch) for epoch in epochs] == [list(range(1, 11))] * 3
    assert len({tuple(epoch) for epoch in epochs}) == 3
    assert all(min(epoch.index(i) for i in range(1, 5)) < max(epoch.index(i) for i in range(5, 11)) for epoch in epochs)
    assert batch["image"].shape == (8, 4, 1, 1, 1)  # ceil(30 / 4) steps
    assert batch["label"].flatten()[:30].tolist() == [0 if number <= 4 else 2 for number in order]


def test_padding_stands_at_the_end_with_mask_zero():
    batch = Batcher(users=numbered([7]), batch_size=3, transform=KEEP).load(client(0))
    assert batch["mask"].dtype == torch.float32
    assert batch["mask"].tolist() == [[1, 1, 1], [1, 1, 1], [1, 0, 0]]
    assert batch["image"][2].flatten().tolist()[1:] == [0, 0]


def test_the_cap_cuts_the_whole_stream_off():
    """max_examples counts all epochs together: the capped stream is the start of the uncapped one."""
    users = numbered([5, 5])
    whole = Batcher(users=users, batch_size=4, epochs=2, transform=KEEP).load(client(0, 1))
    capped = Batcher(users=users, batch_size=4, epochs=2, max_examples=13, transform=KEEP).load(client(0, 1))
    assert trained_on(capped) == trained_on(whole)[:13]
    assert capped["mask"].shape == (4, 4)
    assert capped["mask"].sum() == 13
    loose = Batcher(users=users, batch_size=4, epochs=2, max_examples=99, transform=KEEP).load(client(0, 1))
    assert trained_on(loose) == trained_on(whole)


def test_the_cap_per_user_keeps_a_seeded_choice_of_each_user():
    users = numbered([6, 2, 0, 9])
    batcher = Batcher(users=users, batch_size=4, epochs=2, max_examples_per_user=3, transform=KEEP)
    choices = set()
    for seed in range(30):
        first, second = (
            trained_on(batcher.load(client(0, 1, 2, 3, seed=seed)))[half] for half in (slice(8), slice(8, 16))
        )
        assert sorted(first) == sorted(second)  # both epochs train on the same choice
        kept = [[i for i in first if i in owned] for owned in (range(1, 7), range(7, 9), range(9, 18))]
        assert [len(set(images)) for images in kept] == [3, 2, 3]
        choices.add(tuple(sorted(kept[0])))
    assert len(choices) > 10  # of (6 choose 3) = 20; always the first 3 would give 1


def test_a_client_without_examples_has_no_steps_but_the_right_shapes():
    users = InMemoryUsers([{"image": torch.zeros(0, 3, 5, 4, dtype=torch.uint8), "label": torch.zeros(0).long()}])
    transform = Compose(transforms=[ScalePixels(), LocalLabels(max_classes=2)])
    for limits in ({}, {"max_examples_per_user": 2, "max_examples": 1}):
        batcher = Batcher(users=users, batch_size=7, epochs=2, transform=transform, **limits)
        for empty in (client(0), client()):
            batch = batcher.load(empty)
            assert {name: tuple(value.shape) for name, value in batch.items()} == {
                "image": (0, 7, 3, 5, 4),
                "label": (0, 7),
                "mask": (0, 7),
                "classes": (0, 7),
            }
            assert (batch["image"].dtype, batch["label"].dtype) == (torch.float32, torch.int64)


def test_batches_depend_on_the_seed_and_the_number_of_examples_alone():
    batcher = Batcher(users=numbered([9]), batch_size=4, epochs=2, transform=KEEP)
    assert trained_on(batcher.load(client(0))) == trained_on(batcher.load(client(0)))
    assert trained_on(batcher.load(client(0))) != trained_on(batcher.load(client(0, seed=1)))
    other = InMemoryUsers(
        [{"image": torch.arange(101, 110).to(torch.uint8).reshape(9, 1, 1, 1), "label": torch.ones(9).long()}]
    )
    shifted = Batcher(users=other, batch_size=4, epochs=2, transform=KEEP).load(client(0))
    assert trained_on(shifted) == [number + 100 for number in trained_on(batcher.load(client(0)))]


def test_local_labels_are_the_same_in_every_epoch_and_batch():
    users = numbered([3, 4, 2], label=lambda user: 70 + 10 * user)
    batcher = Batcher(users=users, batch_size=2, epochs=4, transform=LocalLabels(max_classes=3))
    batch = batcher.load(client(0, 1, 2))
    pairs = set(zip(trained_on(batch), batch["label"].flatten()[batch["mask"].flatten() == 1].tolist(), strict=True))
    assert len(pairs) == 9  # one local label for each image
    assert {local for _, local in pairs} == {0, 1, 2}
    assert batch["label"][0, 0] == 0  # numbered by first appearance


def test_padding_has_one_class_so_that_a_masked_softmax_stays_finite():
    batch = Batcher(users=numbered([1, 1, 1]), batch_size=2, transform=LocalLabels(max_classes=9)).load(client(0, 1, 2))
    assert batch["classes"].tolist() == [[3, 3], [3, 1]]
    assert batch["label"][1, 1] == 0


def test_the_transform_draws_from_its_own_stream():
    """A transform that draws more or less leaves the order of the examples alone."""
    drawn = []

    def greedy(batch, rng):
        drawn.append(rng.random())
        return batch

    users = numbered([9])
    greedy_batch = Batcher(users=users, batch_size=4, transform=greedy).load(client(0, seed=5))
    assert trained_on(greedy_batch) == trained_on(
        Batcher(users=users, batch_size=4, transform=KEEP).load(client(0, seed=5))
    )
    Batcher(users=users, batch_size=4, transform=greedy).load(client(0, seed=6))
    assert len({*drawn, generator(5, "batches").random(), generator(6, "batches").random()}) == 4


@given(
    counts=st.lists(st.integers(0, 9), min_size=1, max_size=5),
    batch_size=st.integers(1, 8),
    epochs=st.integers(1, 3),
    max_examples=st.none() | st.integers(1, 40),
    per_user=st.none() | st.integers(1, 5),
    seed=st.integers(0, 2**63 - 1),
)
def test_any_client_has_the_planned_number_of_examples_and_steps(
    counts, batch_size, epochs, max_examples, per_user, seed
):
    batcher = Batcher(
        users=numbered(counts),
        batch_size=batch_size,
        epochs=epochs,
        max_examples=max_examples,
        max_examples_per_user=per_user,
        transform=KEEP,
    )
    batch = batcher.load(client(*range(len(counts)), seed=seed))
    assert batcher.num_examples(client(*range(len(counts)), seed=seed)) == len(trained_on(batch))
    expected = epochs * sum(min(count, per_user or 9) for count in counts)
    expected = expected if max_examples is None else min(expected, max_examples)
    assert batch["mask"].sum() == expected
    assert batch["mask"].shape == (-(-expected // batch_size), batch_size)
    assert batch["mask"].flatten()[:expected].all()  # a real example is never behind a padded one


def test_pad_steps_stacks_ragged_clients():
    batcher = Batcher(users=numbered([5, 0, 2]), batch_size=2, transform=LocalLabels(max_classes=4))
    clients = [batcher.load(client(user)) for user in range(3)]
    stacked = pad_steps(clients)
    assert stacked["image"].shape == (3, 3, 2, 1, 1, 1)
    assert stacked["mask"].tolist() == [[[1, 1], [1, 1], [1, 0]], [[0, 0]] * 3, [[1, 1], [0, 0], [0, 0]]]
    assert stacked["classes"][1].tolist() == [[1, 1]] * 3
    for row, batch in zip(range(3), clients, strict=True):
        for name, value in batch.items():
            assert torch.equal(stacked[name][row, : len(value)], value)
    assert pad_steps(clients[1:2])["image"].shape == (1, 0, 2, 1, 1, 1)
    with pytest.raises(ValueError, match="at least one client"):
        pad_steps([])


@pytest.mark.parametrize("name", ["batch_size", "epochs", "max_examples", "max_examples_per_user"])
def test_limits_below_one_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got {name}=0"):
        Batcher(**{"users": numbered([1]), "batch_size": 1, "transform": KEEP, name: 0})


class Selective(UserDataset):
    """The same users, but some of their examples can be read; what was read is noted."""

    def __init__(self, base):
        self.base, self.read = base, []

    @property
    def num_users(self):
        return self.base.num_users

    def num_examples(self, user):
        return self.base.num_examples(user)

    def load(self, users):
        raise AssertionError("everything was read")

    def load_examples(self, users, places):
        loaded = [self.base.load([user]) for user in users]
        chosen = [
            {name: value[torch.as_tensor(where)] for name, value in batch.items()}
            for batch, where in zip(loaded, places, strict=True)
        ]
        batch = {name: torch.cat([part[name] for part in chosen]) for name in chosen[0]}
        self.read.append(batch["image"].flatten().tolist())
        return batch


@pytest.mark.parametrize(
    "limits", [{"max_examples_per_user": 2}, {"max_examples": 5}, {"max_examples": 14, "epochs": 3}]
)
def test_where_the_data_set_can_only_what_is_trained_on_is_read(limits):
    """Large users cost what their share costs; the batches are those of a data set that reads everything."""
    base = numbered([6, 0, 9, 1])
    users = Selective(base)
    limits = {"batch_size": 4, "transform": KEEP, **limits}
    wanted = Batcher(users=base, **limits).load(client(2, 1, 0, 3))
    found = Batcher(users=users, **limits).load(client(2, 1, 0, 3))
    assert {name: value.tolist() for name, value in found.items()} == {
        name: value.tolist() for name, value in wanted.items()
    }
    assert [sorted(read) for read in users.read] == [sorted(set(trained_on(wanted)))]


class Otherwise(InMemoryUsers):
    """Gives something else than it says."""

    def __init__(self, users, change):
        super().__init__(users)
        self.change = change

    def load(self, users):
        return self.change(super().load(users))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda batch: {"image": batch["image"]}, r"'label', got \['image'\]: label is missing$"),
        (lambda batch: {**batch, "label": batch["label"][1:]}, "disagree: 3 examples said, loaded .*'label': 2"),
        (lambda batch: {name: value[:2] for name, value in batch.items()}, "disagree: 3 examples said, loaded"),
    ],
)
def test_a_data_set_that_gives_something_else_than_it_says_is_one_line(change, words):
    pixels = torch.zeros(3, 1, 1, 1, dtype=torch.uint8)
    users = Otherwise([{"image": pixels, "label": torch.zeros(3, dtype=torch.int64)}], change)
    with pytest.raises(ValueError, match=words):
        Batcher(users=users, batch_size=2, transform=KEEP).load(client(0))
