"""Transforms against hand arithmetic and, for the warp, a loop over pixels."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedemb.data.transforms import (
    Compose,
    GlobalLabels,
    HorizontalFlip,
    LocalLabels,
    RandomAffine,
    RandomCrop,
    ScalePixels,
    warp,
)


def rng(seed=0):
    return np.random.default_rng(seed)


def labelled(labels):
    return {"label": torch.tensor(labels, dtype=torch.int64), "mask": torch.ones(len(labels))}


def images(n=5, channels=2, height=6, width=9, seed=0, raw=False):
    image = torch.from_numpy(rng(seed).uniform(-1, 1, (n, channels, height, width))).float()
    return {"image": (128 * image + 128).to(torch.uint8) if raw else image}


ALL = [
    Compose(),
    ScalePixels(),
    RandomAffine(degrees=20, translate=0.2, scale=(0.8, 1.2), shear=10),
    HorizontalFlip(),
    RandomCrop(padding=2),
]


def test_pixels_are_divided_by_128_less_one():
    raw = torch.tensor([0, 64, 128, 255], dtype=torch.uint8).reshape(1, 1, 2, 2)
    scaled = ScalePixels()({"image": raw}, rng())["image"]
    assert scaled.dtype == torch.float32
    assert scaled.flatten().tolist() == [-1.0, -0.5, 0.0, 0.9921875]
    assert raw.flatten().tolist() == [0, 64, 128, 255]


def test_images_that_are_scaled_already_are_refused():
    """As ToTensor gives them: all of them would become about -1."""
    with pytest.raises(
        ValueError, match=r"^a data set gives images as uint8 .*, got torch\.float32: leave the scaling"
    ):
        ScalePixels()(images(), rng())


def test_local_labels_are_numbered_by_first_appearance():
    batch = LocalLabels(max_classes=8)(labelled([7, 3, 7, 900, 3]), rng())
    assert batch["label"].tolist() == [0, 1, 0, 2, 1]
    assert batch["classes"].tolist() == [3] * 5
    assert batch["classes"].dtype == torch.int64
    assert batch["mask"].tolist() == [1] * 5


def test_labels_beyond_the_last_row_of_the_head_are_masked_out():
    before = labelled([7, 3, 7, 900, 3])
    batch = LocalLabels(max_classes=2)(before, rng())
    assert batch["mask"].tolist() == [1, 1, 1, 0, 1]
    assert batch["label"].tolist() == [0, 1, 0, 0, 1]
    assert batch["classes"].tolist() == [2] * 5
    assert before["mask"].tolist() == [1] * 5


def test_global_labels_stay_and_those_beyond_the_head_are_masked_out():
    before = {**labelled([7, 3, -1, 900, 0]), "mask": torch.tensor([1.0, 0.0, 1.0, 1.0, 1.0])}
    batch = GlobalLabels(classes=8)(before, rng())
    assert batch["label"].tolist() == [7, 3, 0, 0, 0]
    assert batch["mask"].tolist() == [1, 0, 0, 0, 1]
    assert "classes" not in batch


def test_an_example_that_is_masked_already_stays_masked():
    batch = LocalLabels(max_classes=2)({**labelled([1, 1]), "mask": torch.tensor([0.0, 1.0])}, rng())
    assert batch["mask"].tolist() == [0, 1]


@given(st.lists(st.integers(0, 6), max_size=20), st.integers(1, 5))
def test_local_labels_equal_a_dictionary_filled_in_order(labels, max_classes):
    numbers = {}
    for label in labels:
        numbers.setdefault(label, len(numbers))
    batch = LocalLabels(max_classes=max_classes)(labelled(labels), rng())
    kept = [numbers[label] < max_classes for label in labels]
    assert batch["mask"].tolist() == [float(keep) for keep in kept]
    assert batch["label"].tolist() == [numbers[label] * keep for label, keep in zip(labels, kept, strict=True)]
    assert batch["classes"].tolist() == [min(len(numbers), max_classes)] * len(labels)


def warped_by_a_loop(image, degrees, shift, scale, shear, fill):
    """[H, W] image: for each output pixel the bilinear value at the inverse of shear, turn, scale, shift."""
    height, width = image.shape
    angle, slant = np.deg2rad(degrees), np.deg2rad(shear)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])  # y points down
    forward = scale * turn @ np.array([[1, np.tan(slant)], [0, 1]])
    centre = np.array([width / 2, height / 2])
    out = np.empty_like(image)
    for row in range(height):
        for column in range(width):
            seen = np.array([column + 0.5, row + 0.5]) - centre - np.multiply(shift, [width, height])
            x, y = np.linalg.solve(forward, seen) + centre - 0.5
            left, top = int(np.floor(x)), int(np.floor(y))
            out[row, column] = sum(
                (1 - abs(x - i)) * (1 - abs(y - j)) * (image[j, i] if 0 <= i < width and 0 <= j < height else fill)
                for i in (left, left + 1)
                for j in (top, top + 1)
            )
    return out


def test_warp_equals_a_loop_over_pixels():
    batch = images(n=4)["image"]
    settings = [(0, (0.2, -0.1), 1, 0), (30, (0, 0), 1, 0), (0, (0, 0), 0.7, 25), (-50, (-0.15, 0.3), 1.4, -10)]
    degrees, shift, scale, shear = (torch.tensor(values, dtype=torch.float32) for values in zip(*settings, strict=True))
    got = warp(batch, degrees=degrees, shift=shift, scale=scale, shear=shear, fill=-1.0)
    for image, result, setting in zip(batch.double().numpy(), got.numpy(), settings, strict=True):
        for channel in range(2):
            np.testing.assert_allclose(result[channel], warped_by_a_loop(image[channel], *setting, -1.0), atol=2e-5)


def test_a_quarter_turn_is_counter_clockwise_as_seen():
    batch = images(n=1, height=8, width=8)["image"]
    turned = warp(
        batch,
        degrees=torch.tensor([90.0]),
        shift=torch.zeros(1, 2),
        scale=torch.ones(1),
        shear=torch.zeros(1),
        fill=-1.0,
    )
    torch.testing.assert_close(turned, batch.rot90(1, (2, 3)), atol=1e-5, rtol=0)


def test_affine_without_ranges_changes_nothing_and_fills_with_background():
    batch = images()
    torch.testing.assert_close(RandomAffine()(batch, rng())["image"], batch["image"], atol=1e-5, rtol=0)
    white = {"image": torch.ones(1, 1, 8, 8)}
    smaller = RandomAffine(scale=(0.5, 0.5))(white, rng())["image"]
    assert smaller.mean() == pytest.approx((16 * 1 + 48 * -1) / 64, abs=0.05)  # a quarter of the area is left
    assert smaller[0, 0, 0, 0] == -1
    assert RandomAffine(scale=(0.5, 0.5), fill=0.25)(white, rng())["image"][0, 0, 0, 0] == 0.25


def test_affine_stays_within_its_ranges_and_reaches_them():
    """A dot in the middle of 41 x 41 moves by at most 20% of the side, along both axes and both ways."""
    dots = torch.full((400, 1, 41, 41), -1.0)
    dots[:, :, 20, 20] = 1.0
    moved = RandomAffine(translate=0.2)({"image": dots}, rng())["image"].squeeze(1) + 1
    places = torch.arange(41.0)
    for centre in ((moved.sum(1) @ places) / moved.sum((1, 2)), (moved.sum(2) @ places) / moved.sum((1, 2))):
        offset = centre - 20
        assert offset.abs().max() <= 8.2 + 1e-3
        assert offset.min() < -7.5
        assert offset.max() > 7.5


def test_each_image_gets_draws_of_its_own():
    same = {"image": images(n=1)["image"].expand(6, -1, -1, -1)}
    warped = RandomAffine(degrees=20)(same, rng())["image"]
    assert len({tuple(image.flatten().tolist()) for image in warped}) == 6


def test_flip():
    batch = images(n=400, height=1, width=3)
    assert torch.equal(HorizontalFlip(probability=0)(batch, rng())["image"], batch["image"])
    assert torch.equal(HorizontalFlip(probability=1)(batch, rng())["image"], batch["image"][..., [2, 1, 0]])
    half = HorizontalFlip()(batch, rng())["image"]
    flipped = (half != batch["image"]).any(-1).any(-1).any(-1)
    assert 140 < flipped.sum() < 260  # 200 +- 6 standard deviations
    assert torch.equal(half[flipped], batch["image"][flipped].flip(-1))


def test_crop_is_a_shift_with_background_and_every_shift_occurs():
    batch = images(n=300, height=3, width=4)
    cropped = RandomCrop(padding=1)(batch, rng())["image"]
    seen = set()
    for before, after in zip(batch["image"], cropped, strict=True):
        around = torch.full((2, 5, 6), -1.0)
        around[:, 1:4, 1:5] = before
        places = [
            (t, left)
            for t in range(3)
            for left in range(3)
            if torch.equal(around[:, t : t + 3, left : left + 4], after)
        ]
        assert len(places) == 1
        seen.add(places[0])
    assert len(seen) == 9
    assert torch.equal(RandomCrop(padding=0)(batch, rng())["image"], batch["image"])


def test_compose_applies_in_order():
    def append(letter):
        return lambda batch, rng: {"letters": batch["letters"] + letter}

    assert Compose(transforms=[append("a"), append("b")])({"letters": ""}, rng()) == {"letters": "ab"}


@pytest.mark.parametrize("transform", ALL, ids=lambda transform: type(transform).__name__)
def test_transforms_draw_from_the_given_stream_only_and_leave_their_argument_alone(transform):
    batch = images(raw=isinstance(transform, ScalePixels))
    before, state = batch["image"].clone(), torch.get_rng_state()
    first, again, other = (transform(batch, rng(seed))["image"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert torch.equal(batch["image"], before)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.shape == before.shape
    if not isinstance(transform, (Compose, ScalePixels)):
        assert not torch.equal(first, other)


@pytest.mark.parametrize(
    "transform",
    [*ALL, LocalLabels(max_classes=3), GlobalLabels(classes=3)],
    ids=lambda transform: type(transform).__name__,
)
def test_transforms_take_no_examples(transform):
    batch = {**images(n=0, raw=isinstance(transform, ScalePixels)), **labelled([])}
    assert transform(batch, rng())["image"].shape == (0, 2, 6, 9)


@pytest.mark.parametrize(
    "make",
    [
        lambda: LocalLabels(max_classes=0),
        lambda: RandomAffine(degrees=-1),
        lambda: RandomAffine(translate=1),
        lambda: RandomAffine(scale=(1.1, 0.9)),
        lambda: RandomAffine(scale=(0.0, 1.0)),
        lambda: RandomAffine(shear=90),
        lambda: HorizontalFlip(probability=1.5),
        lambda: RandomCrop(padding=-1),
    ],
)
def test_impossible_settings_are_refused(make):
    with pytest.raises(ValueError, match=r"must .*got"):
        make()
