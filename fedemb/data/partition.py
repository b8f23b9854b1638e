"""Images without users dealt to users who are made up: a benchmark's stand-in for how people's collections differ.

Every image goes to at most one user, every user gets the same number of images, and the same arguments give the same
users. Nobody real is behind such a user, so a guarantee for it protects nobody.
Shapes: n images, N users, k images each.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fedemb.core import check
from fedemb.core.rng import generator

_SMALLEST = 1e-300  # concentration; the logarithm of a share stays finite


@dataclass(frozen=True, kw_only=True)
class Population:
    """The users to make up: `num_users` of `examples_per_user` images, drawn by `seed`."""

    num_users: int
    examples_per_user: int
    seed: int

    def __post_init__(self) -> None:
        check.at_least("num_users", self.num_users, 1)
        check.at_least("examples_per_user", self.examples_per_user, 1)

    def check_fits(self, images: int) -> None:
        """Raise ValueError if there are fewer images than the users need."""
        needed = self.num_users * self.examples_per_user
        if needed > images:
            raise ValueError(
                f"num_users={self.num_users} of examples_per_user={self.examples_per_user} need {needed} images, "
                f"there are {images}: lower one of the two"
            )


def dirichlet(labels: np.ndarray, population: Population, *, alpha: float) -> list[np.ndarray]:
    """Users whose shares of the classes are drawn from Dirichlet(alpha p), p being the classes' shares of all images.

    Near alpha 0 a user has one class, at a large alpha all classes as often as they are. A class that is used up is
    left out and the remaining shares are scaled to sum to 1.
    Args: labels: [n] whole numbers. alpha: above 0.
    Returns: N arrays [k] of positions in `labels`, ascending.
    Raises: ValueError in one line if there are too few images or alpha is not above 0.
    Source: Hsu, Qi, Brown 2019, arXiv:1909.06335.
    """
    check.positive("alpha", alpha)
    population.check_fits(len(labels))
    rng = generator(population.seed, "dirichlet users")
    classes, label = np.unique(labels, return_inverse=True)
    stock = _Stock(label, len(classes), rng)
    concentrations = alpha * stock.left / len(labels)

    def user() -> Callable[[], int]:
        shares = _log_dirichlet(rng, concentrations)
        return lambda: _pick(rng, shares, stock.left > 0)

    return _deal(stock, population, user)


def pachinko(
    labels: np.ndarray, coarse: np.ndarray, population: Population, *, alpha: float = 0.1, beta: float = 10.0
) -> list[np.ndarray]:
    """Users by Pachinko allocation: shares of the coarse classes, and within each, shares of its fine classes.

    Per user, the first are drawn from the symmetric Dirichlet(alpha), the second from Dirichlet(beta); each image is
    then drawn from the top down. What is used up is left out and the remaining shares are scaled to sum to 1.
    Args: labels: [n] fine classes. coarse: [n] coarse classes, one for each fine class. alpha, beta: above 0.
    Returns: N arrays [k] of positions in `labels`, ascending.
    Raises: ValueError in one line if there are too few images, a fine class has two coarse ones, or alpha or beta is
        not above 0.
    Source: Reddi et al. 2021, arXiv:2003.00295, appendix on CIFAR-100, with 500 users of 100 images.
    """
    check.positive("alpha", alpha)
    check.positive("beta", beta)
    population.check_fits(len(labels))
    rng = generator(population.seed, "pachinko users")
    classes, label = np.unique(labels, return_inverse=True)
    members = _members(classes, label, np.asarray(coarse))
    stock = _Stock(label, len(classes), rng)

    def user() -> Callable[[], int]:
        top = _log_dirichlet(rng, np.full(len(members), alpha))
        within = [_log_dirichlet(rng, np.full(len(fine), beta)) for fine in members]

        def draw() -> int:
            some = np.array([stock.left[fine].any() for fine in members])
            chosen = _pick(rng, top, some)
            fine = members[chosen]
            return int(fine[_pick(rng, within[chosen], stock.left[fine] > 0)])

        return draw

    return _deal(stock, population, user)


class _Stock:
    """The images nobody has yet, by class 0, 1, …, each class in random order. left: [classes] how many."""

    def __init__(self, label: np.ndarray, classes: int, rng: np.random.Generator) -> None:
        self._images = [rng.permutation(np.flatnonzero(label == number)) for number in range(classes)]
        self.left = np.array([len(images) for images in self._images])

    def take(self, number: int) -> int:
        """One image of a class that has some left."""
        self.left[number] -= 1
        return int(self._images[number][self.left[number]])


def _deal(stock: _Stock, population: Population, user: Callable[[], Callable[[], int]]) -> list[np.ndarray]:
    """One user after the other. user: draws a user's shares and returns what draws the class of its next image."""
    users = []
    for _ in range(population.num_users):
        draw = user()
        users.append(np.sort([stock.take(draw()) for _ in range(population.examples_per_user)]))
    return users


def _log_dirichlet(rng: np.random.Generator, concentrations: np.ndarray) -> np.ndarray:
    """The logarithms of a Dirichlet's shares, up to one constant, so that the smallest still differ near 0.

    Gamma(a) = Gamma(a + 1) U^(1/a). Source: Marsaglia and Tsang 2000, section 6.
    """
    a = np.maximum(concentrations, _SMALLEST)
    shares: np.ndarray = np.log(rng.standard_gamma(a + 1)) + np.log1p(-rng.random(len(a))) / a
    return shares


def _pick(rng: np.random.Generator, log_shares: np.ndarray, some_left: np.ndarray) -> int:
    """One of those that have some left, by their shares among these."""
    usable = np.where(some_left, log_shares, -np.inf)
    shares = np.exp(usable - usable.max())
    return int(rng.choice(len(shares), p=shares / shares.sum()))


def _members(classes: np.ndarray, label: np.ndarray, coarse: np.ndarray) -> list[np.ndarray]:
    """For each coarse class, in order, the numbers of its fine classes. label: [n] positions in `classes`."""
    if coarse.shape != label.shape:
        raise ValueError(f"every image needs a coarse class, got {len(label)} labels and {len(coarse)} coarse classes")
    parents = np.zeros(len(classes), coarse.dtype)
    parents[label] = coarse
    if (wrong := np.flatnonzero(parents[label] != coarse)).size:
        name = classes[label[wrong[0]]]
        raise ValueError(
            f"fine class {name} is in the coarse classes {coarse[wrong[0]]} and {parents[label[wrong[0]]]}"
        )
    return [np.flatnonzero(parents == parent) for parent in np.unique(parents)]
