"""Medians and ratios by hand."""

import math

from fedemb.bench.interleave import Round, Served, Way
from fedemb.bench.summary import rows


def way(name):
    return Way(name=name, label=name.upper(), command=[], settings={}, environment={})


def served(*seconds, **told):
    return Served(rounds=[Round(wall=s, processor=s / 2, peak_megabytes=100 * s) for s in seconds], **told)


def test_medians_and_ratios_round_by_round():
    """Round by round b is 2, 4 and 1 times as fast as a: median 2, while the medians 4 and 1 have the ratio 4."""
    a, b = rows([way("a"), way("b")], {"a": served(2, 4, 6), "b": served(1, 1, 6)}, clients=8)
    assert (a["seconds"], a["client_updates_per_second"], a["peak_megabytes"]) == (4, 2, 600)
    assert (a["processor_seconds"], a["client_updates_per_processor_second"]) == (2, 4)
    assert (a["wall_ratio"], b["wall_ratio"], b["processor_ratio"]) == (1, 2, 2)
    assert a["wall_ratios"] == {"a": 1, "b": 0.5}
    assert a["rounds"][1] == {"wall": 4, "processor": 2, "peak_megabytes": 400}


def test_a_way_that_broke_off_is_compared_over_the_rounds_that_it_has():
    a, b, c = rows(
        [way("a"), way("b"), way("c")],
        {"a": served(2, 8), "b": served(1, failure="died"), "c": served(failure="died")},
        clients=8,
    )
    assert (b["wall_ratio"], b["failure"]) == (2, "died")
    assert (c["seconds"], c["client_updates_per_second"], c["wall_ratio"]) == (None, None, None)
    assert a["wall_ratios"] == {"a": 1, "b": 0.5, "c": None}


def test_where_processor_time_is_unknown_the_rest_is_told():
    (a,) = rows([way("a")], {"a": Served(rounds=[Round(wall=2, processor=None, peak_megabytes=None)])}, clients=8)
    assert math.isclose(a["client_updates_per_second"], 4)
    assert (a["processor_ratio"], a["peak_megabytes"], a["processor_seconds"]) == (None, None, None)
