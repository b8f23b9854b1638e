"""Figures as files: complete by themselves, the same picture as PNG and PDF."""

from xml.etree import ElementTree

import pytest
from PIL import Image

from fedemb.report import axes, files, looks
from fedemb.report.marks import Mark, Series
from fedemb.report.plot import Plot

STYLE, SHAPE = looks.method(1)
LINE = Series(label="DP, ε ≤ 1", style=STYLE, shape=SHAPE, line=[Mark(x=x, y=x * x, words="") for x in (1, 2, 3)])
CHART = Plot(title="t", x_label="x", y_label="y", x_axis=axes.linear, y_axis=axes.linear, series=[LINE]).svg()


def test_an_svg_file_names_its_colours_and_loads_nothing():
    """Programs that draw SVG for papers know no variables."""
    text = files.standalone(CHART)
    root = ElementTree.fromstring(text)
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    assert root.get("width") == "520"
    assert "var(" not in text
    assert "http" not in text.replace("http://www.w3.org/2000/svg", "")


def test_png_and_pdf_are_the_same_picture(tmp_path):
    pytest.importorskip("cairosvg")
    assert files.write_figures(tmp_path / "figures", {"a": CHART})
    picture = Image.open(tmp_path / "figures" / "a.png")
    assert picture.size == (3 * 520, 3 * 366)  # 10 + a row of the legend + 330, three pixels each
    colours = {colour for _, colour in picture.convert("RGB").getcolors(10**6)}
    assert (0xD5, 0x5E, 0x00) in colours  # the line has its colour: the style sheet was understood
    assert (tmp_path / "figures" / "a.pdf").read_bytes().startswith(b"%PDF")


def test_without_the_extra_the_svg_is_still_written(tmp_path, monkeypatch):
    monkeypatch.setattr(files, "find_spec", lambda name: None)
    assert not files.write_figures(tmp_path / "figures", {"a": CHART})
    assert [path.name for path in (tmp_path / "figures").iterdir()] == ["a.svg"]
