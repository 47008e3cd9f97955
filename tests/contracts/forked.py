"""Many command lines, each in a process forked from one that has the libraries: the real `cli()` in milliseconds.

`python -m tests.contracts.forked FOLDER` reads FOLDER/commands.json and writes FOLDER/outcomes.json. Each command works
in a folder of its own, with bounded time and memory.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import resource
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import dinodiet
from tests.places import ROOT

LATE = (  # what the package imports where it needs it
    *("sklearn.linear_model", "sklearn.cluster", "sklearn.datasets"),
    *("scipy.io", "torch._dynamo", "torch.utils.serialization.config", "encodings.cp437"),
)

CPU_SECONDS = 60  # of one command
SECONDS = 180.0  # on the clock: others may use the machine
GIB = 6  # of memory that one command may ask for
FILE_GIB = 1  # of one file


@dataclass(frozen=True)
class Outcome:
    """How a command ended: its exit code (None: killed after `SECONDS`), what it printed, and where it worked."""

    words: list[str]
    code: int | None
    printed: str
    errors: str
    seconds: float
    folder: str


def outcomes(folder: Path, commands: Sequence[Sequence[str]], processes: int = 1) -> list[Outcome]:
    """Run command lines (without the program's name) and return how each ended, in their order."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "commands.json").write_text(json.dumps([list(words) for words in commands]))
    offline = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    environment = {**os.environ, **offline, "PYTHONPATH": str(ROOT), "HYDRA_FULL_ERROR": "0"}
    command = [sys.executable, "-W", "error", "-m", __name__, str(folder.resolve()), str(processes)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    return [Outcome(**found) for found in json.loads((folder / "outcomes.json").read_text())]


def main(folder: Path, processes: int) -> None:
    """Fork a process for each command, `processes` at a time."""
    commands = json.loads((folder / "commands.json").read_text())
    _warm()
    waiting = list(enumerate(commands))[::-1]
    running: dict[int, tuple[int, float]] = {}
    ended: dict[int, Outcome] = {}
    while waiting or running:
        while waiting and len(running) < processes:
            number, words = waiting.pop()
            running[_fork(folder / str(number), words)] = (number, time.monotonic())
        for pid, (number, begun) in list(running.items()):
            seconds = time.monotonic() - begun
            over, code = _ended(pid, late=seconds > SECONDS)
            if over:
                del running[pid]
                place = folder / str(number)
                printed, errors = ((place / name).read_text(errors="replace") for name in ("stdout", "stderr"))
                ended[number] = Outcome(commands[number], code, printed, errors, seconds, str(place))
        time.sleep(0.005)
    (folder / "outcomes.json").write_text(json.dumps([asdict(ended[number]) for number in range(len(commands))]))


def _ended(pid: int, *, late: bool) -> tuple[bool, int | None]:
    """Return whether a process is over, and its exit code; a late one is killed and has none."""
    done, status = os.waitpid(pid, os.WNOHANG)
    if done:
        return True, os.waitstatus_to_exitcode(status)
    if late:
        os.killpg(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return late, None


def _warm() -> None:
    """Import what runs need, and let Hydra and torch do once what they do once."""
    import torch
    from PIL import Image
    from torch._subclasses.fake_tensor import FakeTensorMode

    from dinodiet.sweep.command import cli

    torch.set_num_threads(1)
    own = [module.name for module in pkgutil.walk_packages(dinodiet.__path__, "dinodiet.")]
    for name in (*own, *LATE):
        if not name.endswith("__main__"):
            importlib.import_module(name)
    Image.init()
    with FakeTensorMode():
        torch.zeros(1) + torch.zeros(1)
    place, sys.argv = Path.cwd(), ["launch.py", "mode=none"]
    error = os.dup(2)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    cli()  # is refused, after Hydra has looked for its plugins and read its files
    os.dup2(error, 2)
    os.chdir(place)
    gc.collect()
    gc.freeze()  # else the first collection of every child copies all pages of the libraries


def _fork(folder: Path, words: list[str]) -> int:
    """Start a command in a process of its own, and return its number."""
    folder.mkdir()
    pid = os.fork()
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        for number, name in ((1, "stdout"), (2, "stderr")):
            os.dup2(os.open(folder / name, os.O_WRONLY | os.O_CREAT), number)
        os.chdir(folder)
        resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
        resource.setrlimit(resource.RLIMIT_DATA, (GIB << 30, GIB << 30))
        resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_GIB << 30, FILE_GIB << 30))
        code = _command(words)
    except SystemExit as leaving:  # of a command of its own: results, catalogue
        code = leaving.code if isinstance(leaving.code, int) else int(leaving.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _command(words: list[str]) -> int:
    from hydra.core.global_hydra import GlobalHydra

    from dinodiet.sweep.command import cli

    GlobalHydra.instance().clear()
    sys.argv = ["launch.py", *words]
    return cli()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
