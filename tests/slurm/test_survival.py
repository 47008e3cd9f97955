"""Sweeps on a real cluster, disturbed in every way that clusters do: they end complete, or name what is missing."""

import os
import signal
from pathlib import Path

import pytest

from dinodiet.results.why import why
from tests.slurm.conftest import Cluster, wait_until
from tests.slurm.sweeps import SLOW, Sweep, finish, undisturbed

pytestmark = pytest.mark.slurm


def test_a_grid_runs_as_one_array_and_not_again(cluster: Cluster, folder: Path) -> None:
    grid = ("seed=0,1,2", "method=diet,diet_dual", "schedule.epochs=3")
    sweep, before = Sweep(cluster, folder, *grid), cluster.submitted()
    code, output = sweep.run()
    assert code == 0, output
    assert "6 runs: 6 done" in output
    assert sweep.starts() == [1] * 6
    assert len({status["slurm_job"].split("_")[0] for status in sweep.status().values()}) == 1
    assert cluster.submitted() == before + 6
    assert sweep.results() == undisturbed(*grid)
    code, output = sweep.run()
    assert (code, cluster.submitted()) == (0, before + 6), output
    assert "6 runs: 6 done" in output


def test_one_bad_cell_of_six_costs_one_cell(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "++model.model_args.num_heads=1,2,3,5,4,6")  # 5 does not divide the width
    before = cluster.submitted()
    code, output = sweep.run()
    assert code == 1
    assert "6 runs: 5 done, 1 failed" in output
    (bad,) = [name for name, status in sweep.status().items() if status["state"] == "failed"]
    listed = output[output.index("6 runs:") :]
    assert f"failed  {bad}: " in listed
    assert f"{bad}/log.txt" in listed
    assert "1 of 6 runs did not finish" in output
    assert sorted(heads for _, _, heads in sweep.results()) == [1, 2, 3, 4, 6]
    told = why([folder / "sweep"])
    assert f"{bad}: failed" in told and "num_heads" in told and f"log: {folder.resolve()}/sweep/{bad}/log.txt" in told
    assert "++model.model_args.num_heads=5" in told.rpartition("to continue: ")[2]
    code, output = sweep.run()
    assert (code, cluster.submitted()) == (1, before + 6), "a failed run is not run again unasked"
    code, output = sweep.run("retry=failed")
    assert (code, cluster.submitted()) == (1, before + 7), output
    assert sweep.starts() == [1, 1, 1, 1, 1, 2]


def test_a_preempted_run_goes_on_where_it_was(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "seed=0", *SLOW, "+hydra.launcher.additional_parameters.nodelist=n3")
    process = sweep.start()
    wait_until(lambda: sweep.all_train(1))
    cluster("sbatch", "-p", "urgent", "-w", "n3", "--exclusive", "-o", "/dev/null", "--wrap", "sleep 5")
    code, output = finish(process)
    assert code == 0, output
    assert sweep.starts() == [2]
    assert sweep.results() == undisturbed("seed=0")
    logs = [path.read_text() for path in folder.glob("sweep/*/log.txt")]
    assert all("continuing from step" in log for log in logs)


def test_a_run_survives_a_node_that_fails(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "seed=0", *SLOW, "+hydra.launcher.additional_parameters.nodelist=n2")
    process = sweep.start()
    wait_until(lambda: sweep.all_train(1))
    cluster.node("kill", "n2")
    try:
        wait_until(lambda: cluster("squeue", "--noheader", "--array", "--format=%t").split() in (["PD"], []))
    finally:
        cluster.node("start", "n2")
    code, output = finish(process)
    assert code == 0, output
    assert sweep.starts() == [2]
    assert sweep.results() == undisturbed("seed=0")
    # Where the processes die a moment before their daemons, SLURM calls the job failed and requeues nothing.
    endings = cluster("sacct", "-D", "--noheader", "--name=dinodiet", "--format=State%20").split()
    assert "NODE_FAIL" in endings or "submitting it again" in output


def test_a_run_longer_than_the_time_limit_is_requeued_until_it_is_done(cluster: Cluster, folder: Path) -> None:
    limits = ("hydra.launcher.timeout_min=2", "hydra.launcher.signal_delay_s=55")  # SLURM signals up to a minute early
    long = ("schedule.epochs=500",)  # 2,000 steps
    sweep = Sweep(cluster, folder, "seed=0", *SLOW, *long, *limits)
    code, output = finish(sweep.start(), 540)
    assert code == 0, output
    (status,) = sweep.status().values()
    print(f"requeued at steps {status['requeued_at']}")
    steps = [step for step in status["requeued_at"] if step is not None]  # None: while it scored
    assert len(steps) >= 2
    assert steps == sorted(steps)
    assert status["starts"] == 1 + len(status["requeued_at"])
    assert sweep.results() == undisturbed("seed=0", *long)


