"""The command line: `dinodiet ...`, and `python launch.py ...` in a checkout. Starts without Hydra and torch."""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

from dinodiet.config.help import help_text
from dinodiet.config.places import ROOT, own_folders, program
from dinodiet.io.command import exit_code, print_any_name, print_what_can_be
from dinodiet.io.leaving import leave_on_signals
from dinodiet.processes.place import place_in

SHOW_TRACEBACKS = os.environ.get("HYDRA_FULL_ERROR", "0") not in ("", "0")
PROGRAMS = ("results", "catalogue")  # packages with a command line of their own


def cli() -> int:
    """Run the command line in `sys.argv` and return its exit code."""
    leave_on_signals(continues=sys.argv[1:2] not in [[program] for program in PROGRAMS])
    _be_quiet_beside_others()
    print_any_name()
    if not _in_a_folder():
        print("error: the folder that you are in was removed; change to another (cd)", file=sys.stderr)
        return 1
    words = sys.argv[1:]
    if words and words[0] in PROGRAMS:
        return _program(words[0])
    if {"--help", "-h"} & set(words):  # answered before anything is imported
        return exit_code(lambda: print(help_text(program(), own_folders(words))))
    _set_environment()
    print_what_can_be()
    from dinodiet.sweep.main import run_command_line  # noqa: PLC0415 - imports Hydra

    return run_command_line(words, show_tracebacks=SHOW_TRACEBACKS)


def _be_quiet_beside_others() -> None:
    """Print nothing in processes of torchrun but the first, which says the same; a run has them print into files."""
    if (place := place_in(os.environ)) is not None:
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        if place.rank:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, 1)
            os.dup2(nowhere, 2)


def _in_a_folder() -> bool:
    try:
        return bool(Path.cwd())
    except OSError:
        return False


def _program(name: str) -> int:
    """Run `python -m dinodiet.<name>` with the remaining words."""
    sys.argv = [f"{sys.argv[0]} {name}", *sys.argv[2:]]
    runpy.run_module(f"dinodiet.{name}", run_name="__main__")
    return 0


def _set_environment() -> None:
    os.environ["HYDRA_FULL_ERROR"] = "1"  # errors arrive whole, to be told in one line
    # Threads that wait should sleep: on a shared machine spinning ones make small steps several times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ["DINODIET_ROOT"] = str(ROOT)  # conf/config.yaml finds sweeps/ by it
