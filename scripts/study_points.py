"""What scripts/study.py runs: every point is the words of one `fedemb train`.

Equal ε is that of a hypothetical deployment of N users with all of them in every round: there ε follows from the noise
on the mean update alone, and so does the utility that is measured here on far fewer users.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from fedemb.privacy.accounting import default_delta
from fedemb.privacy.calibration import solve_noise_multiplier
from fedemb.privacy.events import fixed_size_round

DEPLOYED_USERS = 100_000
EPSILONS = (0.25, 1.0, 3.0)
TUNED_AT = 1.0  # the ε at which learning rates are chosen and ingredients compared
SEEDS = (0, 1, 2)
TUNING_SEED = 100
USERS, EXAMPLES = 64, 128  # a round; EXAMPLES where an image is a user
SIDE, WIDTH = 16, 64  # pixels a side, embedding width
HELD_OUT, REPORTED = "[0]", "[1,2]"  # quarters of the test users: to choose rates, to report
START = "start"

_SMALL = (
    f"model.size={SIDE}",
    f"embedding_width={WIDTH}",
    "server.ema_decay=0",
    "checkpoint_every=10",
    "device=cpu",
)


@dataclass(frozen=True, kw_only=True)
class Method:
    """A recipe that is compared. rate: the key that is tuned, rates: its candidates. sampled: users a round."""

    name: str
    recipe: str
    rate: str
    rates: tuple[float, ...]
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

    variant: what differs from the method; "" for nothing. rate: of a tuning run; None for the tuned one.
    """

    group: str
    dataset: Dataset
    method: Method
    epsilon: float | None
    seed: int
    variant: str = ""
    words: tuple[str, ...] = ()
    rate: float | None = None

    @property
    def needs_start(self) -> bool:
        """Does it begin where `public_start` ended?"""
        return f"path={START}" in self.command(1.0, START)

    @property
    def name(self) -> str:
        """The run's folder below the study's: unique."""
        noise = "clean" if self.epsilon is None else f"eps{self.epsilon:g}"
        last = f"seed{self.seed}" if self.rate is None else f"rate{self.rate:g}"
        parts = [self.dataset.name, self.method.name, self.group, self.variant, noise, last]
        return "/".join(re.sub(r"[^a-z0-9.]+", "_", part.lower()) for part in parts if part)

    def command(self, rate: float, start: str) -> list[str]:
        """The words of `fedemb train` but run=. rate: the learning rate. start: folder of the public start."""
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
            f"{method.rate}={rate:g}",
            f"seed={self.seed}",
        ]


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


def _methods(
    data: str,
    base: str,
    *more: Method,
    batch_size: int,
    updates: tuple[float, ...],
    gradients: tuple[float, ...],
    central: tuple[float, ...],
) -> tuple[Method, ...]:
    """updates, gradients, central: rates of the server for either, and of the centralised steps; as many for each."""
    server = "server.learning_rate"
    return (
        Method(name="fedemb", recipe=base, rate=server, rates=updates, words=(f"batching.batch_size={batch_size}",)),
        *more,
        Method(name="fedavg", recipe=f"{data}_fedavg", rate=server, rates=updates),
        Method(name="dpsgd", recipe=f"{data}_dpsgd", rate=server, rates=gradients),
        Method(
            name="examples",
            recipe=f"{data}_examples",
            rate=server,
            rates=gradients,
            sampled=EXAMPLES,
        ),
        Method(
            name="central",
            recipe=f"{data}_central",
            rate="client.learning_rate",
            rates=central,
            words=(f"users_per_client={USERS}", "augment=none"),
            private=False,
        ),
    )


_ONE_USER = Method(
    name="one_user",
    recipe="qmnist_one_user",
    rate="server.learning_rate",
    rates=(0.3, 1.0, 3.0, 10.0),
)
_PUBLIC = ("init=public", "path=START")


def _ingredients(classes: int) -> dict[str, tuple[str, ...]]:
    return {
        "head shared": ("task=global_head", f"classes={classes}"),
        "head rate x 1": ("client.head_lr_scale=1",),
        "head rate x 100": ("client.head_lr_scale=100",),
        "head first": ("client=head_first", "client.phases.head_only_steps=3"),
    }


DATASETS = (
    Dataset(
        name="qmnist",
        rounds=30,
        images=32,
        k=8,
        ks=(2, 4, 16),
        methods=_methods(
            "qmnist",
            "qmnist_writers",
            _ONE_USER,
            batch_size=32,
            updates=(1.0, 3.0, 10.0, 30.0),
            gradients=(0.1, 0.3, 1.0, 3.0),
            central=(0.01, 0.03, 0.1, 0.3),
        ),
        ingredients={
            **_ingredients(10),
            "public start": _PUBLIC,
            "public start, frozen convolutions": (*_PUBLIC, "frozen=[conv*]"),
        },
    ),
    Dataset(
        name="omniglot",
        rounds=30,
        images=10,
        k=16,
        ks=(2, 4, 8, 32),
        start=_PUBLIC,
        methods=_methods(
            "omniglot",
            "omniglot_dp",
            batch_size=16,
            updates=(0.3, 1.0, 3.0, 10.0),
            gradients=(0.03, 0.1, 0.3, 1.0),
            central=(0.003, 0.01, 0.03, 0.1),
        ),
        ingredients={
            **_ingredients(3856),
            "random start": ("init=random",),
            "frozen convolutions": ("frozen=[conv*]",),
        },
    ),
)


def public_start() -> list[str]:
    """The words of the one run that others start from: characters that a program invents are nobody's."""
    size = ["users.size=16", "users.num_users=4000", "test_users=none"]
    return ["recipe=procedural", *_SMALL, *size, "rounds=40", "noise_multiplier=0", "method='Public start'", "seed=0"]


def _variants(data: Dataset) -> Iterator[tuple[str, tuple[str, ...]]]:
    """What DP-FedEmb is without one ingredient, or with another, at its own tuned rate."""
    yield from ((f"k = {k}", (f"users_per_client={k}",)) for k in data.ks)
    yield from data.ingredients.items()


def points() -> list[Point]:
    """All of them: rates, one seed of everything, the methods of the other seeds, their ingredients."""
    tuning = [
        Point(
            group="tuning",
            dataset=data,
            method=method,
            epsilon=TUNED_AT if method.private else None,
            seed=TUNING_SEED,
            rate=rate,
        )
        for data in DATASETS
        for method in data.methods
        for rate in method.rates
    ]
    found = []
    for seed in SEEDS:
        for data in DATASETS:
            for method in data.methods:
                for epsilon in (None, *EPSILONS) if method.private else (None,):
                    found.append(Point(group="methods", dataset=data, method=method, epsilon=epsilon, seed=seed))
            for variant, words in _variants(data):
                found.append(
                    Point(
                        group="ingredients",
                        dataset=data,
                        method=data.methods[0],
                        epsilon=TUNED_AT,
                        seed=seed,
                        variant=variant,
                        words=(*words, f"method='DP-FedEmb, {variant}'"),
                    )
                )
    return [
        *tuning,
        *sorted(found, key=lambda p: (p.seed != SEEDS[0], p.seed != SEEDS[0] and p.group == "ingredients")),
    ]
