import os
from pathlib import Path

import pytest

from dinodiet.sweep.launchers.gpus import least_memory, visible_gpus
from dinodiet.sweep.launchers.parallel import Parallel

DRIVER = """#!/bin/sh
case "$*" in
  --list-gpus) echo 'GPU 0: one'; echo 'GPU 1: two';;
  *--id=0,1) echo 81559; echo 40960;;
  *--id=1) echo 40960;;
  *) exit 6;;
esac
"""


@pytest.fixture
def driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Put a driver's command that knows two GPUs in front of the others."""
    (tmp_path / "nvidia-smi").write_text(DRIVER)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)


def test_gpus_are_those_that_cuda_may_see(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,5")
    assert visible_gpus() == ["2", "5"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert visible_gpus() == []


@pytest.mark.usefixtures("driver")
def test_the_driver_tells_gpus_and_their_memory() -> None:
    assert visible_gpus() == ["0", "1"]
    assert least_memory(["0", "1"]) == 40960 * 2**20
    assert least_memory(["MIG-7"]) is None
    assert least_memory([]) is None


@pytest.mark.usefixtures("driver")
def test_a_packing_shares_out_the_gpus_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    packing = Parallel(runs_per_gpu=3).packing
    assert packing is not None
    assert packing.memory == 40960 * 2**20
    assert packing.told(9) == "3 runs per GPU: 6 runs at a time on 2 GPUs of this machine"
    assert Parallel().packing is None
    given = Parallel(runs_per_gpu=2, gpus=1, gpu_mem_gb=80).packing
    assert given is not None
    assert given.memory == 80 * 2**30
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    none = Parallel(runs_per_gpu=2).packing
    assert none is not None
    assert none.memory is None
    assert none.told(9) == "2 runs at a time on this machine, which has no GPU"


@pytest.mark.parametrize(
    ("gpus", "options", "runs"), [("2,5", {}, 1), ("2,5", {"processes": 3}, 2), ("2", {"runs_per_gpu": 4}, 4)]
)
def test_runs_are_told_how_many_share_their_gpu(
    gpus: str, options: dict[str, int], runs: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", gpus)
    assert Parallel(**options, gpu_mem_gb=1.0).sharing == runs
