"""A signal at any moment: one line, no traceback, no process left, and the same command continues."""

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.results import studies
from tests.running import TINY, command, launch, results_in, scores

CODES = {signal.SIGINT: (0, 130, 75), signal.SIGTERM: (0, 75), signal.SIGHUP: (0, 75)}
MOMENTS = 8  # of a run, at which it hears a signal
HEARS = 0.3  # seconds of CPU time after which a command has handlers: before, Python itself starts
PROGRAMS = {"results": ["outputs"], "catalogue": ["models"]}


def _default_signals() -> None:
    for number in CODES:
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)


def started(words: list[str], folder: Path) -> subprocess.Popen[str]:
    """Start a command in a session of its own, as a terminal does."""
    folder.mkdir(parents=True, exist_ok=True)
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "0", "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        words,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_default_signals,  # noqa: PLW1509 - a shell's background job has Ctrl-C switched off
    )


def stopped(words: list[str], folder: Path, number: signal.Signals, seconds: float) -> tuple[int, str]:
    """Return the exit code and what was told of a command that hears a signal after some seconds of CPU time."""
    process = started(words, folder)
    _until_used(process, seconds)
    return ended(process, number)


def _until_used(process: subprocess.Popen[str], seconds: float) -> None:
    """Wait until a process has used some seconds of CPU time: a busy machine gives it few of a clock's."""
    while process.poll() is None and _used(process.pid) < seconds:
        time.sleep(0.01)


