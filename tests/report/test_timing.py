"""Which executor ran, in words."""

import pytest

from fedemb.report.timing import executor_used, timing_rows


def auto(chosen, rounds, **speeds):
    return {"name": "Auto", "chosen": chosen, "measured_rounds": rounds, "client_updates_per_second": speeds}


@pytest.mark.parametrize(
    ("executor", "words"),
    [
        ({"name": "Vectorised"}, "Vectorised"),
        ({"name": "Distributed", "inner": {"name": "Sequential"}}, "Distributed (Sequential)"),
        (auto("b", 3, a=1.0, b=2.0), "b, the fastest in 3 measured rounds; client updates/s: a 1, b 2"),
        (auto(None, 1, a=1.0), "Auto, not decided after 1 measured round; client updates/s: a 1"),
        (auto(None, 0, a=None), "Auto, not decided after 0 measured rounds"),
    ],
)
def test_the_executor_in_words(executor, words):
    assert executor_used(executor) == words


def test_a_report_of_an_older_version_has_no_executor():
    assert "Executor" not in dict(timing_rows({"seconds": 3.0}))


def test_a_release_has_no_times():
    rows = timing_rows({"seconds": None, "waiting_for_data_fraction": None, "executor": None})
    assert {value for _, value in rows} == {"–"}


def test_a_run_without_timing_has_no_rows():
    assert timing_rows({}) == []
