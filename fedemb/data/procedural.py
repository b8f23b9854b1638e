"""Characters of an endless invented script, drawn from the user's number alone: any number of users, nothing on disk.

A character is a few Bézier strokes between the points of a 3 x 3 lattice. Each image writes it anew: other control
points, another turn, size, slant and place, another pen, another ink, pixel noise.

Shapes: n images of a user, s strokes, 4 control points of a stroke, p pieces of a curve, H x H pixels.
Curves live in the unit square, x to the right and y down; (0.5, 0.5) is the centre of the image.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import torch

from fedemb.core import check
from fedemb.core.rng import generator
from fedemb.core.types import Batch, UserId
from fedemb.data.users import UserDataset

_VERSION = 1  # raise it with every change of what is drawn: the checksum must tell

# The character. Lengths are in units of the lattice's side.
_FEWEST_STROKES, _MOST_STROKES = 3, 4
_JOINED, _CURVED, _WAVY = 0.6, 0.65, 0.3  # probabilities; a wavy curve bends both ways
_LATTICE_JITTER, _BEND = 0.09, 0.45
_FRAME = 0.64  # the longer side of the character in the image

# The hand that writes it: standard deviations at nuisance = 1, lengths in sides of the image, pixels in grey levels.
_WOBBLE, _TURN, _SLANT, _STRETCH, _SHIFT = 0.02, 0.16, 0.16, 0.12, 0.07
_PEN, _PEN_SPREAD, _INK, _INK_SPREAD, _NOISE = 0.032, 0.2, 230.0, 25.0, 18.0
_HAND = 8  # normal draws an image beside those for control points and pixels

_PIECES = 16  # of a curve: short beside the blur
_BLUR = 0.028  # sides of the image: width of the kernel that the distance field is made with
_FAR = 40.0  # squared blurs: beyond, the kernel is constant; subnormal numbers would be slow


def _bernstein() -> np.ndarray:
    """[p + 1, 4]: the weights of the control points at evenly spaced parameters."""
    t = np.linspace(0.0, 1.0, _PIECES + 1)[:, None]
    return np.hstack([(1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t), t**3]).astype(np.float32)


_CURVE = _bernstein()


class ProceduralUsers(UserDataset):
    """Users who each have one character of their own: for runs at 10^7 or 10^8 users and for demonstrations.

    A user's images are a function of (seed, part, user) and of the kind of drawing, whatever the number of users, so
    a data set of any size costs nothing until it is read. Which image shows which character is hard to see from raw
    pixels and can be learned: the header of conf/recipe/procedural.yaml has the numbers. The images stand for nobody
    and for no published benchmark. On another machine a pixel may differ by a grey level, through rounding.
    """

    privacy_unit = "a made-up character of computed images (no person)"

    def __init__(
        self,
        *,
        num_users: int,
        examples_per_user: int = 20,
        size: int = 28,
        seed: int,
        part: str = "train",
        nuisance: float = 1.0,
    ) -> None:
        """Nothing is computed before it is asked for.

        size: H, at least 8; an image is [1, H, H]. Ink is bright on black.
        part: users of different parts have different characters, whatever their numbers: "train", "test".
        nuisance: how much the images of a user differ, 0 or above; 0 writes every image alike.

        Raises: ValueError in one line for a number out of range, or a part that is no plain word.
        """
        check.at_least("num_users", num_users, 1)
        check.at_least("examples_per_user", examples_per_user, 0)
        check.at_least("size", size, 8)
        check.non_negative("nuisance", nuisance)
        if not part.isidentifier():
            raise ValueError(f"part must be a word of letters, digits and _, e.g. train or test, got {part=}")
        self._num_users, self._examples, self._size = num_users, examples_per_user, size
        self._seed, self._part, self._nuisance = seed, part, float(nuisance)

    @property
    def name(self) -> str:
        """The data set's name in a report."""
        return "procedural"

    @property
    def num_users(self) -> int:
        """N."""
        return self._num_users

    @property
    def num_examples_total(self) -> int:
        """Images of all users."""
        return self._num_users * self._examples

    @property
    def checksum(self) -> str:
        """Digest of the settings that the images follow from."""
        settings = (_VERSION, self._num_users, self._examples, self._size, self._seed, self._part, self._nuisance)
        return hashlib.blake2b(f"procedural {settings}".encode(), digest_size=16).hexdigest()

    def num_examples(self, user: UserId) -> int:
        """How many images a user has: the same for all."""
        self._check(user)
        return self._examples

    def load(self, users: Sequence[UserId]) -> Batch:
        """All examples of some users, in the order asked for; the label is the user's number."""
        images = np.empty((len(users), self._examples, 1, self._size, self._size), np.uint8)
        for slot, user in enumerate(users):
            self._check(user)
            images[slot, :, 0] = self._images(user)
        labels = np.repeat(np.asarray(users, dtype=np.int64), self._examples)
        return {"image": torch.from_numpy(images).flatten(0, 1), "label": torch.from_numpy(labels)}

    def _check(self, user: UserId) -> None:
        if not 0 <= user < self._num_users:
            raise ValueError(f"user must lie in 0 .. {self._num_users - 1}, got {user=}")

    def _images(self, user: UserId) -> np.ndarray:
        """[n, H, H] uint8. One row of draws an image: the first images stay the same if there are more of them."""
        strokes = character(generator(self._seed, f"procedural character {self._part}", user))
        rng, pixels = generator(self._seed, f"procedural images {self._part}", user), self._size**2
        draws = rng.standard_normal((self._examples, strokes.size + _HAND + pixels), dtype=np.float32) * self._nuisance
        wobble, hand, noise = np.split(draws, [strokes.size, strokes.size + _HAND], axis=1)
        written = _written(strokes, wobble.reshape(-1, *strokes.shape), hand)
        radius = _PEN * np.exp(_PEN_SPREAD * hand[:, 6])
        grey = np.minimum(_INK + _INK_SPREAD * hand[:, 7], 255.0)[:, None, None]
        image = grey * inked(written, radius, self._size) + _NOISE * noise.reshape(-1, self._size, self._size)
        pictures: np.ndarray = np.rint(image.clip(0, 255)).astype(np.uint8)
        return pictures


