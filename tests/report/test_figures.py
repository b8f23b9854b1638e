"""Charts: where things land, what the ticks say."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from fedemb.report.figures import Axis, Line, line_chart


def chart(points, band=None, label="Model") -> str:
    lines = [Line(label=label, style="first", points=points)]
    return line_chart(title="t", lines=lines, x_label="round", value_text=lambda v: f"{v:.2f}", band=band)


@pytest.mark.parametrize(
    ("values", "intervals", "finest", "ticks"),
    [
        ([0, 200], 5, 1.0, (0, 50, 100, 150, 200)),  # 200/5 = 40 -> 50
        ([0, 3], 5, 1.0, (0, 1, 2, 3)),  # rounds are whole numbers
        ([0.04, 0.43], 4, 0.0, (0.0, 0.1, 0.2, 0.3, 0.4, 0.5)),  # 0.0975 -> 0.1
        ([0.999, 1.0], 4, 0.0, (0.999, 0.99925, 0.9995, 0.99975, 1.0)),
        ([5.0, 5.0], 4, 0.0, (4.5, 4.75, 5.0, 5.25, 5.5)),  # ±10 % around a constant
    ],
)
def test_ticks_are_round_and_cover(values, intervals, finest, ticks):
    axis = Axis.covering(values, start=0, end=100, intervals=intervals, finest=finest)
    assert axis.ticks == pytest.approx(ticks)
    assert axis.low <= min(values) <= max(values) <= axis.high


def test_points_land_where_the_axes_say():
    # x: 0..10 over pixels 54..466, y: 0..1 over 240..12 (upwards): (5, 0.5) is the middle of both, (260, 126).
    root = ElementTree.fromstring(chart([(0, 0.0), (5, 0.5), (10, 1.0)]))
    [line] = [element for element in root if element.get("class") == "line first"]
    assert line.get("points") == "54.0,240.0 260.0,126.0 466.0,12.0"


def test_the_band_runs_along_the_attack_and_back_along_the_bound():
    upper, lower = [(0, 0.0), (10, 4.0)], [(0, 0.0), (10, 2.0)]
    [shape] = re.findall(r'class="band" points="([^"]*)"', chart(upper, band=(lower, upper)))
    assert shape == "54.0,240.0 466.0,126.0 466.0,12.0 54.0,240.0"


def test_values_show_on_hover_without_a_script():
    assert "<title>Model, round 10: 0.25</title>" in chart([(0, 0.0), (10, 0.25)])


def test_words_are_escaped():
    ElementTree.fromstring(chart([(0, 0.0), (1, 1.0)], label="<script>&"))


@pytest.mark.parametrize("points", [[], [(3, 0.5)]])
def test_no_chart_without_a_line_to_draw(points):
    assert chart(points) == ""
