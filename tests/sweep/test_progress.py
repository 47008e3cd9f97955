"""What a sweep says while it goes on: in a terminal one line, in a log a line every so often."""

import fcntl
import os
import pty
import struct
import sys
import termios
import time
from pathlib import Path

import pytest

from dinodiet.io.colours import painted
from dinodiet.store.states import CellState, CellStatus
from dinodiet.sweep.progress import Progress, summary


def cell(state: CellState, name: str = "run") -> CellStatus:
    return CellStatus(name, state, Path("study"))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seconds = [100.0]
    monkeypatch.setattr(time, "monotonic", lambda: seconds[0])
    return seconds


def test_the_line_counts_states_and_tells_the_time_that_is_left(clock: list[float]) -> None:
    with Progress(7, [cell(CellState.DONE), cell(CellState.FAILED)]) as progress:
        assert progress.line() == "sweep: 2 of 7 runs ended (1 done, 1 failed)"
        clock[0] += 120
        progress.ended(cell(CellState.DONE))
        progress.ended(cell(CellState.FAILED))
        progress.show([cell(CellState.RUNNING), cell(CellState.QUEUED), cell(CellState.MISSING)])
        counts = "2 done, 1 running, 1 queued, 2 failed"
        assert progress.line() == f"sweep: 4 of 7 runs ended ({counts}), about 3 min 0 s left"


def test_a_log_file_gets_the_line_every_minute(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    with Progress(3) as progress:
        for _ in range(10):
            clock[0] += 13
            progress.show([cell(CellState.RUNNING)])
    lines = capsys.readouterr().out.splitlines()
    assert lines == ["sweep: 0 of 3 runs ended (1 running)"] * 2


def test_a_terminal_gets_one_line_that_is_drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    reader, writer = pty.openpty()
    fcntl.ioctl(writer, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))  # a new one has no width
    with os.fdopen(writer, "w") as terminal, monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        patch.setattr(sys, "stdout", terminal)
        with Progress(2) as progress:
            progress.show([cell(CellState.RUNNING)])
            progress.ended(cell(CellState.DONE, "one"))
        seen = ""
        while not seen.rstrip().endswith("left"):  # a terminal hands on what it has, not all at once
            seen += os.read(reader, 10_000).decode()
    os.close(reader)
    assert "[1/2] \x1b[32mdone   \x1b[0m one\r\n" in seen
    assert "\rsweep: 0 of 2 runs ended (1 running)" in seen
    assert seen.rstrip().rpartition("\r")[2].startswith("sweep: 1 of 2 runs ended (1 done, 1 running), about")


class Terminal:
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("name", "value", "colour"), [("NO_COLOR", "1", False), ("TERM", "dumb", False), ("A", "", True)]
)
def test_colours_are_for_terminals_whose_user_wants_them(
    name: str, value: str, colour: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable in ("NO_COLOR", "TERM"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv(name, value)
    assert painted("x", "red", Terminal()) == ("\x1b[31mx\x1b[0m" if colour else "x")  # type: ignore[arg-type]
    assert painted("x", "red") == "x"  # standard output of a test is none


def test_the_summary_names_what_is_not_done() -> None:
    told = summary("study", [cell(CellState.DONE), cell(CellState.FAILED, "other")])
    assert told == "study: 2 runs: 1 done, 1 failed\n  failed  other"
