"""Several GPUs train as one does; in the slow suite two processes of the CPU stand for them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.contracts.test_methods import narrow
from tests.processes.started import on_processes
from tests.processes.training import each_case

STEPS = 4
BATCH = ("schedule.batch_size=8", "schedule.epochs=4")
CASES = {
    "diet": ("method=diet", "method.trainable=all", *BATCH),
    "a spread head": ("method=diet", "method.head.sharded=true", *BATCH),
    "dino": ("method=dino", *narrow("dino"), *BATCH),
    "simclr": ("method=simclr", *narrow("simclr"), *BATCH),
}


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_two_processes_train_as_one(strategy: str, device: torch.device, tmp_path: Path) -> None:
    """Over NCCL on GPUs, over gloo on the CPU."""
    if device.type == "cuda" and torch.cuda.device_count() < 2:
        pytest.skip(f"{torch.cuda.device_count()} CUDA device; two are needed")
    own = [f"device={device.type}", f"strategy={strategy}"]
    names = CASES if device.type == "cuda" else ("dino",)  # contracts run every method on two processes of the CPU
    cases = {name: (*CASES[name], *own) for name in names}
    one = each_case(cases, tmp_path / "runs", STEPS)
    first, second = on_processes(2, tmp_path / "two", each_case, cases, tmp_path / "runs", STEPS)
    for name in cases:
        assert "error" not in one[name], one[name]["error"]
        for found in (first[name], second[name]):
            assert "error" not in found, found["error"]
            assert found["losses"] == pytest.approx(one[name]["losses"], rel=1e-3 if device.type == "cuda" else 1e-5)
