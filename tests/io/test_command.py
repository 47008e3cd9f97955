"""What the commands share: complaints of one line, exit codes, and readers that stop reading."""

import errno
import os
import subprocess
import sys

import pytest

from dinodiet.errors import UserError
from dinodiet.io.command import Parser, exit_code


def test_complaints_are_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    def command() -> None:
        Parser(prog="x").parse_args(["--colour"])

    assert exit_code(command) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: unrecognized arguments: --colour")
    assert printed.err.endswith("\n")
    assert printed.err.count("\n") == 1
    with pytest.raises(ZeroDivisionError):
        exit_code(lambda: print(1 / 0))


def test_a_mistake_is_a_user_error() -> None:
    with pytest.raises(UserError):
        Parser(prog="x").parse_args(["--colour"])


def test_a_reader_that_has_seen_enough_is_no_mistake() -> None:
    code = (
        "import sys; from dinodiet.io.command import exit_code; "
        "sys.exit(exit_code(lambda: [print('line') for _ in range(100_000)] and None))"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 0


def test_a_command_that_does_not_continue_does_not_say_so(capsys: pytest.CaptureFixture[str]) -> None:
    def full() -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/far/table.csv")

    assert exit_code(full) == 1
    said = capsys.readouterr().err
    assert said.startswith("error: /far/table.csv: No space left on device")
    assert said.endswith("make room\n")
