"""Plots: where marks land, what is written, what is clipped."""

import re
from xml.etree import ElementTree

from fedemb.report import axes
from fedemb.report.marks import Level, Mark, Series
from fedemb.report.plot import Plot


def plot(*, line, band=(), levels=(), limits=None, x_axis=axes.linear, label=""):
    series = Series(
        label=label, style="s0", shape="M0,0z", line=[Mark(x=x, y=y, words=f"{x} & {y}") for x, y in line], band=band
    )
    return Plot(
        title="<t>",
        x_label="x",
        y_label="y",
        x_axis=x_axis,
        y_axis=axes.linear,
        series=[series],
        levels=levels,
        limits=limits,
    ).svg()


def test_marks_land_where_the_axes_say():
    """x 0..10 over pixels 72..502, y 0..1 over 292..18, upwards."""
    drawn = plot(line=[(0, 0.0), (5, 0.5), (10, 1.0)])
    assert 'd="M72.0,292.0L287.0,155.0L502.0,18.0"' in drawn
    ElementTree.fromstring(drawn)
    assert "<title>5 &amp; 0.5</title>" in drawn


def test_equal_factors_are_equal_lengths():
    drawn = plot(line=[(1, 0.0), (10, 0.5), (100, 1.0)], x_axis=axes.powers)
    assert 'd="M72.0,292.0L287.0,155.0L502.0,18.0"' in drawn


def test_a_band_does_not_leave_what_the_metric_can_be():
    """Two seeds have an interval far beyond [0, 1]: the axis must not follow it."""
    drawn = plot(line=[(0, 0.5), (1, 0.5)], band=[(0, -7.0, 9.0), (1, 0.25, 0.75)], limits=(0.0, 1.0))
    [points] = re.findall(r'<polygon class="shade s0" points="([^"]*)"', drawn)
    assert points == "72.0,18.0 502.0,86.5 502.0,223.5 72.0,292.0"


def test_levels_of_one_label_are_one_entry_of_the_legend():
    levels = [Level(label="free", style=f"s{i}", key="neutral", y=0.9 - i / 10, words=f"level {i}") for i in range(2)]
    drawn = plot(line=[(0, 0.0), (1, 1.0)], levels=levels, label="a <b>")
    assert re.findall(r'<text class="key"[^>]*>(.*?)</text>', drawn) == ["a &lt;b&gt;", "free"]
    assert len(re.findall(r'<line class="line level', drawn)) == 2


def test_nothing_to_draw_is_no_chart():
    assert plot(line=[]) == ""


def test_between_powers_of_ten_only_powers_are_written_where_room_is_short():
    _, few = axes.powers([1.0, 10.0], 0.0, 100.0)
    assert few == ["1", "2", "5", "10"]
    _, many = axes.powers([0.11, 19.0], 0.0, 100.0)
    assert [text for text in many if text] == ["0.1", "1", "10"]
