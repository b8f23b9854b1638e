"""What an attack that adapts to earlier rounds proves about fixed-size sampling, next to fedemb's interval.

    python scripts/adaptive_attack.py --users 10000 --users-per-round 256 --rounds 200 --noise-multiplier 2 --delta 1e-5

`fedemb account` prints an attack whose neighbours stay the same in every round. But updates are functions of the model,
so whoever takes the substituted user's slot otherwise may give, in each round and depending on all releases so far, the
update of either world. A dynamic programme chooses; the choice is then a fixed rule, and the masses of the rounded,
accumulated loss under it, one for each world, prove an epsilon whatever the quality of the programme.
"""

import argparse
import math

import numpy as np
from scipy.signal import fftconvolve

from fedemb.core import check
from fedemb.privacy.accounting import PrivacySpend, spend
from fedemb.privacy.attack import attack_orders
from fedemb.privacy.events import fixed_size_round
from fedemb.privacy.pairs import FixedSizeRound
from fedemb.privacy.pld import loss_reaches

STEPS_PER_DEVIATION = 16  # grid steps in the standard deviation of one round's loss
REACH = 10.0  # standard deviations of the accumulated loss that the grid covers beyond epsilon
ROUND_OFF = 1e-14  # of the masses, for each convolution


def adaptive_epsilon(round_: FixedSizeRound, rounds: int, delta: float, aim: float) -> float:
    """The epsilon >= 0 that the adaptive attack proves; aim: the epsilon that its rule is chosen for."""
    deviation = round_.sampling_rate * math.sqrt(math.expm1(round_.noise_ratio**-2))
    step = deviation / STEPS_PER_DEVIATION
    # [choice, world, losses]: the slot's other update is the second world's, or the first world's
    kernels = np.exp(
        [
            [world[0][0].log_mass for world in order]
            for order in attack_orders([(round_, 1)], step, loss_reaches([(round_, 1)], delta / rounds))
        ]
    )
    size = round((aim + REACH * deviation * math.sqrt(rounds) + 1) / step)
    rules = _rules(kernels[:, 0], rounds, size, step, aim)
    worlds = np.zeros((2, 2 * size + 1))
    worlds[:, size] = 1.0
    for rule in rules:
        worlds = np.array(
            [
                sum(fftconvolve(np.where(rule == c, mass, 0), kernels[c, w], mode="same") for c in (0, 1))
                for w, mass in enumerate(worlds)
            ]
        )
    error = 2 * rounds * ROUND_OFF
    first = np.cumsum(worlds[0][::-1])[::-1] - error
    second = np.cumsum(worlds[1][::-1])[::-1] + (1 - worlds[1].sum()) + error  # what left the grid counts against us
    useful = first > delta
    return max(0.0, float(np.max(np.log(first[useful] - delta) - np.log(second[useful]))))


def _rules(kernels: np.ndarray, rounds: int, size: int, step: float, aim: float) -> np.ndarray:
    """The better choice in each round for each accumulated loss: [rounds, 2 size + 1] of 0 and 1.

    The value of what is left is the hockey-stick divergence at `aim` less the loss so far, from the last round back.
    """
    losses = step * np.arange(-size, size + 1)
    value = -np.expm1(np.minimum(aim - losses, 0.0))
    rules = np.zeros((rounds, len(losses)), dtype=np.int8)
    reach = kernels.shape[1] // 2
    for t in reversed(range(rounds)):
        ahead = np.pad(value, reach, mode="edge")
        values = [fftconvolve(ahead, kernel[::-1], mode="valid") for kernel in kernels]
        rules[t] = np.argmax(values, axis=0)
        value = np.max(values, axis=0)
    return rules


def adaptive_spend(
    *, users: int, users_per_round: int, rounds: int, noise_multiplier: float, delta: float
) -> tuple[PrivacySpend, float]:
    """(fedemb's interval, the adaptive attack's epsilon) of one run."""
    check.at_least("rounds", rounds, 1)
    check.positive("noise_multiplier", noise_multiplier)
    event = fixed_size_round(users=users, users_per_round=users_per_round, noise_multiplier=noise_multiplier)
    fixed = spend([(event, rounds)], delta)
    if users_per_round == users:
        return fixed, fixed.epsilon_attack  # without sampling there is nothing to adapt
    round_ = FixedSizeRound(sampling_rate=users_per_round / users, noise_ratio=event.event.noise_multiplier)
    return fixed, adaptive_epsilon(round_, rounds, delta, aim=fixed.epsilon_attack)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, kind in (("users", int), ("users-per-round", int), ("rounds", int)):
        parser.add_argument(f"--{name}", type=kind, required=True)
    for name in ("noise-multiplier", "delta"):
        parser.add_argument(f"--{name}", type=float, required=True)
    settings = vars(parser.parse_args())
    try:
        fixed, adaptive = adaptive_spend(**settings)
    except ValueError as error:
        parser.error(str(error))
    print(f"attack {fixed.epsilon_attack:.4f}, adaptive attack {adaptive:.4f}, certified {fixed.epsilon:.4f}")


if __name__ == "__main__":
    main()
