"""Image files to pixels: polarity, orientation, depth and size by hand; nothing else than an image is ever decoded."""

import io
import os
import pickle
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from fedemb.data.pictures import Picture, as_pixels, encoded, from_pixels, is_image, kind_of

GREY, RGB = Picture(channels=1), Picture(channels=3)
# 2 rows of 3 pixels, all different, so that each turn and flip shows.
PAGE = np.array([[10, 20, 30], [40, 50, 60]], np.uint8)


def saved(image, kind="PNG", **options):
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def page(mode="L", kind="PNG", **options):
    return saved(Image.fromarray(PAGE).convert(mode), kind, **options)


def smooth(side, seed=0):
    coarse = np.random.default_rng(seed).integers(256, size=(6, 6, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC)


def refusal(data, picture=RGB):
    for read in (picture.pixels, picture.original):
        with pytest.raises(ValueError) as caught:
            read(data, "x.zip: a.jpg")
        assert str(caught.value).startswith("x.zip: a.jpg: cannot be read as an image (")
        assert "\n" not in str(caught.value)
    return str(caught.value)


def test_grey_and_colour():
    assert GREY.pixels(page(), "")[0].tolist() == PAGE.tolist()
    assert RGB.pixels(page(), "").tolist() == [PAGE.tolist()] * 3
    colours = Image.fromarray(np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8))
    assert RGB.pixels(saved(colours), "").tolist() == [[[255, 0, 0]], [[0, 255, 0]], [[0, 0, 255]]]
    assert GREY.pixels(saved(colours), "").tolist() == [[[76, 150, 29]]]  # 0.299 R + 0.587 G + 0.114 B


def test_ink_on_white_is_inverted():
    inverted = Picture(channels=1, invert=True)
    assert inverted.pixels(page(), "")[0].tolist() == (255 - PAGE).tolist()
    stroke = Image.new("1", (3, 2), 1)
    stroke.putpixel((1, 0), 0)
    assert inverted.pixels(saved(stroke), "").tolist() == [[[0, 255, 0], [0, 0, 0]]]
    assert GREY.pixels(saved(stroke), "").tolist() == [[[255, 0, 255], [255, 255, 255]]]


def test_palettes_and_transparency_give_the_stored_colours():
    palette = Image.new("P", (3, 1))
    palette.putpalette([9, 8, 7, 100, 110, 120, 1, 2, 3])
    for x in range(3):
        palette.putpixel((x, 0), x)
    expected = [[[9, 100, 1]], [[8, 110, 2]], [[7, 120, 3]]]
    for options in ({}, {"transparency": b"\x00\x80\xff"}, {"transparency": 1}):
        assert RGB.pixels(saved(palette, **options), "").tolist() == expected
        assert GREY.pixels(saved(palette, **options), "").shape == (1, 1, 3)
    clear = Image.fromarray(np.array([[[9, 8, 7, 0], [100, 110, 120, 128]]], np.uint8))
    assert RGB.pixels(saved(clear), "").tolist() == [[[9, 100]], [[8, 110]], [[7, 120]]]
    assert GREY.pixels(saved(Image.fromarray(PAGE).convert("LA")), "")[0].tolist() == PAGE.tolist()
    assert GREY.pixels(page(transparency=20), "")[0].tolist() == PAGE.tolist()


@pytest.mark.parametrize("picture", [GREY, RGB])
def test_sixteen_bits_are_scaled_to_eight(picture):
    deep = saved(Image.fromarray(np.array([[0, 255, 256, 0x1234, 65535]], np.uint16)))
    assert struct.unpack(">B", deep[24:25]) == (16,)  # the bit depth in PNG's IHDR
    assert picture.pixels(deep, "")[0].tolist() == [[0, 0, 1, 0x12, 255]]


def test_a_cmyk_jpeg_is_colour():
    """Ink: no ink is white; full cyan is (0, 255, 255)."""
    for ink, colour in (((0, 0, 0, 0), (255, 255, 255)), ((255, 0, 0, 0), (0, 255, 255)), ((0, 0, 0, 255), (0, 0, 0))):
        pixels = RGB.pixels(saved(Image.new("CMYK", (16, 16), ink), "JPEG", quality=95), "")
        assert np.abs(pixels.astype(int) - np.array(colour)[:, None, None]).max() <= 3


def test_netpbm_files():
    assert GREY.pixels(b"P5 3 2 255\n" + PAGE.tobytes(), "")[0].tolist() == PAGE.tolist()
    assert GREY.pixels(b"P2\n# a note\n3 2\n255\n10 20 30 40 50 60\n", "")[0].tolist() == PAGE.tolist()
    assert RGB.pixels(b"P6 1 1 255\n\x01\x02\x03", "").tolist() == [[[1]], [[2]], [[3]]]
    assert GREY.pixels(b"P5 2 1 65535\n\x12\x34\xff\xff", "").tolist() == [[[0x12, 255]]]


