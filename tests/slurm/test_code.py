"""Code that changes while jobs wait: those that were submitted run what they were submitted with, new ones the new."""

import json
import shutil
from pathlib import Path

import pytest

from dinodiet.store.code import take_snapshot
from tests.slurm.conftest import Cluster
from tests.slurm.sweeps import PLAIN, SLOW_VIEW, Sweep, undisturbed

pytestmark = pytest.mark.slurm

VIEW = "method.views._target_=slow_view.SlowView"


def test_jobs_run_the_code_that_they_were_submitted_with(cluster: Cluster, folder: Path) -> None:
    shutil.copytree(take_snapshot(folder / "taken", {}), folder, dirs_exist_ok=True)  # a checkout, where one works
    sweep, before = Sweep(cluster, folder, *PLAIN, VIEW), cluster.submitted()
    place = next(place for place, word in enumerate(sweep.command) if word.endswith("launch.py"))
    sweep.command[place] = str(folder / "launch.py")
    sweep.environment |= {"PYTHONPATH": str(folder)}
    code, output = sweep.run("seed=0,1", "detach=true", "+hydra.launcher.additional_parameters.begin=now+15")
    assert code == 0, output
    assert "2 runs: 2 queued" in output
    (folder / "dinodiet" / "training" / "loop.py").write_text("raise RuntimeError('another loop')\n")
    (folder / "slow_view.py").write_text(SLOW_VIEW.replace("time.sleep(0.06)", "raise RuntimeError('another view')"))
    code, output = sweep.run("seed=0,1,2")
    assert code == 1, output
    assert "3 runs: 2 done, 1 stopped" in output
    assert cluster.submitted() == before + 3
    assert sweep.results() == undisturbed("seed=0,1")
    copies = [path.name for path in (folder / "sweep" / ".sweep" / "code").iterdir() if path.is_dir()]
    used = {json.loads(path.read_text())["code"] for path in folder.glob("sweep/*/results.json")}
    assert (len(copies), len(used)) == (2, 1)
    assert used < set(copies)
