"""What real processes (gloo) send each other: gradients in bf16, statistics of BatchNorm or none."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from tests.processes.started import on_processes
from tests.processes.training import Cases, each_case

PACE = ("schedule.batch_size=8", "schedule.lr=0.01")
DINO = ("method=dino", "method.head.out_dim=40", "method.head.hidden_dims=[24]", *PACE)
RESNET = ("model=resnet_tiny", "model.size=20", "dataset.image_size=32", "method=diet", *PACE)
STEPS = 6
CASES: Cases = {
    "ddp": DINO,
    "ddp in bf16": (*DINO, "reduce_dtype=bf16"),
    "fsdp": (*DINO, "strategy=fsdp"),
    "fsdp in bf16": (*DINO, "strategy=fsdp", "reduce_dtype=bf16"),
    "all statistics": RESNET,
    "own statistics": (*RESNET, "sync_batchnorm=false"),
    "own statistics, fsdp": (*RESNET, "sync_batchnorm=false", "strategy=fsdp"),
}


def far(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> float:
    """Return by how much the weights of two states differ at the most."""
    return max(float((other[key].float() - value.float()).abs().max()) for key, value in one.items())


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """Return what each case comes to on each of two processes."""
    folder = tmp_path_factory.mktemp("exchange")
    found: list[dict[str, Any]] = on_processes(2, folder / "two", each_case, CASES, folder / "runs", STEPS)
    assert [one["error"] for each in found for one in each.values() if "error" in one] == []
    return found


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_gradients_in_bf16_train_the_same_to_eight_bits_and_all_alike(
    strategy: str, found: list[dict[str, Any]]
) -> None:
    whole, rounded = found[0][strategy], found[0][f"{strategy} in bf16"]
    assert rounded["losses"] == pytest.approx(whole["losses"], rel=5e-3)
    assert rounded["losses"] != whole["losses"]
    assert far(whole["state"], rounded["state"]) > 1e-4
    if strategy == "ddp":  # under fsdp the first process alone puts the weights together
        assert far(rounded["state"], found[1]["ddp in bf16"]["state"]) == 0


@pytest.mark.slow
def test_own_statistics_are_other_numbers_of_which_all_processes_have_the_same(found: list[dict[str, Any]]) -> None:
    one, own, split = (found[0][case] for case in ("all statistics", "own statistics", "own statistics, fsdp"))
    assert own["losses"][1:] != pytest.approx(one["losses"][1:], rel=1e-3)  # the first one is that of a head of zeros
    assert own["losses"] == pytest.approx(split["losses"], rel=1e-5)
    assert far(own["state"], found[1]["own statistics"]["state"]) == 0
    assert any("running_mean" in key for key in own["state"])
