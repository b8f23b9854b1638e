"""A pipe that nobody reads any more is no mistake of the command's; any other broken pipe is one."""

import os
import subprocess
import sys

import pytest

PRINT = "print('much')"
OTHER = "raise BrokenPipeError(32, 'Broken pipe')"  # of a socket, say


@pytest.mark.parametrize(
    ("work", "read", "code", "told"),
    [
        (PRINT, True, 0, ""),
        (PRINT, False, 141, ""),
        (f"{PRINT}; {OTHER}", False, 141, ""),
        (OTHER, True, 2, "fedemb: [Errno 32] Broken pipe\n"),
    ],
)
def test_a_closed_pipe_ends_a_command_without_a_word(work, read, code, told):
    reader, writer = os.pipe()
    if not read:
        os.close(reader)
    command = f"from fedemb.cli.errors import reported\nwith reported(): {work}"
    ended = subprocess.run([sys.executable, "-c", command], stdout=writer, stderr=subprocess.PIPE, text=True)
    os.close(writer)
    if read:
        os.close(reader)
    assert (ended.returncode, ended.stderr) == (code, told)
