"""fedemb calibrate: the noise multiplier, the rounds or the users per round that meet a target epsilon."""

from __future__ import annotations

from omegaconf import DictConfig

from fedemb.cli.pricing import PRICING, Population, number, show, whole
from fedemb.privacy.calibration import solve_noise_multiplier, solve_rounds, solve_users_per_round

CONFIG_PATH = PRICING
CONFIG = "calibrate"


def run(cfg: DictConfig) -> None:
    """Solve for the one setting that is null, price the answer, print both."""
    solvers = {"noise_multiplier": _noise_multiplier, "rounds": _rounds, "users_per_round": _users_per_round}
    unknown = [key for key in solvers if cfg[key] is None]
    if len(unknown) != 1:
        left = ", ".join(unknown) or "none"
        raise ValueError(f"leave exactly one of {', '.join(solvers)} out, to be solved for; left out: {left}")
    target = number(cfg, "target_epsilon")
    solved, population = unknown[0], Population.of(cfg)
    value = solvers[solved](cfg, population, target)
    settings = {
        "users_per_round": value if solved == "users_per_round" else whole(cfg, "users_per_round"),
        "rounds": value if solved == "rounds" else whole(cfg, "rounds"),
        "noise_multiplier": value if solved == "noise_multiplier" else number(cfg, "noise_multiplier"),
    }
    answer = population.price(**settings)  # type: ignore[arg-type]
    show({"solved": solved, "value": value, "target_epsilon": target, **answer}, str(cfg.format))


def _noise_multiplier(cfg: DictConfig, population: Population, target: float) -> float:
    users_per_round, rounds = whole(cfg, "users_per_round"), whole(cfg, "rounds")
    return solve_noise_multiplier(
        lambda noise_multiplier: population.event(users_per_round, noise_multiplier),
        rounds=rounds,
        delta=population.delta,
        target_epsilon=target,
    )


def _rounds(cfg: DictConfig, population: Population, target: float) -> int:
    event = population.event(whole(cfg, "users_per_round"), number(cfg, "noise_multiplier"))
    return solve_rounds(event, delta=population.delta, target_epsilon=target)


def _users_per_round(cfg: DictConfig, population: Population, target: float) -> int:
    noise_multiplier, rounds = number(cfg, "noise_multiplier"), whole(cfg, "rounds")
    return solve_users_per_round(
        lambda users_per_round: population.event(users_per_round, noise_multiplier),
        users=population.users,
        users_per_client=population.users_per_client,
        rounds=rounds,
        delta=population.delta,
        target_epsilon=target,
    )
