"""Made-up users: every image once, sizes exact, shares as the papers' distributions say."""

import numpy as np
import pytest

from fedemb.data.partition import Population, dirichlet, pachinko

COARSE_OF = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])  # 12 fine classes in 4 coarse ones


def users_of(number, size, seed=0):
    return Population(num_users=number, examples_per_user=size, seed=seed)


def by_pachinko(labels, population, alpha=0.1, beta=10.0):
    return pachinko(labels, COARSE_OF[labels], population, alpha=alpha, beta=beta)


def by_dirichlet(labels, population, alpha=0.3):
    return dirichlet(labels, population, alpha=alpha)


METHODS = pytest.mark.parametrize("method", [by_pachinko, by_dirichlet])


@METHODS
@pytest.mark.parametrize("per_class", [5, 7])
def test_every_image_is_used_once_and_sizes_are_exact(method, per_class):
    """With 5 images a class every one of the 60 is dealt, whatever the shares ask for."""
    labels = np.random.default_rng(1).permutation(np.repeat(np.arange(12), per_class))
    users = method(labels, users_of(6, 10))
    assert [len(user) for user in users] == [10] * 6
    everything = np.concatenate(users)
    assert len(set(everything.tolist())) == 60
    assert everything.min() >= 0
    assert everything.max() < len(labels)
    assert all((np.diff(user) > 0).all() for user in users)


@METHODS
def test_the_seed_decides(method):
    labels = np.repeat(np.arange(12), 20)
    first, again, other = (method(labels, users_of(6, 10, seed)) for seed in (3, 3, 4))
    assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    assert any(not np.array_equal(a, b) for a, b in zip(first, other, strict=True))


@pytest.mark.parametrize("alpha", [1e-3, 1e-6, 1e-300])
def test_near_zero_a_user_has_one_class_until_it_is_used_up(alpha):
    """Two classes of 4: the first user takes 3 of one class, the second its last or 3 of the other, and so on."""
    labels = np.array([7, 9, 7, 9, 7, 9, 7, 9])
    for seed in range(10):
        first, second = dirichlet(labels, users_of(2, 4, seed), alpha=alpha)
        assert len(set(labels[first])) == 1
        assert set(labels[second]) == {7, 9} - set(labels[first])
        (single,) = dirichlet(labels, users_of(1, 6, seed), alpha=alpha)
        assert sorted(np.unique(labels[single], return_counts=True)[1]) == [2, 4]


def test_near_zero_a_user_whose_class_is_used_up_goes_on_with_one_other_class():
    """Five classes of 4 and five users of 4: all are of one class, whichever came first."""
    labels = np.repeat(np.arange(5), 4)
    for seed in range(20):
        users = dirichlet(labels, users_of(5, 4, seed), alpha=1e-9)
        assert sorted(tuple(set(labels[user])) for user in users) == [(0,), (1,), (2,), (3,), (4,)]


def test_near_zero_a_pachinko_user_has_one_coarse_class_with_all_its_fine_ones():
    """12 images of a coarse class with 3 x 4: the user takes them all, or 9 of them evenly at a huge beta."""
    labels = np.repeat(np.arange(12), 4)
    for seed in range(10):
        (user,) = by_pachinko(labels, users_of(1, 12, seed), alpha=1e-6, beta=1e6)
        assert np.unique(labels[user], return_counts=True)[1].tolist() == [4, 4, 4]
        assert len(set(COARSE_OF[labels[user]])) == 1
    many = np.repeat(np.arange(12), 3_000)
    (user,) = by_pachinko(many, users_of(1, 6_000), alpha=1e-6, beta=1e6)
    assert np.unique(many[user], return_counts=True)[1] == pytest.approx([2_000] * 3, rel=0.1)  # 5 std


def test_at_infinity_all_users_have_the_classes_as_often_as_they_are():
    """Classes of 3,000, 2,000 and 1,000 images: a user of 600 has them as 300, 200 and 100, at 5 std."""
    labels = np.repeat([0, 1, 2], [3_000, 2_000, 1_000])
    for user in dirichlet(labels, users_of(5, 600), alpha=1e7):
        assert np.bincount(labels[user]) == pytest.approx([300, 200, 100], abs=61)


def agreeing(values, users):
    """The share of users whose two images agree."""
    return float(np.mean([values[user[0]] == values[user[1]] for user in users]))


@pytest.mark.parametrize("alpha", [0.3, 3.0])
def test_two_images_of_a_user_agree_as_often_as_a_dirichlet_says(alpha):
    """q ~ Dirichlet(alpha p): P(same class) = (1 + alpha sum p²) / (1 + alpha)."""
    labels = np.repeat([0, 1, 2], [30_000, 20_000, 10_000])
    squares = (3**2 + 2**2 + 1) / 36
    expected = (1 + alpha * squares) / (1 + alpha)
    users = dirichlet(labels, users_of(4_000, 2), alpha=alpha)
    assert agreeing(labels, users) == pytest.approx(expected, abs=0.04)  # 5 std of 4,000 coin tosses
    assert np.bincount(labels[np.concatenate(users)]) / 8_000 == pytest.approx([3 / 6, 2 / 6, 1 / 6], abs=0.04)


@pytest.mark.parametrize(("alpha", "beta"), [(0.1, 10.0), (2.0, 0.2)])
def test_two_images_of_a_user_agree_as_often_as_pachinko_says(alpha, beta):
    """Symmetric Dirichlet(a) of K: P(same) = (a + 1) / (K a + 1), at the top and again within the coarse class."""
    labels = np.repeat(np.arange(12), 8_000)
    same_coarse, same_fine = (alpha + 1) / (4 * alpha + 1), (beta + 1) / (3 * beta + 1)
    users = by_pachinko(labels, users_of(4_000, 2), alpha=alpha, beta=beta)
    assert agreeing(COARSE_OF[labels], users) == pytest.approx(same_coarse, abs=0.04)
    assert agreeing(labels, users) == pytest.approx(same_coarse * same_fine, abs=0.04)


def test_what_is_asked_for_must_be_there():
    labels = np.zeros(9, np.int64)
    with pytest.raises(ValueError, match=r"num_users=2 of examples_per_user=5 need 10 images, there are 9: lower one"):
        dirichlet(labels, users_of(2, 5), alpha=1.0)
    with pytest.raises(ValueError, match="need 10 images, there are 9"):
        pachinko(labels, labels, users_of(2, 5))
    with pytest.raises(ValueError, match="num_users must be an integer of at least 1, got num_users=0"):
        users_of(0, 5)
    with pytest.raises(ValueError, match="examples_per_user must be"):
        users_of(1, 0)
    for alpha in (0.0, -1.0, np.inf, np.nan):
        with pytest.raises(ValueError, match="alpha must be"):
            dirichlet(labels, users_of(1, 1), alpha=alpha)
        with pytest.raises(ValueError, match="beta must be"):
            pachinko(labels, labels, users_of(1, 1), beta=alpha)


def test_a_fine_class_has_one_coarse_class():
    with pytest.raises(ValueError, match="fine class 5 is in the coarse classes 0 and 1"):
        pachinko(np.array([4, 5, 5]), np.array([0, 0, 1]), users_of(1, 1))
    with pytest.raises(ValueError, match="got 3 labels and 2 coarse classes"):
        pachinko(np.array([4, 5, 5]), np.array([0, 0]), users_of(1, 1))
