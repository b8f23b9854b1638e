"""What an epsilon means for somebody who guesses whether a given user's data are these or those.

A guess has a false positive rate (FPR) and a true positive rate (TPR). If a mechanism is (eps, delta)-DP, then, for
either order of the neighbours, TPR <= e^eps FPR + delta and 1 - FPR <= e^eps (1 - TPR) + delta (Wasserman and Zhou
2010, arXiv:0811.2501), so every certified pair bounds the TPR at a given FPR, and the least bound holds.
"""

from __future__ import annotations

import math
from collections.abc import Iterable

from scipy.optimize import brentq
from scipy.special import ndtri

from fedemb.core import check
from fedemb.privacy.gaussian import gaussian_epsilon

PROBED_DELTAS = (1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
"""Where the profile is read for guesses at false positive rates of about 1e-3 and 1e-2."""


def attacker_tpr(pairs: Iterable[tuple[float, float]], false_positive_rate: float) -> float:
    """An upper bound on any attacker's true positive rate at this false positive rate.

    pairs: (epsilon, delta) pairs that are certified; none gives 1.
    """
    check.fraction("false_positive_rate", false_positive_rate)
    bounds = [1.0]
    for epsilon, delta in pairs:
        bounds.append(math.exp(min(epsilon, 700.0)) * false_positive_rate + delta)
        bounds.append(1 - math.exp(-epsilon) * (1 - delta - false_positive_rate))
    return min(bounds)


def gaussian_fit(epsilon: float, delta: float) -> float:
    """mu of the one Gaussian release (of noise std / sensitivity 1 / mu) that has just this epsilon at this delta.

    A fit at one delta, in the units of Gaussian differential privacy (Dong, Roth and Su 2019, arXiv:1905.02383): the
    mechanism is not mu-GDP by it. inf for an infinite epsilon.
    """
    if math.isinf(epsilon):
        return math.inf
    if epsilon == 0:
        return float(2 * ndtri((1 + delta) / 2))
    high = 1.0
    while gaussian_epsilon(1 / high, delta) < epsilon:
        high *= 2
    return float(brentq(lambda mu: gaussian_epsilon(1 / mu, delta) - epsilon, 1e-9, high, xtol=1e-12, rtol=1e-9))
