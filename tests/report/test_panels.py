"""Charts over powers of ten: ticks, places, the legend."""

from xml.etree import ElementTree

import pytest

from fedemb.report.figures import Line
from fedemb.report.panels import Panel, PowerAxis, panels

SVG = "{http://www.w3.org/2000/svg}"


def axis(*values):
    return PowerAxis.covering(values, start=0.0, end=100.0)


@pytest.mark.parametrize(
    ("values", "ticks"),
    [
        ([16, 1e8], [1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8]),
        ([0.03, 7.0], [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10]),
        ([520.0, 530.0], [100, 200, 500, 1000]),  # nearly constant: a whole power of ten
        ([100.0], [100, 200, 500, 1000]),
        ([90.0, 110.0], [50, 100, 200]),
    ],
)
def test_ticks_are_round_and_cover(values, ticks):
    assert axis(*values).ticks == pytest.approx(ticks)


def test_equal_factors_are_equal_lengths():
    powers = axis(10.0, 1e5)
    assert [powers.at(10.0**power) for power in range(1, 6)] == pytest.approx([0, 25, 50, 75, 100])


def drawn():
    first = Line(label="a", style="first", points=[(10.0, 1.0), (1e5, 100.0)])
    second = Line(label="b & c", style="second", points=[(100.0, 5.0)])
    charts = [
        Panel(title="Left", x_label="users", lines=[first, second], value_text=lambda value: f"{value:g} s"),
        Panel(title="Right", x_label="users", lines=[first], value_text=lambda value: f"{value:g} MB"),
    ]
    return ElementTree.fromstring(panels(charts, title="<title>", note="a note"))


def test_each_panel_has_its_lines_and_the_legend_each_label_once():
    root = drawn()
    words = [text.text for text in root.iter(f"{SVG}text")]
    assert [words.count(word) for word in ("<title>", "a note", "a", "b & c", "Left", "Right")] == [1] * 6
    assert words.count("users") == 2
    assert words.count("10⁴") == 2
    assert words.count("1,000") == 2
    lines = [line for line in root.iter(f"{SVG}polyline") if line.get("class") == "line first"]
    assert len(lines) == 3  # legend, left, right
    told = [title.text for title in root.iter(f"{SVG}title")]
    assert told == ["a, users 10: 1 s", "a, users 100000: 100 s", "b & c, users 100: 5 s", *told[3:]]
    assert told[3:] == ["a, users 10: 1 MB", "a, users 100000: 100 MB"]


def test_panels_lie_side_by_side_on_the_paper():
    root = drawn()
    _, _, width, height = map(float, root.get("viewBox").split())
    dots = [(float(dot.get("cx")), float(dot.get("cy"))) for dot in root.iter(f"{SVG}circle")]
    assert all(0 < x < width and 0 < y < height for x, y in dots)
    assert max(x for x, _ in dots[:3]) < width / 2 < min(x for x, _ in dots[3:])
