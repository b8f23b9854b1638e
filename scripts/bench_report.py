"""How long `fedemb report` takes for many finished runs, and how large its page is: python scripts/bench_report.py 100.

The run folders are made up (tests/support/run_folders.py): nothing is trained, their ledgers and epsilons are true.
"""

import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "support"))
from run_folders import METHODS, make_run

NOISE_MULTIPLIERS = (0.0, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.8, 1.2, 2.0, 3.0)


def main():
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    grid = [(seed, z, method) for seed in range(runs) for z in NOISE_MULTIPLIERS for method in METHODS][:runs]
    with tempfile.TemporaryDirectory() as folder:
        for place, (seed, noise_multiplier, method) in enumerate(grid):
            make_run(Path(folder) / str(place), method=method, noise_multiplier=noise_multiplier, seed=seed)
        started = time.perf_counter()
        words = ["report", f"runs={folder}", f"out={folder}/page"]
        subprocess.run([sys.executable, "-m", "fedemb", *words], check=True)
        seconds = time.perf_counter() - started
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        page = Path(folder) / "page" / "report.html"
        figures = len(list(page.parent.glob("figures/*.svg")))
        size = page.stat().st_size / 2**20
        took = f"{seconds:.1f} s ({used.ru_utime + used.ru_stime:.1f} s of processor)"
        print(f"{runs} runs: {took}, page {size:.2f} MiB, {figures} figures as SVG, PNG and PDF")


if __name__ == "__main__":
    main()
