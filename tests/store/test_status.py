import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from dinodiet.errors import UserError
from dinodiet.io.files import read_json, write_json
from dinodiet.store import status as status_module
from dinodiet.store.rundir import RunDir
from dinodiet.store.spent import Devices
from dinodiet.store.status import OthersLost, Preempted, ProcessLost, Status, read_status, record_ending, was_lost


def content(path: Path) -> dict[str, Any]:
    found = read_json(RunDir(path).status)
    assert found is not None
    return found


def test_running_then_done(tmp_path: Path) -> None:
    with Status(RunDir(tmp_path)):
        assert content(tmp_path)["state"] == "running"
        assert content(tmp_path)["pid"] == os.getpid()
    assert content(tmp_path)["state"] == "done"


def test_the_heartbeat_goes_on_while_the_main_thread_is_busy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "HEARTBEAT_SECONDS", 0.05)
    with Status(RunDir(tmp_path)) as status:
        first = content(tmp_path)["heartbeat"]
        status.update(step=3, total_steps=7)
        deadline = time.monotonic() + 60
        while content(tmp_path)["heartbeat"] == first and time.monotonic() < deadline:
            sum(range(10_000))  # busy
        assert content(tmp_path)["heartbeat"] > first
        assert content(tmp_path)["step"] == 3


def test_a_failure_keeps_its_traceback_and_goes_on(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Status(RunDir(tmp_path)):
        _ = 1 // 0
    found = content(tmp_path)
    assert found["state"] == "failed"
    assert found["reason"].startswith("ZeroDivisionError")
    assert "_ = 1 // 0" in found["traceback"]


def test_a_users_mistake_is_told_in_its_own_words(tmp_path: Path) -> None:
    with pytest.raises(UserError), Status(RunDir(tmp_path)):
        raise UserError("seed: -1; must be at least 0")
    assert content(tmp_path)["reason"] == "seed: -1; must be at least 0"


def test_an_impatient_ctrl_c_is_no_failure(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Status(RunDir(tmp_path)):
        raise KeyboardInterrupt
    assert content(tmp_path)["state"] == "preempted"
    assert content(tmp_path)["reason"] == "told to stop by SIGINT"


def test_the_heart_beats_again_after_a_write_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "HEARTBEAT_SECONDS", 0.02)
    real = write_json
    failed = threading.Event()

    def full(path: Path, content: Any) -> None:
        failed.set()
        raise OSError("No space left on device")

    with Status(RunDir(tmp_path)):
        first = content(tmp_path)["heartbeat"]
        monkeypatch.setattr(status_module, "write_json", full)
        assert failed.wait(60)
        monkeypatch.setattr(status_module, "write_json", real)
        deadline = time.monotonic() + 60
        while content(tmp_path)["heartbeat"] == first and time.monotonic() < deadline:
            time.sleep(0.01)
        assert content(tmp_path)["heartbeat"] > first


@pytest.mark.parametrize("there", [True, False])
def test_a_checkpoint_is_called_intact_where_there_is_one(tmp_path: Path, there: bool) -> None:
    if there:
        RunDir(tmp_path).checkpoint.touch()
    with pytest.raises(RuntimeError), Status(RunDir(tmp_path)) as status:
        status.update(phase="training", step=3)
        raise RuntimeError("the loss is nan")
    assert content(tmp_path)["reason"] == "RuntimeError: the loss is nan" + there * "; the last checkpoint is intact"
    assert content(tmp_path)["step"] == 3


def test_preempted_is_not_failed(tmp_path: Path) -> None:
    with pytest.raises(Preempted) as leaving, Status(RunDir(tmp_path)):
        raise Preempted("SIGTERM", 12)
    assert leaving.value.code == 75
    assert content(tmp_path)["state"] == "preempted"
    assert content(tmp_path)["reason"] == "told to stop by SIGTERM at step 12"


@pytest.mark.parametrize(
    ("state", "error", "recorded"),
    [
        ("running", ProcessLost("process 1 was killed"), ("killed", "process 1 was killed", True)),
        ("failed", ProcessLost("process 1 was killed"), ("killed", "process 1 was killed", True)),
        ("queued", UserError("a mistake"), ("failed", "a mistake", None)),
        ("failed", UserError("a mistake"), ("failed", "its own words", None)),
    ],
)
def test_who_watches_records_what_the_first_process_could_not(
    state: str, error: Exception, recorded: tuple[str, str, bool | None], tmp_path: Path
) -> None:
    run_dir = RunDir(tmp_path)
    write_json(run_dir.status, {"state": state, "reason": "its own words"})
    record_ending(run_dir, error)
    status = read_status(run_dir) or {}
    assert (status["state"], status["reason"], status.get("lost")) == recorded


def test_a_process_that_lost_the_others_is_no_failure(tmp_path: Path) -> None:
    run_dir = RunDir(tmp_path)
    with pytest.raises(OthersLost), Status(run_dir):
        raise OthersLost("gone")
    assert was_lost(read_status(run_dir) or {})
    record_ending(run_dir, UserError("process 1 failed"))
    assert (read_status(run_dir) or {})["state"] == "failed"


def spent(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = content(path)["spent"]
    return found


def test_starts_add_up_what_they_spend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(status_module, "HEARTBEAT_SECONDS", 0.02)
    with Status(RunDir(tmp_path), devices=Devices(2, lambda: 40.0)):
        time.sleep(0.1)
    first = spent(tmp_path)
    assert first["seconds"] >= 0.1
    assert first["device_seconds"] == pytest.approx(2 * first["seconds"])
    assert (first["joules"], first["starts"]) == (0.0, 1)
    with pytest.raises(ZeroDivisionError), Status(RunDir(tmp_path), devices=Devices(1, lambda: None)):
        time.sleep(0.1)
        _ = 1 // 0
    assert spent(tmp_path)["seconds"] >= first["seconds"] + 0.1
    assert (spent(tmp_path)["joules"], spent(tmp_path)["starts"]) == (None, 2)


def test_what_a_killed_run_spent_is_known_from_its_last_heartbeat(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(status_module, "HEARTBEAT_SECONDS", 0.02)
    with Status(RunDir(tmp_path)):
        begun, deadline = time.monotonic(), time.monotonic() + 60
        while spent(tmp_path)["seconds"] < 0.1 and time.monotonic() < deadline:
            time.sleep(0.01)
        assert 0.1 <= spent(tmp_path)["seconds"] <= time.monotonic() - begun + 1
        killed = content(tmp_path)
    write_json(RunDir(tmp_path).status, killed)  # as SIGKILL leaves it
    with Status(RunDir(tmp_path)) as status:
        assert status.spent is not None
        assert status.spent.seconds >= killed["spent"]["seconds"]
        assert status.spent.starts == 2
