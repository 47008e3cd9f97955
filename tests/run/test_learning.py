"""A loss that stays where guessing has it is told: once after the first tenth, once at the end, and not otherwise."""

import math
import warnings
from pathlib import Path

import pytest
import torch

from dinodiet.run.learning import EARLIEST, tell_guessing
from dinodiet.types import Clock
from tests.running import CHOICES, composed, run

GUESSING = {"loss": math.log(256)}


def told(total: int, loss: float, log_every: int = 10) -> list[int]:
    """Return the steps at which a training with this loss is told to learn nothing."""
    steps = []
    for step in sorted({*range(log_every, total + 1, log_every), total}):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            window = step % log_every or min(log_every, step)
            tell_guessing(Clock(step, total, 10), window, {"loss": loss, "lr/head": 1.0}, GUESSING)
        steps += [step for _ in caught]
    return steps


@pytest.mark.parametrize(("total", "steps"), [(2000, [200, 2000]), (455, [EARLIEST, 455]), (40, [40]), (19, [])])
def test_it_is_told_after_a_tenth_and_at_the_end(total: int, steps: list[int]) -> None:
    assert told(total, math.log(256)) == steps
    assert told(total, 1.02 * math.log(256)) == steps  # fresh heads are worse than guessing
    assert told(total, 0.99 * math.log(256)) == []


def test_a_window_that_is_wider_than_a_tenth_tells_once() -> None:
    assert told(1000, math.log(256), log_every=300) == [300, 1000]


def test_a_rate_that_is_too_small_is_told_in_a_run(tmp_path: Path) -> None:
    words = ("schedule.epochs=20", "schedule.batch_size=8", "dataset.limit=32", "method.head.warmup_fraction=0")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        run(composed(tmp_path, *words, "schedule.lr=1e-9"), CHOICES)
    lines = [str(warning.message) for warning in caught if "guessing" in str(warning.message)]
    assert [line.partition(" is ")[0] for line in lines] == ["diet_loss"] * 2
    assert "guessing gives 3.4657" in lines[0] and "schedule.lr" in lines[0]


def test_guessing_is_the_loss_of_a_uniform_prediction() -> None:
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.8)
    assert loss(torch.zeros(4, 256), torch.arange(4)).item() == pytest.approx(GUESSING["loss"], rel=1e-6)
