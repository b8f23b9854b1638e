"""Break the package on purpose, one line at a time, and show that a test turns red.

    python scripts/mutants.py [word ...]        only the mutants whose name holds one of the words

Works on a copy of the tree in a temporary folder. Exit code 1 if a mutant survives, or proves nothing.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("fedemb", "conf", "data_prep", "scripts", "tests", "pyproject.toml")


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """A text that occurs once in a file of fedemb/, what it becomes, and the tests that must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]


QUERY, NOISE = "tests/privacy/test_query.py", "tests/statistical/test_noise.py"
ROUND, EXECUTOR = "tests/server/test_round.py", "tests/execution/test_executor.py"
CLIENT, TASK = "tests/client/test_finetune.py", "tests/tasks/test_embedding.py"
CLIPPING, OPTIMIZER = "tests/privacy/test_clipping.py", "tests/server/test_optimizer.py"

MUTANTS = (
    Mutant(
        name="no division by m",
        file="server/optimizer.py",
        old="(value / self.planned_clients)",
        new="(value / 1.0)",
        tests=(OPTIMIZER,),
    ),
    Mutant(
        name="no division by m, seen in the noise of the engine",
        file="server/optimizer.py",
        old="(value / self.planned_clients)",
        new="(value / 1.0)",
        tests=(NOISE,),
    ),
    Mutant(
        name="realised count as denominator",
        file="server/round.py",
        old="plan.server.update(state.server, update)",
        new='__import__("dataclasses").replace(plan.server, planned_clients=max(1, len(cohort.clients))).update('
        "state.server, update)",
        tests=(NOISE,),
    ),
    Mutant(
        name="sensitivity C instead of 2C",
        file="privacy/query.py",
        old="return 2.0 * self.bound",
        new="return self.bound",
        tests=(QUERY,),
    ),
    Mutant(
        name="no clipping",
        file="privacy/clipping.py",
        old="torch.clamp(clip_norm * (1.0 - _ROUNDING) / length, max=1.0)",
        new="torch.ones_like(length)",
        tests=(QUERY,),
    ),
    Mutant(
        name="clipping name by name",
        file="privacy/clipping.py",
        old='    """\n    length = norm(update)\n',
        new='    """\n    length = torch.stack([norm({n: v}) for n, v in update.items()] or [norm({})]).max()\n',
        tests=(CLIPPING,),
    ),
    Mutant(
        name="clipping forgotten where updates are added up",
        file="privacy/clipping.py",
        old="part.add_(more.double(), alpha=factor)",
        new="part.add_(more.double())",
        tests=(CLIPPING,),
    ),
    Mutant(
        name="clients that fill up a chunk are added",
        file="execution/vectorised.py",
        old="value[:real] for name, value in updates.items()",
        new="value for name, value in updates.items()",
        tests=("tests/execution/test_vectorised.py", EXECUTOR),
    ),
    Mutant(
        name="non-finite update added up",
        file="privacy/clipping.py",
        old="        if factor:",
        new="        if True:",
        tests=(CLIPPING, EXECUTOR),
    ),
    Mutant(
        name="non-finite update added up, as a GPU does",
        file="privacy/clipping.py",
        old="torch.where(kept_c1, value, 0.0)",
        new="value",
        tests=(CLIPPING,),
    ),
    Mutant(
        name="a resting neighbour chooses the kernels in a release",
        file="execution/vectorised.py",
        old="_step if self.examples is not None and bool(",
        new="_step if bool(",
        tests=("tests/execution/test_vectorised.py",),
    ),
    Mutant(
        name="finished clients lie where recordings write",
        file="execution/vectorised.py",
        old="[value[width:].clone() for value in own]",
        new="[value[width:] for value in own]",
        tests=("tests/execution/test_launch.py",),
    ),
    Mutant(
        name="non-finite update not zeroed",
        file="privacy/clipping.py",
        old="copy.mul_(factor).nan_to_num_(nan=0.0)",
        new="copy.mul_(factor)",
        tests=(CLIPPING,),
    ),
    Mutant(
        name="noise times 0.98",
        file="privacy/mechanism.py",
        old="draw, alpha=self.std)",
        new="draw, alpha=0.98 * self.std)",
        tests=(NOISE,),
    ),
    Mutant(
        name="secret noise times 0.98",
        file="core/rng.py",
        old="np.sqrt(-2.0 * np.log(uniform[:pairs]))",
        new="0.98 * np.sqrt(-2.0 * np.log(uniform[:pairs]))",
        tests=(NOISE,),
    ),
    Mutant(
        name="noise reused across rounds",
        file="server/round.py",
        old="plan.noise_rng(state.round)",
        new="plan.noise_rng(0)",
        tests=(NOISE,),
    ),
    Mutant(
        name="noise reused across names",
        file="privacy/mechanism.py",
        old="draw = noise.normal(value[name].shape)",
        new="draw = __import__('copy').deepcopy(noise).normal(value[name].shape)",
        tests=(NOISE,),
    ),
    Mutant(
        name="noise streams keyed by 16 bits",
        file="core/rng.py",
        old="digest()[:16]",
        new="digest()[:2]",
        tests=("tests/core/test_rng.py",),
    ),
    Mutant(
        name="a user in two virtual clients",
        file="data/sampling.py",
        old="users[first : first + users_per_client]",
        new="users[first : first + users_per_client + 1]",
        tests=(QUERY,),
    ),
    Mutant(
        name="Poisson sampling of groups",
        file="data/sampling.py",
        old="if self.users_per_client > 1:",
        new="if self.users_per_client > 10**9:",
        tests=("tests/data/test_sampling.py",),
    ),
    Mutant(
        name="sampling rate m/N instead of M/N",
        file="data/sampling.py",
        old="sample_size=self.users_per_round, event=release",
        new="sample_size=self.planned_clients, event=release",
        tests=(ROUND,),
    ),
    Mutant(
        name="charge after the round",
        file="server/round.py",
        old="    ledger = state.ledger.charge(plan.event(state.round))  # charged before anything leaves\n"
        "    value, diagnostics = plan.query.answer(state.query, state.server.params, cohort)\n",
        new="    value, diagnostics = plan.query.answer(state.query, state.server.params, cohort)\n"
        "    ledger = state.ledger.charge(plan.event(state.round))\n",
        tests=(ROUND,),
    ),
    Mutant(
        name="mask skipped in the loss",
        file="tasks/embedding.py",
        old='(losses * batch["mask"]).sum()',
        new="losses.sum()",
        tests=(TASK,),
    ),
    Mutant(
        name="absent classes take part in the loss",
        file="tasks/embedding.py",
        old="logits.masked_fill(absent, _NEVER)",
        new="logits",
        tests=(TASK,),
    ),
    Mutant(
        name="frozen names released",
        file="tasks/backbone.py",
        old="for pattern in trained) and not any(",
        new="for pattern in trained) or any(",
        tests=(CLIENT,),
    ),
    Mutant(
        name="head leaves the client",
        file="client/finetune.py",
        old="        return sub(trained, shared)\n",
        new="        return {**sub(trained, shared), **split(state.params, self.task.is_shared)[1]}\n",
        tests=(CLIENT,),
    ),
    Mutant(
        name="one head for all clients",
        file="client/finetune.py",
        old="self.task.init_local(client.seed)",
        new="self.task.init_local(0)",
        tests=(CLIENT,),
    ),
    Mutant(
        name="a padded step moves a client (vectorised)",
        file="execution/vectorised.py",
        old='select(batch["mask"].any(), work.step(shared, state, batch), state)',
        new="work.step(shared, state, batch)",
        tests=(EXECUTOR,),
    ),
    Mutant(
        name="a padded step moves a client (sequential)",
        file="execution/executor.py",
        old="for step in trained:",
        new='for step in range(len(batches["mask"])):',
        tests=(EXECUTOR,),
    ),
    Mutant(
        name="last chunk of clients lost",
        file="execution/vectorised.py",
        old="if len(ready) == size or position + 1 == len(cohort.clients):",
        new="if len(ready) == size:",
        tests=("tests/execution/test_vectorised.py",),
    ),
    Mutant(
        name="a gradient passes through entries that ReLU has cut off",
        file="execution/pools.py",
        old="gradient = graph.call_function(_RELU_BACKWARD, (of_pool.args[0], after, 0))",
        new="gradient = of_pool.args[0]",
        tests=("tests/execution/test_pools.py",),
    ),
    Mutant(
        name="diagnostics in the order of work",
        file="execution/vectorised.py",
        old="back = sorted(range(len(order)), key=order.__getitem__)",
        new="back = range(len(order))",
        tests=("tests/execution/test_chunks.py",),
    ),
    Mutant(
        name="a client is left out before its last step",
        file="execution/chunks.py",
        old="needed = max([needed, *(place + 1 for place in last)])",
        new="needed = max([0, *(place + 1 for place in last)])",
        tests=("tests/execution/test_chunks.py",),
    ),
    Mutant(
        name="a recorded result written over while it is moved",
        file="execution/launch.py",
        old="value.clone() if _storage(value) in self._storages else value",
        new="value",
        tests=("tests/execution/test_launch.py",),
    ),
    Mutant(
        name="a release follows sizes",
        file="cli/release.py",
        old="following(None, _in_chunks_of_one_size(executor))",
        new="_in_chunks_of_one_size(executor)",
        tests=("tests/cli/test_sizes.py",),
    ),
    Mutant(
        name="a chunk that ran out of memory is lost",
        file="execution/room.py",
        old="start += len(part)\n            else:\n",
        new="start += len(part)\n            else:\n                start += len(part)\n",
        tests=("tests/execution/test_room.py",),
    ),
    Mutant(
        name="the fastest answers as soon as it is known",
        file="execution/auto.py",
        old="answer = found[0] if name == self._first and part == cohort else answer",
        new="answer = found[0] if part == cohort else answer",
        tests=("tests/execution/test_auto.py",),
    ),
    Mutant(
        name="what was measured is forgotten on resume",
        file="cli/train.py",
        old='job.executor.restore(times.pop("executor"))',
        new='times.pop("executor")',
        tests=("tests/cli/test_auto.py",),
    ),
    Mutant(
        name="optimizer memory not saved",
        file="server/checkpoint.py",
        old='    parts |= {f"slots/{slot}": value for slot, value in server.slots.items()}\n',
        new="",
        tests=("tests/server/test_checkpoint.py",),
    ),
    Mutant(
        name="epsilon of the REMOVE pair alone",
        file="privacy/pld.py",
        old="    return Lattice(log_mass=np.concatenate([(positive - k[1:] * step)[::-1], [middle], positive]), "
        "first=-size)\n",
        new="    one_order = round_.attack_log_masses(np.arange(-size, size + 1) * step)[0][:-1]\n"
        "    return Lattice(log_mass=one_order, first=-size)\n",
        tests=("tests/privacy/test_accounting.py::test_reference_intervals",),
    ),
    Mutant(
        name="the parts of one writer are not merged",
        file="data/formats/writers_tff.py",
        old="Client(id=id, parts=tuple(number for number, part in enumerate(known) if id in part))",
        new="Client(id=id, parts=tuple(number for number, part in enumerate(known) if id in part)[:1])",
        tests=("tests/data_prep/test_emnist.py",),
    ),
    Mutant(
        name="a writer in train and in test",
        file="data_prep/qmnist.py",
        old="if both := train & test:",
        new="if both := train & test & set():",
        tests=("tests/data_prep/test_qmnist.py",),
    ),
    Mutant(
        name="a user in two splits of a file",
        file="data/splits.py",
        old="elif ids.setdefault(id, split) != split:",
        new="elif ids.setdefault(id, split) is None:",
        tests=("tests/data/test_splits.py",),
    ),
    Mutant(
        name="published counts are not checked",
        file="data/preparation.py",
        old="if short and not self.allow_partial:",
        new="if short and self is None:",
        tests=("tests/data/test_preparation.py",),
    ),
    Mutant(
        name="paper for ink",
        file="data/formats/writers.py",
        old="255 * (1 - paper)",
        new="255 * paper",
        tests=("tests/data_prep/test_emnist.py",),
    ),
    Mutant(
        name="an image's checksum is not looked at",
        file="data/store.py",
        old="if digest(image) != head.digests[place].tobytes():",
        new="if len(digest(image)) != len(head.digests[place].tobytes()):",
        tests=("tests/data/test_store.py",),
    ),
    Mutant(
        name="another store's manifest",
        file="data/shards.py",
        old="if row != (self._manifest.info.seal,):",
        new="if row is None:",
        tests=("tests/data/test_store.py", "tests/data/test_shards.py"),
    ),
    Mutant(
        name="a damaged left-over shard is trusted",
        file="data/store_writer.py",
        old=" and sha256(place) == finished.sha256:",
        new=":",
        tests=("tests/data/test_store_writer.py", "tests/faults/test_prepare.py"),
    ),
    Mutant(
        name="an image bomb is decoded",
        file="data/pictures.py",
        old="if not 0 < image.width * image.height <= self.max_pixels:",
        new="if not 0 < image.width * image.height:",
        tests=("tests/data/test_pictures.py",),
    ),
    Mutant(
        name="the wrong examples of a large user",
        file="data/batching.py",
        old="part - (end - count)",
        new="part * 0 + count - 1",
        tests=("tests/data/test_batching.py",),
    ),
    Mutant(
        name="clients in the order in which they are ready",
        file="core/workers.py",
        old="            return waiting.popleft().result()",
        new="            return waiting.pop().result()",
        tests=("tests/core/test_workers.py",),
    ),
    Mutant(
        name="procedural test users are those of training",
        file="data/procedural.py",
        old='f"procedural character {self._part}"',
        new='"procedural character"',
        tests=("tests/data/test_procedural.py",),
    ),
    Mutant(
        name="a person with two ids priced as one: sensitivity",
        file="privacy/persons.py",
        old="attrs.evolve(event, noise_multiplier=ratio / ids)",
        new="attrs.evolve(event, noise_multiplier=ratio)",
        tests=("tests/privacy/test_persons.py",),
    ),
    Mutant(
        name="a person with two ids priced as one: rate",
        file="privacy/persons.py",
        old="min(users, ids * sampled)",
        new="sampled",
        tests=("tests/privacy/test_persons.py",),
    ),
    Mutant(
        name="a person with two ids: delta of group privacy",
        file="privacy/persons.py",
        old="needed = share * math.fsum(math.exp(step * epsilon) for step in range(ids))",
        new="needed = share",
        tests=("tests/privacy/test_persons.py",),
    ),
    Mutant(
        name="adaptive clipping: the count is free",
        file="privacy/adaptive.py",
        old="return math.hypot(1.0, self._weight / 2)",
        new="return 1.0",
        tests=("tests/privacy/test_adaptive.py",),
    ),
    Mutant(
        name="adaptive clipping: bits not centred",
        file="privacy/adaptive.py",
        old="(diagnostics.norms <= clip_norm).double() - 0.5",
        new="(diagnostics.norms <= clip_norm).double()",
        tests=("tests/privacy/test_adaptive.py",),
    ),
    Mutant(
        name="adaptive clipping: the sum is not divided by C_t",
        file="privacy/adaptive.py",
        old="**scale(total, 1 / clip_norm)",
        new="**scale(total, 1.0)",
        tests=("tests/privacy/test_adaptive.py",),
    ),
    Mutant(
        name="per-layer clipping: C for every layer",
        file="privacy/clipping.py",
        old="self.clip_norm * share / whole",
        new="self.clip_norm * share",
        tests=(CLIPPING,),
    ),
    Mutant(
        name="integers: rounding not taken off the clip norm",
        file="privacy/discrete.py",
        old="length_bound = (1.0 - _ROUNDING) * self.bound - math.sqrt(entries) / 2",
        new="length_bound = (1.0 - _ROUNDING) * self.bound",
        tests=("tests/privacy/test_discrete.py",),
    ),
    Mutant(
        name="integers: the distance to the Gaussian is free",
        file="privacy/near.py",
        old="return exact, inside + distance",
        new="return exact, inside",
        tests=("tests/privacy/test_near.py",),
    ),
    Mutant(
        name="users in turn: separation one round too long",
        file="data/cyclic.py",
        old="return self.num_users // self.users_per_round",
        new="return self.num_users // self.users_per_round + 1",
        tests=("tests/data/test_cyclic.py",),
    ),
    Mutant(
        name="correlated noise: repeated rows are free",
        file="privacy/participation.py",
        old="yield charges[window[0]] if window else 0",
        new="yield 1 if window else 0",
        tests=("tests/privacy/test_participation.py",),
    ),
    Mutant(
        name="correlated noise: the band forgets its last lag",
        file="privacy/banded.py",
        old="for lag, coefficient in enumerate(later, start=1):",
        new="for lag, coefficient in enumerate(later[:-1], start=1):",
        tests=("tests/privacy/test_banded.py",),
    ),
    Mutant(
        name="a tree keeps its nodes after a restart",
        file="privacy/strategy.py",
        old="**({} if over else nodes)",
        new="**nodes",
        tests=("tests/privacy/test_strategy.py",),
    ),
    Mutant(
        name="the state of secret noise is published",
        file="cli/train.py",
        old="saving.save(state if simulated or state.round < last else replace(state, noise={}))",
        new="saving.save(state)",
        tests=("tests/cli/test_mechanisms.py",),
    ),
    Mutant(
        name="audit: canaries that are not guessed cost no confidence",
        file="privacy/audit.py",
        old="beta + 2 * canaries * delta * alpha",
        new="beta + 2 * guesses * delta * alpha",
        tests=("tests/privacy/test_audit.py",),
    ),
    Mutant(
        name="audit: the amplified price is the claim",
        file="server/audit.py",
        old="(given_cohort(event), count)",
        new="(event, count)",
        tests=("tests/server/test_audit.py",),
    ),
    Mutant(
        name="audit: repetitions with the same noise",
        file="server/audit.py",
        old="by=number * self.rounds",
        new="by=0 * self.rounds",
        tests=("tests/server/test_audit.py",),
    ),
    Mutant(
        name="audit: canaries are sent within the clip norm",
        file="privacy/canaries.py",
        old="_BEYOND = 10.0",
        new="_BEYOND = 1.0",
        tests=("tests/server/test_audit.py",),
    ),
    Mutant(
        name="audit: correlated noise is not decorrelated",
        file="server/audit.py",
        old="if not isinstance(mechanism, CorrelatedGaussian):",
        new="if True:",
        tests=("tests/server/test_audit.py",),
    ),
)


