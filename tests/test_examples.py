"""Every example does what its README says: the commands as they stand there, in a copy of its folder."""

import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from fedemb.testing import check_user_dataset

EXAMPLES = Path(__file__).parents[1] / "examples"


def commands(readme):
    """The lines of the README's bash blocks."""
    blocks = re.findall(r"```bash\n(.*?)```", readme.read_text(), re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line.strip()]


def run(command, folder):
    """As it is typed: `python` and `fedemb` are those of this interpreter's environment."""
    scripts = sysconfig.get_path("scripts")
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"OMP_NUM_THREADS": "1", "PATH": os.pathsep.join([scripts, os.environ["PATH"]])}
    return subprocess.run(
        command, shell=True, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )


@pytest.fixture(scope="module")
def custom_dataset(tmp_path_factory):
    """(the folder after all commands, what each of them printed)."""
    folder = tmp_path_factory.mktemp("example") / "custom_dataset"
    shutil.copytree(EXAMPLES / "custom_dataset", folder, ignore=shutil.ignore_patterns("__pycache__"))
    printed = {}
    for command in commands(folder / "README.md"):
        done = run(command, folder)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        printed[command] = done.stdout
    return folder, printed


def test_the_data_set_is_checked_and_trained_on(custom_dataset):
    folder, printed = custom_dataset
    assert printed["python check.py albums"].splitlines() == [
        "train: 32 users are as fedemb wants them",
        "test: 8 users are as fedemb wants them",
    ]
    report = json.loads((folder / "run" / "report.json").read_text())
    assert (report["data"]["name"], report["data"]["users"]) == ("MyUsers", 32)
    assert (report["privacy"]["rounds"], report["privacy"]["users"]) == (2, 32)
    assert "recall@1" in printed["fedemb evaluate run=run"]


def test_the_readme_names_every_file(custom_dataset):
    folder, _ = custom_dataset
    readme = (folder / "README.md").read_text()
    for path in (EXAMPLES / "custom_dataset").rglob("*.*"):
        if path.suffix in (".py", ".yaml"):
            assert path.relative_to(EXAMPLES / "custom_dataset").as_posix() in readme


def loaded(source):
    names = {"__name__": "my_users"}
    exec(source, names)
    return names["MyUsers"]


def test_the_check_finds_a_broken_class(custom_dataset):
    """Users in the order of their numbers and not in that asked for: labels would be another person's."""
    folder, _ = custom_dataset
    source = (folder / "my_users.py").read_text()
    check_user_dataset(loaded(source)(str(folder / "albums")))
    broken = source.replace("for user in users]", "for user in sorted(users)]")
    assert broken != source
    with pytest.raises(AssertionError, match="load of several users, in the order asked for"):
        check_user_dataset(loaded(broken)(str(folder / "albums")))


def test_a_missing_folder_says_what_to_run():
    users = loaded((EXAMPLES / "custom_dataset" / "my_users.py").read_text())
    with pytest.raises(ValueError, match=r"no .npz file in albums/train: run 'python make_albums.py albums'"):
        users("albums")


def test_this_interpreter_has_the_command():
    assert Path(sysconfig.get_path("scripts"), "fedemb").exists(), f"fedemb is not installed for {sys.executable}"
