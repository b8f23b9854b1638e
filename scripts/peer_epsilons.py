"""What one peer's accountant says of given runs. Needs that peer alone: each can live in an environment of its own.

    python scripts/peer_epsilons.py NAME < runs.json        `scripts/peers.py` calls it so, once for each peer

In: a list of objects with the fields of `Run`. Out: {"version": …, "epsilons": [a number, or why there is none, …]},
or {"missing": package}. Every peer gets the noise in the unit that its own documentation or noising code gives it.
"""

import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version


@dataclass(frozen=True, kw_only=True)
class Run:
    """Users drawn without replacement in every round; noise_multiplier: z, noise std on the sum / clip norm."""

    users: int
    users_per_round: int
    rounds: int
    noise_multiplier: float
    delta: float

    @property
    def sampling_rate(self) -> float:
        return self.users_per_round / self.users


@dataclass(frozen=True, kw_only=True)
class Peer:
    """One accountant asked in one way.

    package: its distribution. analyses: relation; sampling. bounds: whether that analysis, with the noise as it is
    passed, bounds substitute-one under fixed-size sampling with a clipped sum. epsilon: the price of a run.
    """

    package: str
    analyses: str
    bounds: bool
    epsilon: Callable[[Run], float]


def _rdp(run: Run, noise_ratio: float) -> float:
    """dp-accounting's RDP of fixed-size rounds (Wang, Balle and Kasiviswanathan 2019)."""
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant

    release = dp_accounting.GaussianDpEvent(noise_ratio)
    event = dp_accounting.SampledWithoutReplacementDpEvent(run.users, run.users_per_round, release)
    accountant = RdpAccountant(neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_ONE)
    return float(accountant.compose(event, run.rounds).get_epsilon(run.delta))


def _pld(run: Run, event: Callable[..., object]) -> float:
    """dp-accounting's PLD under replace-one, which reads a noise multiplier as noise std / clip norm."""
    import dp_accounting
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_ONE)
    return float(accountant.compose(event(dp_accounting), run.rounds).get_epsilon(run.delta))


def _pld_fixed(run: Run) -> float:
    return _pld(
        run,
        lambda dp: dp.SampledWithoutReplacementDpEvent(
            run.users, run.users_per_round, dp.GaussianDpEvent(run.noise_multiplier)
        ),
    )


def _pld_truncated(run: Run) -> float:
    """Everybody is drawn, and all but M at random are dropped again: fixed-size sampling."""
    return _pld(
        run,
        lambda dp: dp.TruncatedSubsampledGaussianDpEvent(run.users, 1.0, run.users_per_round, run.noise_multiplier),
    )


def _pld_poisson(run: Run) -> float:
    return _pld(run, lambda dp: dp.PoissonSampledDpEvent(run.sampling_rate, dp.GaussianDpEvent(run.noise_multiplier)))


def _flower(run: Run, sampling: str, relation: str) -> float:
    """Its accountant, with the noise multiplier of its strategies: std on the mean = multiplier * C / clients."""
    from flwr.serverapp import RdpAccountant
    from flwr.supercore import privacy_accounting as flower

    config = flower.PrivacyConfig(
        run.delta, run.users, flower.NeighboringRelation(relation), flower.SamplingMethod(sampling)
    )
    accountant = RdpAccountant(config)
    accountant.compose(flower.GaussianPrivacyEvent(run.noise_multiplier, run.users_per_round, run.users), run.rounds)
    return float(accountant.get_epsilon(run.delta))


def _opacus(run: Run, mechanism: str) -> float:
    """Its optimizer adds noise of std multiplier * C to the sum."""
    from opacus.accountants import create_accountant

    accountant = create_accountant(mechanism)
    accountant.history = [(run.noise_multiplier, run.sampling_rate, run.rounds)]
    return float(accountant.get_epsilon(run.delta))


def _jax_fixed_batch(run: Run) -> float:
    """Its training accountant for batches of fixed size, which doubles the sensitivity itself."""
    from jax_privacy.accounting import accountants, analysis

    settings = analysis.DpParams(
        noise_multipliers=run.noise_multiplier,
        num_samples=run.users,
        batch_size=run.users_per_round,
        delta=run.delta,
        sampling_method=analysis.SamplingMethod.FIXED_BATCH_SIZE,
    )
    accountant = analysis.DpsgdTrainingAccountant(accountants.PldAccountantConfig())
    return float(accountant.compute_epsilon(run.rounds, settings))


