"""Methods, ε and ingredients side by side on Omniglot identities and QMNIST writers: docs/study.md and docs/study/.

    python scripts/study.py [--out runs/study] [--jobs 2] [--only REGEX] [--budget-minutes 60] [--docs docs]

Every point is a `fedemb train` run in a folder of its own below --out, with its ledger and report. Call it again to go
on: finished points are kept, broken ones resumed, failed ones tried again. The data are made before, with `fedemb
prepare omniglot` and `fedemb prepare qmnist source=FOLDER`.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean

from study_points import START, Point, points, public_start
from study_tables import write

from fedemb.report.summary import read_run

RUNNING = set()  # processes
METRIC = "recall@far=0.001"  # of which the best candidate has most


@dataclass(frozen=True, kw_only=True)
class Study:
    """The folder of all runs, and what has gone wrong in this process: point -> last line of its log."""

    out: Path
    launch: Callable[[Sequence[str], Path], int]  # a command, and the file for what it prints -> its exit code
    failed: dict[str, str] = field(default_factory=dict)

    def finished(self, name):
        """Is a point's run at its end?"""
        return (self.out / name / "report.json").is_file()

    def summary(self, name):
        """The RunSummary of a finished point, or None."""
        return read_run(self.out / name) if self.finished(name) else None

    def candidate(self, point: Point):
        """The tuned words that a point trains with, or None as long as they are not chosen yet."""
        if point.candidate is not None:
            return point.candidate
        tried = [p for p in points() if p.group == "tuning" and (p.dataset, p.method) == (point.dataset, point.method)]
        scores = {p.candidate: run.metric(METRIC) or 0.0 for p in tried if (run := self.summary(p.name))}
        waiting = [p for p in tried if p.candidate not in scores and p.name not in self.failed]
        return None if waiting or not scores else max(scores, key=scores.get)

    def words(self, point: Point):
        """The whole command of a point that can start, else None."""
        candidate = self.candidate(point)
        if candidate is None or (point.needs_start and not self.finished(START)):
            return None
        return point.command(candidate, str(self.out / START))

    def train(self, name, words):
        """One run, from wherever it was left; a failure is kept in `failed`."""
        log = self.out / "logs" / f"{name.replace('/', '-')}.log"
        log.parent.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "fedemb", "train", *words, f"run={self.out / name}", "resume=true"]
        started = time.monotonic()
        code = self.launch(command, log)
        seconds = time.monotonic() - started
        if code:
            last = [line for line in log.read_text(encoding="utf-8").splitlines() if line.strip()][-1:]
            self.failed[name] = f"exit code {code}: {last[0] if last else 'no output'} ({log})"
            return
        with (self.out / "seconds.jsonl").open("a", encoding="utf-8") as lines:
            lines.write(json.dumps({"point": name, "seconds": round(seconds, 1)}) + "\n")


def launcher(jobs):
    """Commands as processes that share the cores; if this one is told to end, so are they."""
    threads = str(max(1, (os.cpu_count() or 1) // jobs))

    def launch(command, log):
        with log.open("w", encoding="utf-8") as lines:
            process = subprocess.Popen(
                command, stdout=lines, stderr=lines, env={**os.environ, "OMP_NUM_THREADS": threads}
            )
            RUNNING.add(process)
            code = process.wait()
            RUNNING.discard(process)
            return code

    return launch


def projection(study, every, jobs):
    """(points left, seconds left with so many at a time, seconds of all points), from those that were timed here."""
    path = study.out / "seconds.jsonl"
    taken = [json.loads(line) for line in path.read_text().splitlines()] if path.is_file() else []
    known = {}
    for entry in taken:
        known.setdefault(tuple(entry["point"].split("/")[:2]), []).append(entry["seconds"])
    typical = mean(entry["seconds"] for entry in taken) if taken else 0.0
    each = {p.name: mean(known.get((p.dataset.name, p.method.name), [typical])) for p in every}
    left = [p for p in every if not study.finished(p.name)]
    return len(left), sum(each[p.name] for p in left) / jobs, sum(each.values()) / jobs


def run(study, every, jobs, deadline):
    """Points as they become ready, `jobs` at a time, until none can start or time is up."""
    todo = [p for p in every if not study.finished(p.name)]
    needs_start = any(p.needs_start for p in todo) and not study.finished(START)
    with ThreadPoolExecutor(jobs) as pool:
        running = {pool.submit(study.train, START, public_start()): START} if needs_start else {}
        try:
            work_off(study, every, todo, running, pool, jobs, deadline)
        except BaseException:  # nothing goes on behind one's back; every run can be resumed
            for process in list(RUNNING):
                process.terminate()
            raise


def work_off(study, every, todo, running, pool, jobs, deadline):
    """Start what is ready, tell what is done. running: future -> point."""
    while True:
        for done in [future for future in running if future.done()]:
            name = running.pop(done)
            done.result()
            left, seconds, _ = projection(study, every, jobs)
            how = study.failed.get(name, "done")
            print(f"{name}: {how} · {left} points, about {seconds / 60:.0f} min left", flush=True)
        while len(running) < jobs and time.monotonic() < deadline:
            ready = next(((p, words) for p in todo if (words := study.words(p)) is not None), None)
            if ready is None:
                break
            todo.remove(ready[0])
            running[pool.submit(study.train, ready[0].name, ready[1])] = ready[0].name
        if not running:
            return
        time.sleep(0.2)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/study"))
    parser.add_argument("--docs", type=Path, default=Path("docs"), help="folder for study.md and study/")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="runs at a time")
    parser.add_argument("--only", default="", help="regular expression: points whose name holds it, e.g. 'qmnist/fed'")
    parser.add_argument("--budget-minutes", type=float, default=float("inf"), help="start no point after so long")
    arguments = parser.parse_args()
    study = Study(out=arguments.out, launch=launcher(arguments.jobs))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("study: ended; call it again to go on"))
    study.out.mkdir(parents=True, exist_ok=True)
    every = [p for p in points() if re.search(arguments.only, p.name)]
    print(f"{len(every)} of {len(points())} points, {arguments.jobs} at a time", flush=True)
    run(study, every, arguments.jobs, time.monotonic() + 60 * arguments.budget_minutes)
    left, seconds, _ = projection(study, every, arguments.jobs)
    _, _, total = projection(study, points(), arguments.jobs)
    if total:
        print(f"{left} points and about {seconds / 60:.0f} min left; the whole study: about {total / 60:.0f} min")
    for name, why in study.failed.items():
        print(f"failed: {name}: {why}")
    written = write(study, points(), arguments.docs)
    print(f"written {written}")
    sys.exit(1 if study.failed else 0)


if __name__ == "__main__":
    main()
