"""Image files to pixels: nothing but an image of a known format and of bearable size is decoded.

Shapes: Ch x H x W pixels.
"""

from __future__ import annotations

import io
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
from PIL import BmpImagePlugin, Image, ImageOps, JpegImagePlugin, PngImagePlugin, PpmImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

from fedemb.core import check

MAX_PIXELS = 64_000_000
SUFFIXES = (".png", ".jpg", ".jpeg", ".pgm", ".ppm", ".pnm", ".bmp", ".webp")

_MODES = {1: "L", 3: "RGB"}
_UNREADABLE = (
    *(OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, ArithmeticError, AttributeError),
    *(MemoryError, NotImplementedError, struct.error, zlib.error),
)
_JPEG_QUALITY = 95
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright, from 5 on width and height are swapped
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_STARTS: tuple[tuple[bytes, str, Callable[[io.BytesIO], ImageFile]], ...] = (
    (b"\x89PNG", "png", PngImagePlugin.PngImageFile),
    (b"\xff\xd8", "jpeg", JpegImagePlugin.JpegImageFile),
    (b"P", "pnm", PpmImagePlugin.PpmImageFile),
    (b"BM", "bmp", BmpImagePlugin.BmpImageFile),
    (b"RIFF", "webp", WebPImagePlugin.WebPImageFile),
)
_PICKLES = (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def is_image(name: str) -> bool:
    """Does a file's name say that it is an image that can be read here? Hidden files are not."""
    *folders, last = name.split("/")
    return last.lower().endswith(SUFFIXES) and not last.startswith(".") and "__MACOSX" not in folders


def kind_of(data: bytes) -> str | None:
    """png, jpeg, pnm, bmp, webp, or None for anything else; from the first bytes."""
    return next((kind for start, kind, _ in _STARTS if data.startswith(start)), None)


@dataclass(frozen=True, kw_only=True)
class Picture:
    """How a data set's image files become pixels: channels, polarity, orientation and size are settled here.

    Transparency is ignored: a pixel has the colour that is stored for it.

    channels: 1 for grey, 3 for RGB.
    size: (H, W) to resize to, aspect not kept; None keeps each image's own.
    short_side: in pixels; larger images are made smaller, aspect kept. For storing photographs.
    invert: for ink-on-white sources: ink becomes 255.
    max_pixels: larger images are refused before they are decoded.
    """

    channels: int
    size: tuple[int, int] | None = None
    short_side: int | None = None
    invert: bool = False
    max_pixels: int = MAX_PIXELS

    def __post_init__(self) -> None:
        if self.channels not in _MODES:
            raise ValueError(f"channels must be 1 (grey) or 3 (RGB), got channels={self.channels}")
        if self.size is not None and len(self.size) != 2:
            raise ValueError(f"size must be (height, width), got size={self.size}")
        for side in self.size or ():
            check.at_least("size", side, 1)
        if self.short_side is not None:
            check.at_least("short_side", self.short_side, 1)

    def pixels(self, data: bytes, where: str) -> np.ndarray:
        """[Ch, H, W] uint8, upright by the file's EXIF orientation.

        where: the file, for messages.
        Raises: ValueError in one line for anything that is no readable image, or a larger one than `max_pixels`.
        """
        return as_pixels(self.image(data, where))

    def image(self, data: bytes, where: str) -> Image.Image:
        """The same as an image of mode L or RGB."""
        with _named(where):
            image = self._opened(data)
            turn = _UPRIGHT.get(_orientation(image))
            size = _upright_size(image)
            wanted = self._wanted(size)
            if wanted != size:
                width, height = wanted if size == image.size else wanted[::-1]
                # A JPEG decodes at a half, a quarter, … where that is enough.
                image.draft(None, (2 * width, 2 * height))
            plain = _plain(image).convert(_MODES[self.channels])
            upright = plain if turn is None else plain.transpose(turn)
            inverted = ImageOps.invert(upright) if self.invert else upright
            return inverted if inverted.size == wanted else inverted.resize(wanted, Image.Resampling.BILINEAR)

    def original(self, data: bytes, where: str) -> bytes:
        """The file as it is if it can be read and needs no change; else encoded again, a JPEG as JPEG, others as PNG.

        Only PNG and JPEG files stay as they are. An orientation in their EXIF data stays, and counts at every reading.
        Raises: as `pixels`.
        """
        with _named(where):
            image = self._opened(data)
            size = _upright_size(image)
            if not self.invert and kind_of(data) in ("png", "jpeg") and self._wanted(size) == size:
                image.load()
                return data
        return encoded(self.image(data, where), "jpeg" if kind_of(data) == "jpeg" else "png")

    def _opened(self, data: bytes) -> ImageFile:
        """The image with its header read and nothing decoded."""
        kind = next((make for start, _, make in _STARTS if data.startswith(start)), None)
        if kind is None:
            what = "a pickle, which is never opened" if data.startswith(_PICKLES) else f"it starts with {data[:4]!r}"
            raise ValueError(f"no PNG, JPEG, PNM, BMP or WebP: {what}")
        # Damaged EXIF data are no reason to speak up: such an image counts as upright.
        warnings.filterwarnings("ignore", category=UserWarning, module=r"PIL\.TiffImagePlugin")
        image = kind(io.BytesIO(data))
        if not 0 < image.width * image.height <= self.max_pixels:
            raise ValueError(f"{image.width} x {image.height} pixels, not 1 to {self.max_pixels}")
        return image

    def _wanted(self, size: tuple[int, int]) -> tuple[int, int]:
        """(W, H) to make of an upright image of (W, H)."""
        if self.size is not None:
            return self.size[1], self.size[0]
        if self.short_side is None or min(size) <= self.short_side:
            return size
        scale = self.short_side / min(size)
        return max(1, round(size[0] * scale)), max(1, round(size[1] * scale))


def as_pixels(image: Image.Image) -> np.ndarray:
    """[Ch, H, W] uint8 of an image of mode L or RGB."""
    array = np.asarray(image)
    return array[None] if array.ndim == 2 else np.ascontiguousarray(array.transpose(2, 0, 1))


def from_pixels(pixels: np.ndarray) -> Image.Image:
    """An image of mode L or RGB. pixels: [1 or 3, H, W] uint8."""
    return Image.fromarray(pixels[0] if len(pixels) == 1 else np.ascontiguousarray(pixels.transpose(1, 2, 0)))


def encoded(image: Image.Image, kind: str) -> bytes:
    """A file's bytes. kind: "png", or "jpeg" at quality 95 without chroma subsampling."""
    stream = io.BytesIO()
    if kind == "jpeg":
        image.save(stream, format="JPEG", quality=_JPEG_QUALITY, subsampling=0)
    else:
        image.save(stream, format="PNG")
    return stream.getvalue()


def _orientation(image: Image.Image) -> int:
    """1 to 8 as EXIF has it."""
    try:
        told = image.getexif().get(_ORIENTATION)
    except (SyntaxError, TypeError, ValueError, LookupError, struct.error):
        return 1
    return told if told in _UPRIGHT else 1


def _upright_size(image: Image.Image) -> tuple[int, int]:
    """(W, H) as it is to be shown."""
    return image.size[::-1] if _orientation(image) >= 5 else image.size


def _plain(image: Image.Image) -> Image.Image:
    """Without the note on transparency, and a 16-bit grey image scaled to 8 bits: conversion alone would clip it."""
    image.load()
    image.info.pop("transparency", None)
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if image.mode.startswith("I") else image


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Whatever goes wrong with the bytes of a file, in one line that names the file."""
    try:
        yield
    except _UNREADABLE as error:
        raise ValueError(f"{where}: cannot be read as an image ({error}): replace the file or leave it out") from None