def copy_tree(folder: Path) -> None:
    """The tree as it is now; conf and data_prep also where the installed package has them."""
    skip = shutil.ignore_patterns("__pycache__", "*.zip", ".hypothesis")
    for name in COPIED:
        source = ROOT / name
        _ = (
            shutil.copytree(source, folder / name, ignore=skip)
            if source.is_dir()
            else shutil.copy(source, folder / name)
        )
    for name in ("conf", "data_prep"):
        shutil.copytree(folder / name, folder / "fedemb" / name)


def python(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run Python so that `import fedemb` finds the copy."""
    env = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "OMP_NUM_THREADS": "1"}
    return subprocess.run([sys.executable, *words], cwd=folder, env=env, capture_output=True, text=True, check=False)


def refuse_the_installed_package(folder: Path) -> None:
    """A mutant of a copy that nobody imports would survive, or worse: the tests would pass for it."""
    where = python(folder, "-c", "import fedemb.core.rng as m; print(m.__file__)").stdout.strip()
    if not Path(where).is_relative_to(folder):
        sys.exit(f"the tests would import {where}, not the copy in {folder}")


def run_tests(folder: Path, tests: tuple[str, ...]) -> tuple[int, str]:
    """(pytest's exit code, the first test that failed or pytest's last words)."""
    done = python(folder, "-m", "pytest", "-x", "-p", "no:cacheprovider", *tests)
    failed = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return done.returncode, failed[1] if failed else (done.stdout + done.stderr).strip()[-300:]


def try_mutant(folder: Path, mutant: Mutant) -> tuple[bool, str]:
    """(was it caught by a failing test, by which)."""
    path = folder / "fedemb" / mutant.file
    text = path.read_text()
    if text.count(mutant.old) != 1:
        return False, f"its text occurs {text.count(mutant.old)} times in fedemb/{mutant.file}: mend this script"
    path.write_text(text.replace(mutant.old, mutant.new))
    code, told = run_tests(folder, mutant.tests)
    path.write_text(text)
    return code == 1 and "::" in told, told.removeprefix("tests/")


def main() -> int:
    """Print mutant, seconds and the test that caught it."""
    words = sys.argv[1:]
    chosen = [mutant for mutant in MUTANTS if not words or any(word in mutant.name for word in words)]
    with tempfile.TemporaryDirectory(prefix="fedemb-mutants-") as name:
        folder = Path(name).resolve()
        copy_tree(folder)
        refuse_the_installed_package(folder)
        code, told = run_tests(folder, tuple(sorted({test for mutant in chosen for test in mutant.tests})))
        if code:
            print(f"the tests are red without any mutant: {told}")
            return 1
        survivors = 0
        for mutant in chosen:
            begun = time.perf_counter()
            caught, told = try_mutant(folder, mutant)
            survivors += not caught
            verdict = f"caught by {told}" if caught else f"SURVIVED: {told}"
            print(f"{mutant.name:<52} {time.perf_counter() - begun:5.1f} s  {verdict}", flush=True)
    print(f"{len(chosen) - survivors} of {len(chosen)} mutants caught")
    return int(survivors > 0)


if __name__ == "__main__":
    sys.exit(main())
