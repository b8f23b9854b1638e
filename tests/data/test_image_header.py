"""Sizes from headers alone."""

import numpy as np
import pytest
from PIL import Image

from fedemb.data.image_header import image_size

PIXELS = np.arange(30 * 20 * 3, dtype=np.uint8).reshape(30, 20, 3)


@pytest.mark.parametrize("kind", ["png", "jpg", "bmp", "webp", "ppm"])
def test_every_format(tmp_path, kind):
    Image.fromarray(PIXELS).save(tmp_path / f"a.{kind}")
    assert image_size(tmp_path / f"a.{kind}") == (30, 20)


@pytest.mark.parametrize(
    ("orientation", "size"), [(1, (30, 20)), (3, (30, 20)), (5, (20, 30)), (8, (20, 30)), (9, (30, 20))]
)
def test_the_size_is_that_of_the_upright_image(tmp_path, orientation, size):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=exif)
    assert image_size(tmp_path / "a.jpg") == size


def test_damaged_exif_data_are_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(PIXELS).save(tmp_path / "a.jpg", exif=b"Exif\0\0" + exif.tobytes()[6:12])
    assert image_size(tmp_path / "a.jpg") == (30, 20)


def test_nothing_is_decoded(tmp_path):
    """The body may be missing: the size is known all the same."""
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    content = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(content[: content.index(b"IDAT") + 4])
    assert image_size(tmp_path / "a.png") == (30, 20)


@pytest.mark.parametrize("content", [b"", b"GIF89a", b"\x80\x04.", b"\xff\xd8\xff", b"P6\n0 5 255\n", b"RIFF1234WEBP"])
def test_no_image_is_one_line(tmp_path, content):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ValueError, match=r"a\.png.*(replace the file or leave it out)") as caught:
        image_size(tmp_path / "a.png")
    assert "\n" not in str(caught.value)
