import threading
import time
from pathlib import Path

import pytest
from filelock import FileLock

from dinodiet.io.files import write_json
from dinodiet.store.grid import read_grid
from dinodiet.store.states import CellState
from dinodiet.sweep.drive import drive
from dinodiet.sweep.launchers import local
from dinodiet.sweep.launchers.local import Local
from tests.sweep.cells import seeds, starts, table, tasks


@pytest.mark.slow
def test_one_bad_cell_costs_one_cell_and_what_is_done_is_not_run_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    grid = tasks(tmp_path, *((f"++model.model_args.num_heads={heads}",) for heads in (1, 5, 2)))
    states = [CellState.DONE, CellState.FAILED, CellState.DONE]
    statuses = drive(grid, Local(), retry_failed=False)
    assert [status.state for status in statuses] == states
    assert statuses[1].reason is not None
    assert starts(grid) == [1, 1, 1]
    assert read_grid(grid[0].study) == [task.cell for task in grid]
    assert [status.state for status in drive(grid, Local(), retry_failed=False)] == states
    assert starts(grid) == [1, 1, 1]
    assert [status.state for status in drive(grid, Local(), retry_failed=True)] == states
    assert starts(grid) == [1, 2, 1]
    assert "[3/3] done" in capsys.readouterr().out


def test_a_failure_of_other_settings_does_not_stand_in_the_way(tmp_path: Path) -> None:
    """The device is in no identity: both are the same run."""
    failed, corrected = (seeds(tmp_path, 1, f"device={device}") for device in ("cuda:99", "cpu"))
    assert failed[0].run_dir == corrected[0].run_dir
    for _ in range(2):
        (status,) = drive(failed, Local(), retry_failed=False)
        assert status.state is CellState.FAILED
    assert starts(failed) == [1]
    (status,) = drive(corrected, Local(), retry_failed=False)
    assert status.state is CellState.DONE, status.reason


@pytest.mark.slow
def test_a_cell_that_another_process_works_on_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "POLL_SECONDS", 0.05)
    grid = seeds(tmp_path, 2)
    other, order = grid[0].run_dir, []
    other.path.mkdir(parents=True)

    def work() -> None:
        with FileLock(other.lock):
            while not grid[1].run_dir.results.exists():
                beat = {"state": "running", "host": "elsewhere", "pid": 1, "heartbeat": time.time(), "slurm_job": None}
                write_json(other.status, beat)
                time.sleep(0.05)
            order.append("the second cell is done, the first is left")
            write_json(other.status, {**beat, "state": "killed", "starts": 1})

    thread = threading.Thread(target=work)
    thread.start()
    while not other.status.exists():
        time.sleep(0.01)
    statuses = drive(grid, Local(), retry_failed=False)
    thread.join()
    assert order
    assert [status.state for status in statuses] == [CellState.DONE] * 2
    assert starts(grid) == [2, 1]


@pytest.mark.slow
def test_runs_in_one_process_do_not_disturb_each_other(tmp_path: Path) -> None:
    alone, together = seeds(tmp_path / "alone", 2), seeds(tmp_path / "together", 2)
    drive(alone[1:], Local(), retry_failed=False)
    drive(together, Local(), retry_failed=False)
    run_id = alone[1].cell.run_id
    assert table(alone)[run_id] == table(together)[run_id] != None  # noqa: E711
