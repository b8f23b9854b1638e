"""The store at size: opening and reading by number of users, drawing a cohort, and the speed of preparing.

python scripts/bench_store.py users [--users 10000 10000000]     memory and milliseconds in fresh processes
python scripts/bench_store.py cohort                             10^4 of 10^8 ids
python scripts/bench_store.py prepare [--identities 400]         images a second, beside a bare pool of processes
Prints a table and one line of JSON. Large files go to --folder and are removed at the end.
"""

import argparse
import io
import json
import multiprocessing
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from fedemb.data.formats.archive import open_archive
from fedemb.data.manifest import StoreInfo
from fedemb.data.pictures import Picture
from fedemb.data.preparation import Request, Split, prepare_splits
from fedemb.data.readers import ReadOriginals, UserMembers
from fedemb.data.record import UserRecord
from fedemb.data.store_writer import write_store

SHAPE = (1, 4, 4)
COLD = "cold"
READ = """
import json, os, random, sys, time
import torch
from fedemb.data.store import StoreUsers

def memory():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

path, cold = sys.argv[1:]
if cold == "cold":
    for file in os.scandir(f"{path}/train"):
        handle = os.open(file.path, os.O_RDONLY)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        os.close(handle)
before, start = memory(), time.perf_counter()
users = StoreUsers(path=path)
opened = time.perf_counter() - start
times, draw = [], random.Random(0)
for _ in range(50):
    chosen = [draw.randrange(users.num_users) for _ in range(64)]
    start = time.perf_counter()
    assert len(users.load(chosen)["label"]) == 64
    times.append(time.perf_counter() - start)
print(json.dumps({"users": users.num_users, "open_ms": 1e3 * opened, "first_64_ms": 1e3 * times[0],
                  "median_64_ms": 1e3 * sorted(times)[25], "memory_mb": memory() - before}))
"""
DRAW = """
import json, os, time
from fedemb.data.sampling import FixedSizeSampler

def memory():
    return int(open("/proc/self/statm").read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6

sampler = FixedSizeSampler(num_users=10**8, users_per_round=10**4, users_per_client=1, seed=0)
before, times = memory(), []
for round in range(20):
    start = time.perf_counter()
    cohort = sampler.cohort(round)
    times.append(time.perf_counter() - start)
print(json.dumps({"ids": 10**8, "cohort": len(cohort.clients), "first_ms": 1e3 * times[0],
                  "median_ms": 1e3 * sorted(times)[10], "memory_mb": memory() - before}))
"""


def info(name, shape, codec, classes):
    about = {"polarity": "RGB", "description": "made up", "licence": "none", "notice": ""}
    command = "python scripts/bench_store.py"
    return StoreInfo(
        name=name,
        split="train",
        user="a made-up user",
        image_shape=shape,
        codec=codec,
        classes=classes,
        sources=(),
        command=command,
        **about,
    )


def small_records(count):
    pixels = np.random.default_rng(0).integers(256, size=(1000, 1, *SHAPE), dtype=np.uint8)
    label = np.zeros(1, np.int64)
    for user in range(count):
        yield UserRecord.from_pixels(id=str(user), images=pixels[user % 1000], labels=label)


def fresh(code, *words):
    done = subprocess.run([sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def bench_users(folder, counts):
    rows = []
    for count in counts:
        start = time.perf_counter()
        write_store(folder / str(count) / "train", info=info("small", SHAPE, "raw", 1), records=small_records(count))
        written = time.perf_counter() - start
        size = sum(file.stat().st_size for file in (folder / str(count) / "train").iterdir())
        for state in (COLD, "warm"):
            measured = fresh(READ, folder / str(count), state)
            rows.append({**measured, "state": state, "write_seconds": written, "bytes_a_user": size / count})
        shutil.rmtree(folder / str(count))
    return rows


def natural(rng, side, kind):
    """A file of smooth shapes with some noise, about as large as a photograph's."""
    coarse = rng.integers(256, size=(side // 8, side // 8, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((side, side), Image.Resampling.BICUBIC), np.int16)
    noisy = np.clip(smooth + rng.normal(0, 4, smooth.shape), 0, 255).astype(np.uint8)
    file = io.BytesIO()
    Image.fromarray(noisy).save(file, kind, **({"quality": 90} if kind == "JPEG" else {}))
    return file.getvalue()


def make_zip(path, identities, images, side, kind):
    """NN/M.png or .jpg; 200 distinct images, repeated."""
    rng = np.random.default_rng(0)
    files = [natural(rng, side, kind) for _ in range(200)]
    with zipfile.ZipFile(path, "w") as opened:
        for number in range(identities * images):
            name = f"{number // images}/{number % images}.{kind.lower()}"
            opened.writestr(name, files[(7 * number) % 200])


def our_way(source, out, workers, kind, side):
    """Plan and write as a data set's preparation does."""
    with open_archive(source, scratch=out) as archive:
        members = {}
        for name in archive.names():
            members.setdefault(name.split("/")[0], []).append(name)
        units = [
            UserMembers(id=user, images=[(name, label) for name in names])
            for label, (user, names) in enumerate(members.items())
        ]
        split = Split(
            info=info("faces", (3, side, side), kind, len(units)),
            users=len(units),
            units=units,
            records=ReadOriginals(archive=archive, picture=Picture(channels=3)),
        )
        archive.source()
        prepare_splits(Request(source=source, out=out, workers=workers), [split])
    shutil.rmtree(out)


def start_bare(source):
    global opened
    opened = zipfile.ZipFile(source)


def decode(name):
    return np.asarray(Image.open(io.BytesIO(opened.read(name))).convert("RGB")).shape


def bare_way(source, workers):
    """A pool that reads and decodes and keeps nothing."""
    with zipfile.ZipFile(source) as listed:
        names = listed.namelist()
    context = multiprocessing.get_context("spawn")
    with context.Pool(workers, initializer=start_bare, initargs=(source,)) as pool:
        for _ in pool.imap(decode, names, chunksize=72):
            pass


def seconds(function, *arguments):
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def bench_prepare(folder, identities, repetitions):
    rows = []
    for kind, side, images in (("png", 112, 72), ("jpeg", 224, 20)):
        source, count = folder / f"{kind}.zip", identities * images
        make_zip(source, identities, images, side, kind.upper())
        for workers in (1, 2):
            ours, bare = [], []
            for _ in range(repetitions):
                bare.append(seconds(bare_way, source, workers))
                ours.append(seconds(our_way, source, folder / "out", workers, kind, side))
            rows.append(
                {
                    "kind": kind,
                    "workers": workers,
                    "images": count,
                    "megabytes": source.stat().st_size / 1e6,
                    "fedemb_images_a_second": count / statistics.median(ours),
                    "bare_images_a_second": count / statistics.median(bare),
                    "ratio": statistics.median(b / o for b, o in zip(bare, ours, strict=True)),
                }
            )
        source.unlink()
    return rows


def show(rows):
    for row in rows:
        print(
            "  ".join(
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}" for key, value in row.items()
            )
        )
    print(json.dumps(rows))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("users", "cohort", "prepare"))
    parser.add_argument("--users", type=int, nargs="+", default=[10**4, 10**7])
    parser.add_argument("--identities", type=int, default=400)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--folder", type=Path, default=None, help="for large files; default: the system's own")
    asked = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="fedemb-bench-", dir=asked.folder))
    try:
        if asked.what == "users":
            show(bench_users(folder, asked.users))
        elif asked.what == "cohort":
            show([fresh(DRAW)])
        else:
            show(bench_prepare(folder, asked.identities, asked.repetitions))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
