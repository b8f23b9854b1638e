"""The Gaussian mechanism without sampling, in closed form."""

from __future__ import annotations

import math

import numpy as np
from scipy.optimize import brentq

from fedemb.privacy.pairs import FixedSizeRound


def gaussian_epsilon(noise_ratio: float, delta: float) -> float:
    """The least epsilon >= 0 of one Gaussian release.

    Args: noise_ratio: noise std / L2 sensitivity; 0 gives inf, inf gives 0. delta: in (0, 1).
    Source: Balle and Wang 2018 (arXiv:1805.06530, Theorem 8); T releases at s are one at s / sqrt(T).
    """
    if noise_ratio == 0:
        return math.inf
    if math.isinf(noise_ratio):
        return 0.0
    release = FixedSizeRound(sampling_rate=1.0, noise_ratio=noise_ratio)

    def excess(epsilon: float) -> float:
        return float(release.log_delta(np.array([epsilon]))[0]) - math.log(delta)

    if excess(0.0) <= 0:
        return 0.0
    high = 1e-9
    while excess(high) > 0:
        high *= 2
    return float(brentq(excess, 0.0, high, xtol=1e-15, rtol=1e-13)) * (1 + 1e-12)
