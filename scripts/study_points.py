"""What scripts/study.py runs: every point is the words of one `fedemb train`.

Equal ε is that of a hypothetical deployment of N users with all of them in every round: there ε follows from the noise
on the mean update alone, and so does the utility that is measured here on far fewer users.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from fedemb.privacy.accounting import default_delta
from fedemb.privacy.calibration import solve_noise_multiplier
from fedemb.privacy.events import fixed_size_round

DEPLOYED_USERS = 100_000
EPSILONS = (0.5, 1.0, 4.0)
TUNED_AT = 1.0  # the ε at which candidates are chosen and ingredients compared
SEEDS = (0, 1, 2)
TUNING_SEED = 100
USERS, EXAMPLES = 64, 128  # a round; EXAMPLES where an image is a user
SIDE, WIDTH = 16, 64  # pixels a side, embedding width
HELD_OUT, REPORTED = "[0]", "[1,2]"  # quarters of the test users: to choose rates, to report
START = "start"

_SMALL = (
    f"model.size={SIDE}",
    f"embedding_width={WIDTH}",
    "server.ema_decay=0.9",
    "checkpoint_every=10",
    "device=cpu",
)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A recipe that is compared. candidates: the words that tuning chooses among. sampled: users a round."""

    name: str
    recipe: str
    candidates: tuple[tuple[str, ...], ...]
    words: tuple[str, ...] = ()
    sampled: int = USERS
    private: bool = True


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """One data set at the study's size. k: users of DP-FedEmb's clients; ks: other numbers.

    images: of a user, that a round trains on at most. start: words of every run, as START is where another run lies.
    ingredients: what DP-FedEmb can be without or with, beside its k -> its words.
    """

    name: str
    rounds: int
    images: int
    k: int
    ks: tuple[int, ...]
    start: tuple[str, ...] = ()
    methods: tuple[Method, ...]
    ingredients: dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run. group: "tuning", "methods" or "ingredients". epsilon: of the deployment; None without noise.

    variant: what differs from the method; "" for nothing. candidate: of a tuning run; None for the chosen one.
    """

    group: str
    dataset: Dataset
    method: Method
    epsilon: float | None
    seed: int
    variant: str = ""
    words: tuple[str, ...] = ()
    candidate: tuple[str, ...] | None = None

    @property
    def needs_start(self) -> bool:
        """Does it begin where `public_start` ended?"""
        return f"path={START}" in self.command((), START)

    @property
    def name(self) -> str:
        """The run's folder below the study's: unique."""
        noise = "clean" if self.epsilon is None else f"eps{self.epsilon:g}"
        last = f"seed{self.seed}" if self.candidate is None else " ".join(map(short, self.candidate))
        parts = [self.dataset.name, self.method.name, self.group, self.variant, noise, last]
        return "/".join(re.sub(r"[^a-z0-9.]+", "_", part.lower()) for part in parts if part)

    def command(self, candidate: Sequence[str], start: str) -> list[str]:
        """The words of `fedemb train` but run=. start: folder of the public start."""
        data, method = self.dataset, self.method
        own = (*method.words, *self.words)
        started = () if any(word.startswith("init=") for word in own) else data.start
        z = 0.0 if self.epsilon is None else noise_multiplier(method.sampled, data.rounds, self.epsilon)
        return [
            f"recipe={method.recipe}",
            *_SMALL,
            f"+users.size=[{SIDE},{SIDE}]",
            "test_users=part",
            f"test_users@test_users.of={data.name}",
            f"+test_users.of.size=[{SIDE},{SIDE}]",
            f"test_users.chosen={HELD_OUT if self.group == 'tuning' else REPORTED}",
            f"rounds={data.rounds}",
            f"evaluate_every={data.rounds}",
            f"users_per_round={method.sampled}",
            f"noise_multiplier={z:.8g}",
            f"batching.max_examples_per_user={data.images}",
            *(word.replace("START", start) for word in (*started, *own)),
            *candidate,
            f"seed={self.seed}",
        ]


def short(word: str) -> str:
    """ "server.learning_rate=3" -> "learning rate 3"; for people and for names."""
    key, value = word.split("=", 1)
    return f"{key.rsplit('.', 1)[-1].replace('_', ' ')} {value}"


@cache
def noise_multiplier(sampled: int, rounds: int, epsilon: float) -> float:
    """z of `sampled` users a round whose deployment, with all users in every round, has this certified ε for a user.

    Where images are sampled, a deployment has k N of them and a user moves k: for the same ε of a user k times the
    noise on k times the images, so that z a sampled image is the same.
    """
    everybody = solve_noise_multiplier(
        lambda z: fixed_size_round(users=DEPLOYED_USERS, users_per_round=DEPLOYED_USERS, noise_multiplier=z),
        rounds=rounds,
        delta=default_delta(DEPLOYED_USERS),
        target_epsilon=epsilon,
    )
    return everybody * sampled / DEPLOYED_USERS


def _grid(batches: Sequence[int], rates: Sequence[float]) -> tuple[tuple[str, ...], ...]:
    return tuple((f"batching.batch_size={b}", f"server.learning_rate={r:g}") for b in batches for r in rates)


def _rates(key: str, *rates: float) -> tuple[tuple[str, ...], ...]:
    return tuple((f"{key}={rate:g}",) for rate in rates)


_SERVER, _CLIENT = "server.learning_rate", "client.learning_rate"
_PUBLIC = ("init=public", "path=START")


def _central(recipe: str, *rates: float) -> Method:
    """The users of a round joined, without noise."""
    words = (f"users_per_client={USERS}", "augment=none")
    return Method(name="central", recipe=recipe, candidates=_rates(_CLIENT, *rates), words=words, private=False)


def _ingredients(classes: int) -> dict[str, tuple[str, ...]]:
    return {
        "head shared": ("task=global_head", f"classes={classes}"),
        "head rate x 1": ("client.head_lr_scale=1",),
        "head rate x 100": ("client.head_lr_scale=100",),
        "head first": ("client=head_first", "client.phases.head_only_steps=3"),
    }


QMNIST = Dataset(
    name="qmnist",
    rounds=40,
    images=32,
    k=8,
    ks=(2, 4, 16),
    methods=(
        Method(name="fedemb", recipe="qmnist_writers", candidates=_grid((8, 16), (3, 6))),
        Method(name="one_user", recipe="qmnist_one_user", candidates=_grid((4, 8), (1, 4))),
        Method(name="fedavg", recipe="qmnist_fedavg", candidates=_grid((4, 8), (4, 8))),
        Method(name="dpsgd", recipe="qmnist_dpsgd", candidates=_rates(_SERVER, 0.5, 1, 1.5, 2)),
        Method(name="examples", recipe="qmnist_examples", candidates=_rates(_SERVER, 2, 4, 8, 16), sampled=EXAMPLES),
        _central("qmnist_central", 0.03, 0.06, 0.1, 0.2),
    ),
    ingredients={
        **_ingredients(10),
        "public start": _PUBLIC,
        "public start, frozen convolutions": (*_PUBLIC, "frozen=[conv*]"),
    },
)
OMNIGLOT = Dataset(
    name="omniglot",
    rounds=40,
    images=20,
    k=8,
    ks=(2, 4, 16, 32),
    start=_PUBLIC,
    methods=(
        Method(name="fedemb", recipe="omniglot_dp", candidates=_grid((8, 16), (3, 5)), words=("users_per_client=8",)),
        Method(name="fedavg", recipe="omniglot_fedavg", candidates=_grid((5, 10), (0.3, 3))),
        Method(name="dpsgd", recipe="omniglot_dpsgd", candidates=_rates(_SERVER, 0.1, 0.3, 1, 3)),
        Method(
            name="examples", recipe="omniglot_examples", candidates=_rates(_SERVER, 0.1, 0.3, 1, 3), sampled=EXAMPLES
        ),
        _central("omniglot_central", 0.003, 0.01, 0.03, 0.1),
    ),
    ingredients={
        **_ingredients(3856),
        "random start": ("init=random",),
        "frozen convolutions": ("frozen=[conv*]",),
    },
)
DATASETS = (QMNIST, OMNIGLOT)


def public_start() -> list[str]:
    """The words of the one run that others start from: characters that a program invents are nobody's."""
    size = ["users.size=16", "users.num_users=4000", "test_users=none"]
    settings = ["batching.batch_size=32", "server.learning_rate=3", "rounds=40", "noise_multiplier=0"]
    return ["recipe=procedural", *_SMALL, *size, *settings, "method='Public start'", "seed=0"]


