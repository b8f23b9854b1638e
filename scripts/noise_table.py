"""A Markdown table over the noise multiplier from finished runs: utility, the run's own ε, hypothetical deployments.

python scripts/noise_table.py RUN_FOLDER ...
"""

import argparse
import json
from pathlib import Path

from fedemb.report.numbers import lower, upper

POPULATIONS = (10**5, 10**6, 10**7)


def metric(metrics, name):
    """The moving average's value where there is one: that is the exported model."""
    return metrics.get(f"ema/{name}", metrics[name])


def row(report, clean):
    privacy, metrics = report["privacy"], report["metrics"]
    cells = [f"{privacy['noise_multiplier']:g}"]
    for name in ("recall@far=0.001", "recall@1"):
        value = metric(metrics, name)
        drop = (1 - value / metric(clean["metrics"], name)) * 100
        cells.append(f"{value:.3f}" if report is clean else f"{value:.3f} ({-drop:+.1f} %)")
    own = (privacy["epsilon_attack"], privacy["epsilon"])
    cells.append("∞" if own[1] is None else f"[{lower(own[0])}, {upper(own[1])}]")
    deployed = {entry["users"]: entry for entry in report["extrapolation"]}
    for users in POPULATIONS:
        entry = deployed.get(users)
        cells.append(f"{upper(entry['least_epsilon'])}" if entry else "∞")
    return "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="+", type=Path)
    runs = parser.parse_args().runs
    reports = [json.loads((run / "report.json").read_text()) for run in runs]
    reports.sort(key=lambda report: report["privacy"]["noise_multiplier"])
    if reports[0]["privacy"]["noise_multiplier"]:
        parser.error("one of the runs must be without noise: the drops are relative to it")
    head = ["z", "recall@FAR=1e-3", "recall@1", f"own ε, N = {reports[0]['privacy']['users']:,}"]
    head += [f"N = {users:,}" for users in POPULATIONS]
    print("| " + " | ".join(head) + " |")
    print("|" + "---|" * len(head))
    for report in reports:
        print(row(report, reports[0]))


if __name__ == "__main__":
    main()
