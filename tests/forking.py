"""Real processes that start at once: forked from one that has the libraries, as `hydra/launcher=parallel` does."""

from __future__ import annotations

import multiprocessing
import sys
import warnings
from multiprocessing.process import BaseProcess
from pathlib import Path

from dinodiet.sweep.task import printing_to

CONTEXT = multiprocessing.get_context("forkserver")


def start(folder: Path, *arguments: str) -> BaseProcess:
    """Start launch.py in a process of its own; it prints to `folder/printed.txt`."""
    CONTEXT.set_forkserver_preload(["dinodiet.run.run"])
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
