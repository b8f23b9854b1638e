"""The map from similarities to cells, and that a guess changes how often the pairs are looked at, not what is found."""

from __future__ import annotations

import pytest
import torch

from fedemb.evaluation import verification
from fedemb.evaluation.cells import KEY_LIMIT, Cells, Window, disjoint, ordered_key, similarity_of
from fedemb.evaluation.verification import verify


def everywhere() -> torch.Tensor:
    """Similarities in ascending order, tiny ones and both zeros among them."""
    stream = torch.Generator().manual_seed(0)
    spread = torch.rand(4000, generator=stream) * 2 - 1
    tiny = torch.randn(1000, generator=stream) * 1e-6
    ends = torch.tensor([-1.0, 1.0, 0.0, -0.0, 1e-40, -1e-40])
    return torch.cat([spread, tiny, ends]).sort().values


@pytest.mark.parametrize("windows", [[], [(0.1, 0.1001), (0.5, 0.9)], [(-0.5, 0.5)], [(-1e-7, 1e-7)]])
def test_cells_ascend_and_their_keys_invert_the_map(windows):
    edges = [ordered_key(torch.tensor(pair)).tolist() for pair in windows]
    cells = Cells(low=-0.4, high=0.5, windows=[Window(low=low, high=high) for low, high in edges])
    values = everywhere()
    places = cells.of(values)
    assert bool((places[1:] >= places[:-1]).all())
    assert 0 <= int(places[0]) <= int(places[-1]) < cells.count
    for value in values[::97]:
        keys, key = cells.keys(int(cells.of(value[None]))), int(ordered_key(value[None]))
        assert keys.low <= key <= keys.high
        for outside in (keys.low - 1, keys.high + 1):
            if -KEY_LIMIT <= outside <= KEY_LIMIT and outside != -1:  # -1 would be -0.0
                assert cells.of(similarity_of(outside)) != cells.of(value[None])


def test_a_window_of_few_keys_holds_single_values():
    low, high = ordered_key(torch.tensor([0.25, 0.2501])).tolist()
    cells = Cells(low=-1.0, high=1.0, windows=[Window(low=low - 1, high=high + 1)])
    for key in (low, low + 7, high):
        assert cells.keys(int(cells.of(similarity_of(key)))) == Window(low=key, high=key)


def test_windows_that_touch_become_one():
    merged = disjoint([Window(low=5, high=9), Window(low=0, high=5), Window(low=20, high=30)])
    assert merged == [Window(low=0, high=9), Window(low=20, high=30)]


def crowd() -> tuple[torch.Tensor, torch.Tensor]:
    stream = torch.Generator().manual_seed(2)
    labels = torch.arange(600) // 6
    return torch.randn(100, 16, generator=stream)[labels] + torch.randn(600, 16, generator=stream), labels


def passes(monkeypatch) -> list[Cells]:
    """The cells of each pass over the pairs from now on."""
    seen, original = [], verification.count

    def spy(pairs, cells):
        seen.append(cells)
        return original(pairs, cells)

    monkeypatch.setattr(verification, "count", spy)
    return seen


@pytest.mark.parametrize("drawers", [0.0, 1.0])
def test_a_right_guess_needs_one_pass(monkeypatch, drawers):
    """With drawers, image i of every identity has something in common: dealing by position would sample that."""
    embeddings, labels = crowd()
    embeddings = embeddings + drawers * embeddings[:6].repeat(100, 1)
    monkeypatch.setattr("fedemb.evaluation.guess._SAMPLED_PAIRS", 30_000)  # groups of 100, six of them
    seen = passes(monkeypatch)
    assert verify(embeddings, labels, fars=(1e-3, 1e-2, 0.1), block_size=128).auc_error <= 1e-5
    assert len(seen) == 1


@pytest.mark.parametrize(("low", "passes_at_least"), [(-1.0, 1), (0.9, 2)])
def test_a_wrong_guess_gives_the_same_numbers(monkeypatch, low, passes_at_least):
    """0.9: nearly all pairs in the first cell, which the next passes have to divide."""
    embeddings, labels = crowd()
    expected = verify(embeddings, labels, fars=(0.0, 1e-3, 1e-2, 0.1), block_size=128)
    seen = passes(monkeypatch)
    wrong = Cells(low=low, high=1.0, windows=[Window(low=3, high=10**6)])
    monkeypatch.setattr(verification, "guess_cells", lambda gallery, fractions: wrong)
    found = verify(embeddings, labels, fars=(0.0, 1e-3, 1e-2, 0.1), block_size=128)
    assert found.recalls == expected.recalls
    assert found.auc == pytest.approx(expected.auc, abs=found.auc_error + 1e-9)
    assert passes_at_least <= len(seen) <= 5
