"""With `deterministic=true` a run that is killed and continued has the scores of an undisturbed one, bit for bit.

In the slow suite the CPU runs it, which needs no `deterministic`.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.forking import printed, start
from tests.run.test_resume import DIET, DINO, step_of, wait_for, whole
from tests.running import CONVOLUTIONS

CASES = {
    "diet": (*DIET, "schedule.epochs=20"),
    "dino": (*DINO, "method.views.crops=2+2x16"),
    "convolutions": (
        *CONVOLUTIONS,
        "dataset.limit=128",
        "schedule.epochs=6",
        "eval=knn",
        "figures=false",
        "log_every=1",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_killed_and_continued(case: str, device: torch.device, tmp_path: Path) -> None:
    words = (*CASES[case], "deterministic=true", f"device={device.type}")
    expected = whole(tmp_path / "undisturbed", *words)
    process = start(tmp_path / "killed", *words, "checkpoint_minutes=0")
    wait_for(lambda: step_of(tmp_path / "killed") >= 10, process)
    assert process.is_alive(), f"the run ended before it could be killed: {printed(tmp_path / 'killed')}"
    process.kill()
    process.join()
    assert whole(tmp_path / "killed", *words) == expected
    assert "continuing from step" in printed(tmp_path / "killed")
