"""What the commands of the package share: a parser whose complaints are one line, and exit codes. Imports no torch."""

from __future__ import annotations

import argparse
import io
import os
import sys
from collections.abc import Callable
from typing import Any, NoReturn

from dinodiet.errors import UserError
from dinodiet.io.leaving import CONTINUES, INTERRUPTED
from dinodiet.io.limits import AGAIN, limit_of


class Parser(argparse.ArgumentParser):
    """A parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise UserError(f"{message}; see --help")


class _Discarding(io.FileIO):
    """A file that throws away what cannot be written, where its reader is gone or its disk is full."""

    def write(self, data: Any, /) -> int:
        try:
            written = super().write(data)
        except OSError:
            written = None
        return len(data) if written is None else written


def print_what_can_be() -> None:
    """Let nothing that is printed stop the process from now on: a training goes on when its terminal is gone."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if isinstance(stream, io.TextIOWrapper) and stream is getattr(sys, f"__{name}__"):
            stream.flush()
            raw = _Discarding(stream.fileno(), "wb", closefd=False)
            made = io.TextIOWrapper(
                io.BufferedWriter(raw),
                encoding=stream.encoding,
                errors=stream.errors,
                line_buffering=stream.line_buffering,
                write_through=stream.write_through,
            )
            setattr(sys, name, made)


def _open_what_is_closed() -> None:
    """Open what was closed (`>&-`): else the next file that is opened takes its place, and gets what is printed."""
    while (number := os.open(os.devnull, os.O_RDWR)) < 3:
        pass
    os.close(number)
    for place, name in enumerate(("stdout", "stderr"), start=1):
        if getattr(sys, name) is None:
            setattr(sys, name, os.fdopen(place, "w", closefd=False))


def print_any_name() -> None:
    """Print names of files that are no UTF-8 with escapes, where Python would raise an error."""
    _open_what_is_closed()
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
        print(f"error: {str(told).removesuffix(f', {AGAIN}').removesuffix(CONTINUES)}", file=sys.stderr)
        discard_output()
        return 1
    return 0


def discard_output() -> None:
    """Throw away what is still to be printed, where it cannot be: else Python complains when it closes stdout."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
