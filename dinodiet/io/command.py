"""What the commands of the package share: a parser whose complaints are one line, and exit codes. Imports no torch."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from dinodiet.errors import UserError


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(f"{message}; see --help")


def exit_code(command: Callable[[], None]) -> int:
    """Run a command and return 0, or 1 for a mistake, which is told in one line.

    A reader that closes the pipe early (`| head`) has seen enough: that is no mistake.
    """
    try:
        command()
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # else Python complains when it closes stdout
    return 0
