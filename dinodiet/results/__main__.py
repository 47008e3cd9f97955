"""The command: `python -m dinodiet.results PATH... [options]`."""

from __future__ import annotations

import argparse
import gc
import sys
from collections.abc import Sequence

from dinodiet.io.command import exit_code
from dinodiet.results.options import check_options, parser
from dinodiet.results.printed import print_once


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command and return its exit code."""
    return exit_code(lambda: _run(parser().parse_args(arguments)))


def _run(args: argparse.Namespace) -> None:
    check_options(args)
    print_once(args, _compute)


def _compute(args: argparse.Namespace) -> None:
    from dinodiet.results.command import run  # noqa: PLC0415 - pandas, which what is known needs not

    run(args)


if __name__ == "__main__":
    gc.disable()  # a short life with many small objects, none of them in cycles: a sixth of the time
    sys.exit(main())
