from pathlib import Path

import pytest

from dinodiet.store.states import CellState
from dinodiet.sweep.drive import drive
from dinodiet.sweep.inputs import check_inputs
from dinodiet.sweep.launchers.local import Local
from dinodiet.sweep.planning import fetch
from tests.sweep.cells import tasks

LOST = "model.weights={folder}/lost.pth"


def test_shared_inputs_are_looked_for_once_and_what_lacks_one_is_blocked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost, have = LOST.format(folder=tmp_path), fetch.have
    asked: list[str] = []

    def listened(need: fetch.Need) -> tuple[str, str]:
        asked.append(need.choice)
        return have(need)

    monkeypatch.setattr(fetch, "have", listened)
    grid = tasks(tmp_path, ("seed=0", lost), ("seed=1", lost), ("seed=0",), ("dataset.limit=48",))
    checked = check_inputs(grid)
    assert [task.cell.run_id for task in checked.ready] == [task.cell.run_id for task in grid[2:]]
    assert all(str(tmp_path / "lost.pth") in reason for reason in checked.blocked.values())
    assert len(asked) == len(set(asked)) + 1, "two weights of one model, and one data set"


def test_blocked_runs_are_told_not_started_and_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    grid = tasks(tmp_path, ("schedule.steps=1", LOST.format(folder=tmp_path)), ("schedule.steps=1",))
    statuses = drive(grid, Local(), retry_failed=False, check_inputs=True)
    assert [status.state for status in statuses] == [CellState.BLOCKED, CellState.DONE]
    assert f"blocked {statuses[0].run_id}: vit_tiny: " in capsys.readouterr().out
    statuses = drive(grid, Local(), retry_failed=False)  # looked at by the run itself
    assert [status.state for status in statuses] == [CellState.FAILED, CellState.DONE]
    grid[0].run_dir.checkpoint.write_bytes(b"x")  # it had all inputs once
    (status, _) = drive(grid, Local(), retry_failed=True, check_inputs=True)
    assert status.state is CellState.FAILED
