"""mode=release says nothing about whose data an error was in."""

import pytest
from PIL import Image

from fedemb.data.files import FileUsers


@pytest.mark.parametrize("kind", [ValueError, KeyError, SyntaxError])  # a truncated PNG is a SyntaxError to Pillow
def test_an_unreadable_image_does_not_tell_who_was_drawn(fedemb, tmp_path, monkeypatch, kind):
    """The file is cut off after the start: all files are decoded once before."""
    for user in range(4):
        (tmp_path / "albums" / f"u{user}").mkdir(parents=True)
        for number in range(2):
            Image.new("L", (28, 28), 40 * user + number).save(tmp_path / "albums" / f"u{user}" / f"{number}.png")
    load = FileUsers.load_examples

    def cut(self, users, places):
        if len(users) > 1:  # in a round; building looks at one user
            raise kind(f"{tmp_path}/albums/u3/1.png: cannot be read as an image")
        return load(self, users, places)

    monkeypatch.setattr(FileUsers, "load_examples", cut)
    words = ["users=folder", f"users.root={tmp_path}/albums", "users.channels=1", "test_users=none", "rounds=2"]
    words.append("users.size=[28,28]")
    words += ["users_per_round=4", "users_per_client=2", "local_classes=4", "allow_large_delta=true", "delta=0.1"]
    code, _, err = fedemb("train", "recipe=omniglot_dp", *words, "mode=release", f"run={tmp_path}/run")
    assert code == 2
    assert "mode=release does not say whose" in err
    assert "u3" not in err


def test_the_image_size_is_not_taken_from_a_private_image(fedemb, tmp_path):
    """It would be in the run's record, and in the message where another image has another size."""
    for user in range(2):
        (tmp_path / "albums" / f"u{user}").mkdir(parents=True)
        Image.new("L", (28 + user, 28)).save(tmp_path / "albums" / f"u{user}" / "0.png")
    words = ["users=folder", f"users.root={tmp_path}/albums", "test_users=none", f"run={tmp_path}/run", "mode=release"]
    code, _, err = fedemb("train", "recipe=omniglot_dp", *words)
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("fedemb: mode=release does not take the image size from a user's image")
    assert "users.size=[224,224]" in err
    assert not (tmp_path / "run").exists()
