"""Words that Hydra reads as something else: how to type them in a shell, and what is said of them."""

import shlex
import subprocess

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from fedemb.cli.quoting import quoted

PATHS = (
    "/a/b[1].zip",
    "/a/é 李.zip",
    "/a=b",
    "/a,b",
    "/a'b",
    '/a"b',
    "/a{b",
    "~/a",
    "C:\\x\\",
    'a\\"b',
    "a(b)#;&!$HOME`",
    "5",
)


def read(word):
    """What Hydra makes of a word."""
    return OverridesParser.create().parse_override(word).value()


@pytest.mark.parametrize("path", PATHS)
def test_what_bash_and_hydra_make_of_a_quoted_value_is_the_value(path):
    """bash itself, not only Python's idea of it."""
    printed = subprocess.run(["bash", "-c", f"printf %s {quoted('source', path)}"], capture_output=True, check=True)
    assert read(printed.stdout.decode()) == path


@given(st.text(st.characters(exclude_categories=["Cs", "Cc"])))
def test_any_text_can_be_quoted(value):
    (word,) = shlex.split(quoted("source", value))
    assert read(word) == value


@pytest.mark.parametrize("path", ["/a/b[1].zip", "/a/é.zip", "/a=b", "~/a", "/a{b"])
def test_a_word_that_cannot_be_read_is_told_with_its_quotes(fedemb, tmp_path, path):
    code, out, err = fedemb("prepare", "omniglot", f"source={path}", f"out={tmp_path}/out")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith(f"fedemb: cannot read source={path}: brackets, accents, = and the like need quotes")
    assert err.endswith(f"""type 'source="{path}"'\n""")


def test_what_is_typed_as_told_arrives(fedemb, tmp_path):
    code, _, err = fedemb("prepare", "omniglot", *shlex.split(quoted("source", f"{tmp_path}/é[1].zip")))
    assert code == 2
    assert err.startswith(f"fedemb: no {tmp_path}/é[1].zip: get images_background.zip")


def test_a_comma_is_no_sweep_unasked(fedemb, tmp_path):
    code, _, err = fedemb("prepare", "omniglot", "source=/a,b", f"out={tmp_path}/out")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("""fedemb: source=/a,b reads as several values: type 'source="/a,b"' for one text""")


def test_a_key_that_no_quotes_help(fedemb):
    code, _, err = fedemb("prepare", "omniglot", "so urce=a")
    assert (code, err) == (
        2,
        "fedemb: cannot read 'so urce=a': write key=value with one of the keys that --help lists\n",
    )