def test_other_kinds_and_their_first_bytes():
    for kind, name in (("PNG", "png"), ("JPEG", "jpeg"), ("PPM", "pnm"), ("BMP", "bmp"), ("WEBP", "webp")):
        data = saved(smooth(16), kind, **({"lossless": True} if kind == "WEBP" else {}))
        assert kind_of(data) == name
        if kind != "JPEG":
            assert np.array_equal(RGB.pixels(data, ""), as_pixels(smooth(16)))
    assert kind_of(b"GIF89a") is None
    assert kind_of(b"") is None


# How the 2 x 3 page looks when a viewer has obeyed the orientation in the file. Source: EXIF 2.32, tag 0x0112: the
# 0th row and column of what is stored are the visual top left, top right, bottom right, bottom left, left top, …
UPRIGHT = {
    1: PAGE,
    2: PAGE[:, ::-1],
    3: PAGE[::-1, ::-1],
    4: PAGE[::-1],
    5: PAGE.T,
    6: PAGE[::-1].T,
    7: PAGE[::-1, ::-1].T,
    8: PAGE[:, ::-1].T,
}


def turned(orientation, kind="PNG", image=None):
    exif = Image.Exif()
    exif[0x0112] = orientation
    return saved(image or Image.fromarray(PAGE), kind, exif=exif)


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_every_orientation_is_set_upright(orientation):
    assert GREY.pixels(turned(orientation), "")[0].tolist() == UPRIGHT[orientation].tolist()
    assert GREY.pixels(GREY.original(turned(orientation), ""), "")[0].tolist() == UPRIGHT[orientation].tolist()


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_a_turned_photograph_is_made_smaller_the_right_way(orientation):
    """A wide JPEG, dark on the left: after a quarter turn it is high."""
    wide = np.zeros((64, 256), np.uint8)
    wide[:, 128:] = 200
    data, small = turned(orientation, "JPEG", Image.fromarray(wide)), Picture(channels=1, short_side=16)
    high = orientation >= 5
    again = GREY.pixels(small.original(data, ""), "")
    for pixels in (small.pixels(data, ""), again):
        assert pixels.shape == ((1, 64, 16) if high else (1, 16, 64))
        along = pixels[0].mean(1 if high else 0)
        dark_first = {1: True, 2: False, 3: False, 4: True, 5: True, 6: True, 7: False, 8: False}[orientation]
        assert (along[:28].max() < 5) == dark_first
        assert (along[-28:].max() < 5) != dark_first


@pytest.mark.parametrize("orientation", [0, 9, 999])
def test_an_orientation_that_does_not_exist_is_upright(orientation):
    assert GREY.pixels(turned(orientation), "")[0].tolist() == PAGE.tolist()


def test_damaged_exif_data_are_no_reason_to_speak_up():
    """Warnings are errors in tests; Pillow warns about such a block when it opens a JPEG."""
    data = saved(smooth(16), "JPEG", exif=b"Exif\0\0II*\0\x08\0\0\0\x02\0\x12\x01\x03\0")
    assert RGB.pixels(data, "").shape == (3, 16, 16)
    assert RGB.original(data, "") == data


def test_sizes():
    data = saved(smooth(40).resize((80, 40)))
    assert Picture(channels=3, size=(10, 30)).pixels(data, "").shape == (3, 10, 30)
    assert Picture(channels=3, short_side=20).pixels(data, "").shape == (3, 20, 40)
    assert Picture(channels=3, short_side=40).pixels(data, "").shape == (3, 40, 80)
    assert Picture(channels=3, short_side=99).pixels(data, "").shape == (3, 40, 80)
    strip = Picture(channels=3, short_side=1).pixels(saved(Image.new("RGB", (3, 1000))), "")
    assert strip.shape == (3, 333, 1)


def test_resizing_is_by_the_triangle_filter():
    """4 -> 2: the triangle is 2 wide on each side, so the far half of a row weighs 1/7."""
    page = np.array([[0, 0, 210, 210]], np.uint8)
    assert Picture(channels=1, size=(1, 2)).pixels(saved(Image.fromarray(page)), "").tolist() == [[[30, 180]]]


@pytest.mark.parametrize("side", [120, 250, 500, 900])
def test_a_jpeg_that_is_decoded_small_is_nearly_the_one_decoded_in_full(side):
    data = saved(smooth(1000), "JPEG", quality=92)
    full = Image.open(io.BytesIO(data)).resize((side, side), Image.Resampling.BILINEAR)
    small = Picture(channels=3, size=(side, side)).pixels(data, "").astype(int)
    assert np.abs(small - as_pixels(full)).max() <= 6
    assert np.abs(small - as_pixels(full)).mean() < 0.7


