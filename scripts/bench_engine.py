"""Client updates per second of the executors and of the bare loop, on the work of a recipe, interleaved.

python scripts/bench_engine.py [--rounds 5] [recipe=omniglot key=value ...]
Prints the median of each and the median of the ratios, round by round; --json for machines.
"""

import argparse
import importlib.util
import json
import statistics
import time
from pathlib import Path

import torch
from hydra import compose, initialize_config_module

from fedemb.bench.workload import vectorised
from fedemb.cli.build import build
from fedemb.execution.executor import Sequential
from fedemb.privacy.clipping import FlatClipping

REFERENCE = Path(__file__).parents[1] / "tests" / "reference" / "dp_fedemb.py"

SAME_WORK = ("head=softmax", "client=joint", "client_optimizer=sgd", "client.optimizer.momentum=0.9", "prefetch=none")
"""What the bare loop can do: both sides keep a velocity."""


def load_reference():
    """tests/reference as a module."""
    spec = importlib.util.spec_from_file_location("dp_fedemb", REFERENCE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def bare_loop(reference, job, cohort, params, clip_norm, client, momentum):
    """The clients' part of a round in tests/reference, with data and heads prepared by the same code."""
    rates = {"lr": client.learning_rate, "head_lr_scale": client.head_lr_scale, "momentum": momentum}
    total = {name: torch.zeros_like(value, dtype=torch.float64) for name, value in params.items()}
    for virtual, batches in zip(cohort.clients, job.load(cohort.clients), strict=True):
        head = job.task.init_local(virtual.seed)["head.weight"]
        full = [(images, labels) for images, labels in zip(batches["image"], batches["label"], strict=True)]
        clipped = reference.clip(reference.local_update(params, head, full, **rates), clip_norm)
        for name in total:
            total[name] += clipped[name]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", action="store_true")
    parser.add_argument("overrides", nargs="*")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with initialize_config_module("fedemb.conf", version_base="1.3"):
        cfg = compose("train", [*arguments.overrides, *SAME_WORK])
    job, reference = build(cfg), load_reference()
    params = job.task.init(0)
    clipping = FlatClipping(clip_norm=cfg.clip_norm)
    ways = {
        "bare loop": lambda cohort: bare_loop(
            reference, job, cohort, params, cfg.clip_norm, cfg.client, cfg.client.optimizer.momentum
        ),
        "sequential": lambda c: Sequential().clipped_sum(job.work, clipping, params, c, job.load),
        "vectorised": lambda c: vectorised().clipped_sum(job.work, clipping, params, c, job.load),
    }
    seconds = {name: [] for name in ways}
    for round in range(arguments.rounds + 1):
        cohort = job.plan.sampler.cohort(round)
        for name, way in ways.items():
            started = time.perf_counter()
            way(cohort)
            if round:  # the first round warms up
                seconds[name].append((time.perf_counter() - started) / len(cohort.clients))
    result = {
        name: {
            "client_updates_per_second": 1 / statistics.median(times),
            "time_over_bare_loop": statistics.median(
                t / bare for t, bare in zip(times, seconds["bare loop"], strict=True)
            ),
        }
        for name, times in seconds.items()
    }
    if arguments.json:
        print(json.dumps({"threads": arguments.threads, "rounds": arguments.rounds, **result}, indent=2))
        return
    print(f"{cfg.name}: {arguments.rounds} rounds, {arguments.threads} threads, medians")
    for name, row in result.items():
        print(f"  {name:<11} {row['client_updates_per_second']:7.2f} client updates/s", end="   ")
        print(f"{row['time_over_bare_loop']:.2f} x the bare loop's time")


if __name__ == "__main__":
    main()
