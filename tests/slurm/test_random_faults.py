"""Ten minutes of random faults under a sweep of 60 runs: nothing is lost, no number differs, no run is done twice."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.slurm.conftest import Cluster
from tests.slurm.sweeps import SLOW, Sweep, finish, undisturbed

pytestmark = [pytest.mark.slurm, pytest.mark.nightly, pytest.mark.timeout(3600)]

RUNS, MINUTES, PAUSE = 60, 10, 10.0  # seconds between two faults
NODES = ("n1", "n2", "n3")
MOST_COMMANDS = 20  # that are needed after the last fault
ENDINGS = {0, 1, 75, 130, -signal.SIGKILL}  # done, runs stopped, left at Ctrl-C (later, or at once), killed by us


class Faults:
    """What happens to a sweep on a cluster: each fault is a method, and says what it did."""

    def __init__(self, sweep: Sweep, draw: random.Random) -> None:
        self.sweep, self.cluster, self._draw = sweep, sweep.cluster, draw
        self._off: str | None = None
        self.process = sweep.start()
        self.happened: Counter[str] = Counter()

    def one(self) -> None:
        """Let one fault happen, and start the command again where it has ended."""
        self._power_on()
        name = self._draw.choice([name for name in dir(self) if name.startswith("fault_")])
        with contextlib.suppress(subprocess.CalledProcessError, ProcessLookupError):  # what it was for has just ended
            if getattr(self, name)():
                self.happened[name.removeprefix("fault_")] += 1
        if self.process.poll() is not None:
            self._start_again()

    def end(self) -> None:
        """Power all nodes on, and give the command until it says that all is done."""
        self._power_on()
        for _ in range(MOST_COMMANDS):
            code, output = finish(self.process, 1500)
            assert code in ENDINGS, output
            if code == 0:
                return
            self.process = self.sweep.start()
        raise AssertionError(f"{MOST_COMMANDS} commands did not end it")

    def fault_kill(self) -> bool:
        """Kill a run without a word."""
        pids = [status["pid"] for status in self.sweep.status().values() if status["state"] == "running"]
        if pids:
            os.kill(self._draw.choice(pids), signal.SIGKILL)
        return bool(pids)

    def fault_requeue(self) -> bool:
        return self._to_a_job("scontrol", "requeue")

    def fault_cancel(self) -> bool:
        return self._to_a_job("scancel")

    def fault_preempt(self) -> bool:
        words = ("-w", self._draw.choice(NODES), "--exclusive", "-o", "/dev/null", "--wrap", "sleep 5")
        return bool(self.cluster("sbatch", "-p", "urgent", *words))

    def fault_node(self) -> bool:
        self._off = self._draw.choice(NODES)
        self.cluster.node("kill", self._off)
        return True

    def fault_lose_the_command(self) -> bool:
        self.process.kill()
        self._start_again()
        return True

    def fault_ctrl_c(self) -> bool:
        self.process.send_signal(signal.SIGINT)
        self._start_again()
        return True

    def _to_a_job(self, *command: str) -> bool:
        jobs = self.cluster("squeue", "--noheader", "--array", "--name=dinodiet", "--states=R", "--format=%i").split()
        if jobs:
            self.cluster(*command, self._draw.choice(jobs))
        return bool(jobs)

    def _power_on(self) -> None:
        if self._off is not None:
            self.cluster.node("start", self._off)
            self._off = None

    def _start_again(self) -> None:
        code, output = finish(self.process)
        assert code in ENDINGS and "Traceback" not in output, output
        self.process = self.sweep.start()


def finished(study: Path) -> dict[str, int]:
    """Return when each run's results were written: what is done again writes them again."""
    return {path.parent.name: path.stat().st_mtime_ns for path in study.glob("[!.]*/results.json")}


def test_ten_minutes_of_random_faults(cluster: Cluster, folder: Path) -> None:
    draw = random.Random(int(os.environ.get("DINODIET_SEEDS", "0")))
    seeds = f"seed=range({RUNS})"
    faults = Faults(Sweep(cluster, folder, seeds, *SLOW), draw)
    seen: dict[str, int] = {}
    until = time.monotonic() + 60 * MINUTES
    while time.monotonic() < until:
        time.sleep(PAUSE)
        faults.one()
        seen = {**finished(folder / "sweep"), **seen}  # the first time counts
    faults.end()
    done = finished(folder / "sweep")
    print(f"{sum(faults.happened.values())} faults: {dict(faults.happened)}; starts {Counter(faults.sweep.starts())}")
    assert len(done) == RUNS and len(faults.happened) >= 5
    assert seen == {name: done[name] for name in seen}
    for path in folder.glob("sweep/*/metrics.jsonl"):
        steps = [row["step"] for row in map(json.loads, path.read_text().splitlines()) if "loss" in row]
        assert steps == sorted(set(steps)), path
    assert faults.sweep.results() == undisturbed(seeds)
