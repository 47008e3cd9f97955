"""A head whose classes are spread over real processes (gloo) is the whole head of one: losses, gradients, classes."""

from __future__ import annotations

from pathlib import Path
from typing import TypeAlias

import pytest
import torch
from torch import Tensor

from dinodiet.methods.parts import class_chunks, cross_entropy
from dinodiet.methods.parts.cross_entropy import ClassLogits
from dinodiet.methods.parts.heads import ClassHead
from dinodiet.methods.parts.losses import CrossEntropy
from dinodiet.methods.parts.mix import Mixed
from dinodiet.processes.gathering import rank, size
from tests.processes.started import on_processes

WIDTH, BATCH = 5, 12  # of which each of 1, 2 or 3 processes has pairs of images that are mixed
CASES = [(classes, smoothing, kept) for classes in (12, 11, 2) for smoothing in (0.0, 0.2) for kept in (1.0, 0.7)]
Found: TypeAlias = dict[str, Tensor]


def own(rows: Tensor) -> Tensor:
    """Return the part of a batch that this process has."""
    return rows.chunk(size())[rank()]


def head_of(classes: int, dtype: torch.dtype) -> ClassHead:
    torch.manual_seed(0)
    return ClassHead(WIDTH, classes, logit_scale=4.0, sharded=True).to(dtype)


def step(classes: int, smoothing: float, kept: float, dtype: torch.dtype, autocast: bool = False) -> Found:
    """Return the loss of this process's part of a batch, what is predicted, and the gradients."""
    drawn = torch.Generator().manual_seed(1)
    embeddings = own(torch.randn(BATCH, WIDTH, generator=drawn, dtype=torch.float64).to(dtype)).requires_grad_()
    target = own(torch.randint(classes, (BATCH,), generator=drawn))
    head, criterion = head_of(classes, dtype), CrossEntropy(label_smoothing=smoothing)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        logits = head(embeddings)
        loss = Mixed(embeddings, own(torch.arange(BATCH) ^ 1), kept).loss(lambda c: criterion(logits, c), target)
    torch.autograd.backward(loss)
    assert embeddings.grad is not None
    assert head.linear.weight.grad is not None
    gradients = {"embeddings": embeddings.grad, "weight": head.linear.weight.grad}
    return {"loss": loss.detach(), "predicted": logits.predicted(), **gradients}


def steps(dtype: torch.dtype) -> list[Found]:
    class_chunks.CHUNK = 3 * BATCH  # three classes at a time
    if dtype == torch.float64:
        cross_entropy.LARGE = 0
    return [step(*case, dtype) for case in CASES]


def together(parts: list[Found]) -> Found:
    """Return what processes found as what one finds: the mean of the losses, whose gradient DDP makes by averaging."""
    joined = {name: torch.cat([part[name] for part in parts]) for name in ("predicted", "embeddings", "weight")}
    loss = torch.stack([part["loss"] for part in parts]).mean()
    return {**joined, "loss": loss, "embeddings": joined["embeddings"] / len(parts)}


@pytest.mark.slow
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-13), (torch.float32, 1e-6)])
@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_spread_head_is_the_whole_one(
    count: int, dtype: torch.dtype, tolerance: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = on_processes(count, tmp_path / "all", steps, dtype)
    if dtype == torch.float64:  # of float32 at the most are logits that are held all at once
        monkeypatch.setattr(cross_entropy, "LARGE", 0)
    whole = [step(*case, dtype) for case in CASES]
    for case, parts, expected in zip(CASES, zip(*found, strict=True), whole, strict=True):
        sizes = [len(part["weight"]) for part in parts]
        assert (sum(sizes), max(sizes) - min(sizes) <= 1) == (case[0], True)
        torch.testing.assert_close(together(list(parts)), expected, rtol=tolerance, atol=tolerance)


def in_half_precision() -> Found:
    return step(11, 0.2, 1.0, torch.float32, True)


def with_equal_logits() -> Tensor:
    head = ClassHead(WIDTH, 6, sharded=True)
    torch.nn.init.ones_(head.linear.weight)
    logits: ClassLogits = head(torch.ones(2, WIDTH))
    logits.cross_entropy(torch.zeros(2, dtype=torch.int64), label_smoothing=0.0)
    return logits.predicted()


def not_finite() -> Tensor:
    """Return the loss where one process alone has a row that is not a number."""
    head = head_of(6, torch.float32)
    if rank() == 1:
        torch.nn.init.constant_(head.linear.weight, torch.nan)
    logits: ClassLogits = head(torch.ones(2, WIDTH))
    loss = logits.cross_entropy(torch.zeros(2, dtype=torch.int64), label_smoothing=0.0)
    return loss.detach()


def odd_cases() -> tuple[Found, Tensor, Tensor]:
    return in_half_precision(), with_equal_logits(), not_finite()


@pytest.mark.slow
def test_half_precision_equal_logits_and_numbers_that_are_none(tmp_path: Path) -> None:
    halves, predicted, losses = zip(*on_processes(2, tmp_path / "two", odd_cases), strict=True)
    torch.testing.assert_close(together(list(halves)), in_half_precision(), rtol=0.02, atol=2e-3)  # bf16 has eight bits
    assert torch.stack(predicted).eq(0).all()  # the first class, as argmax has it
    assert torch.stack(losses).isnan().all()  # all processes see it
