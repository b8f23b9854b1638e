"""Named streams: pure, distinct, 128 bits wide; both noise sources are N(0, 1)."""

import numpy as np
import pytest
import torch
from distribution import DRAWS, is_normal, right_scale, uncorrelated
from hypothesis import given
from hypothesis import strategies as st

from fedemb.core.rng import SecretNoise, SeededNoise, generator

NAMES = st.tuples(
    st.integers(-(2**70), 2**70), st.text("abc xyz", max_size=4), st.lists(st.integers(0, 99), max_size=3)
)


def first_words(seed, purpose, ids):
    return generator(seed, purpose, *ids).integers(2**63, size=4).tolist()


@given(NAMES, NAMES)
def test_equal_names_give_equal_streams_and_others_differ(one, other):
    assert first_words(*one) == first_words(*one)
    assert (first_words(*one) == first_words(*other)) == (one == other)


def test_names_that_run_together_stay_apart():
    """ "1" + "2" against "12", an id against a seed, the order of ids."""
    names = [(0, "a", (1, 2)), (0, "a", (12,)), (0, "a", (2, 1)), (0, "a1", (2,)), (1, "a", (0, 2)), (0, "a", ())]
    assert len({tuple(first_words(*name)) for name in names}) == len(names)


@pytest.mark.parametrize("step", [2**32, 2**63, 2**64, 2**128])
def test_seeds_equal_modulo_a_word_differ(step):
    """PyTorch's CPU generator keeps 32 bits of its seed: its streams repeat here."""
    assert first_words(7, "noise", ()) != first_words(7 + step, "noise", ())
    if step == 2**32:
        left, right = (torch.randn(4, generator=torch.Generator().manual_seed(s)) for s in (7, 7 + step))
        assert torch.equal(left, right)  # the failing that these streams exist to avoid


def test_a_hundred_thousand_streams_do_not_collide():
    """With 32-bit keys, some two of 1e5 streams are equal with probability 0.69; with 128 bits, never."""
    keys = {generator(1, "noise", round).bit_generator.state["state"]["key"].tobytes() for round in range(100_000)}
    assert len(keys) == 100_000
    assert all(len(key) == 16 for key in list(keys)[:10])


def test_streams_share_no_state():
    """Draws from one stream, or from the global generators, must not move another."""
    wanted = generator(3, "b").random(3).tolist()
    one, other = generator(3, "a"), generator(3, "b")
    one.random(1000)
    np.random.default_rng(0).random(10)
    torch.rand(10)
    assert other.random(3).tolist() == wanted


def test_making_a_stream_leaves_the_global_generators_alone():
    before = torch.get_rng_state()
    generator(0, "a").random(5)
    SeededNoise(generator(0, "a")).normal((5,))
    assert torch.equal(before, torch.get_rng_state())


def sources():
    return {"seeded": SeededNoise(generator(5, "noise", 0)), "secret": SecretNoise()}


@pytest.mark.parametrize("kind", ["seeded", "secret"])
def test_noise_is_standard_normal(kind):
    source = sources()[kind]
    first, second = source.normal((DRAWS,)), source.normal((100, DRAWS // 100)).flatten()
    assert first.dtype == second.dtype == torch.float64
    assert is_normal(first, 1.0)
    assert is_normal(second, 1.0)
    assert uncorrelated(first, second)
    assert not right_scale(0.98 * first, 1.0)
    assert not right_scale(1.02 * first, 1.0)


@pytest.mark.parametrize("kind", ["seeded", "secret"])
@pytest.mark.parametrize("shape", [(), (0,), (1,), (3,), (2, 3), (2, 0, 5)])
def test_noise_has_any_shape(kind, shape):
    assert sources()[kind].normal(shape).shape == shape


def test_seeded_noise_repeats_and_secret_noise_does_not():
    assert torch.equal(sources()["seeded"].normal((9,)), sources()["seeded"].normal((9,)))
    assert not torch.equal(sources()["secret"].normal((9,)), sources()["secret"].normal((9,)))


def test_secret_noise_knows_no_seed():
    """Neither generator's seed may decide it."""
    draws = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        draws.append(SecretNoise().normal((9,)))
    assert not torch.equal(*draws)


@pytest.mark.parametrize("kind", ["seeded", "secret"])
def test_tails_are_there(kind):
    """2^-53 steps in the radius reach 8 standard deviations; of 1e6 draws, 63 are expected beyond 4 (sd 8)."""
    beyond = int((sources()[kind].normal((1_000_000,)).abs() > 4).sum())
    assert 24 <= beyond <= 107


@pytest.mark.parametrize("kind", ["seeded", "secret"])
def test_every_bit_of_a_word_is_a_fair_coin(kind):
    """1e5 coins a bit: |count - 5e4| / 158 is beyond 6 with probability 2e-9. A half of 32 bits would be all zeros."""
    words = sources()[kind].words(100_000)
    assert words.dtype == np.uint64
    bits = (words[:, None] >> np.arange(64, dtype=np.uint64)) & np.uint64(1)
    assert (np.abs(bits.sum(0).astype(np.int64) - 50_000) < 6 * 158).all()
    assert len(set(words.tolist())) == 100_000
    assert uncorrelated(words[1:].astype(float), words[:-1].astype(float))


@pytest.mark.parametrize("kind", ["seeded", "secret"])
def test_words_are_never_the_same_again(kind):
    source = sources()[kind]
    assert source.words(0).shape == (0,)
    assert set(source.words(9).tolist()).isdisjoint(source.words(9).tolist())


def test_seeded_words_repeat_and_secret_words_do_not():
    assert sources()["seeded"].words(9).tolist() == sources()["seeded"].words(9).tolist()
    assert sources()["secret"].words(9).tolist() != sources()["secret"].words(9).tolist()
