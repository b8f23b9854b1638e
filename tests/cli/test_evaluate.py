"""fedemb evaluate from the outside: the run's own measure, any data set, and a quiet end on Ctrl-C."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from fedemb.cli import evaluate
from fedemb.data.synthetic import SyntheticUsers
from fedemb.data.users import UserDataset


class PlainUsers(UserDataset):
    """The three methods of the interface and no more: no name, no checksum."""

    def __init__(self, **settings):
        self._base = SyntheticUsers(**settings)

    @property
    def num_users(self):
        return self._base.num_users

    def num_examples(self, user):
        return self._base.num_examples(user)

    def load(self, users):
        return self._base.load(users)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A folder to put one finished run in, shared by the tests of this file."""
    return tmp_path_factory.mktemp("evaluate") / "run"


@pytest.fixture
def run(trained, fedemb, tiny):
    """A run with an evaluation of its own."""
    if not trained.exists():
        code, _, err = fedemb(
            "train", *tiny, f"run={trained}", "rounds=1", "evaluation.fars=[0.2]", "evaluation.ks=[2]"
        )
        assert code == 0, err
    return trained


def names(result):
    code, out, err = result
    assert code == 0, err
    return set(json.loads(out))


OWN = {"recall@far=0.2", "recall@2", "auc", "map@r"}
DEFAULT = {"recall@far=0.001", "recall@far=0.1", "recall@1", "recall@5", "auc", "map@r"}


def test_the_runs_own_evaluation_gives_its_report_again(fedemb, run):
    """It measured with the default settings instead."""
    code, out, _ = fedemb("evaluate", f"run={run}", "format=json")
    assert code == 0
    reported = json.loads((run / "report.json").read_text())["metrics"]
    assert json.loads(out) == pytest.approx({name: reported[name] for name in OWN})


def test_the_command_overrides_the_runs_evaluation(fedemb, run):
    assert names(fedemb("evaluate", f"run={run}", "format=json", "evaluation=verification")) == DEFAULT
    one_key = names(fedemb("evaluate", f"run={run}", "format=json", "evaluation.ks=[3,4]"))
    assert one_key == {"recall@far=0.2", "recall@3", "recall@4", "auc", "map@r"}


def test_a_model_folder_is_measured_with_the_default(fedemb, run):
    assert names(fedemb("evaluate", f"run={run}/model", "format=json", "test_users=synthetic")) == DEFAULT


def test_everything_is_one_word(fedemb, run, tmp_path):
    """Each part of the suite is there; synthetic users have no names, so no groups."""
    found = names(fedemb("evaluate", f"run={run}", "format=json", "evaluation=everything", f"roc={tmp_path}/roc.csv"))
    assert {"recall@far=0.0001", "auc", "eer", "recall@10", "map@r", "knn@5", "linear"} <= found
    assert {"few_shot@5way1shot", "few_shot@20way5shot:se", "dir@far=0.01", "auc:low", "recall@1:high"} <= found
    assert "one_shot_error" in found
    head, first, *_, last = (tmp_path / "roc.csv").read_text().splitlines()
    assert (head, first.split(",")[0], last) == ("far,recall", "0.0", "1.0,1.0")


def test_names_in_the_table_keep_their_brackets(capsys):
    """[worst] is the name of a group, and no word of a markup."""
    evaluate._print_table({"recall@1": 0.5, "recall@1[worst]": 0.25, "recall@1[gap]": None}, "run [x]")
    out = capsys.readouterr().out
    assert [word in out for word in ("recall@1[worst]", "recall@1[gap]", "run [x]")] == [True] * 3


