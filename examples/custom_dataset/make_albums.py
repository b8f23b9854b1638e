"""Makes a tiny data set: python make_albums.py FOLDER. One file a person, photos [n, 16, 16, 3] uint8."""

import sys
from pathlib import Path

import numpy as np

PEOPLE = {"train": 32, "test": 8}


def album(rng: np.random.Generator) -> np.ndarray:
    """[n, 16, 16, 3]: a person is a pattern of 4 x 4 colours, a photograph is that pattern with noise."""
    pattern = rng.integers(256, size=(4, 4, 3)).repeat(4, axis=0).repeat(4, axis=1)
    noise = rng.normal(scale=40, size=(rng.integers(4, 9), 16, 16, 3))
    return (pattern + noise).clip(0, 255).astype(np.uint8)


rng = np.random.default_rng(0)
for split, people in PEOPLE.items():
    folder = Path(sys.argv[1]) / split
    folder.mkdir(parents=True, exist_ok=True)
    for person in range(people):
        np.savez(folder / f"person{person:02d}.npz", photos=album(rng))