def character(rng: np.random.Generator) -> np.ndarray:
    """[s, 4, 2]: the control points of a character about (0, 0), its longer side 1.

    Strokes lead from one point of a lattice to another, some from where the last one ended; some bend.
    """
    strokes = int(rng.integers(_FEWEST_STROKES, _MOST_STROKES + 1))
    lattice = np.stack(np.divmod(rng.permutation(9)[: 2 * strokes], 3), axis=1) / 2
    ends = (lattice + _LATTICE_JITTER * rng.standard_normal(lattice.shape)).reshape(2, strokes, 2)
    joined, curved, wavy = rng.random((3, strokes, 1)) < np.reshape([_JOINED, _CURVED, _WAVY], (3, 1, 1))
    first, last = np.where(joined, np.roll(ends[1], 1, axis=0), ends[0]), ends[1]
    first[0] = ends[0, 0]
    along = last - first
    aside = curved * _BEND * rng.choice([-1.0, 1.0], (strokes, 1)) * along[:, ::-1] * [1.0, -1.0]
    controls = [first, first + along / 3 + aside, last - along / 3 + np.where(wavy, -aside, aside), last]
    points = np.stack(controls, axis=1)
    curve = _CURVE @ points
    low, high = curve.min(axis=(0, 1)), curve.max(axis=(0, 1))
    framed: np.ndarray = (points - (low + high) / 2) / (high - low).max()
    return framed.astype(np.float32)


def _written(strokes: np.ndarray, wobble: np.ndarray, hand: np.ndarray) -> np.ndarray:
    """[n, s, 4, 2] in the unit square: the character, its control points moved, then slanted, turned, sized, shifted.

    wobble: [n, s, 4, 2] and hand: [n, 8], normal draws times the nuisance.
    """
    turn, slant, wide, high = _TURN * hand[:, 0], _SLANT * hand[:, 1], hand[:, 2], hand[:, 3]
    sine, cosine = np.sin(turn), np.cos(turn)
    wide, high = _FRAME * np.exp(_STRETCH * wide), _FRAME * np.exp(_STRETCH * high)
    rows = [[cosine, sine], [slant * cosine - sine, slant * sine + cosine]]  # where (1, 0) and (0, 1) go
    matrix = np.moveaxis(np.array(rows, np.float32), 2, 0) * np.stack([wide, high], axis=1)[:, :, None]
    place = 0.5 + _SHIFT * hand[:, None, None, 4:6]
    written: np.ndarray = (strokes + _WOBBLE / _FRAME * wobble) @ matrix[:, None] + place
    return written


def inked(strokes: np.ndarray, radius: np.ndarray, size: int) -> np.ndarray:
    """[n, size, size] in 0 .. 1: how much of each pixel a round pen covers.

    A Gaussian kernel summed along a straight line is exp(-d²/2b²) at the distance d from it, b the kernel's width.
    So the sum F over all curves gives a smooth distance sqrt(-2 b² ln F), and the kernel being a product of one
    factor for x and one for y, F is a product of two matrices. The edge is a ramp of one pixel.

    strokes: [n, s, 4, 2] control points in the unit square. radius: [n] of the pen, in sides of the image.
    """
    curve = _CURVE @ strokes  # [n, s, p + 1, 2]
    steps = np.diff(curve, axis=2)
    middles = ((curve[:, :, 1:] + curve[:, :, :-1]) / 2).reshape(len(curve), curve.shape[1] * _PIECES, 2)
    lengths = np.hypot(steps[..., 0], steps[..., 1]).reshape(len(curve), 1, curve.shape[1] * _PIECES)
    centres = (np.arange(size, dtype=np.float32) + 0.5)[:, None] / size  # of the pixels
    apart = ((centres - middles.transpose(2, 0, 1)[:, :, None]) / _BLUR) ** 2  # [2, n, size, s * p]
    along_x, along_y = np.exp(np.minimum(apart, _FAR) / -2)
    field = (along_y * lengths) @ along_x.transpose(0, 2, 1) / (_BLUR * math.sqrt(2 * math.pi))
    distance = _BLUR * np.sqrt(-2 * np.log(field.clip(math.exp(-_FAR / 2), 1.0)))
    covered: np.ndarray = ((radius[:, None, None] - distance) * size + 0.5).clip(0.0, 1.0)
    return covered