def test_a_setting_of_a_measure_is_checked_and_named(fedemb, run):
    words = [f"run={run}", "evaluation=retrieval", "evaluation.measures.retrieval.ks=[one]"]
    code, _, err = fedemb("evaluate", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert "ks must be a list [..., ...] of whole numbers, got evaluation.measures.retrieval.ks=" in err


def test_a_curve_that_cannot_be_written_is_one_line(fedemb, run, tmp_path):
    code, _, err = fedemb("evaluate", f"run={run}", f"roc={tmp_path}")
    assert (code, err.count("\n")) == (2, 1)
    assert f"cannot write {tmp_path}" in err


def test_landmarks_are_searched_in_folders(fedemb, run, tmp_path):
    """Random pixels: the query is in the index itself, under another name."""
    rng = np.random.default_rng(0)
    for name in ("queries/q.png", "index/a.png", "index/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(256, size=(28, 28), dtype=np.uint8)).save(tmp_path / name)
    shutil.copy(tmp_path / "queries" / "q.png", tmp_path / "index" / "c.png")
    (tmp_path / "solution.csv").write_text("id,images,Usage\nq,c,Public\n")
    places = {"solution": "solution.csv", "queries": "queries", "index": "index"}
    words = [f"evaluation.measures.landmarks.{key}={tmp_path / place}" for key, place in places.items()]
    code, out, err = fedemb("evaluate", f"run={run}", "format=json", "evaluation=landmarks", *words)
    assert code == 0, err
    assert json.loads(out) == {"map@100:public": 1.0, "map@100:private": None}


def test_a_data_set_of_three_methods_is_named_by_its_type(fedemb, run, tmp_path, monkeypatch):
    """It was an AttributeError after the measurement."""
    monkeypatch.setattr("fedemb.data.synthetic.PlainUsers", PlainUsers, raising=False)
    (tmp_path / "conf" / "test_users").mkdir(parents=True)
    (tmp_path / "conf" / "test_users" / "plain.yaml").write_text(
        "_target_: fedemb.data.synthetic.PlainUsers\nnum_users: 3\nexamples_per_user: 4\nclasses: 3\nseed: 1\n"
    )
    words = ["--config-dir", tmp_path / "conf", f"run={run}", "test_users=plain"]
    code, out, err = fedemb("evaluate", *words)
    assert code == 0, err
    assert "on 3 users of PlainUsers" in " ".join(out.split())


def test_test_users_none_measures_nothing_and_says_so(fedemb, tiny, tmp_path):
    """test_users=null is an error of Hydra's own."""
    words = [word for word in tiny if not word.startswith("test_users.")]
    code, _, err = fedemb("train", *words, "test_users=none", f"run={tmp_path}/run", "rounds=1")
    assert code == 0, err
    assert json.loads((tmp_path / "run" / "report.json").read_text())["metrics"] == {}
    code, _, err = fedemb("evaluate", f"run={tmp_path}/run")
    assert code == 2
    assert "has no test users: name some with test_users=" in err
    assert err.count("\n") == 1


def test_a_damaged_configuration_is_one_line(fedemb, run, tmp_path):
    shutil.copytree(run, tmp_path / "run")
    (tmp_path / "run" / "config.yaml").write_text("- a\n")
    code, _, err = fedemb("evaluate", f"run={tmp_path}/run")
    assert code == 2
    assert err.count("\n") == 1
    assert "damaged" in err


def interrupt(*_, **__):
    raise KeyboardInterrupt


@pytest.mark.parametrize("place", ["fedemb.cli.evaluate.load_model", "fedemb.cli.main.importlib.import_module"])
def test_ctrl_c_ends_quietly(fedemb, run, monkeypatch, place):
    """At work, or while libraries are imported: it was a screen of traceback and exit code 1."""
    monkeypatch.setattr(place, interrupt)
    try:
        result = fedemb("evaluate", f"run={run}")
    except KeyboardInterrupt:  # would end pytest
        pytest.fail("the interrupt came through")
    assert result == (130, "", "fedemb: interrupted\n")


@pytest.mark.parametrize("word", ["+batching.foo=1", "+client.foo=1", "+sampler.foo=1", "+users.foo=1"])
def test_a_key_that_no_constructor_knows_is_one_line(fedemb, tiny, tmp_path, word):
    """Of the program's own calls and of Hydra's: it was a traceback."""
    code, _, err = fedemb("train", *tiny, word, f"run={tmp_path}/run")
    assert code == 2
    assert err.count("\n") == 1
    assert "unexpected keyword argument 'foo'" in err
    assert not (tmp_path / "run").exists()


def test_a_defect_keeps_its_traceback(fedemb, run, monkeypatch):
    """A TypeError from deeper down is no mistake of the user's."""

    def defect(path):
        return SyntheticUsers(foo=1)

    monkeypatch.setattr(evaluate, "load_model", defect)
    with pytest.raises(TypeError, match="unexpected keyword"):
        fedemb("evaluate", f"run={run}")
