"""What several tasks that are one run make of the end of one of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from dinodiet.errors import UserError
from dinodiet.run import reports
from dinodiet.run.reports import TaskReports
from dinodiet.store.status import OthersLost, Preempted, ProcessLost

LOST = ProcessLost("processes: process 1 on n2 was ended by SIGKILL")


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reports, "PATIENCE_SECONDS", 0.05)
    monkeypatch.setattr(reports, "POLL_SECONDS", 0.01)


@pytest.mark.parametrize("follows", [OthersLost("gone"), ProcessLost("took no part"), Preempted("SIGTERM")])
def test_what_another_task_reports_explains_what_follows_from_it(follows: BaseException, tmp_path: Path) -> None:
    assert TaskReports(tmp_path, 1).cause_of(LOST) is LOST
    cause = TaskReports(tmp_path, 0).cause_of(follows)
    assert isinstance(cause, ProcessLost)
    assert str(cause) == str(LOST)


def test_a_failure_names_its_process_in_the_other_tasks_alone(tmp_path: Path) -> None:
    first, second = TaskReports(tmp_path, 0), TaskReports(tmp_path, 1)
    failed = ValueError("no such thing")
    assert not first.are_there()
    assert second.cause_of(failed) is failed
    assert first.are_there()
    assert not second.are_there()
    cause = first.cause_of(OthersLost("gone"))
    assert type(cause) is UserError
    assert str(cause).startswith("processes: process 1 on ")
    assert str(cause).endswith(" failed: ValueError: no such thing")


@pytest.mark.parametrize("left", [Preempted("SIGUSR2", 12), OthersLost("gone")])
def test_without_a_report_each_task_has_its_own_cause(left: BaseException, tmp_path: Path) -> None:
    assert TaskReports(tmp_path, 0).cause_of(left) is left
    assert not TaskReports(tmp_path, 1).are_there()


def test_all_leave_on_a_signal_after_the_same_step_whatever_was_reported(tmp_path: Path) -> None:
    TaskReports(tmp_path, 1).cause_of(LOST)
    left = Preempted("SIGUSR2", 12)
    assert TaskReports(tmp_path, 0).cause_of(left) is left
