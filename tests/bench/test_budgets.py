"""Scores on budgets of labels over one linear probe on all labels: CPU time, in one process, in turn, one thread.

Sizes are a CI's. `BENCH_FULL=1` takes the 5,000 embeddings of 768 features that the claim is for.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.config.budgets import Budget
from dinodiet.data.images import TensorImages
from dinodiet.evals.knn import KNN
from dinodiet.evals.linear import Linear
from dinodiet.evals.scorer import Scorer
from dinodiet.types import Data, DataSpec, InputSpec, Runtime
from tests.backbones.toy import Toy
from tests.bench.rows import Note

pytestmark = [pytest.mark.bench, pytest.mark.usefixtures("one_thread")]

FULL = bool(os.environ.get("BENCH_FULL"))
TRAIN, DIM, AMOUNTS = (5000, 768, (1, 5, 10, 50, 100)) if FULL else (2000, 256, (1, 5, 10, 20, 40))
LIMIT = 4.0 if FULL else 9.0  # small fits are their calls: a smaller probe on all labels costs few of them
HELD_OUT, CLASSES, DRAWS = TRAIN // 5, 10, 5
SPREAD = 0.6  # of the classes, along the first 30 axes: a probe on all labels finds 85 of 100
INPUT = InputSpec(size=2, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))


class Table(Toy):
    """Serves embeddings: the pixels of an image are the number of its row."""

    def __init__(self, rows: Tensor) -> None:
        super().__init__(rows.shape[1], INPUT.size)
        self.register_buffer("rows", rows)
        self.served = 0

    def forward(self, images: Tensor) -> Tensor:
        digits = (images[:, :, 0, 0] * 255).round().long()
        self.served += len(images)
        return self.get_buffer("rows")[digits @ torch.tensor([256**2, 256, 1])]


def table() -> tuple[Table, Data]:
    """Return embeddings on the unit sphere whose deviations fall with the rank of the axis, and numbered images."""
    generator, count = torch.Generator().manual_seed(0), TRAIN + 2 * HELD_OUT
    rotation = torch.linalg.qr(torch.randn(DIM, DIM, generator=generator)).Q
    centres = SPREAD * torch.randn(CLASSES, DIM, generator=generator) * (torch.arange(DIM) < 30)
    labels = torch.randint(CLASSES, (count,), generator=generator)
    clouds = (centres[labels] + torch.randn(count, DIM, generator=generator)) / torch.arange(1, DIM + 1)
    rows = F.normalize(clouds @ rotation + 3 * rotation[7], dim=1)
    numbers = torch.arange(count)
    digits = torch.stack([numbers // 256**2, numbers // 256 % 256, numbers % 256], dim=1).to(torch.uint8)
    pixels = digits[:, :, None, None].expand(-1, -1, INPUT.size, INPUT.size)
    parts = (slice(TRAIN), slice(TRAIN, TRAIN + HELD_OUT), slice(TRAIN + HELD_OUT, None))
    train, test, val = (TensorImages(pixels[part], labels[part]) for part in parts)
    return Table(rows), Data(DataSpec("table", TRAIN, CLASSES), train, train, test, val)


def seconds(run: Callable[[], object]) -> float:
    start = time.process_time()
    run()
    return time.process_time() - start


def test_six_budgets_and_five_draws_over_one_probe_on_all_labels(note: Note) -> None:
    encoder, data = table()
    budgets: list[Budget | None] = [Budget("per_class", n, "balanced", seed) for n in AMOUNTS for seed in range(DRAWS)]
    budgets.append(None)
    probe = Scorer({"linear": Linear()}, data, INPUT, Runtime(), validation=False)
    swept = Scorer({"knn": KNN(k=5), "linear": Linear()}, data, INPUT, Runtime(), validation=False, budgets=budgets)
    accuracy = probe(encoder)["linear"].test["accuracy"].value
    pairs = []
    for turn in range(2 if FULL else 3):
        encoder.served = 0
        runs = {"all": lambda: list(swept.scores(encoder, swept.asked)), "one": lambda: probe(encoder)}
        taken = {name: seconds(runs[name]) for name in (runs if turn % 2 else reversed(runs))}
        assert encoder.served == 2 * (TRAIN + 2 * HELD_OUT)  # each side embeds every image once
        pairs.append((taken["all"], taken["one"]))
    ratios = [everything / one for everything, one in pairs]
    name = f"budgets {', '.join(map(str, AMOUNTS))} and all, {DRAWS} draws, k-NN and linear probe, {TRAIN:,} x {DIM}"
    note(f"{name}, over one linear probe on all labels, time", ratios)
    medians = [statistics.median(side) for side in zip(*pairs, strict=True)]
    print(f"\n{name}: {np.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}, {len(ratios)} rounds;")
    print(f"  {medians[0]:.1f} s against {medians[1]:.1f} s of one probe, test accuracy {accuracy:.3f})")
    assert 0.75 < accuracy < 0.95
    assert min(ratios) < LIMIT
