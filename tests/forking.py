"""Real processes that start at once: forked from one that has the libraries, as `hydra/launcher=parallel` does."""

from __future__ import annotations

import multiprocessing
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Mapping
from multiprocessing.process import BaseProcess
from pathlib import Path

from dinodiet.sweep.task import printing_to

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.preload"])


def start(folder: Path, *arguments: str) -> BaseProcess:
    """Start launch.py in a process of its own; it prints to `folder/printed.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    process = CONTEXT.Process(target=launch_here, args=(folder, arguments))
    process.start()
    return process


def finish(process: BaseProcess, seconds: float = 300) -> int | None:
    """Wait for a process and return its exit code."""
    process.join(seconds)
    if process.is_alive():
        process.kill()
        raise TimeoutError(f"still running after {seconds:.0f} s")
    return process.exitcode


def printed(folder: Path) -> str:
    """Return what all processes in a folder printed."""
    return (folder / "printed.txt").read_text()


def launch_here(folder: Path, arguments: tuple[str, ...]) -> None:
    """Run launch.py in this process, and end it."""
    import torch

    from dinodiet.sweep.command import cli

    warnings.simplefilter("error")
    torch.set_num_threads(1)
    sys.argv = ["launch.py", *arguments, f"outputs_dir={folder}"]
    with printing_to(folder / "printed.txt"):
        sys.exit(cli())


def completed(
    command: list[str], work: Path, environment: Mapping[str, str], timeout: float
) -> subprocess.CompletedProcess[str]:
    """Run launch.py and its words in a folder to the end, as `subprocess.run` would; return what it printed."""
    with tempfile.TemporaryDirectory() as place:
        process = CONTEXT.Process(target=_command, args=(Path(place), work, command, dict(environment)))
        process.start()
        code = finish(process, timeout)
        out, error = ((Path(place) / name).read_text(errors="replace") for name in ("stdout", "stderr"))
    assert code is not None
    return subprocess.CompletedProcess(command, code, out, error)


def _command(place: Path, work: Path, command: list[str], environment: dict[str, str]) -> None:
    """Run launch.py in this process, with its output in two files, and end it."""
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(work)
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(place / name, os.O_WRONLY | os.O_CREAT), number)
    import torch

    from dinodiet.sweep.command import cli

    warnings.simplefilter("error")
    torch.set_num_threads(1)
    sys.argv = command
    sys.exit(cli())
