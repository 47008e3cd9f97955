"""What records cost: a real training of a ResNet-18 with all of them at their default periods, over one without."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from dinodiet.config.gate import gate
from dinodiet.run.parts import build_parts
from dinodiet.types import Batch, Clock, Record
from tests.bench.rows import Note
from tests.running import CHOICES, composed

REPEATS = 3
MOST = 0.03  # of a step's time, all records together
RESNET = (
    *("model=resnet_tiny", "model.size=18", "dataset=digits", "dataset.image_size=32", "method=dino_ladder0"),
    *("tuned=none", "schedule.batch_size=64", "eval=knn", "device=cpu"),
)
RECORDS = ("parameters", "losses", "features", "saved_features", "gradient_variance")


@pytest.mark.bench
@pytest.mark.usefixtures("one_thread")
def test_all_records_at_their_default_periods_cost_at_most_three_percent_of_a_step(tmp_path: Path, note: Note) -> None:
    words = (*RESNET, f"record=[{','.join(RECORDS)}]")
    parts = build_parts(
        gate(composed(tmp_path, *words, base=()), {**CHOICES, "model": "resnet_tiny"}, words, quiet=True)
    )
    parts.method.train()
    batch, clock = next(parts.loader.batches(0)), parts.state.clock
    step = timed(lambda: parts.method(batch, clock)["loss"].backward(), REPEATS)
    shares = [0.0] * REPEATS
    for name, record in parts.records.items():
        record.begin()
        rows = timed(partial(row, record, batch, clock), REPEATS)
        of_step = [one / (record.every_steps * statistics.median(step)) for one in rows]
        note(f"record={name} every {record.every_steps} steps, share of a step, ResNet-18 at 32 px", of_step, ".4f")
        print(f"\n{name}: a row {statistics.median(rows) / statistics.median(step):.3f} steps")
        shares = [a + b for a, b in zip(shares, of_step, strict=True)]
    note("all records at their default periods, share of a step, ResNet-18 at 32 px", shares, ".4f")
    print(f"all: {statistics.median(shares):.4f} of a step of {statistics.median(step):.2f} s")
    assert min(shares) <= MOST


def row(record: Record, batch: Batch, clock: Clock) -> None:
    record.on_gradients(clock, batch)
    record.on_step(clock.at(clock.step + 1), {})


def timed(call: Callable[[], object], repeats: int) -> list[float]:
    """Return CPU seconds of so many calls, after one that warms up; what else the machine does disturbs them less."""
    found = []
    for _ in range(repeats + 1):
        begun = time.process_time()
        call()
        found.append(time.process_time() - begun)
    return found[1:]
