"""What parallel runs import does not change with the checkout."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dinodiet.store.code import take_snapshot
from tests.running import TINY


@pytest.mark.slow
def test_runs_side_by_side_use_the_code_that_the_command_began_with(tmp_path: Path) -> None:
    shutil.copytree(take_snapshot(tmp_path / "taken", {}), tmp_path, dirs_exist_ok=True)
    launcher = ("hydra/launcher=parallel", "hydra.launcher.processes=1")
    words = ("-m", *TINY, *launcher, "seed=0,1,2", "name=study", "schedule.epochs=60", f"outputs_dir={tmp_path}")
    environment = {**os.environ, "PYTHONPATH": str(tmp_path), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "launch.py", *words]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=pipe, stderr=subprocess.STDOUT, text=True)
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("study/*/metrics.jsonl")) and time.monotonic() < deadline:
        time.sleep(0.1)
    for broken in ("launch.py", "dinodiet/evals/knn.py", "dinodiet/run/weights.py", "dinodiet/training/loop.py"):
        (tmp_path / broken).write_text("raise RuntimeError('another')\n")
    output, _ = process.communicate(timeout=300)
    assert "3 runs: 3 done" in output
    assert process.returncode == 0, output
