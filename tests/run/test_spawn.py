"""Processes that are started, watched and ended together: what the one error is that is told of many."""

from __future__ import annotations

import atexit
import os
import signal
import threading
import time
from pathlib import Path

import pytest
import torch

from dinodiet.errors import UserError
from dinodiet.processes.gathering import rank, size, summed
from dinodiet.processes.group import wait_for_all
from dinodiet.processes.heartbeat import VARIABLE
from dinodiet.run import spawn
from dinodiet.run.spawn import in_processes
from dinodiet.store.status import Preempted, ProcessLost

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def total(argument: int) -> str:
    value = summed(torch.tensor(float(rank() + argument)))
    return f"{value.item()} of {size()} " + "x" * 200_000  # more than a pipe holds


def fails(where: int) -> None:
    if rank() == where:
        raise UserError("key: the reason")
    summed(torch.zeros(1))


def dies(where: int) -> None:
    if rank() == where:
        os.kill(os.getpid(), signal.SIGKILL)
    summed(torch.zeros(1))


def sleeps(where: int) -> None:
    if rank() == where:
        raise UserError("key: the reason")
    time.sleep(600)


def stops(where: int) -> None:
    if rank() == where:
        os.kill(os.getpid(), signal.SIGSTOP)
    wait_for_all()  # for days


def deaf(where: int) -> None:
    if rank() == where:
        threading.Event().wait(600)
    summed(torch.zeros(1))


def told_to_leave(where: int) -> None:
    if rank() == where:
        os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(600)


def hears_late(argument: int) -> int:
    atexit.register(os.kill, os.getpid(), signal.SIGUSR2)
    return argument


def test_a_signal_that_comes_when_all_is_done_changes_nothing(tmp_path: Path) -> None:
    assert in_processes(hears_late, 7, 2, tmp_path) == 7


def test_the_first_one_returns_what_all_worked_on(tmp_path: Path) -> None:
    assert in_processes(total, 10, 3, tmp_path).startswith("33.0 of 3")


@pytest.mark.parametrize("where", [0, 1])
def test_the_one_that_fails_is_told_and_not_those_that_miss_it(where: int, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^key: the reason$"):
        in_processes(fails, where, 2, tmp_path)
    assert "key: the reason" in (tmp_path / f"log.rank{where}.txt").read_text()


@pytest.mark.parametrize("where", [0, 1])
def test_the_one_that_was_killed_is_named(where: int, tmp_path: Path) -> None:
    with pytest.raises(ProcessLost, match=f"process {where} on .* was ended by SIGKILL, perhaps for memory"):
        in_processes(dies, where, 2, tmp_path)


def test_those_that_do_not_leave_are_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "GRACE_SECONDS", 1.0)
    begun = time.monotonic()
    with pytest.raises(UserError, match=r"^key: the reason$"):
        in_processes(sleeps, 0, 2, tmp_path)
    assert time.monotonic() - begun < 100


@pytest.mark.parametrize(("where", "number"), [(0, 2), (1, 2), (1, 3)])
def test_a_stopped_process_is_named_within_the_time_that_is_set(
    where: int, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spawn, "GRACE_SECONDS", 1.0)
    monkeypatch.setenv(VARIABLE, "0.1")
    begun = time.monotonic()
    with pytest.raises(ProcessLost, match=rf"process {where} on .* gave no sign of life for 0.1 minutes"):
        in_processes(stops, where, number, tmp_path)
    assert time.monotonic() - begun < 100  # most of it is the start of the processes


def test_one_that_lives_and_takes_no_part_is_named_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spawn, "GRACE_SECONDS", 1.0)
    monkeypatch.setenv(VARIABLE, "0.1")
    with pytest.raises(ProcessLost, match=r"process 1 on .* took no part any more, and was ended"):
        in_processes(deaf, 1, 2, tmp_path)


def test_a_time_that_is_none_is_refused_before_anything_starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "soon")
    with pytest.raises(UserError, match=f"^{VARIABLE}: 'soon'"):
        in_processes(total, 10, 2, tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_a_signal_to_processes_without_a_handler_is_a_stop(tmp_path: Path) -> None:
    with pytest.raises(Preempted):
        in_processes(told_to_leave, 1, 2, tmp_path)
