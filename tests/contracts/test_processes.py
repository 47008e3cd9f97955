"""What every method keeps to on several processes: the losses, weights and statistics of one."""

from __future__ import annotations

from pathlib import Path
from typing import Any, TypeAlias

import pytest
import torch
from torch import Tensor

from tests.contracts.choices import taught
from tests.contracts.test_methods import METHODS, narrow, tensors
from tests.processes.started import on_processes
from tests.processes.training import Cases, each_case

Compared: TypeAlias = dict[str, tuple[dict[str, Any], ...]]  # of one process and of several, by the name of a case
STEPS, LONG = 6, 30
BATCH = ("schedule.batch_size=8", "schedule.epochs=4", "model.drop_path=0.2")
CASES: Cases = {name: (f"method={name}", *narrow(name), *taught(name), *BATCH) for name in METHODS}
LARS = ("byol_scratch", "simclr_scratch")  # cannot train weights in parts
# LARS takes whole steps along gradients that are rounding alone: after the second step one training is two.
STEADY_STEPS = {"byol_scratch": 2}
RESNET = ("model=resnet_tiny", "model.size=20", "dataset.image_size=32", "schedule.batch_size=8", "schedule.epochs=4")
SPECIAL: Cases = {
    "accumulation and clipping": (
        *("method=dino", *narrow("dino"), "schedule.accumulate=2", "schedule.clip_grad=0.1", *BATCH),
        "schedule.clip_mode=per_tensor",
    ),
    "BatchNorm": ("method=dino", *narrow("dino"), *RESNET),
    "blocks computed again": ("method=diet", "method.trainable=all", "grad_checkpointing=true", *BATCH),
    "frozen blocks": ("method=diet", "method.trainable=last_1_blocks", *BATCH),
    "mixing": ("method=diet", "method.mix.mixup_alpha=0.8", "method.mix.cutmix_alpha=1.0", *BATCH),
    "a spread head": ("method=diet", "method.head.sharded=true", "schedule.clip_grad=0.05", *BATCH),
    "a trunk cache": (
        *("method=diet", "method.trainable=last_1_blocks", "method.trunk.views=2", "method.trunk.noise=0.1"),
        *("schedule.batch_size=8", "schedule.epochs=4"),
    ),
}


def compared(folder: Path, cases: Cases, steps: int, processes: int) -> Compared:
    """Return what each case comes to in one process and in several."""
    one = each_case(cases, folder / "runs", steps)
    many = on_processes(processes, folder / f"of{processes}", each_case, cases, folder / "runs", steps)[0]
    return {name: (one[name], many[name]) for name in cases}


@pytest.fixture(scope="module", params=["ddp", "fsdp"])
def found(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Compared:
    cases = {name: (*words, f"strategy={request.param}") for name, words in CASES.items()}
    return compared(tmp_path_factory.mktemp("methods"), cases, STEPS, 2)


def check(one: dict[str, Any], many: dict[str, Any], steps: int) -> None:
    assert "error" not in one, one["error"]
    assert "error" not in many, many["error"]
    torch.testing.assert_close(many["losses"][:steps], one["losses"][:steps], rtol=1e-5, atol=1e-6)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("method", METHODS)
def test_two_processes_train_as_one(method: str, found: Compared) -> None:
    one, two = found[method]
    if "looks at whole weights" in two.get("error", ""):
        assert method in LARS
        return
    check(one, two, STEADY_STEPS.get(method, STEPS))
    theirs, ours = dict(tensors(two["state"])), dict(tensors(one["state"]))
    assert theirs.keys() == ours.keys()
    if method not in STEADY_STEPS:
        far = {key: (theirs[key] - value).abs().max() for key, value in ours.items() if isinstance(value, Tensor)}
        assert {key: gap for key, gap in far.items() if gap > 3e-3} == {}  # AdamW moves a bias of no effect by its rate
        assert two["diagnostics"] == pytest.approx(one["diagnostics"], rel=1e-3)


@pytest.mark.slow
@pytest.mark.timeout(1200)
@pytest.mark.parametrize(("processes", "strategy"), [(2, "ddp"), (4, "ddp"), (2, "fsdp")])
def test_thirty_steps_are_those_of_one_process(processes: int, strategy: str, tmp_path: Path) -> None:
    cases = {name: (*words, f"strategy={strategy}") for name, words in SPECIAL.items()}
    for name, (one, many) in compared(tmp_path, cases, LONG, processes).items():
        assert len(one.get("losses", ())) == LONG, (name, one)
        check(one, many, LONG)