def _jax_event(run: Run) -> float:
    """Its event; the clipped sum of its `clipping` module says 2C under replace-one, so std / sensitivity is z / 2."""
    import dp_accounting
    from dp_accounting.rdp import RdpAccountant
    from jax_privacy.experimental.accounting import fixed_dpsgd_event

    event = fixed_dpsgd_event(
        run.noise_multiplier / 2, run.rounds, dataset_size=run.users, batch_size=run.users_per_round
    )
    accountant = RdpAccountant(neighboring_relation=dp_accounting.NeighboringRelation.REPLACE_ONE)
    return float(accountant.compose(event).get_epsilon(run.delta))


def _pfl(run: Run, accountant: str) -> float:
    """Its Gaussian mechanism adds noise of std parameter * C to the sum."""
    from pfl import privacy

    return float(
        getattr(privacy, accountant)(
            num_compositions=run.rounds,
            sampling_probability=run.sampling_rate,
            mechanism="gaussian",
            delta=run.delta,
            noise_parameter=run.noise_multiplier,
        ).epsilon
    )


FIXED, POISSON = "replace-one; fixed size", "add/remove; Poisson"
PEERS = {
    "dp-accounting RDP, given std / sensitivity": Peer(
        package="dp-accounting",
        analyses=FIXED,
        bounds=True,
        epsilon=lambda run: _rdp(run, run.noise_multiplier / 2),
    ),
    "dp-accounting RDP, given std / C": Peer(
        package="dp-accounting",
        analyses=f"{FIXED}, sensitivity C",
        bounds=False,
        epsilon=lambda run: _rdp(run, run.noise_multiplier),
    ),
    "dp-accounting PLD": Peer(package="dp-accounting", analyses=FIXED, bounds=True, epsilon=_pld_fixed),
    "dp-accounting PLD, all drawn and truncated to M": Peer(
        package="dp-accounting", analyses="replace-one; fixed size by truncation", bounds=True, epsilon=_pld_truncated
    ),
    "dp-accounting PLD, Poisson": Peer(
        package="dp-accounting", analyses="replace-one; Poisson", bounds=False, epsilon=_pld_poisson
    ),
    "Flower RdpAccountant": Peer(
        package="flwr",
        analyses=f"{FIXED}, sensitivity C",
        bounds=False,
        epsilon=lambda run: _flower(run, "without-replacement", "replace-one"),
    ),
    "Flower, what its DP strategy accepts": Peer(
        package="flwr",
        analyses="add/remove; no amplification",
        bounds=False,
        epsilon=lambda run: _flower(run, "no-amplification", "add-or-remove-one"),
    ),
    "Opacus RDP": Peer(package="opacus", analyses=POISSON, bounds=False, epsilon=lambda run: _opacus(run, "rdp")),
    "Opacus PRV": Peer(package="opacus", analyses=POISSON, bounds=False, epsilon=lambda run: _opacus(run, "prv")),
    "jax_privacy event + RDP, given std / sensitivity": Peer(
        package="jax-privacy", analyses=FIXED, bounds=True, epsilon=_jax_event
    ),
    "jax_privacy FIXED_BATCH_SIZE": Peer(
        package="jax-privacy",
        analyses="replace-one; worst pair after composition",
        bounds=False,
        epsilon=_jax_fixed_batch,
    ),
    "pfl-research PLD": Peer(
        package="pfl", analyses=POISSON, bounds=False, epsilon=lambda run: _pfl(run, "PLDPrivacyAccountant")
    ),
    "pfl-research PRV": Peer(
        package="pfl", analyses=POISSON, bounds=False, epsilon=lambda run: _pfl(run, "PRVPrivacyAccountant")
    ),
}


def answer(peer: Peer, runs: list[Run]) -> dict[str, object]:
    """See the module."""
    try:
        installed = version(peer.package)
    except PackageNotFoundError:
        return {"missing": peer.package}
    return {"version": installed, "epsilons": [_epsilon_or_reason(peer, run) for run in runs]}


def _epsilon_or_reason(peer: Peer, run: Run) -> float | str:
    try:
        return peer.epsilon(run)
    except Exception as error:  # whatever a peer raises is its answer
        return f"{type(error).__name__}: {error}".splitlines()[0]


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    asked = [Run(**fields) for fields in json.load(sys.stdin)]
    print(json.dumps(answer(PEERS[sys.argv[1]], asked)))