def _used(pid: int) -> float:
    """Return the CPU seconds of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")


def ended(process: subprocess.Popen[str], number: signal.Signals, *, group: bool = False) -> tuple[int, str]:
    """Send a signal, wait for the end and check that no process is left that the command started."""
    if group:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    _, told = process.communicate(timeout=200)
    until = time.monotonic() + 30
    while left := _session(process.pid):
        assert time.monotonic() < until, left
        time.sleep(0.1)
    return process.returncode, told


def _session(leader: int) -> list[str]:
    """Return the command lines of the processes of a session, zombies left out."""
    found = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            state, _, _, session = (place / "stat").read_text().rpartition(")")[2].split()[:4]
            if int(session) == leader and state != "Z":
                found.append((place / "cmdline").read_text().replace("\0", " "))
        except OSError:
            continue
    return found


def until(process: subprocess.Popen[str], folder: Path, text: str) -> None:
    """Wait until the status of a run below a folder holds a text, or the command ended."""
    while process.poll() is None:
        if any(text in path.read_text() for path in folder.glob("*/*/status.json")):
            return
        time.sleep(0.05)


def check(code: int, told: str, number: signal.Signals) -> None:
    assert code in CODES[number], told
    assert "Traceback" not in told
    lines = [line for line in told.splitlines() if line.strip() and "%|" not in line]  # bars are no messages
    assert len(lines) <= 1, told


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "seconds"), [(signal.SIGINT, 0.4), (signal.SIGTERM, 1.0), (signal.SIGHUP, 1.5), (signal.SIGINT, 2.5)]
)
def test_a_signal_in_the_first_seconds_is_one_line(tmp_path: Path, number: signal.Signals, seconds: float) -> None:
    code, told = stopped(command(tmp_path, *TINY), tmp_path, number, seconds)
    check(code, told, number)


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_signal_while_tables_are_imported_is_one_line(tmp_path: Path, program: str) -> None:
    words = [sys.executable, "-m", f"dinodiet.{program}", *PROGRAMS[program]]
    studies.write(tmp_path / "outputs", studies.results())
    code, told = stopped(words, tmp_path, signal.SIGINT, 0.3)
    assert (code, told) == (130, "stopped\n")


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES)
def test_a_signal_in_the_training_writes_a_checkpoint(tmp_path: Path, number: signal.Signals) -> None:
    process = started(command(tmp_path, *TINY, "schedule.epochs=5000", "num_workers=2"), tmp_path)
    until(process, tmp_path, '"phase": "training"')
    time.sleep(1)
    code, told = ended(process, number)
    check(code, told, number)
    assert code == 75
    assert number.name in told
    assert list(tmp_path.glob("*/*/checkpoint.pt"))


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES)
def test_a_second_signal_is_no_failure(tmp_path: Path, number: signal.Signals) -> None:
    process = started(command(tmp_path, *TINY, "schedule.epochs=5000", "num_workers=2"), tmp_path)
    until(process, tmp_path, '"phase": "training"')
    for wait in (0.5, 0.02, 0.02):
        time.sleep(wait)
        process.send_signal(number)
    check(*ended(process, number), number)


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["evaluate", "sanity"])
def test_a_mode_that_is_stopped_leaves_no_workers(tmp_path: Path, mode: str) -> None:
    words = [*TINY, "num_workers=2", "dataset.limit=null", "schedule.epochs=1"]
    if mode == "evaluate":
        assert launch(tmp_path, *words).returncode == 0
        words += ["eval.knn.k=7"]
    process = started(command(tmp_path, *words, f"mode={mode}"), tmp_path)
    while process.poll() is None and len(_session(process.pid)) < 3:
        time.sleep(0.02)
    check(*ended(process, signal.SIGTERM), signal.SIGTERM)


@pytest.mark.slow
@pytest.mark.parametrize("seconds", [1.5, 3, 5, 7])
def test_an_interrupted_grid_in_parallel_leaves_nothing(tmp_path: Path, seconds: float) -> None:
    words = ["-m", *TINY, "seed=0,1", "hydra/launcher=parallel", "schedule.epochs=500"]
    process = started(command(tmp_path, *words), tmp_path)
    time.sleep(seconds)
    code, told = ended(process, signal.SIGINT, group=True)
    assert code in (130, 75), told
    assert "Traceback" not in told


@pytest.mark.slow
def test_a_run_whose_folder_is_removed_is_one_line(tmp_path: Path) -> None:
    process = started(command(tmp_path, *TINY, "schedule.epochs=5000"), tmp_path)
    until(process, tmp_path, '"phase": "training"')
    (tmp_path / "default").rename(tmp_path / "gone")  # at once: the run goes on writing
    shutil.rmtree(tmp_path / "gone", ignore_errors=True)
    _, told = process.communicate(timeout=200)
    lines = [line for line in told.splitlines() if line.strip() and "%|" not in line]
    assert process.returncode == 1
    assert len(lines) == 1, told
    assert "was removed while the run worked" in lines[0]


@pytest.mark.slow
@pytest.mark.long
def test_a_signal_at_any_moment_of_a_run_is_one_line_and_it_finishes(tmp_path: Path) -> None:
    words, since, draw = [*TINY, "checkpoint_minutes=0.001"], time.monotonic(), random.Random(0)
    assert launch(tmp_path / "whole", *words).returncode == 0
    seconds = time.monotonic() - since
    for first in range(MOMENTS // 2):  # with one of the second half: two at a time
        folders = [tmp_path / str(place) for place in (first, first + MOMENTS // 2)]
        numbers = [list(CODES)[place % len(CODES)] for place in (first, first + 1)]
        told: list[tuple[int, str, signal.Signals]] = []
        begun, processes = time.monotonic(), [started(command(folder, *words), folder) for folder in folders]
        for place, (process, number) in enumerate(zip(processes, numbers, strict=True)):
            moment = seconds * (first + place * MOMENTS // 2 + draw.random()) / MOMENTS
            time.sleep(max(begun + moment - time.monotonic(), 0))
            _until_used(process, HEARS)
            told.append((*ended(process, number), number))
        for code, words_told, number in told:  # once both have ended: one that goes on would disturb later tests
            check(code, words_told, number)
        with ThreadPoolExecutor(2) as pool:
            for folder, done in zip(folders, pool.map(lambda folder: launch(folder, *words), folders), strict=True):
                assert done.returncode == 0, done.stderr
                assert scores(results_in(folder)) == scores(results_in(tmp_path / "whole"))


@pytest.mark.slow
def test_a_signal_while_python_ends_changes_nothing(tmp_path: Path) -> None:
    late = "class Late:\n def __del__(self, sleep=time.sleep, mkdir=os.mkdir): mkdir('ends'); sleep(2)\nlate = Late()"
    code = f"import os, time; from dinodiet.sweep.command import cli; cli()\n{late}"  # it goes after all handlers
    process = started([sys.executable, "-c", code, "--help"], tmp_path)
    while process.poll() is None and not (tmp_path / "ends").exists():
        time.sleep(0.01)
    assert ended(process, signal.SIGTERM)[0] == 0


def test_a_folder_that_was_removed_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    words = f"rmdir {gone}; exec {sys.executable} {ROOT / 'launch.py'} mode=plan"
    done = subprocess.run(["sh", "-c", words], cwd=gone, capture_output=True, text=True, check=False, timeout=200)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
