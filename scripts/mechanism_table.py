"""Noise that is left in the model at equal epsilon: sampled cohorts with independent noise, users in turn with others.

python scripts/mechanism_table.py [--users 100000] [--users-per-round 1000] [--rounds 1000] [--delta 1e-6]
"""

import argparse

import numpy as np
from dp_accounting import GaussianDpEvent

from fedemb.data.cyclic import CyclicSampler
from fedemb.data.sampling import FixedSizeSampler
from fedemb.privacy.accounting import epsilon
from fedemb.privacy.banded import BandedToeplitz
from fedemb.privacy.calibration import solve_noise_multiplier
from fedemb.privacy.correlated import CorrelatedGaussian
from fedemb.privacy.strategy import Tree

TARGETS = (1, 2, 4, 8)
CLOSE = 1.001


def last_prefix(strategy, rounds):
    """Std of the noise in the sum of all rounds, for Z of std 1."""
    matrix = np.column_stack([strategy.column(round, rounds) for round in range(rounds)])
    return float(np.linalg.norm(np.linalg.solve(matrix.T, np.ones(rounds))))


def in_turn(sampler, strategy, rounds, delta, target):
    """The least noise multiplier, to 0.1 %, that meets the target with this strategy."""

    def meets(z):
        event = CorrelatedGaussian(std=z, strategy=strategy).event(2.0)
        return epsilon([(sampler.event(event, round), 1) for round in range(rounds)], delta) <= target

    low, high = 1e-2, 1e4
    while high > CLOSE * low:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if meets(middle) else (middle, high)
    return high


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, default=100_000)
    parser.add_argument("--users-per-round", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=1000)
    parser.add_argument("--delta", type=float, default=1e-6)
    settings = parser.parse_args()
    shape = {"num_users": settings.users, "users_per_round": settings.users_per_round, "seed": 0}
    fixed, turn = FixedSizeSampler(**shape), CyclicSampler(order=0, **shape)
    rounds, delta = settings.rounds, settings.delta
    band = min(turn.separation, rounds)
    strategies = {
        "in turn, independent": BandedToeplitz(coefficients=(1.0,)),
        f"in turn, tree of {band}": Tree(rounds_per_tree=band),
        "in turn, band of 16": BandedToeplitz.optimal(rounds=rounds, band=min(16, band)),
        f"in turn, band of {band}": BandedToeplitz.optimal(rounds=rounds, band=band),
    }
    left = {name: last_prefix(strategy, rounds) for name, strategy in strategies.items()}
    print("| ε | sampled, independent | " + " | ".join(strategies) + " |")
    print("|" + "---|" * (2 + len(strategies)))
    for target in TARGETS:
        sampled = solve_noise_multiplier(
            lambda z: fixed.event(GaussianDpEvent(z / 2), 0), rounds=rounds, delta=delta, target_epsilon=target
        )
        cells = [f"{sampled * rounds**0.5:.1f} (z = {sampled:.3g})"]
        for name, strategy in strategies.items():
            z = in_turn(turn, strategy, rounds, delta, target)
            cells.append(f"{z * left[name]:.1f} (z = {z:.3g})")
        print(f"| {target} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
