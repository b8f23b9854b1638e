"""The setting that meets a target epsilon: noise, rounds or users per round.

All answers meet the target by the certified epsilon itself, which is evaluated at the answer.
"""

from __future__ import annotations

from collections.abc import Callable

from dp_accounting import DpEvent

from fedemb.core import check
from fedemb.privacy.accounting import affordable_rounds, epsilon

MOST_ROUNDS = 1_000_000
MOST_NOISE = 1e6
LEAST_NOISE = 1e-3
_NOISE_TOLERANCE = 1e-4  # relative


def solve_noise_multiplier(
    round_event: Callable[[float], DpEvent], *, rounds: int, delta: float, target_epsilon: float
) -> float:
    """The least noise multiplier, to 1e-4 relative from above, whose `rounds` rounds cost at most `target_epsilon`.

    Args: round_event: noise multiplier -> the event of one round.
    Raises: ValueError if no noise multiplier of at most a million meets the target.
    """
    check.positive("target_epsilon", target_epsilon)
    check.at_least("rounds", rounds, 1)

    def meets(noise_multiplier: float) -> bool:
        return epsilon([(round_event(noise_multiplier), rounds)], delta) <= target_epsilon

    enough, short = 1.0, 1.0
    while not meets(enough):
        short, enough = enough, 2 * enough
        if enough > MOST_NOISE:
            raise _unreachable(target_epsilon, delta, "any noise_multiplier up to a million", "lower rounds")
    while short == enough or meets(short):
        enough, short = short, short / 2
        if short < LEAST_NOISE:
            return enough
    while enough > (1 + _NOISE_TOLERANCE) * short:
        middle = (enough * short) ** 0.5
        enough, short = (middle, short) if meets(middle) else (enough, middle)
    return enough


def solve_rounds(round_event: DpEvent, *, delta: float, target_epsilon: float) -> int:
    """The largest number of rounds that cost at most `target_epsilon`.

    Raises: ValueError if one round costs more, or a million cost less.
    """
    rounds = affordable_rounds(
        [], lambda count: [(round_event, count)], delta=delta, target_epsilon=target_epsilon, limit=MOST_ROUNDS
    )
    if rounds == 0:
        raise _unreachable(target_epsilon, delta, "a single round", "raise noise_multiplier or lower users_per_round")
    if rounds == MOST_ROUNDS:
        raise ValueError(f"a million rounds cost at most {target_epsilon=} at {delta=}: lower noise_multiplier")
    return rounds


def solve_users_per_round(
    round_event: Callable[[int], DpEvent],
    *,
    users: int,
    users_per_client: int,
    rounds: int,
    delta: float,
    target_epsilon: float,
) -> int:
    """The largest multiple of `users_per_client` up to `users` whose `rounds` rounds cost at most `target_epsilon`.

    Args: round_event: users per round -> the event of one round.
    Raises: ValueError if not even one virtual client a round meets the target.
    """
    check.positive("target_epsilon", target_epsilon)
    check.at_least("rounds", rounds, 1)
    check.at_least("users_per_client", users_per_client, 1)
    check.at_least("users", users, users_per_client)

    def meets(clients: int) -> bool:
        return epsilon([(round_event(clients * users_per_client), rounds)], delta) <= target_epsilon

    if not meets(1):
        raise _unreachable(target_epsilon, delta, "one virtual client a round", "raise noise_multiplier")
    fitting, failing = 1, users // users_per_client + 1
    while failing - fitting > 1:
        middle = (fitting + failing) // 2
        fitting, failing = (middle, failing) if meets(middle) else (fitting, middle)
    return fitting * users_per_client


def _unreachable(target_epsilon: float, delta: float, tried: str, remedy: str) -> ValueError:
    return ValueError(f"{target_epsilon=} at {delta=} is out of reach with {tried}: {remedy}, or raise the target")
