"""What several processes cost and gain: two on two cores over one with two threads, and the loop's own part at one."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parameter import Parameter

from dinodiet.config.settings import settings_of
from dinodiet.processes.gathering import is_shared, rank
from dinodiet.processes.group import any_of, wait_for_all
from dinodiet.processes.rows import draw_rows
from dinodiet.run.parts import Parts, build_parts
from dinodiet.run.train import begin, train
from dinodiet.training.strategy import Alone
from dinodiet.types import Batch, Clock
from tests.bench.rows import Note
from tests.processes.started import on_processes
from tests.running import CHOICES, composed

pytestmark = pytest.mark.bench
PAIRS, STEPS, WARM, BATCH = 3, 10, 3, 32
LEAST, MOST = 0.9, 0.005
DIET = (
    *("model=vit_tiny", "dataset=digits", "dataset.image_size=112", "method=diet", "method.trainable=last_2_blocks"),
    *("tuned=none", f"schedule.batch_size={BATCH}", "schedule.epochs=2", "eval=knn", "device=cpu"),
)


class Enough(Exception):  # noqa: N818
    """Ends a training after a step."""


def parts_in(folder: Path) -> Parts:
    return build_parts(settings_of(composed(folder, *DIET, base=()), CHOICES))


def images_per_second(folder: Path) -> float:
    """Return the rate of a training of all processes that there are, without its first steps."""
    parts, begun = parts_in(folder), list[float]()
    torch.set_num_threads(1 if is_shared() else 2)

    def on_step(clock: Clock, logs: dict[str, Tensor]) -> None:
        begun.append(time.perf_counter())
        if len(begun) == WARM + STEPS:
            raise Enough

    begin(parts)
    try:
        train(parts, on_step)
    except Enough:
        wait_for_all()
    return STEPS * BATCH / (begun[-1] - begun[WARM - 1])


def rate(folder: Path) -> Tensor:
    return torch.tensor(images_per_second(folder))


def test_two_processes_on_two_cores_are_as_fast_as_one_with_two_threads(note: Note, tmp_path: Path) -> None:
    ratios = []
    for turn in range(PAIRS):
        one, two = (
            max(found.item() for found in on_processes(count, tmp_path / f"{turn}_{count}", rate, tmp_path / "runs"))
            for count in (1, 2)
        )
        print(f"\none process {one:.1f} images/s, two {two:.1f}", end="")
        ratios.append(two / one)
    note("DIET last_2_blocks of ViT-tiny at 112 px, images/s of two processes over one with two threads", ratios)
    print(f"\nratio {statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})")
    assert max(ratios) >= LEAST


class Numbers(nn.Module):
    """A method that computes nothing: what is left of a step's forward pass is what the strategy does."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = Parameter(torch.zeros(()))

    def forward(self, batch: Batch, clock: Clock) -> dict[str, Tensor]:
        return {"loss": self.loss}


def of_several(method: Any, batch: Batch, clock: Clock) -> None:
    """Do all that a step does for the sake of several processes where there is one."""
    strategy = Alone(method)
    with strategy.part(len(batch), last=True):
        logs = strategy.forward(batch, clock)
    strategy.shared(logs)
    clock.share.of(batch.index)
    draw_rows(lambda rows: batch.index[:rows], len(batch), clock.generator("views"))
    any_of([False, False])
    rank()


def seconds(call: Callable[[], object], times: int) -> float:
    begun = time.process_time()
    for _ in range(times):
        call()
    return (time.process_time() - begun) / times


@pytest.mark.usefixtures("one_thread")
def test_what_is_there_for_several_processes_costs_one_next_to_nothing(note: Note, tmp_path: Path) -> None:
    parts = parts_in(tmp_path)
    parts.method.train()
    batch, clock, nothing = next(parts.loader.batches(0)), parts.state.clock, Numbers()
    shares = []
    for turn in range(1 + PAIRS):
        step = seconds(lambda: parts.method(batch, clock)["loss"].backward(), 2)
        own = seconds(lambda: of_several(nothing, batch, clock), 1000)
        if turn:
            shares.append(own / step)
    note("the loop's part for several processes at one, share of a step, DIET last_2_blocks at 112 px", shares, ".5f")
    print(f"\n{own * 1e6:.0f} us of a step of {step:.2f} s: {statistics.median(shares):.5f}")
    assert min(shares) <= MOST
