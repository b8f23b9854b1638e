"""fedemb's docstrings as reStructuredText: what the site shows of them."""

import io

import pytest

docutils_core = pytest.importorskip("docutils.core")
from docstrings import escaped, to_rst  # noqa: E402  (docs/ext)

DOCSTRING = """\
Scale an update: 2 * C, |x|, name_ and `clip_norm`s stay as they are.

Args: update: name -> tensor,
          of any type.
      clip_norm: C > 0.
Returns: (clipped, norm).
Raises: ValueError in one line if it
    is negative.
Source: McMahan et al. 2018, arXiv:1710.06963.

event             priced as
    Gaussian(s)     one *Gaussian*
    NoNoise         infinite""".splitlines()


def html(lines):
    """What docutils makes of it; a warning is an error."""
    settings = {"report_level": 2, "halt_level": 2, "warning_stream": io.StringIO()}
    return docutils_core.publish_parts("\n".join(lines), writer="html5", settings_overrides=settings)["body"]


def test_arguments_results_and_errors_are_fields_of_their_own():
    lines = to_rst(DOCSTRING)
    assert "* ``update``: name -> tensor, of any type." in lines
    assert "* ``clip_norm``: C > 0." in lines
    assert ":returns: (clipped, norm)." in lines
    assert ":raises ValueError: if it is negative." in lines
    source = "**Source:** McMahan et al. 2018, `arXiv:1710.06963 <https://arxiv.org/abs/1710.06963>`__."
    assert source in lines


def test_plain_text_stays_plain_text():
    body = html(to_rst(DOCSTRING))
    assert "Scale an update: 2 * C, |x|, name_ and" in body
    assert ">clip_norm</span>s stay" in body
    assert "Gaussian(s)     one *Gaussian*" in body  # columns are kept


@pytest.mark.parametrize(
    "text", ["a * b ** c*", "a_ b__ _c", "|a| <= |b|", "``", "a `b", "\\n and \\", "x`y`z", ":a: b"]
)
def test_no_text_breaks_the_build(text):
    html([escaped(text)])


def test_sessions_are_left_alone():
    assert to_rst([">>> 1 * 2", "2"]) == [">>> 1 * 2", "2", ""]
