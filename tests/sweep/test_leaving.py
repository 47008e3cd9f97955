"""A signal at any moment: one line, no traceback, and the same command continues."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.places import ROOT
from tests.running import TINY, command

CODES = {signal.SIGINT: (0, 130, 75), signal.SIGTERM: (0, 75), signal.SIGHUP: (0, 75)}


def _default_signals() -> None:
    for number in CODES:
        signal.signal(number, signal.SIG_DFL if number != signal.SIGINT else signal.default_int_handler)


def stopped(words: list[str], folder: Path, number: signal.Signals, seconds: float) -> tuple[int, str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HYDRA_FULL_ERROR": "0"}
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=_default_signals,  # noqa: PLW1509 - a shell's background job has Ctrl-C switched off
    )
    time.sleep(seconds)
    process.send_signal(number)
    _, told = process.communicate(timeout=60)
    return process.returncode, told


def check(code: int, told: str, number: signal.Signals) -> None:
    assert code in CODES[number], told
    assert "Traceback" not in told
    lines = [line for line in told.splitlines() if "training:" not in line]
    assert len(lines) <= 1, told


@pytest.mark.parametrize(
    ("number", "seconds"), [(signal.SIGINT, 0.4), (signal.SIGTERM, 1.0), (signal.SIGHUP, 1.5), (signal.SIGINT, 2.5)]
)
def test_a_signal_in_the_first_seconds_is_one_line(tmp_path: Path, number: signal.Signals, seconds: float) -> None:
    code, told = stopped(command(tmp_path, *TINY), tmp_path, number, seconds)
    check(code, told, number)


@pytest.mark.slow
@pytest.mark.parametrize("number", CODES)
def test_a_signal_at_any_moment_of_a_run_is_one_line(tmp_path: Path, number: signal.Signals) -> None:
    for step in range(3, 40, 3):
        code, told = stopped(command(tmp_path / str(step), *TINY), tmp_path, number, step / 2)
        check(code, told, number)


def test_a_folder_that_was_removed_is_one_line(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    words = f"rmdir {gone}; exec {sys.executable} {ROOT / 'launch.py'} mode=plan"
    done = subprocess.run(["sh", "-c", words], cwd=gone, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, len(done.stderr.splitlines())) == (1, 1), done.stderr