def points() -> list[Point]:
    """All of them: candidates, one seed of everything, the methods of the other seeds, their ingredients."""
    first, *others = SEEDS
    return [
        *(point for data in DATASETS for point in _tuning(data)),
        *(point for data in DATASETS for point in (*_compared(data, first), *_changed(data, first))),
        *(point for seed in others for data in DATASETS for point in _compared(data, seed)),
        *(point for seed in others for data in DATASETS for point in _changed(data, seed)),
    ]


def _tuning(data: Dataset) -> Iterator[Point]:
    for method in data.methods:
        for candidate in method.candidates:
            yield Point(
                group="tuning",
                dataset=data,
                method=method,
                epsilon=TUNED_AT if method.private else None,
                seed=TUNING_SEED,
                candidate=candidate,
            )


def _compared(data: Dataset, seed: int) -> Iterator[Point]:
    for method in data.methods:
        for epsilon in (None, *EPSILONS) if method.private else (None,):
            yield Point(group="methods", dataset=data, method=method, epsilon=epsilon, seed=seed)


def _changed(data: Dataset, seed: int) -> Iterator[Point]:
    """DP-FedEmb without one ingredient, or with another, as it was tuned with all."""
    variants = {f"k = {k}": (f"users_per_client={k}",) for k in data.ks} | data.ingredients
    for variant, words in variants.items():
        yield Point(
            group="ingredients",
            dataset=data,
            method=data.methods[0],
            epsilon=TUNED_AT,
            seed=seed,
            variant=variant,
            words=(*words, f"method='DP-FedEmb, {variant}'"),
        )