@pytest.mark.parametrize(("kind", "name"), [("PNG", "png"), ("JPEG", "jpeg")])
def test_a_file_that_needs_no_change_stays_as_it_is(kind, name):
    data = saved(smooth(40), kind)
    for picture in (RGB, Picture(channels=3, short_side=40), Picture(channels=3, size=(40, 40))):
        assert picture.original(data, "") is data
    smaller = Picture(channels=3, short_side=20).original(data, "")
    assert kind_of(smaller) == name
    assert RGB.pixels(smaller, "").shape == (3, 20, 20)
    expected = as_pixels(Image.open(io.BytesIO(data)).resize((20, 20), Image.Resampling.BILINEAR))
    assert np.abs(RGB.pixels(smaller, "").astype(int) - expected).mean() < 2


def test_what_a_store_does_not_keep_becomes_png():
    for kind in ("PPM", "BMP"):
        again = RGB.original(saved(smooth(16), kind), "")
        assert kind_of(again) == "png"
        assert np.array_equal(RGB.pixels(again, ""), as_pixels(smooth(16)))
    again = Picture(channels=1, invert=True).original(page(), "")
    assert GREY.pixels(again, "")[0].tolist() == (255 - PAGE).tolist()


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x89PNG",
        b"\xff\xd8\xff",
        b"<!DOCTYPE html><title>404</title>",
        b"P",
        b"P5 0 0 255\n",
        b"BM",
        b"RIFF\0\0\0\0WEBP",
        b"GIF89a" + bytes(50),
        saved(smooth(40))[:-40],
        saved(smooth(40))[:200],
        saved(smooth(40), "JPEG")[:-100],
        saved(smooth(40), "JPEG")[:100],
        saved(smooth(40)).replace(b"IDAT", b"IDAX"),
    ],
)
def test_what_is_no_whole_image_is_refused(data):
    refusal(data)


class Trap:
    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.mark.parametrize("protocol", [2, 3, 4, 5])
def test_a_pickle_is_named_and_never_opened(tmp_path, protocol):
    trap = Trap()
    trap.path = str(tmp_path / "sprung")
    assert "a pickle, which is never opened" in refusal(pickle.dumps(trap, protocol))
    assert not (tmp_path / "sprung").exists()


def png_of(width, height):
    """A PNG that says it has so many pixels, and holds a few bytes."""
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0")),
        (b"IEND", b""),
    ]
    made = [struct.pack(">I", len(c)) + n + c + struct.pack(">I", zlib.crc32(n + c)) for n, c in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(made)


def test_too_many_pixels_are_refused_before_they_are_decoded(monkeypatch):
    """Without a warning from Pillow, which has a limit of its own."""
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", None)
    assert "(10000 x 10000 pixels, not 1 to 64000000)" in refusal(png_of(10_000, 10_000))
    assert "(3 x 2 pixels, not 1 to 5)" in refusal(page(), Picture(channels=1, max_pixels=5))
    assert "pixels, not 1 to 64000000" in refusal(b"P5 99999999 99999999 255\n")
    monkeypatch.undo()
    large = Picture(channels=1, max_pixels=10**9)
    assert "10000" not in refusal(png_of(10_000, 10_000), large)  # cut off, but not too large


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "PPM", "WEBP"])
def test_damage_anywhere_is_an_image_or_one_line(kind):
    """Never another exception: 150 files with some bytes changed at random."""
    data, draw = saved(smooth(24), kind), np.random.default_rng(0)
    for _ in range(150):
        content = np.frombuffer(data, np.uint8).copy()
        places = draw.integers(len(content) if draw.random() < 0.5 else 60, size=draw.integers(1, 6))
        content[places] = draw.integers(256, size=len(places))
        assert outcome(content.tobytes()) in ("decoded", "a: cannot be read as an image (")


def outcome(data):
    try:
        pixels = Picture(channels=3, size=(8, 8), max_pixels=10**6).pixels(data, "a")
    except ValueError as error:
        return str(error).split("(")[0] + "(" if "\n" not in str(error) else "several lines"
    return "decoded" if pixels.shape == (3, 8, 8) else "something else"


@pytest.mark.parametrize(
    "options",
    [{"channels": 2}, {"channels": 3, "size": (0, 5)}, {"channels": 3, "short_side": 0}, {"channels": 3, "size": (5,)}],
)
def test_an_impossible_picture_is_refused(options):
    with pytest.raises(ValueError, match=r"channels|size|short_side"):
        Picture(**options)


def test_names_of_images():
    assert all(map(is_image, ["a.png", "a/b.JPG", "x y/ж.jpeg", "a.pgm", "a.webp", "a.b.bmp"]))
    assert not any(map(is_image, ["a.txt", "png", "a/.b.png", "._a.png", "__MACOSX/a/b.png", "a.png/", "a.gif", ""]))


def test_pixels_and_images_are_inverse():
    for channels in (1, 3):
        pixels = np.random.default_rng(0).integers(256, size=(channels, 5, 7), dtype=np.uint8)
        assert np.array_equal(as_pixels(from_pixels(pixels)), pixels)
        assert np.array_equal(RGB.pixels(encoded(from_pixels(pixels), "png"), "")[:channels], pixels)
