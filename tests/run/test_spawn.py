"""Processes that are started, watched and ended together: what the one error is that is told of many."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from dinodiet.errors import UserError
from dinodiet.processes.gathering import rank, size, summed
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


def told_to_leave(where: int) -> None:
    if rank() == where:
        os.kill(os.getppid(), signal.SIGTERM)
    time.sleep(600)


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


def test_a_signal_to_processes_without_a_handler_is_a_stop(tmp_path: Path) -> None:
    with pytest.raises(Preempted):
        in_processes(told_to_leave, 1, 2, tmp_path)
