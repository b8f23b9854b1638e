"""Rounds per second with and without prefetching, interleaved, and the share of the time spent waiting for data.

python scripts/bench_prefetch.py [--rounds 5] [key=value ...]
Without words: JPEG files of 224 x 224 pixels, decoded by Pillow, and a small convolutional network. With words, e.g.
recipe=omniglot: that work. Medians, and the median of the ratios to no prefetching, round by round.
"""

import argparse
import io
import json
import statistics
import time

import numpy as np
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from PIL import Image
from torch import nn

from fedemb.cli.build import build
from fedemb.data.users import UserDataset
from fedemb.privacy.clipping import FlatClipping

SIDE = 224


class Jpegs(UserDataset):
    """Users whose JPEG files lie in memory."""

    def __init__(self, people=64, images=16):
        rng = np.random.default_rng(0)
        self._images, self._files = images, [_jpeg(rng) for _ in range(people)]

    @property
    def num_users(self):
        return len(self._files)

    def num_examples(self, user):
        return self._images

    def load(self, users):
        decoded = [np.asarray(Image.open(io.BytesIO(self._files[u]))) for u in users for _ in range(self._images)]
        pixels = np.stack([np.zeros((SIDE, SIDE, 3), np.uint8), *decoded])[1:]
        label = torch.tensor(list(users), dtype=torch.int64).repeat_interleave(self._images)
        return {"image": torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous(), "label": label}


class SmallConv(nn.Module):
    """Three strided convolutions and a mean: about as long a step as its images take to decode."""

    def __init__(self, width):
        super().__init__()
        sizes = [(3, 16, 8), (16, 32, 4), (32, 64, 2)]
        self.layers = nn.ModuleList(nn.Conv2d(i, o, stride, stride=stride) for i, o, stride in sizes)
        self.embedding = nn.Linear(64, width)

    def forward(self, images):
        for layer in self.layers:
            images = layer(images).relu()
        return self.embedding(images.mean((2, 3)))


JPEGS = (
    "recipe=synthetic", "~users", "+users={_target_: __main__.Jpegs}", "test_users=none", "executor=sequential",
    "~model", "+model={_target_: __main__.SmallConv, width: 128}", "users_per_round=16", "users_per_client=4",
)  # fmt: skip
WAYS = {
    "none": ("prefetch=none",),
    "threads 1": ("prefetch=threads", "prefetch.workers=1"),
    "threads 2": ("prefetch=threads", "prefetch.workers=2"),
    "processes 1": ("prefetch=processes", "prefetch.workers=1"),
    "processes 2": ("prefetch=processes", "prefetch.workers=2"),
}


def _jpeg(rng):
    """A file of smooth random colours: noise would take longer to decode than photographs."""
    coarse = rng.integers(256, size=(14, 14, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(coarse).resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


class Waiting:
    """A stream of batches that counts the seconds for which the next one is awaited."""

    def __init__(self, load):
        self._load, self.seconds = load, 0.0

    def __call__(self, clients):
        batches = self._load(clients)
        while True:
            started = time.perf_counter()
            batch = next(batches, None)
            self.seconds += time.perf_counter() - started
            if batch is None:
                return
            yield batch


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    ways = {}
    with initialize_config_module("fedemb.conf", version_base="1.3"):
        for name, words in WAYS.items():
            cfg = compose("train", [*(arguments.overrides or JPEGS), *words])
            ways[name] = build(cfg)
    executor = instantiate(cfg.executor)
    rows = {name: [] for name in ways}
    for round in range(arguments.rounds + 1):
        for name, job in ways.items():
            waiting = Waiting(job.load)
            started = time.perf_counter()
            cohort = job.plan.sampler.cohort(round)
            executor.clipped_sum(job.work, FlatClipping(clip_norm=1.0), job.task.init(0), cohort, waiting)
            seconds = time.perf_counter() - started
            if round:  # the first round starts the workers
                rows[name].append((seconds, waiting.seconds / seconds))
    for job in ways.values():
        job.load.close()
    result = {
        name: {
            "rounds_per_second": 1 / statistics.median(seconds for seconds, _ in pairs),
            "speed_over_none": statistics.median(
                none / own for (own, _), (none, _) in zip(pairs, rows["none"], strict=True)
            ),
            "waiting_fraction": statistics.median(share for _, share in pairs),
        }
        for name, pairs in rows.items()
    }
    if arguments.json:
        print(json.dumps({"threads": arguments.threads, "rounds": arguments.rounds, **result}, indent=2))
        return
    for name, row in result.items():
        print(f"{name:<12} {row['rounds_per_second']:7.3f} rounds/s   {row['speed_over_none']:.2f} x none", end="   ")
        print(f"waiting {row['waiting_fraction']:.0%}")


if __name__ == "__main__":
    main()
