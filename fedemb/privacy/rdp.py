"""Renyi divergences of rounds, to compose them with releases that are accounted elsewhere.

A Renyi divergence is an integral of the privacy profile, so a bound on the profile bounds it. With P and Q the outputs
for two neighbours, H_g(P || Q) = int (P - g Q)+ and f(x) = x^a, Taylor's formula around 1 with integral remainder,
x^a = 1 + a (x - 1) + a (a - 1) (int over g > 1 of g^(a-2) (x - g)+ dg + int over g < 1 of g^(a-2) (g - x)+ dg).
At x = dP/dQ, the mean under Q of (x - g)+ is H_g(P || Q), of (g - x)+ it is g H_{1/g}(Q || P) and of x - 1 it is 0. So,
with g -> 1 / g in the second integral,

    exp((a - 1) D_a(P || Q)) = 1 + a (a - 1) int over g > 1 of (g^(a-2) H_g(P || Q) + g^(-a-1) H_g(Q || P)) dg.

The profile delta(eps) of a round bounds both H at g = e^eps for every pair of neighbours. It falls in eps, so on a cell
it is at most its value at the left end, while the weight exp((a - 1) eps) + exp(-a eps) integrates in closed form: an
upper Riemann sum. Beyond the last cell, delta(eps) <= Phi(mu/2 - eps/mu), as sampling only lowers the profile of the
Gaussian mechanism, and the weight is at most 2 exp((a - 1) eps): the rest is a Gaussian integral.
Sampling does not raise D_a either, so a mu^2 / 2 is a bound as well, exact without sampling. Adaptive composition adds
up (Mironov 2017, arXiv:1702.07476).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy.special import log_ndtr, logsumexp

from fedemb.privacy.pairs import Round

Array = NDArray[np.float64]

ORDERS = (
    *(1.05, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6, 1.7, 1.8, 1.9, 2.0, 2.25, 2.5, 2.75, 3.0, 3.5, 4.0, 4.5, 5.0, 6.0, 7.0, 8.0),
    *(9.0, 10.0, 12.0, 14.0, 16.0, 20.0, 24.0, 28.0, 32.0, 40.0, 48.0, 56.0, 64.0, 80.0, 96.0, 128.0, 192.0, 256.0),
)
"""Orders a > 1 of a curve that is exported."""

_CELLS = 1 << 14
_FIRST_CELL = 1e-6  # its width, of the loss scale q / s of a round
_TAIL = 12.0  # standard deviations


def renyi_curve(rounds: Sequence[tuple[Round, int]], orders: Sequence[float] = ORDERS) -> Array:
    """Bounds on the Renyi divergences of all rounds together, for any two neighbours: [orders], inf without noise.

    rounds: with counts; none is a curve of zeros. orders: each above 1.
    """
    alphas = np.array(orders, dtype=np.float64)
    if not (np.isfinite(alphas).all() and (alphas > 1).all()):
        raise ValueError(f"Renyi orders must be finite and above 1, got {list(orders)}")
    return np.asarray(
        sum((count * round_divergence(round_, alphas) for round_, count in rounds), np.zeros(len(alphas)))
    )


def round_divergence(round_: Round, orders: Array) -> Array:
    """Bounds for one round, [orders]."""
    if round_.noise_ratio == 0:
        return np.full(len(orders), math.inf)
    unsampled = orders / (2 * round_.noise_ratio**2)
    return np.minimum(unsampled, integral_divergence(round_, orders)) if round_.sampling_rate < 1 else unsampled


def integral_divergence(round_: Round, orders: Array) -> Array:
    """The bound by the upper Riemann sum alone, [orders]."""
    mu = 1 / round_.noise_ratio
    # from there on, even the integral without sampling is below exp(-_TAIL^2 / 2): see the tail in _divergence
    end = mu * (2 * orders.max() * mu + _TAIL) + mu**2 / 2
    ends = np.append(0.0, np.geomspace(_FIRST_CELL * min(round_.sampling_rate * mu, end), end, _CELLS))
    log_delta = round_.log_delta(ends[:-1])
    return np.array([_divergence(order, log_delta, ends, mu) for order in orders])


def epsilon_from_curve(orders: Sequence[float], divergences: Array, delta: float) -> float:
    """The least epsilon >= 0 that a Renyi curve implies at `delta`.

    Source: Canonne, Kamath and Steinke 2020 (arXiv:2004.00010, Proposition 12).
    """
    alphas = np.array(orders, dtype=np.float64)
    epsilons = divergences + np.log1p(-1 / alphas) - (math.log(delta) + np.log(alphas)) / (alphas - 1)
    return max(float(epsilons.min()), 0.0)


def _divergence(order: float, log_delta: Array, ends: Array, mu: float) -> float:
    """D of one order from the log-profile at the left ends of the cells between `ends`."""
    width = np.diff(ends)
    rising = (order - 1) * ends[1:] + np.log(-np.expm1(-(order - 1) * width)) - math.log(order - 1)
    falling = -order * ends[:-1] + np.log(-np.expm1(-order * width)) - math.log(order)
    cells = float(logsumexp(log_delta + np.logaddexp(rising, falling)))
    # int from E of 2 exp((a-1) eps) Phi(mu/2 - eps/mu), with Phi(-t) <= exp(-t^2/2) / 2 for t = eps/mu - mu/2 >= 0
    start = ends[-1] / mu - mu / 2
    centre = (order - 1) * mu
    tail = math.log(mu) + order * centre * mu / 2 + math.log(2 * math.pi) / 2 + float(log_ndtr(centre - start))
    return float(np.logaddexp(0.0, math.log(order * (order - 1)) + np.logaddexp(cells, tail))) / (order - 1)
