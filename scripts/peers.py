"""What fedemb and its peers print for the same runs, and whether that bounds them: a Markdown table.

    python scripts/peers.py [--python INTERPRETER ...]

A peer is asked in a process of its own, by the first of the given interpreters that has it, or else by this one
(Flower and pfl-research want different versions of dp-accounting). A peer that nobody has is named with the command
that installs it. The runs are DP-FedEmb's: substitute-one, M users drawn without replacement,
sensitivity 2C. Lower end: the adaptive attack of `scripts/adaptive_attack.py`.
"""

import argparse
import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from adaptive_attack import adaptive_spend
from peer_epsilons import PEERS, Peer, Run

from fedemb.report.numbers import lower, small, upper

RUNS = (
    Run(users=10_000, users_per_round=256, rounds=200, noise_multiplier=2.0, delta=1e-5),
    Run(users=100_000, users_per_round=1_000, rounds=1_000, noise_multiplier=2.0, delta=1e-6),
    Run(users=1_000_000, users_per_round=10_000, rounds=1_000, noise_multiplier=4.0, delta=1e-7),
    Run(users=10_000, users_per_round=10_000, rounds=50, noise_multiplier=20.0, delta=1e-5),
)
TIGHT = 1.005
LEGEND = """\
`+n %`: a bound, n % above the certified one. `✗ n %`: n % below what an attack reaches. `?`: not below it in this run,
but what is analysed is not this run. `refused`: the accountant raises an error."""


def ask(name: str, runs: Sequence[Run], interpreters: Sequence[str]) -> dict[str, object]:
    """The answer of `peer_epsilons.py` by the first interpreter that has the peer."""
    script, question = Path(__file__).with_name("peer_epsilons.py"), json.dumps([asdict(run) for run in runs])
    reply: dict[str, object] = {}
    for interpreter in interpreters:
        done = subprocess.run([interpreter, script, name], input=question, capture_output=True, text=True, check=False)
        if done.returncode:
            raise SystemExit(f"{interpreter} cannot ask {name}: {done.stderr.strip().splitlines()[-1]}")
        reply = json.loads(done.stdout.splitlines()[-1])
        if "missing" not in reply:
            break
    return reply


def cell(epsilon: float | str, bounds: bool, attack: float, certified: float) -> str:
    """One number and what it is worth; see LEGEND."""
    if isinstance(epsilon, str):
        return "refused"
    if bounds:
        return f"{epsilon:#.4g} (+{max(epsilon / certified - 1, 0):.0%})".replace("%", " %")
    if epsilon < attack:
        return f"{epsilon:#.4g} (✗ {1 - epsilon / attack:.1%})".replace("%", " %")
    return f"{epsilon:#.4g} (?)"


def verdict(epsilons: Sequence[float | str], bounds: bool, attacks: Sequence[float], certified: Sequence[float]) -> str:
    """In words, over all runs."""
    if all(isinstance(epsilon, str) for epsilon in epsilons):
        return "cannot represent it"
    known = [(e, a, c) for e, a, c in zip(epsilons, attacks, certified, strict=True) if not isinstance(e, str)]
    if bounds:
        return "valid" if all(e <= TIGHT * c for e, _, c in known) else "valid, loose"
    return "invalid" if any(e < a for e, a, _ in known) else "no bound"


def row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def peer_row(name: str, peer: Peer, reply: dict, attacks: Sequence[float], certified: Sequence[float]) -> str:
    """A line of the table from a peer's reply."""
    if "missing" in reply:
        missing = f"not installed: `pip install {peer.package}`"
        return row([name, peer.analyses, *["–"] * len(attacks), missing])
    epsilons = reply["epsilons"]
    cells = [cell(e, peer.bounds, a, c) for e, a, c in zip(epsilons, attacks, certified, strict=True)]
    return row([name, peer.analyses, *cells, verdict(epsilons, peer.bounds, attacks, certified)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--python", nargs="+", default=[], metavar="INTERPRETER", help="further places to look for peers"
    )
    interpreters = [*parser.parse_args().python, sys.executable]
    absent = [interpreter for interpreter in interpreters if shutil.which(interpreter) is None]
    if absent:
        parser.error(f"--python: no such program: {', '.join(absent)}")
    spends = [adaptive_spend(**asdict(run)) for run in RUNS]
    attacks, certified = [adaptive for _, adaptive in spends], [fixed.epsilon for fixed, _ in spends]
    for number, run in enumerate(RUNS, 1):
        print(
            f"{number}. N = {run.users:,}, M = {run.users_per_round:,}, T = {run.rounds:,}, "
            f"z = {run.noise_multiplier:g}, δ = {small(run.delta)}"
        )
    print()
    print(
        row(["accountant", "relation; sampling", *(f"ε, run {n}" for n in range(1, len(RUNS) + 1)), "for these runs"])
    )
    print("|" + "---|" * (len(RUNS) + 3))
    exact = "replace-one; fixed size"
    print(row(["**fedemb**, certified", exact, *(f"**{upper(value, digits=4)}**" for value in certified), "valid"]))
    print(
        row(["attack, neighbours fixed", exact, *(lower(s.epsilon_attack, digits=4) for s, _ in spends), "lower bound"])
    )
    print(row(["attack, adaptive", exact, *(lower(value, digits=4) for value in attacks), "lower bound"]))
    versions = {}
    for name, peer in PEERS.items():
        reply = ask(name, RUNS, interpreters)
        versions[peer.package] = reply.get("version", "not installed")
        print(peer_row(name, peer, reply, attacks, certified), flush=True)
    print(f"\n{LEGEND}\n\nVersions: {', '.join(f'{package} {found}' for package, found in versions.items())}.")


if __name__ == "__main__":
    main()
