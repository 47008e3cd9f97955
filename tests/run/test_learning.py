"""What fails quietly is told: once after the first tenth, once at the end, and not otherwise."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch

from dinodiet.run.learning import EARLIEST, collapses, guesses, is_due, overflows, tell, worsens
from dinodiet.types import Clock
from tests.running import CHOICES, composed, run

GUESSING = {"loss": math.log(256)}


def told(capsys: pytest.CaptureFixture[str], total: int, loss: float, log_every: int = 10) -> list[int]:
    """Return the steps at which a training with this loss is told to learn nothing."""
    steps = []
    for step in sorted({*range(log_every, total + 1, log_every), total}):
        window = step % log_every or min(log_every, step)
        clock = Clock(step, total, 10)
        if is_due(clock, window):
            tell(clock, guesses({"loss": loss, "lr/head": 1.0}, GUESSING))
        steps += [step] * capsys.readouterr().err.count("nothing is learned")
    return steps


@pytest.mark.parametrize(("total", "steps"), [(2000, [200, 2000]), (455, [EARLIEST, 455]), (40, [40]), (19, [])])
def test_it_is_told_after_a_tenth_and_at_the_end(
    total: int, steps: list[int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(capsys, total, math.log(256)) == steps
    assert told(capsys, total, 1.02 * math.log(256)) == steps  # fresh heads are worse than guessing
    assert told(capsys, total, 0.99 * math.log(256)) == []


def test_a_window_that_is_wider_than_a_tenth_tells_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert told(capsys, 1000, math.log(256), log_every=300) == [300, 1000]


def test_a_rate_that_is_too_small_is_told_in_a_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("schedule.epochs=10", "schedule.batch_size=8", "dataset.limit=32", "method.head.warmup_fraction=0")
    smooth = "method.loss.label_smoothing=0.9"  # else a fresh head is now and then better than guessing, by chance
    run(composed(tmp_path, *words, smooth, "schedule.lr=1e-9"), CHOICES)
    (line,) = (line for line in capsys.readouterr().err.splitlines() if "guessing" in line)
    assert "diet_loss is 3." in line and "guessing gives 3.4657" in line and "schedule.lr" in line


def test_guessing_is_the_loss_of_a_uniform_prediction() -> None:
    loss = torch.nn.CrossEntropyLoss(label_smoothing=0.8)
    assert loss(torch.zeros(4, 256), torch.arange(4)).item() == pytest.approx(GUESSING["loss"], rel=1e-6)


def test_embeddings_that_are_all_one_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ("schedule.epochs=10", "schedule.batch_size=8", "dataset.limit=32", "method.head.warmup_fraction=0")
    run(composed(tmp_path, *words, "schedule.lr=3", "schedule.clip_grad=null", "method.trainable=all"), CHOICES)
    told = [line for line in capsys.readouterr().err.splitlines() if "collapsed" in line]
    assert len(told) == 1 and "at step 40 of 40 effective_rank is 1.0" in told[0], told


def test_steps_that_fp16_leaves_out_are_told() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    optimizer, scaler = torch.optim.SGD([weight], lr=1.0), torch.amp.GradScaler("cpu")
    for _ in range(20):
        scaler.scale(weight * torch.inf).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
    assert weight.item() == 1.0
    (line,) = overflows(scaler)
    assert "loss scale of fp16 is 0.062" in line and "precision=bf16" in line
    assert not [*overflows(torch.amp.GradScaler("cpu"))] and not [
        *overflows(torch.amp.GradScaler("cpu", enabled=False))
    ]


def test_projections_that_are_nearly_one_are_told() -> None:
    (told,) = collapses({"effective_rank": 20.0, "projection_spread": 0.05})
    assert told.startswith("projection_spread is 0.050: all projections are nearly one")
    assert "method.teacher.momentum" in told
    assert list(collapses({"effective_rank": 20.0, "projection_spread": 0.9})) == []


def finished(initial: float, final: float, better: str = "higher", **other: Any) -> dict[str, Any]:
    """Return what a run with one score and an interval of 0.05 to both sides has as results."""
    return {
        "initial": {"knn/accuracy": initial},
        "final": {"knn/accuracy": final},
        "intervals": {"initial": {}, "final": {"knn/accuracy": [final - 0.05, final + 0.05]}},
        "better": {"knn/accuracy": better},
        "refused": {},
        **other,
    }


def test_a_score_that_falls_out_of_its_interval_is_told() -> None:
    (told,) = worsens(finished(0.809, 0.637))
    assert told.startswith("knn/accuracy went from 0.809 to 0.637 (0.587 to 0.687): the training made embeddings worse")
    assert "method.views" in told
    assert [*worsens(finished(0.3, 0.4, "lower"))]


@pytest.mark.parametrize(
    "results",
    [
        finished(0.68, 0.637),
        finished(0.5, 0.637),
        finished(0.809, 0.637, "none"),
        finished(0.6, 0.4, "lower"),
        finished(0.809, 0.637, refused={"knn": "scored in another way before"}),
        {**finished(0.809, 0.637), "initial": {}},
    ],
    ids=["within", "better", "no direction", "lower is better", "not compared", "no score before"],
)
def test_other_changes_of_scores_are_not(results: dict[str, Any]) -> None:
    assert [*worsens(results)] == []


def test_a_training_that_spoils_embeddings_is_told_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "schedule.lr=1.0",
        "method.trainable=all",
        "schedule.epochs=1",
        "schedule.batch_size=64",
        "dataset.limit=null",
    )
    run(composed(tmp_path, *words), CHOICES)
    printed = capsys.readouterr().err
    assert printed.count("warning: knn/accuracy went from ") == 1
    run(composed(tmp_path, *words), CHOICES)
    assert "went from" not in capsys.readouterr().err
