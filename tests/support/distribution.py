"""Is a sample N(0, std^2)? Two-sided tests at alpha = 1e-6 each, with the power they are stated to have."""

import numpy as np
import torch
from scipy import stats

from fedemb.client.work import ClientState, ClientWork
from fedemb.core.rng import SeededNoise, generator

DRAWS = 100_000
ALPHA = 1e-6
Z = stats.norm.isf(ALPHA / 2)  # 4.89
STD_RATIO = (0.989, 1.011)  # 1 +- 4.92 / sqrt(2 DRAWS): a 2 % error stays inside with probability below 1e-4


def right_scale(draws, std):
    """Is the sample's root mean square within 1.1 % of std?"""
    draws = np.asarray(draws, dtype=np.float64)
    assert draws.size == DRAWS
    low, high = STD_RATIO
    return bool(low <= np.sqrt(np.mean(draws**2)) / std <= high)


def is_normal(draws, std):
    """Mean, scale and shape (Kolmogorov-Smirnov)."""
    draws = np.asarray(draws, dtype=np.float64)
    centred = abs(draws.mean()) / std * np.sqrt(draws.size) <= Z
    return bool(centred and right_scale(draws, std) and stats.kstest(draws, "norm", (0, std)).pvalue > ALPHA)


def uncorrelated(left, right):
    """Is the correlation of two samples, of each size, as small as that of independent ones?"""
    left, right = np.asarray(left), np.asarray(right)
    return bool(abs(np.corrcoef(left, right)[0, 1]) * np.sqrt(left.size) <= Z)


def seeded(round):
    return SeededNoise(generator(11, "noise", round))


class Idle(ClientWork):
    """Work that returns zeros: all that reaches the model is noise."""

    def begin(self, shared, client):
        zero = torch.zeros(())
        return ClientState(dict(shared), {}, zero, zero, zero, zero)

    def step(self, shared, state, batch):
        return state._replace(examples=state.examples + batch["mask"].sum())

    def finish(self, shared, state):
        return {name: torch.zeros_like(value) for name, value in state.params.items()}
