"""Seconds and peak memory of the evaluation: python scripts/bench_evaluation.py 100000."""

import argparse
import resource
import time

import torch

from fedemb.evaluation.retrieval import retrieve
from fedemb.evaluation.verification import verify


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("images", type=int)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--per-identity", type=int, default=20)
    parser.add_argument("--spread", type=float, default=1.2, help="noise around an identity's centre")
    parser.add_argument("--offset", type=float, default=0.3, help="a large value crowds all similarities near 1")
    parser.add_argument("--no-retrieval", action="store_true")
    args = parser.parse_args()
    stream = torch.Generator().manual_seed(0)
    labels = torch.arange(args.images) // args.per_identity
    centres = torch.randn(int(labels.max()) + 1, args.width, generator=stream) + args.offset
    embeddings = centres[labels] + args.spread * torch.randn(args.images, args.width, generator=stream)
    del centres

    start = now()
    print(verify(embeddings, labels, fars=(1e-4, 1e-3, 1e-2)))
    report("verification", start)
    if not args.no_retrieval:
        start = now()
        print(retrieve(embeddings, labels, ks=(1, 5)))
        report("retrieval", start)


def now() -> tuple[float, float]:
    return time.perf_counter(), time.process_time()


def report(name: str, start: tuple[float, float]) -> None:
    wall, processor = (after - before for after, before in zip(now(), start, strict=True))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{name}: {wall:.1f} s ({processor:.1f} s of processor), peak resident memory {peak:.2f} GiB")


if __name__ == "__main__":
    main()
