"""A grid of sweeps/ run whole, on few digits: every cell finishes, and the table shows each."""

from __future__ import annotations

from pathlib import Path

import pytest

from dinodiet.results.runs import read
from dinodiet.results.summary import cells_of
from tests.running import launch

SMALL = (
    *("dataset=digits", "dataset.limit=24", "dataset.image_size=16", "model.size=20", "tuned=none", "seed=0"),
    *("schedule.epochs=2", "schedule.batch_size=12", "device=cpu", "eval=knn", "eval.knn.k=5"),
    *("method.head.hidden_dims=[16]", "method.head.out_dim=32"),
)


@pytest.mark.slow
def test_every_update_and_mode_of_a_teacher_is_a_row_of_teacher_and_student(tmp_path: Path) -> None:
    done = launch(tmp_path, "-m", "sweeps=teacher_update", *SMALL)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "6 runs: 6 done" in done.stdout
    cells, plan, _ = cells_of(read([tmp_path / "teacher_update"]), phases=["final", "change"])
    assert plan.rows == ("metric", "method.teacher.update", "method.teacher.mode", "model")
    told = {
        (row["metric"], row["method.teacher.update"], row["method.teacher.mode"], row["phase"]): row["mean"]
        for row in cells.to_dict("records")
    }
    assert len(told) == 2 * 3 * 2 * 2 and set(cells["state"]) == {"done"}
    assert told["knn/accuracy", "none", "eval", "change"] == 0  # nothing of it moves
    assert told["student/knn/accuracy", "none", "eval", "change"] != 0
