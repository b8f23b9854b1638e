"""The noise multiplier that meets a target epsilon, by fedemb and by dp-accounting's RDP: a Markdown table.

    python scripts/calibration_table.py

Both bound the same mechanism (substitute-one, M of N users without replacement, sensitivity 2C); RDP is what
dp-accounting offers for the event of such rounds.
"""

from dataclasses import dataclass

from scipy.optimize import brentq

from fedemb.privacy.calibration import solve_noise_multiplier
from fedemb.privacy.crosscheck import rdp_epsilon
from fedemb.privacy.events import fixed_size_round
from fedemb.report.numbers import small, upper

LEAST_NOISE, MOST_NOISE = 0.3, 100.0


@dataclass(frozen=True, kw_only=True)
class Target:
    """T rounds of M among N users, to cost epsilon at delta."""

    users: int
    users_per_round: int
    rounds: int
    delta: float
    epsilon: float

    def event(self, noise_multiplier):
        return fixed_size_round(
            users=self.users, users_per_round=self.users_per_round, noise_multiplier=noise_multiplier
        )


TARGETS = (
    Target(users=10**4, users_per_round=256, rounds=200, delta=1e-5, epsilon=8),
    Target(users=10**5, users_per_round=1_000, rounds=1_000, delta=1e-6, epsilon=2),
    Target(users=10**5, users_per_round=1_000, rounds=1_000, delta=1e-6, epsilon=4),
    Target(users=10**6, users_per_round=10_000, rounds=2_000, delta=1e-7, epsilon=1),
    Target(users=10**6, users_per_round=10_000, rounds=2_000, delta=1e-7, epsilon=2),
    Target(users=10**6, users_per_round=10_000, rounds=2_000, delta=1e-7, epsilon=8),
    Target(users=10**7, users_per_round=100_000, rounds=5_000, delta=1e-8, epsilon=2),
)


def certified_noise(target):
    return solve_noise_multiplier(target.event, rounds=target.rounds, delta=target.delta, target_epsilon=target.epsilon)


def rdp_noise(target):
    def excess(noise_multiplier):
        return rdp_epsilon([(target.event(noise_multiplier), target.rounds)], target.delta) - target.epsilon

    return brentq(excess, LEAST_NOISE, MOST_NOISE, rtol=1e-4)


def row(target):
    certified, rdp = certified_noise(target), rdp_noise(target)
    counts = (f"{count:,}" for count in (target.users, target.users_per_round, target.rounds))
    noise = (upper(certified, digits=4), upper(rdp, digits=4), f"{1 - certified / rdp:.0%}".replace("%", " %"))
    return "| " + " | ".join([*counts, small(target.delta), f"{target.epsilon:g}", *noise]) + " |"


def main():
    print("| N | M | T | δ | ε | z, fedemb | z, RDP | noise saved |\n|" + "---|" * 8)
    for target in TARGETS:
        print(row(target), flush=True)


if __name__ == "__main__":
    main()
