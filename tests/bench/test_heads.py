"""DIET heads of many classes: cross-entropy by chunks of classes against the whole, in time and in memory."""

import statistics
import time
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from dinodiet.methods.parts.class_chunks import CHUNK
from dinodiet.methods.parts.cross_entropy import chunked_cross_entropy
from tests.bench.rows import Note

ROWS, CLASSES, WIDTH, PAIRS = 256, 50_000, 384, 4


def inputs(rows: int, classes: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    features = F.normalize(torch.randn(rows, width), dim=1).requires_grad_()
    weight = (0.05 * torch.randn(classes, width)).requires_grad_()
    return features, weight, torch.randint(classes, (rows,))


def whole(features: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    logits = F.linear(features, weight).float()
    logits.argmax(1)  # of which a run logs the accuracy
    return F.cross_entropy(logits, target, label_smoothing=0.2)


def chunked(features: Tensor, weight: Tensor, target: Tensor) -> Tensor:
    return chunked_cross_entropy(features, weight, target, scale=1.0, label_smoothing=0.2)[0].mean()


def step(loss: Callable[..., Tensor], features: Tensor, weight: Tensor, target: Tensor) -> None:
    features.grad = weight.grad = None
    loss(features, weight, target).backward()


def peak_bytes(loss: Callable[..., Tensor], *given: Tensor) -> int:
    """Return the most memory a forward and backward pass holds at a time, the weight's gradient included."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        step(loss, *given)
    memory = [event for event in profiler.profiler.kineto_results.events() if event.name() == "[memory]"]
    held = peak = 0
    for event in sorted(memory, key=lambda event: event.start_ns()):
        held += event.nbytes()
        peak = max(peak, held)
    return peak


@pytest.mark.bench
def test_chunks_take_about_the_time_of_the_whole(note: Note) -> None:
    given = inputs(ROWS, CLASSES, WIDTH)
    ratios = []
    for pair in range(PAIRS + 1):
        seconds = {}
        for loss in (whole, chunked) if pair % 2 else (chunked, whole):
            begun = time.process_time()
            step(loss, *given)
            seconds[loss] = time.process_time() - begun
        ratios.append(seconds[chunked] / seconds[whole])
    lower, median, upper = statistics.quantiles(ratios[1:], n=4)
    print(
        f"\nhead of {CLASSES:,} classes, {ROWS} x {WIDTH}, forwards and backwards, chunks / whole, CPU seconds, "
        f"{PAIRS} pairs: median {median:.2f}, quartiles {lower:.2f} to {upper:.2f}"
    )
    note(f"head of {CLASSES:,} classes, {ROWS} x {WIDTH}, time of chunks over the whole", ratios[1:])
    assert lower <= 1.5


@pytest.mark.bench
def test_memory_for_logits_does_not_grow_with_the_classes(note: Note) -> None:
    rows, width = 64, 8
    for classes in (100_000, 1_000_000):
        given = inputs(rows, classes, width)
        gradient = 4 * given[1].numel()
        ours = peak_bytes(chunked, *given) - gradient
        logits = 4 * rows * classes
        print(
            f"\n{rows} x {classes:,}: {logits / 2**20:,.0f} MiB of logits; held by chunks {ours / 2**20:,.0f} MiB",
            end="",
        )
        note(f"{rows} x {classes:,} logits, memory of chunks", f"{ours / 2**20:,.0f} of {logits / 2**20:,.0f} MiB")
        assert ours <= 5 * 4 * CHUNK
