"""SimCLR's loss on two real processes (gloo), each with half of a batch, is the loss of the whole batch."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.multiprocessing.spawn import spawn

from dinodiet.methods.parts.contrastive import NTXent
from dinodiet.processes.gathering import gathered, rank
from dinodiet.types import Clock

BATCH, PROCESSES = 6, 2


def loss_and_gradient(projections: Tensor, index: Tensor) -> tuple[Tensor, Tensor]:
    projections = projections.clone().requires_grad_()
    loss = NTXent()(projections, index, Clock(0, 10, 5))["loss"]
    torch.autograd.backward(loss)
    assert projections.grad is not None
    return loss.detach(), projections.grad


def whole() -> tuple[Tensor, Tensor]:
    """Return two views of a batch, an image twice in it, once in either half."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, BATCH, 8, generator=generator), torch.tensor([0, 1, 2, 3, 1, 5])


def half(place: int, folder: str) -> None:
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=place, world_size=PROCESSES)
    projections, index = whole()
    own = slice(place * BATCH // PROCESSES, (place + 1) * BATCH // PROCESSES)
    assert rank() == place
    torch.save(loss_and_gradient(projections[:, own], index[own]), f"{folder}/{place}.pt")
    dist.destroy_process_group()


@pytest.mark.slow
def test_two_halves_gathered_have_the_negatives_of_the_whole(tmp_path: Path) -> None:
    spawn(half, (str(tmp_path),), PROCESSES)
    loss, gradient = loss_and_gradient(*whole())
    halves = [torch.load(tmp_path / f"{place}.pt") for place in range(PROCESSES)]
    torch.testing.assert_close(torch.stack([one for one, _ in halves]).mean(), loss)
    torch.testing.assert_close(torch.cat([one for _, one in halves], 1) / PROCESSES, gradient)


def test_one_process_gathers_its_own_rows() -> None:
    rows = torch.randn(3, 2)
    assert gathered(rows) is rows
    assert rank() == 0
