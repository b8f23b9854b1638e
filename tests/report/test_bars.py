"""Bars: as long as their values, on a scale for each panel, and well-formed whatever the words."""

from xml.etree import ElementTree

import pytest

from fedemb.report.bars import Bar, Panel, bar_figure

SVG = "{http://www.w3.org/2000/svg}"


def drawn(*panels):
    text = bar_figure(title="A < B", legend=["one line", "another"], panels=panels)
    return ElementTree.fromstring(text)


def bar(value, label="a & b"):
    return Bar(label=label, value=value, words=f"{value} <x>", style="first")


def test_lengths_are_in_proportion_and_each_panel_fills_its_width():
    svg = drawn(Panel(title="p", bars=[bar(1.0), bar(4.0), bar(0.0)]), Panel(title="q", bars=[bar(0.5), bar(0.25)]))
    one, four, zero, half, quarter = (
        float(rect.get("width")) for rect in svg.iter(f"{SVG}rect") if "bar" in rect.get("class")
    )
    assert (zero, one) == (0.0, pytest.approx(four / 4, abs=0.1))
    assert (half, quarter) == (four, pytest.approx(half / 2, abs=0.1))


def test_nothing_is_drawn_outside_of_the_page():
    svg = drawn(Panel(title="p", bars=[bar(1.0)] * 9), Panel(title="nobody came through", bars=[bar(None)]))
    _, _, width, height = map(float, svg.get("viewBox").split())
    for text in svg.iter(f"{SVG}text"):
        assert 0 <= float(text.get("x")) <= width
        assert 0 <= float(text.get("y")) <= height
    words = [text.text for text in svg.iter(f"{SVG}text")]
    assert {"A < B", "another", "a & b", "nobody came through"} <= set(words)
