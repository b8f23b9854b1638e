"""Strategies as dense matrices, and their noise for known Z."""

import numpy as np
import torch


def dense(strategy, rounds):
    """C [rounds, rounds]."""
    return np.stack([strategy.column(round, rounds) for round in range(rounds)], axis=1)


def streamed(strategy, fresh_noise, state=None):
    """(the noise of each round [T, d] that the rows Z [T, d] give, the state after them)."""
    state = strategy.init({"a": torch.zeros(fresh_noise.shape[1])}) if state is None else state
    rows = []
    for row in fresh_noise:
        noise, state = strategy.noise(lambda row=row: {"a": torch.from_numpy(row.copy())}, state)
        rows.append(noise["a"].numpy())
    return np.stack(rows), state


def prefix_errors(strategy, rounds):
    """Squared row norms of A C^-1 [rounds], A the matrix of prefix sums: variances for Z of std 1."""
    factor = np.tril(np.ones((rounds, rounds))) @ np.linalg.inv(dense(strategy, rounds))
    return (factor**2).sum(1)
