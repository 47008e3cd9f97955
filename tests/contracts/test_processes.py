"""What every method keeps to on several processes: the losses, weights and statistics of one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.contracts.choices import taught
from tests.contracts.test_methods import METHODS, NARROW, tensors
from tests.processes.group import each_case, in_group

STEPS = 6
BATCH = ("schedule.batch_size=8", "schedule.epochs=4", "model.drop_path=0.2")
RESNET = ("model=resnet_tiny", "model.size=20", "dataset.image_size=32", "model.image_size=32")
CASES = {name: (f"method={name}", *NARROW.get(name, ()), *taught(name), *BATCH) for name in METHODS}


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, dict[str, Any]]]:
    """Return what every method's training comes to in one and in two processes."""
    folder = tmp_path_factory.mktemp("processes")
    one = each_case(CASES, folder / "runs", STEPS)
    return {1: one, 2: in_group(2, each_case, folder, CASES, folder / "runs", STEPS)[0]}


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_as_one(method: str, found: dict[int, dict[str, dict[str, Any]]]) -> None:
    one, two = found[1][method], found[2][method]
    assert "error" not in one, one["error"]
    assert "error" not in two, two["error"]
    torch.testing.assert_close(two["losses"], one["losses"], rtol=1e-5, atol=1e-6)
    theirs, ours = dict(tensors(two["state"])), dict(tensors(one["state"]))
    assert theirs.keys() == ours.keys()
    far = {key: (theirs[key] - value).abs().max() for key, value in ours.items() if isinstance(value, Tensor)}
    assert {key: gap for key, gap in far.items() if gap > 2e-4} == {}
    assert two["diagnostics"] == pytest.approx(one["diagnostics"], rel=1e-3)
