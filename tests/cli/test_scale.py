"""A run of 10^12 users: nothing that it holds, writes or does grows with them. A byte each would be a terabyte."""

import json

import pytest

from fedemb.data.procedural import ProceduralUsers

MANY = 10**12
KINDS = {
    "poisson": ("sampler=poisson", "users_per_client=1", "local_classes=2"),
    "cyclic": ("sampler=cyclic", "mechanism=banded", "mechanism.strategy.band=2"),
    "released": ("mode=release",),
}
NAMED = ("recipe=", "users_per_round=", "users_per_client=", "embedding_width=")


@pytest.fixture
def command(fedemb, tiny, monkeypatch):
    """A command about so many made-up users; whoever asks for more than some of them is stopped."""
    asked = []
    number = ProceduralUsers.num_examples

    def counted(self, user):
        asked.append(user)
        assert len(asked) < 500, "a pass over the users"
        return number(self, user)

    monkeypatch.setattr(ProceduralUsers, "num_examples", counted)

    def call(verb, users, *words):
        common = [word for word in tiny if word.startswith(NAMED)]
        sizes = ("users=procedural", f"users.num_users={users}", "users.examples_per_user=2")
        code, out, err = fedemb(verb, *common, *sizes, "delta=1e-9", "allow_large_delta=true", *words)
        assert code == 0, err
        return out

    return call


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_does_not_grow_with_the_users(command, tmp_path, kind):
    command("train", MANY, *KINDS[kind], "test_users=none", "rounds=2", f"run={tmp_path}/a")
    assert json.loads((tmp_path / "a" / "report.json").read_text())["privacy"]["users"] == MANY


def test_files_do_not_grow_with_the_users(command, tmp_path):
    few, many = tmp_path / "few", tmp_path / "many"
    for run, users in ((few, 10**3), (many, MANY)):
        command("train", users, "test_users=none", "rounds=2", "checkpoint_every=1", f"run={run}")
    lines = [(run / "ledger.jsonl").read_text().splitlines() for run in (few, many)]
    assert len(lines[0]) == 2
    assert [len(line) for line in lines[1]] == [len(line) + 9 for line in lines[0]]  # the digits of N
    sizes = [
        [(path.name, path.stat().st_size) for path in run.glob("checkpoints/*.safetensors")] for run in (few, many)
    ]
    assert sizes[0] == sizes[1]


def test_an_audit_does_not_grow_with_the_users(command):
    answer = json.loads(command("audit", MANY, "canaries=10", "format=json"))
    assert answer["verdict"] == "ok"
