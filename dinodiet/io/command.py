"""What the commands of the package share: a parser whose complaints are one line, and exit codes. Imports no torch."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from dinodiet.errors import UserError
from dinodiet.io.leaving import INTERRUPTED
from dinodiet.io.limits import limit_of


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(f"{message}; see --help")


def print_any_name() -> None:
    """Print names of files that are no UTF-8 with escapes, where Python would raise an error."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def exit_code(command: Callable[[], None]) -> int:
    """Run a command and return 0, or 1 for a mistake or a limit of the machine, which are told in one line.

    A reader that closes the pipe early (`| head`) has seen enough: that is no mistake.
    """
    print_any_name()
    try:
        command()
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        discard_output()
        return INTERRUPTED
    except Exception as error:
        if (told := limit_of(error)) is None:
            raise
        print(f"error: {told}", file=sys.stderr)
        discard_output()
        return 1
    return 0


def discard_output() -> None:
    """Throw away what is still to be printed, where it cannot be: else Python complains when it closes stdout."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
