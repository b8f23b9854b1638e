"""What is in a prepared store: counts, quantiles, a histogram in text, and a contact sheet of a few users."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from fedemb.core.types import UserId
from fedemb.data.pictures import from_pixels
from fedemb.data.store import StoreUsers

_QUANTILES = {"min": 0.0, "10 %": 0.1, "median": 0.5, "90 %": 0.9, "max": 1.0}
_BINS, _BAR = 8, 40  # rows and longest row of a histogram
_EIGHTHS = " ▏▎▍▌▋▊▉█"
_TILE, _GAP, _NAME, _TEXT = 56, 4, 210, 13  # pixels


@dataclass(frozen=True, kw_only=True)
class Spread:
    """How a whole number is spread over users. counts: value -> users that have it."""

    counts: Mapping[int, int]

    def quantile(self, share: float) -> int:
        """The smallest value that at least this share of the users does not exceed."""
        values = sorted(self.counts)
        reached = np.cumsum([self.counts[value] for value in values])
        return values[int(np.searchsorted(reached, share * reached[-1] - 1e-9))]

    def mean(self) -> float:
        """The average over users."""
        return sum(value * users for value, users in self.counts.items()) / sum(self.counts.values())

    def line(self) -> str:
        """Quantiles and mean in one line."""
        told = [f"{name} {self.quantile(share)}" for name, share in _QUANTILES.items()]
        return ", ".join([*told, f"mean {self.mean():.1f}"])

    def histogram(self) -> list[str]:
        """A row for each of a few equal ranges of values, with a bar as long as its share of users."""
        low, high = min(self.counts), max(self.counts)
        width = -(-(high - low + 1) // _BINS)
        firsts = range(low, high + 1, width)
        bins = [sum(self.counts.get(first + step, 0) for step in range(width)) for first in firsts]
        names = [f"{first}-{min(first + width - 1, high)}" if width > 1 else f"{first}" for first in firsts]
        longest, digits = max(map(len, names)), len(f"{max(bins):,}")
        return [
            f"{name:>{longest}} {users:>{digits},} {_bar(users / max(bins))}".rstrip()
            for name, users in zip(names, bins, strict=True)
        ]


@dataclass(frozen=True, kw_only=True)
class Description:
    """A store in numbers. images, classes: of a user."""

    images: Spread
    classes: Spread


def describe(store: StoreUsers) -> Description:
    """One pass over the users' labels; no image is read."""
    images, classes = Counter[int](), Counter[int]()
    for user in range(store.num_users):
        labels = store.labels(user)
        images[len(labels)] += 1
        classes[len(np.unique(labels))] += 1
    return Description(images=Spread(counts=images), classes=Spread(counts=classes))


def contact_sheet(store: StoreUsers, *, users: int = 8, images: int = 10) -> Image.Image:
    """A picture with a row for each of some users, evenly spread over the store, and their first images."""
    chosen = sorted({round(place * (store.num_users - 1) / max(1, users - 1)) for place in range(users)})
    step, on_paper = _TILE + _GAP, store.manifest.info.polarity.startswith("ink")
    sheet = Image.new("RGB", (_NAME + images * step + _GAP, len(chosen) * step + _GAP), "white")
    for row, user in enumerate(chosen):
        top = _GAP + row * step
        _write(sheet, top, _names(store, user))
        for column, pixels in enumerate(store.load([user])["image"][:images].numpy()):
            sheet.paste(_tile(pixels, on_paper=on_paper), (_NAME + column * step, top))
    return sheet


def _names(store: StoreUsers, user: UserId) -> Sequence[str]:
    labels = store.labels(user)
    name = store.class_name(int(labels[0])) if len(labels) and len(np.unique(labels)) == 1 else None
    count = f"{len(labels)} images" + (f" of {name}" if name and name != store.user_id(user) else "")
    return [_short(store.user_id(user)), _short(count)]


def _short(text: str, most: int = 27) -> str:
    """The start and the end, which often holds the number."""
    return text if len(text) <= most else f"{text[: most // 2]}…{text[-(most // 2) :]}"


def _write(sheet: Image.Image, top: int, lines: Sequence[str]) -> None:
    font, draw = ImageFont.load_default(_TEXT), ImageDraw.Draw(sheet)
    for number, line in enumerate(lines):
        draw.text((2 * _GAP, top + 12 + number * (_TEXT + 4)), line, fill="black" if number == 0 else "#666", font=font)


def _tile(pixels: np.ndarray, *, on_paper: bool) -> Image.Image:
    """[Ch, H, W] as a square. on_paper: show ink dark on white."""
    image = from_pixels(255 - pixels if on_paper else pixels)
    resampling = Image.Resampling.NEAREST if max(image.size) < _TILE else Image.Resampling.BILINEAR
    return image.convert("RGB").resize((_TILE, _TILE), resampling)


def _bar(share: float) -> str:
    """A bar of eighths of a character; anybody at all shows."""
    eighths = max(round(share * _BAR * 8), 1 if share else 0)
    return "█" * (eighths // 8) + _EIGHTHS[eighths % 8].strip()
