"""Image files to pixels: nothing but an image of a known format and of bearable size is decoded.

Shapes: Ch x H x W pixels.
"""

from __future__ import annotations

import io
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
_UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, TypeError, IndexError, zlib.error)
_JPEG_QUALITY = 95
_ORIENTATION = 0x0112  # EXIF tag; 1 is upright, from 5 on width and height are swapped
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
            turned = _is_turned(image)
            wanted = self._wanted(image.size[::-1] if turned else image.size)
            if wanted != image.size:
                width, height = wanted[::-1] if turned else wanted
                image.draft(
                    None, (2 * width, 2 * height)
                )  # a JPEG decodes at a half, a quarter, … where that is enough
            coloured = _eight_bits(ImageOps.exif_transpose(image)).convert(_MODES[self.channels])
            inverted = ImageOps.invert(coloured) if self.invert else coloured
            return inverted if inverted.size == wanted else inverted.resize(wanted, Image.Resampling.BILINEAR)

    def original(self, data: bytes, where: str) -> bytes:
        """The file as it is if it can be read and needs no change; else encoded again, a JPEG as JPEG, others as PNG.

        Raises: as `pixels`.
        """
        with _named(where):
            image = self._opened(data)
            image.load()
            if not self.invert and not _is_turned(image) and self._wanted(image.size) == image.size:
                return data
        return encoded(self.image(data, where), "jpeg" if image.format == "JPEG" else "png")

    def _opened(self, data: bytes) -> ImageFile:
        """The image with its header read and nothing decoded."""
        kind = next((make for start, _, make in _STARTS if data.startswith(start)), None)
        if kind is None:
            what = "a pickle, which is never opened" if data.startswith(_PICKLES) else f"it starts with {data[:4]!r}"
            raise ValueError(f"no PNG, JPEG, PNM, BMP or WebP: {what}")
        image = kind(io.BytesIO(data))
        if image.width * image.height > self.max_pixels:
            raise ValueError(f"{image.width} x {image.height} pixels are more than {self.max_pixels}")
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


def _is_turned(image: Image.Image) -> bool:
    """Does the file ask to be shown lying on a side?"""
    return bool(image.getexif().get(_ORIENTATION, 1) >= 5)


def _eight_bits(image: Image.Image) -> Image.Image:
    """A 16-bit grey image scaled to 8 bits; conversion alone would clip it."""
    return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)) if image.mode.startswith("I") else image


@contextmanager
def _named(where: str) -> Iterator[None]:
    """Whatever goes wrong with the bytes of a file, in one line that names the file."""
    try:
        yield
    except _UNREADABLE as error:
        raise ValueError(f"{where}: cannot be read as an image ({error})") from None
