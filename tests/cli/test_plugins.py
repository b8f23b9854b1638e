"""Data and a model of one's own: a file in the current directory, YAML files beside it, the installed command."""

import json
import os
import subprocess
import sys

MYTHING = """
import torch
from torch import nn

from fedemb.data.users import UserDataset


class MyUsers(UserDataset):
    def __init__(self, people):
        self._people = people

    @property
    def num_users(self):
        return self._people

    def num_examples(self, user):
        return 3

    def load(self, users):
        stream = torch.Generator().manual_seed(7)
        images = torch.randint(256, (self._people, 3, 1, 8, 8), generator=stream, dtype=torch.uint8)
        chosen = torch.tensor(list(users), dtype=torch.int64)
        return {"image": images[chosen].flatten(0, 1), "label": chosen.repeat_interleave(3)}


class MyModel(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.position = nn.Parameter(torch.randn(64))
        self.embedding = nn.Linear(64, width)

    def forward(self, images):
        return self.embedding(images.flatten(1) + self.position)
"""

FILES = {
    "mything.py": MYTHING,
    "myconf/users/mine.yaml": "_target_: mything.MyUsers\npeople: 12\n",
    "myconf/test_users/mine.yaml": "_target_: mything.MyUsers\npeople: 4\n",
    "myconf/model/mine.yaml": "_target_: mything.MyModel\nwidth: ${embedding_width}\n",
}
TRAIN = (
    "--config-dir", "myconf", "recipe=synthetic", "users=mine", "test_users=mine", "model=mine", "embedding_width=4",
    "users_per_round=4", "users_per_client=2", "rounds=2", "noise_multiplier=0.5", "run=run",
)  # fmt: skip


def installed(*words, folder):
    """The command as a user types it: -P keeps the current directory off the path, like the console script."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["OMP_NUM_THREADS"] = "1"
    command = [sys.executable, "-P", "-m", "fedemb", *words]
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


def test_users_and_model_from_a_file_in_the_current_directory(tmp_path):
    """The installed command did not look there: 'Error locating target'."""
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    done = installed("train", *TRAIN, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert (report["data"]["name"], report["data"]["users"]) == ("MyUsers", 12)
    assert report["privacy"]["epsilon"] > 0
    again = installed("evaluate", "run=run", "format=json", folder=tmp_path)
    assert again.returncode == 0, again.stderr
    assert json.loads(again.stdout) == {name: report["metrics"][name] for name in json.loads(again.stdout)}


def test_a_yaml_file_that_is_none_is_one_line(fedemb, tiny, tmp_path):
    (tmp_path / "conf" / "users").mkdir(parents=True)
    (tmp_path / "conf" / "users" / "mine.yaml").write_text("_target_: [mything.MyUsers\npeople: 3\n")
    code, out, err = fedemb("train", "--config-dir", tmp_path / "conf", *tiny[:1], "users=mine", f"run={tmp_path}/run")
    assert (code, out) == (2, "")
    assert err.startswith("fedemb: while parsing")
    assert "mine.yaml" in err
    assert err.count("\n") == 1
