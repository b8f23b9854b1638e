"""Folders of finished runs that nobody has trained, for pages about sweeps: true epsilons, made-up utility."""

import csv
import io
import json
import math
from functools import cache

import numpy as np

from fedemb.privacy.accounting import default_delta, spend
from fedemb.privacy.events import fixed_size_round
from fedemb.privacy.extrapolation import Simulation, prospect
from fedemb.privacy.ledger import Ledger
from fedemb.report import deployments

USERS, USERS_PER_ROUND, ROUNDS, CLIP_NORM = 3856, 64, 40, 0.5
METHODS = {"DP-FedEmb": (16, 0.52, 0.30), "DP-FedAvg": (8, 0.43, 0.85), "User-level DP-SGD": (1, 0.36, 1.9)}
"""Name -> (users per client, utility without noise, how fast noise destroys it)."""

CONFIG = """# {command}
rounds: {rounds}
users_per_round: 64
users_per_client: {users_per_client}
clip_norm: 0.5
noise_multiplier: {noise_multiplier}
mode: {mode}
seed: {seed}
local_classes: ${{users_per_client}}
server:
  learning_rate: {learning_rate}
name: {name}
run: {run}
users:
  _target_: fedemb.data.store.StoreUsers
  path: data/omniglot
executor:
  _target_: fedemb.execution.executor.Sequential
"""


def make_run(folder, *, method="DP-FedEmb", noise_multiplier=0.1, seed=0, rounds=ROUNDS, mode="simulate", rate=3.0):
    """Write one run folder; returns it."""
    users_per_client, best, decay = METHODS[method]
    folder.mkdir(parents=True)
    rng = np.random.default_rng([seed, int(1e6 * noise_multiplier), users_per_client])
    final = best * math.exp(-decay * math.sqrt(noise_multiplier)) + 0.006 * rng.standard_normal()
    measured = np.linspace(0, rounds, 6).astype(int)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["round", "seconds", "epsilon", "epsilon_attack", "recall@far=0.001", "auc", "recall@1"])
    for number in measured.tolist():
        done = 1 - math.exp(-3.2 * number / rounds)
        value = 0.08 + (final - 0.08) * done + 0.004 * rng.standard_normal() * done
        spent = _spent(noise_multiplier, number)
        writer.writerow([number, number * 1.7, *spent, value, 0.5 + 0.45 * value, min(1.0, 1.6 * value)])
    (folder / "metrics.csv").write_text(table.getvalue())
    words = f"fedemb train recipe=omniglot_dp method={method!r} noise_multiplier={noise_multiplier} seed={seed}"
    command = f"{words} run={folder}"
    settings = {"name": "omniglot_dp", "run": folder, "rounds": rounds, "learning_rate": rate, "mode": mode}
    (folder / "config.yaml").write_text(
        CONFIG.format(
            command=command,
            users_per_client=users_per_client,
            noise_multiplier=noise_multiplier,
            seed=seed,
            **settings,
        )
    )
    names = ["recall@far=0.001", "auc", "recall@1"]
    epsilon, attack = _spent(noise_multiplier, rounds)
    report = {
        "recipe": "omniglot_dp",
        "method": method,
        "mode": mode,
        "privacy": {
            "epsilon": epsilon if math.isfinite(epsilon) else None,
            "epsilon_attack": attack if math.isfinite(attack) else None,
            "delta": default_delta(USERS),
            "unit": "user",
            "user": "a character in one rotation",
            "relation": "substitute-one",
            "sampling": "fixed-size sampling without replacement",
            "users": USERS,
            "users_per_round": USERS_PER_ROUND,
            "users_per_client": users_per_client,
            "rounds": rounds,
            "noise_multiplier": noise_multiplier,
            "clip_norm": CLIP_NORM,
            "query": "ClippedSum",
            "provenance": "random",
            "claim": f"A claim about seed {seed}." if math.isfinite(epsilon) else "No privacy guarantee.",
        },
        "metrics": dict(zip(names, [value, 0.5 + 0.45 * value, min(1.0, 1.6 * value)], strict=True)),
        "timing": {"seconds": 68.0 + seed},
        "data": {"name": "omniglot", "users": USERS, "examples": None, "checksum": None},
        "seed": None if mode == "release" else seed,
        "command": command,
        "extrapolation": _deployments(noise_multiplier, rounds),
    }
    (folder / "report.json").write_text(json.dumps(report))
    ledger = Ledger.create(folder / "ledger.jsonl").path
    event = json.dumps(_event(noise_multiplier))
    ledger.write_text("".join(f'{{"entry": {entry}, "event": {event}}}\n' for entry in range(rounds)))
    (folder / "diagnostics").mkdir()
    norms = rng.lognormal(math.log(0.45), 0.35, size=(rounds, USERS_PER_ROUND // users_per_client))
    lines = [json.dumps({"round": i + 1, "norms": row.tolist()}) for i, row in enumerate(norms)]
    (folder / "diagnostics" / "rounds.jsonl").write_text("\n".join(lines) + "\n")
    return folder


def make_sweep(folder, *, noise_multipliers, seeds, methods=tuple(METHODS)):
    """Every combination, in folders 0, 1, 2 …"""
    grid = [(method, z, seed) for method in methods for z in noise_multipliers for seed in range(seeds)]
    for place, (method, noise_multiplier, seed) in enumerate(grid):
        make_run(folder / str(place), method=method, noise_multiplier=noise_multiplier, seed=seed)
    return folder


def _event(noise_multiplier):
    release = {"kind": "gaussian", "noise_over_sensitivity": noise_multiplier / 2}
    return {"kind": "without-replacement", "users": USERS, "sampled": USERS_PER_ROUND, "release": release}


@cache
def _spent(noise_multiplier, rounds):
    if not noise_multiplier:
        return math.inf, math.inf
    event = fixed_size_round(users=USERS, users_per_round=USERS_PER_ROUND, noise_multiplier=noise_multiplier)
    found = spend([(event, rounds)] if rounds else [], default_delta(USERS))
    return found.epsilon, found.epsilon_attack


@cache
def _deployments(noise_multiplier, rounds):
    if not noise_multiplier:
        return []
    simulation = Simulation(users_per_round=USERS_PER_ROUND, noise_multiplier=noise_multiplier, rounds=rounds)
    found = [prospect(simulation, users=users, targets=()) for users in (10**4, 10**5, 10**6)]
    return [deployments.record(each, USERS_PER_ROUND) for each in found]
