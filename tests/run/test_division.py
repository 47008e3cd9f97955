"""What is planned for one process of several is what it holds."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from dinodiet.config.schema import StrategyName
from dinodiet.errors import UserError
from dinodiet.processes import gathering
from dinodiet.run import fits
from dinodiet.run.division import Division
from dinodiet.run.parts import open_data
from dinodiet.sweep.planning.estimate import Estimate, Estimator
from tests.kinds import after_nightly
from tests.processes.started import on_processes

from .dividing import held_by_each, settings

WIDE = "+model.model_args={embed_dim: 4096, depth: 40, num_heads: 32}"  # that of ViT-7B
TWIN = "+model.model_args={embed_dim: 126, depth: 5, num_heads: 6}"
SMALL_HEAD = ("method.head.out_dim=33", "method.head.hidden_dims=[17,17]")
SPLIT = "strategy=fsdp"
MOVING = "method.head.warmup_fraction=0"


def estimate(folder: Path, *words: str) -> Estimate:
    return Estimator()(settings(folder, words))


CASES = {
    "diet": ["method=diet", "method.trainable=all", MOVING, "method.head.sharded=false"],
    "head": ["method=diet", "method.trainable=last_1_blocks", MOVING, "method.head.sharded=true", "dataset.limit=63"],
    "dino": ["method=dino", *SMALL_HEAD],
    "parts": ["method=dino_resnet", *SMALL_HEAD, "schedule.accumulate=2"],
    "split": ["method=diet", "method.trainable=all", MOVING, TWIN, SPLIT],
    "split_last": ["method=diet", "method.trainable=last_2_blocks", MOVING, TWIN, SPLIT, "dataset.limit=63"],
    "split_dino": ["method=dino", *SMALL_HEAD, TWIN, SPLIT],
}


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, int]]:
    folder = tmp_path_factory.mktemp("held")
    return on_processes(2, folder / "group", held_by_each, CASES, folder / "outputs")


@pytest.mark.slow
@pytest.mark.parametrize("case", after_nightly(1, CASES))
def test_a_process_holds_what_is_planned(case: str, held: list[dict[str, int]], tmp_path: Path) -> None:
    """To the byte: weights, gradients and AdamW's state, whole or as FSDP splits them."""
    found = estimate(tmp_path, *CASES[case], "processes=2")
    assert found.memory == held[0][case]
    assert 0 < held[1][case] <= held[0][case]
    if SPLIT in CASES[case]:
        whole = estimate(tmp_path, *CASES[case], "processes=2", "strategy=ddp")
        assert found.memory < 0.6 * (whole.memory or 0)


@pytest.mark.slow
def test_seven_billion_parameters_are_planned_for_eight_processes(tmp_path: Path) -> None:
    words = [WIDE, "model.patch_size=16", "dataset.image_size=224", "method.trainable=all", "schedule.batch_size=64"]
    words += ["grad_checkpointing=true", MOVING]
    one = estimate(tmp_path, *words, "eval.batch_size=8")
    found = estimate(tmp_path, *words, "eval.batch_size=8", "processes=8", "strategy=fsdp")
    assert one.parameters == found.parameters == pytest.approx(8.06e9, rel=0.01)
    assert one.memory is not None
    assert one.memory == pytest.approx(16 * 8.06e9, rel=0.01)  # weights, gradients and AdamW's two averages
    assert found.memory == pytest.approx(one.memory / 8, rel=0.001)
    block = 4 * 12 * 4096**2
    assert found.peak is not None
    assert found.memory is not None
    gradients = found.memory / 4
    copied = found.peak - found.memory + gradients - 4 * 8.06e9  # the first process scores a copy of all weights
    assert 0 < copied < 2 * block


class _Rows(nn.Module):
    """A method of three weights, of which every process has other rows of the last."""

    trains = True

    def __init__(self) -> None:
        super().__init__()
        self.few, self.many, self.own = (nn.Parameter(torch.zeros(rows, 2)) for rows in (1, 7, 5))

    def own_parameters(self) -> dict[str, None]:
        return {"own": None}


@pytest.mark.parametrize(
    ("strategy", "processes", "rows"),
    [("ddp", 3, 1 + 7 + 5), ("fsdp", 1, 1 + 7 + 5), ("fsdp", 2, 1 + 4 + 5), ("fsdp", 3, 1 + 3 + 5)],
)
def test_the_first_process_has_the_most_rows(strategy: StrategyName, processes: int, rows: int) -> None:
    method = _Rows()
    found = Division(processes, strategy).size_of(method.parameters(), method)  # type: ignore[arg-type]
    assert found == rows * 2 * 4


def test_processes_that_are_assumed_send_nothing() -> None:
    rows = torch.arange(6.0).reshape(3, 2).requires_grad_()
    with gathering.assumed(4):
        assert (gathering.is_shared(), gathering.rank(), gathering.size()) == (True, 0, 4)
        every = gathering.gathered(rows)
        assert every.shape == (12, 2)
        torch.autograd.backward(every.sum() + gathering.summed(rows).sum())
        assert gathering.largest(rows).shape == rows.shape
    assert rows.grad is not None and rows.grad.shape == rows.shape
    assert (gathering.is_shared(), gathering.size()) == (False, 1)


def test_a_batch_that_is_not_shared_evenly_is_refused_in_the_plan(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^schedule\.batch_size: 3 processes cannot share 16 .* choose 15 or 18$"):
        estimate(tmp_path, "processes=3")
    with pytest.raises(UserError, match=r"in 2 parts \(schedule\.accumulate\) evenly; choose 12 or 18$"):
        estimate(tmp_path, "processes=3", "schedule.accumulate=2")


def test_torchrun_says_how_many_processes_there_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "0", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    assert estimate(tmp_path).each == "each of 4 processes (ddp)"


@pytest.mark.slow
def test_a_process_of_several_needs_less(tmp_path: Path) -> None:
    words = ["method.trainable=all", "schedule.batch_size=64", "eval.batch_size=1", "dataset.image_size=64", MOVING]
    one, four = estimate(tmp_path, *words), estimate(tmp_path, *words, "processes=4")
    assert one.peak and one.memory and four.peak and four.memory
    assert one.memory == four.memory
    assert (four.peak - four.memory) == pytest.approx((one.peak - one.memory) / 4, rel=0.3)


@pytest.mark.slow
def test_the_part_of_a_process_is_held_against_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["model.model_args.embed_dim=576", "method.trainable=all", "processes=2"]
    split, whole = (settings(tmp_path, [*words, f"strategy={name}"]) for name in ("fsdp", "ddp"))
    spec = open_data(split.dataset).spec
    needed = [Estimator()(tried).memory for tried in (split, whole)]
    assert needed[0] is not None and needed[1] is not None and needed[0] < 0.6 * needed[1]
    monkeypatch.setattr(fits, "most_memory", lambda: needed[0] + 1)
    monkeypatch.setattr(fits, "needs", lambda *_: None)
    with gathering.assumed(2):
        fits.check_fits(split, spec, torch.device("cpu"))
        told = (
            r"^model: weights, gradients and optimiser state take .* MiB, on each of 2 processes \(ddp\), this machine"
        )
        with pytest.raises(UserError, match=told):
            fits.check_fits(whole, spec, torch.device("cpu"))
