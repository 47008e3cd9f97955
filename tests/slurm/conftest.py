"""A real SLURM cluster on this machine, brought up for the tests and taken down after them."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

CLUSTER = Path(__file__).parent / "cluster"
NEEDED = ("munged", "slurmctld", "slurmd", "slurmdbd", "mariadbd", "sbatch")
PACKAGES = "munge slurmctld slurmd slurm-client slurmdbd mariadb-server"


@dataclass
class Cluster:
    """Three nodes n1 to n3 with two pretended GPUs each; partition `urgent` preempts `batch`."""

    environment: dict[str, str]

    def __call__(self, *command: str) -> str:
        """Run one of SLURM's commands and return what it prints."""
        return subprocess.run(
            command, env={**os.environ, **self.environment}, capture_output=True, text=True, check=True, timeout=200
        ).stdout

    def node(self, verb: str, name: str) -> None:
        """Power a node off (`kill`) or on (`start`)."""
        self(str(CLUSTER / "node.sh"), verb, name)

    def queued(self) -> list[str]:
        """Return the ids of the jobs that wait or run."""
        return self("squeue", "--noheader", "--array", "--format=%i").split()

    def submitted(self) -> int:
        """Return how many jobs were ever submitted; tasks of an array count one by one once they have started."""
        which = ("--name=dinodiet", "--format=JobID", "--starttime=2020-01-01")
        return len(self("sacct", "--noheader", "--allocations", *which).split())


@pytest.fixture(scope="session")
def cluster(worker_id: str) -> Iterator[Cluster]:
    """Every worker of pytest-xdist has a cluster of its own: what one does to its nodes is not felt by the others."""
    missing = [name for name in NEEDED if shutil.which(name) is None]
    if missing:
        pytest.skip(f"no SLURM here ({', '.join(missing)} missing): apt-get install --no-install-recommends {PACKAGES}")
    if os.getuid() != 0:
        pytest.skip("the cluster on loopback needs root")
    number = 0 if worker_id == "master" else 1 + int(worker_id.removeprefix("gw"))
    state = f"/tmp/dinodiet-slurm-{number}"  # short: unix sockets lie below it
    environment = {"SLURM_LOOP_STATE": state, "SLURM_LOOP_PORT": str(16800 + 20 * number)}
    script = [str(CLUSTER / "up.sh")]
    subprocess.run(script, env={**os.environ, **environment}, check=True, timeout=300)
    try:
        yield Cluster({**environment, "SLURM_CONF": f"{state}/etc/slurm.conf"})
    finally:
        subprocess.run([str(CLUSTER / "down.sh")], env={**os.environ, **environment}, check=False, timeout=300)


def wait_until(condition: Callable[[], bool], seconds: float = 240) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: it did not come true.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"not true after {seconds:.0f} s")
        time.sleep(0.2)


@pytest.fixture
def folder(tmp_path: Path, cluster: Cluster) -> Iterator[Path]:
    yield tmp_path
    for job in cluster.queued():
        cluster("scancel", job)
    wait_until(lambda: not cluster.queued())
