"""What an image file says of itself before anything of it is decoded."""

from __future__ import annotations

import struct
import warnings
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import BinaryIO

from PIL import BmpImagePlugin, JpegImagePlugin, PngImagePlugin, PpmImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile

from fedemb.data.pictures import MAX_PIXELS, kind_of

_HEADERS: Mapping[str, Callable[[BinaryIO], ImageFile]] = {
    "png": PngImagePlugin.PngImageFile,
    "jpeg": JpegImagePlugin.JpegImageFile,
    "pnm": PpmImagePlugin.PpmImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
}
_ORIENTATION, _ON_ITS_SIDE = 0x0112, range(5, 9)  # EXIF tag, and the values with width and height swapped
_START_BYTES = 16


def image_size(file: Path) -> tuple[int, int]:
    """(H, W) of an image once it is upright, from its header: nothing is decoded.

    Raises: ValueError in one line if the file is missing, no image, or one of more than MAX_PIXELS.
    """
    try:
        with file.open("rb") as stream:
            kind = kind_of(stream.read(_START_BYTES))
            if kind is None:
                raise ValueError("it begins as no PNG, JPEG, PNM, BMP or WebP does")
            stream.seek(0)
            image = _HEADERS[kind](stream)
            width, height = image.size[::-1] if _lies_on_its_side(image) else image.size
    except (OSError, ValueError, SyntaxError, EOFError, TypeError, LookupError, zlib.error, struct.error) as error:
        raise ValueError(f"{file} is no image that can be read ({error}): replace the file or leave it out") from None
    if not 0 < width * height <= MAX_PIXELS:
        raise ValueError(f"{file}: {width} x {height} pixels, not 1 to {MAX_PIXELS}: replace the file or leave it out")
    return height, width


def _lies_on_its_side(image: ImageFile) -> bool:
    """By its EXIF data; an image whose EXIF data are damaged counts as upright."""
    if "exif" not in image.info:
        return False
    try:
        with warnings.catch_warnings(action="ignore"):
            return bool(image.getexif().get(_ORIENTATION) in _ON_ITS_SIDE)
    except (SyntaxError, TypeError, ValueError, LookupError, struct.error):
        return False
