"""The interval over seeds against the t table."""

import pytest

from fedemb.report.confidence import Estimate


def test_three_seeds():
    """t(0.975, 2) = 4.30265; values 1, 2, 3 have s = 1: half a width of 4.30265 / sqrt(3)."""
    found = Estimate.of([1.0, 2.0, 3.0])
    assert (found.mean, found.seeds) == (2.0, 3)
    assert (found.low, found.high) == pytest.approx((2 - 2.48414, 2 + 2.48414), abs=1e-5)


def test_one_seed_has_no_interval_and_says_so():
    found = Estimate.of([0.25])
    assert (found.low, found.mean, found.high) == (0.25, 0.25, 0.25)
    assert found.words == "0.2500, one seed"
