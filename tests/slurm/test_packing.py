"""Runs that share a GPU on a real cluster: what happens to one, or to the allocation, costs no run a number."""

import os
import signal
from pathlib import Path

import pytest

from tests.slurm.conftest import Cluster, wait_until
from tests.slurm.sweeps import SLOW, Sweep, finish, undisturbed

pytestmark = pytest.mark.slurm

SHARED = ("hydra.launcher.runs_per_gpu=2", "hydra.launcher.gpus_per_node=1", "hydra.launcher.cpus_per_task=2")
ON_N3 = "+hydra.launcher.additional_parameters.nodelist=n3"


def test_preemption_of_one_allocation_reaches_its_runs_and_all_go_on(cluster: Cluster, folder: Path) -> None:
    sweep, before = Sweep(cluster, folder, "seed=0,1,2,3", *SLOW, *SHARED, ON_N3), cluster.submitted()
    process = sweep.start()
    wait_until(lambda: sweep.all_train(4))
    cluster("sbatch", "-p", "urgent", "-w", "n3", "--gres=gpu:1", "-o", "/dev/null", "--wrap", "sleep 5")
    code, output = finish(process)
    assert code == 0, output
    assert "2 runs per GPU: 2 allocations for 4 runs to do" in output
    assert cluster.submitted() == before + 2
    assert sweep.starts() == [1, 1, 2, 2]
    logs = [path.read_text() for path in folder.glob("sweep/*/log.txt")]
    assert sum("continuing from step" in log for log in logs) == 2
    assert sweep.results() == undisturbed("seed=0,1,2,3")


def test_a_killed_run_and_a_time_limit_of_its_allocation(cluster: Cluster, folder: Path) -> None:
    sweep, before = Sweep(cluster, folder, "seed=0,1", *SLOW, *SHARED), cluster.submitted()
    process = sweep.start()
    wait_until(lambda: sweep.all_train(2))
    (killed, status), (other, _) = sweep.status().items()
    os.kill(status["pid"], signal.SIGKILL)
    wait_until(lambda: sweep.status()[killed]["state"] == "killed")
    assert sweep.status()[other]["state"] == "running"
    cluster("scancel", "--signal=USR2", status["slurm_job"])
    code, output = finish(process)
    assert code == 1, output
    assert "2 runs: 1 done, 1 stopped" in output
    assert f"stopped {killed}" in output
    assert "killed by SIGKILL" in output
    assert len(sweep.status()[other]["requeued_at"]) == 1
    assert cluster.submitted() == before + 1
    code, output = sweep.run()
    assert code == 0, output
    assert cluster.submitted() == before + 2
    assert sweep.starts() == [2, 2]
    assert sweep.results() == undisturbed("seed=0,1")