def test_a_run_killed_without_a_word_is_submitted_again(cluster: Cluster, folder: Path) -> None:
    sweep, before = Sweep(cluster, folder, "seed=0", *SLOW), cluster.submitted()
    process = sweep.start()
    wait_until(lambda: sweep.all_train(1))
    (status,) = sweep.status().values()
    os.kill(status["pid"], signal.SIGKILL)
    code, output = finish(process)
    assert code == 0, output
    assert "ended as FAILED and its run was killed: submitting it again" in output
    assert cluster.submitted() == before + 2
    assert sweep.starts() == [2]
    assert sweep.results() == undisturbed("seed=0")


def test_a_requeued_run_goes_on(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "seed=0,1", *SLOW)
    process = sweep.start()
    wait_until(lambda: sweep.all_train(2))
    cluster("scontrol", "requeue", next(iter(sweep.status().values()))["slurm_job"])
    code, output = finish(process)
    assert code == 0, output
    assert sweep.starts() == [1, 2]
    assert sweep.results() == undisturbed("seed=0,1")


def test_a_cancelled_job_is_named_and_the_same_command_continues_it(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "seed=0,1", *SLOW)
    process = sweep.start()
    wait_until(lambda: sweep.all_train(2))
    name, status = next(iter(sweep.status().items()))
    cluster("scancel", status["slurm_job"])
    code, output = finish(process)
    assert code == 1
    assert "2 runs: 1 done, 1 stopped" in output
    assert f"stopped {name}" in output
    assert f"SLURM job {status['slurm_job']} ended as CANCELLED" in output
    code, output = sweep.run()
    assert code == 0, output
    assert "submitted 1 runs" in output
    assert sweep.starts() == [1, 2]
    assert sweep.results() == undisturbed("seed=0,1")


def test_ctrl_c_cancels_and_the_same_command_continues(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "seed=0", *SLOW)
    process = sweep.start()
    wait_until(lambda: sweep.all_train(1))
    process.send_signal(signal.SIGINT)
    code, output = finish(process)
    assert code == 75, output
    assert "cancelling 1 SLURM jobs" in output
    assert not cluster.queued()
    assert "1 runs: 1 stopped" in output
    code, output = sweep.run()
    assert code == 0, output
    assert sweep.starts() == [2]
    assert sweep.results() == undisturbed("seed=0")


def test_ctrl_c_can_leave_the_jobs_running(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "seed=0", *SLOW, "hydra.launcher.on_interrupt=detach")
    process = sweep.start()
    wait_until(lambda: sweep.all_train(1))
    process.send_signal(signal.SIGINT)
    code, output = finish(process)
    assert code == 75, output
    assert len(cluster.queued()) == 1
    code, output = sweep.run()
    assert code == 0, output
    assert "submitted" not in output
    assert sweep.starts() == [1]


def test_detached_lost_and_doubled_commands_attach_to_the_same_jobs(cluster: Cluster, folder: Path) -> None:
    sweep, before = Sweep(cluster, folder, "seed=0,1", *SLOW), cluster.submitted()
    code, output = sweep.run("detach=true")
    assert code == 0, output
    assert "submitted 2 runs" in output
    assert "2 runs: 2 queued" in output or "running" in output
    lost = sweep.start()
    wait_until(lambda: sweep.all_train(2))
    lost.kill()  # the terminal is gone
    lost.communicate()
    twice = [sweep.start(), sweep.start()]
    for process in twice:
        code, output = finish(process)
        assert code == 0, output
        assert "2 runs: 2 done" in output
    assert cluster.submitted() == before + 2
    assert sweep.starts() == [1, 1]
    assert sweep.results() == undisturbed("seed=0,1")


def test_a_partition_that_does_not_exist(cluster: Cluster, folder: Path) -> None:
    sweep = Sweep(cluster, folder, "seed=0,1", "hydra.launcher.partition=nowhere")
    before = cluster.submitted()
    code, output = sweep.run()
    assert code == 1
    assert "invalid partition specified: nowhere" in output
    assert "Traceback" not in output
    assert "2 runs: 2 missing" in output
    assert not sweep.status()
    assert cluster.submitted() == before
