"""Client updates per second on the peers' workload: a plain PyTorch loop and fedemb's executors, interleaved.

    python scripts/bench_peers_workload.py [--model tiny cnn] [--rounds 10] [--threads 1] [--json]

CIFAR-10-shaped synthetic data, 1,000 users x 50 images, 50 users a round, batch 10, one local epoch, clip 0.4,
Gaussian noise. tiny has 7,834 parameters, cnn 1,626,442. Each way runs the same rounds in a process of its own, in
turn with the others; printed are medians over rounds and of the ratios round by round, in wall-clock and in processor
time, and each process's peak memory.
"""

import argparse
import json
import multiprocessing
import resource
import statistics
import time

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from fedemb.client.finetune import FineTune
from fedemb.core.allocator import keep_freed_memory
from fedemb.core.optim import SGD
from fedemb.data import prefetch
from fedemb.data.batching import Batcher
from fedemb.data.sampling import FixedSizeSampler
from fedemb.data.transforms import Compose, ScalePixels
from fedemb.data.users import InMemoryUsers
from fedemb.execution.executor import Sequential
from fedemb.execution.vectorised import Vectorised
from fedemb.models.cnn import FedAvgCNN, TinyCNN
from fedemb.privacy.clipping import FlatClipping
from fedemb.tasks.classification import ClassificationTask

MODELS = {"tiny": TinyCNN, "cnn": FedAvgCNN}
USERS, IMAGES, COHORT, BATCH, CLIP_NORM, LEARNING_RATE = 1_000, 50, 50, 10, 0.4, 0.1
NOISE = 1e-3


def data():
    """uint8 images [users, n, 3, 32, 32] and labels [users, n]."""
    stream = np.random.default_rng(0)
    images = torch.from_numpy(stream.integers(256, size=(USERS, IMAGES, 3, 32, 32), dtype=np.uint8))
    return images, torch.from_numpy(stream.integers(10, size=(USERS, IMAGES)))


def plain_loop(model):
    """torch.optim.SGD on an nn.Module, one client after the other, the way one writes it."""
    images, labels = data()
    start = [value.detach().clone() for value in model.parameters()]

    def run(cohort):
        total = [torch.zeros_like(value) for value in start]
        for client in cohort.clients:
            [user] = client.users
            with torch.no_grad():
                for value, first in zip(model.parameters(), start, strict=True):
                    value.copy_(first)
            optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
            for places in torch.randperm(IMAGES).split(BATCH):
                optimizer.zero_grad()
                pixels = images[user, places].float() / 128 - 1
                cross_entropy(model(pixels), labels[user, places]).backward()
                optimizer.step()
            with torch.no_grad():
                update = [value - first for value, first in zip(model.parameters(), start, strict=True)]
                norm = torch.sqrt(sum(value.square().sum() for value in update))
                factor = torch.clamp(CLIP_NORM / norm, max=1.0)
                for entry, value in zip(total, update, strict=True):
                    entry.add_(value * factor)
        return [value.add_(torch.randn_like(value), alpha=NOISE) for value in total]

    return run


def executor_loop(executor, model):
    """The same work by fedemb."""
    keep_freed_memory()
    images, labels = data()
    users = InMemoryUsers([{"image": image, "label": label} for image, label in zip(images, labels, strict=True)])
    load = prefetch.none(Batcher(users=users, batch_size=BATCH, transform=Compose(transforms=[ScalePixels()])).load)
    task = ClassificationTask(model=model)
    work = FineTune(task=task, optimizer=SGD(), learning_rate=LEARNING_RATE)
    shared, clipping = task.init(0), FlatClipping(clip_norm=CLIP_NORM)

    def run(cohort):
        total, _ = executor.clipped_sum(work, clipping, shared, cohort, load)
        return {name: value.add_(torch.randn_like(value), alpha=NOISE) for name, value in total.items()}

    return run


WAYS = {
    "plain loop": plain_loop,
    "sequential": lambda model: executor_loop(Sequential(), model),
    "vectorised": lambda model: executor_loop(Vectorised(), model),
}


def serve(way, model, threads, pipe):
    """In a process of its own: run the rounds that are asked for, answer (wall seconds, processor seconds, peak MB)."""
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    run = WAYS[way](MODELS[model]())
    while (cohort := pipe.recv()) is not None:
        wall, processor = time.perf_counter(), time.process_time()
        run(cohort)
        wall, processor = time.perf_counter() - wall, time.process_time() - processor
        pipe.send((wall, processor, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024))


def measure(model, ways, rounds, threads, cohort_size):
    """way -> [(wall, processor, MB) of each round], all ways in turn; the first two rounds warm up."""
    sampler = FixedSizeSampler(num_users=USERS, users_per_round=cohort_size, seed=0)
    spawn, pipes, processes, found = multiprocessing.get_context("spawn"), {}, [], {way: [] for way in ways}
    for way in ways:
        pipes[way], theirs = spawn.Pipe()
        processes.append(spawn.Process(target=serve, args=(way, model, threads, theirs), daemon=True))
        processes[-1].start()
    for round in range(rounds + 2):
        for way in ways:
            pipes[way].send(sampler.cohort(round))
            found[way].append(pipes[way].recv())
    for way in ways:
        pipes[way].send(None)
    for process in processes:
        process.join()
    return {way: rows[2:] for way, rows in found.items()}


def summary(found, cohort_size):
    """way -> medians, and medians of the ratios to the first way, round by round."""
    [base, *_] = found
    table = {}
    for way, rows in found.items():
        pairs = list(zip(rows, found[base], strict=True))
        table[way] = {
            "client_updates_per_second": cohort_size / statistics.median(row[0] for row in rows),
            "client_updates_per_processor_second": cohort_size / statistics.median(row[1] for row in rows),
            "wall_ratio": statistics.median(other[0] / row[0] for row, other in pairs),
            "processor_ratio": statistics.median(other[1] / row[1] for row, other in pairs),
            "peak_megabytes": max(row[2] for row in rows),
        }
    return table


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", nargs="+", choices=MODELS, default=list(MODELS))
    parser.add_argument("--way", nargs="+", choices=WAYS, default=list(WAYS))
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--clients", type=int, default=COHORT)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for model in arguments.model:
        found = measure(model, arguments.way, arguments.rounds, arguments.threads, arguments.clients)
        table = summary(found, arguments.clients)
        if arguments.json:
            print(json.dumps({"model": model, "rounds": arguments.rounds, **table}, indent=2))
            continue
        print(f"{model}: {arguments.rounds} rounds of {arguments.clients} clients, {arguments.threads} thread(s)")
        for way, row in table.items():
            print(
                f"  {way:<11} {row['client_updates_per_second']:7.2f} client updates/s ({row['wall_ratio']:.2f} x)   "
                f"{row['client_updates_per_processor_second']:7.2f} a processor second "
                f"({row['processor_ratio']:.2f} x)   {row['peak_megabytes']:.0f} MB"
            )


if __name__ == "__main__":
    main()
