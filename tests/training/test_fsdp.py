"""A method of which every real process (gloo) has a part: what each holds, bf16, and what cannot be split."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.optim import Optimizer

from dinodiet.config.settings import settings_of
from dinodiet.errors import UserError
from dinodiet.methods.base import MethodBase
from dinodiet.processes.gathering import rank
from dinodiet.processes.split import is_split, local
from dinodiet.run.parts import build_parts
from dinodiet.training.fsdp import check_torch
from tests.processes.started import on_processes
from tests.processes.training import train_tiny, trained
from tests.running import CHOICES, composed

DINO = ("method=dino", "method.head.out_dim=40", "method.head.hidden_dims=[24]")
FSDP = "strategy=fsdp"


def numbers(method: MethodBase, optimizer: Optimizer) -> int:
    """Return how many numbers of parameters and of the optimiser's state lie in this process."""
    states = [value for state in optimizer.state.values() for value in state.values() if value.ndim]
    return sum(local(tensor).numel() for tensor in (*method.parameters(), *states))


def held(count: int, folder: Path) -> dict[str, Any]:
    """Train two steps; return how many numbers this process holds, all hold, and whether they come back from a file."""
    parts = build_parts(settings_of(composed(folder, *DINO, f"schedule.batch_size={4 * count}", FSDP), CHOICES))
    trained(parts, 2)
    method, optimizer = parts.method, parts.state.optimizer
    held = [*method.parameters(), *(p for p in method.parameters() if p.requires_grad for _ in range(2))]  # AdamW: two
    found = {"own": numbers(method, optimizer), "all": sum(tensor.numel() for tensor in held)}
    found["split"] = all(map(is_split, method.parameters()))
    before, content = [local(tensor).clone() for tensor in method.state_dict().values()], parts.state.content()
    if rank() == 0:
        torch.save(content, folder / "state.pt")
    torch.distributed.barrier()
    for parameter in method.parameters():
        torch.nn.init.zeros_(local(parameter))
    parts.state.restore(torch.load(folder / "state.pt", weights_only=True))
    after = [local(tensor) for tensor in method.state_dict().values()]
    return {**found, "back": all(map(torch.equal, before, after)) and numbers(method, optimizer) == found["own"]}


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_each_process_holds_its_part_of_weights_and_optimiser(count: int, tmp_path: Path) -> None:
    found = on_processes(count, tmp_path / "all", held, count, tmp_path)
    assert all(one["split"] and one["back"] for one in found)
    assert sum(one["own"] for one in found) == found[0]["all"]
    assert max(one["own"] for one in found) < 1.35 * found[0]["all"] / count  # small weights do not divide evenly


def in_half_precision(folder: Path, *words: str) -> dict[str, Any]:
    return train_tiny((*DINO, "schedule.batch_size=8", "precision=bf16", *words), folder, 6)


@pytest.mark.slow
def test_bf16_trains_as_one_process_does_to_its_eight_bits(tmp_path: Path) -> None:
    one = in_half_precision(tmp_path / "one")
    two = on_processes(2, tmp_path / "two", in_half_precision, tmp_path / "runs", FSDP)[0]
    assert two["losses"] == pytest.approx(one["losses"], rel=5e-3)
    assert all(tensor.dtype == torch.float32 for tensor in two["state"].values() if tensor.is_floating_point())


def refused(folder: Path, words: tuple[str, ...]) -> str:
    try:
        build_parts(settings_of(composed(folder, *DINO, FSDP, *words), CHOICES))
    except UserError as error:
        return str(error)
    return ""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("precision=fp16",), "precision: fp16 .* strategy=fsdp .* choose bf16"),
        (("compile=true",), "compile: true .* strategy=fsdp"),
        (("schedule.optimizer._target_=timm.optim.Lars",), "schedule.optimizer: .*Lars looks at .* strategy=ddp, or"),
    ],
)
def test_what_cannot_be_split_is_refused(words: tuple[str, ...], told: str, tmp_path: Path) -> None:
    for message in on_processes(2, tmp_path / "two", refused, tmp_path / "runs", words):
        assert message.count("\n") == 0
        assert re.search(told, message), message


def test_an_old_torch_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def old(module: torch.nn.Module, *, mesh: object = None) -> None: ...

    check_torch()
    monkeypatch.setattr("torch.distributed.fsdp.fully_shard", old)
    with pytest.raises(UserError, match=r"^strategy: fsdp needs torch 2\.7 or newer, and this is .*; choose ddp$"):
        check_torch()
