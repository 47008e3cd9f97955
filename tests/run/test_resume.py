"""Real processes, really killed: the numbers of an interrupted run are those of an undisturbed one, bit for bit."""

import functools
import json
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest

from tests.forking import finish, printed, start
from tests.kinds import after_nightly
from tests.running import TINY, launch, results_in, scores

# Everything that draws random numbers or keeps state: drop path, MixUp, the head-only phase, validation scores.
DIET = (*TINY, "model.drop_path=0.1", "method.mix.mixup_alpha=0.5", "eval.every_epochs=2", "schedule.epochs=10")
LONG_DIET = (*DIET, "schedule.epochs=150", "eval.every_epochs=30", "log_every=1")
# A teacher, a centre, a frozen last layer, two resolutions.
DINO = (
    *TINY,
    "method=dino",
    "method.head.hidden_dims=[32,32]",
    "method.head.out_dim=64",
    "schedule.batch_size=16",
    "schedule.epochs=30",
    "log_every=1",
)
# What these share: a projector or decoder, random views or masks, a head-only phase.
SELF_SUPERVISED = (*TINY, "schedule.batch_size=16", "schedule.epochs=30", "log_every=1", "model.drop_path=0.1")
SMALL_PROJECTOR = ("method.head.hidden_dims=[32]", "method.head.out_dim=16")
OTHERS = {
    "simclr": ("method=simclr", *SMALL_PROJECTOR),
    "byol": ("method=byol", *SMALL_PROJECTOR, "method.predictor.hidden_dims=[32]"),
    "lejepa": ("method=lejepa", *SMALL_PROJECTOR, "method.views.crops=2+2x16", "method.loss.sigreg.directions=32"),
    "mae": ("method=mae", "method.head.width=32", "method.head.depth=1", "method.head.heads=2"),
}
KILLED = {
    "diet": (LONG_DIET, 20),
    "dino": (DINO, 3),
    **{name: ((*SELF_SUPERVISED, *words), 3) for name, words in OTHERS.items()},
}
EVERY_STEP = "checkpoint_minutes=0"


def whole(folder: Path, *overrides: str) -> dict[str, Any]:
    """Return the scores of a run to its end: an undisturbed one, or what is left of another."""
    assert finish(start(folder, *overrides)) == 0, printed(folder)
    return scores(results_in(folder))


def wait_for(condition: Callable[[], bool], process: BaseProcess) -> None:
    while process.is_alive() and not condition():
        time.sleep(0.01)


def step_of(tmp_path: Path) -> int:
    """Return the last step written to metrics.jsonl, 0 before the first."""
    for path in tmp_path.glob("*/*/metrics.jsonl"):
        lines = path.read_text().splitlines()
        if lines and lines[-1].endswith("}"):
            return int(json.loads(lines[-1])["step"])
    return 0


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("case", after_nightly(2, KILLED))
def test_killed_at_random_moments(tmp_path: Path, case: str) -> None:
    overrides, kills = KILLED[case]
    expected = whole(tmp_path / "undisturbed", *overrides)
    steps, killed = results_in(tmp_path / "undisturbed")["steps"], tmp_path / "killed"
    draw, killed_at = random.Random(0), []
    for attempt in range(kills):
        process = start(killed, *overrides, EVERY_STEP)
        if attempt % 4 == 0:  # while parts are built, and before the first step
            time.sleep(draw.uniform(0.0, 1.0))
        else:  # between two steps, in one, or while a checkpoint is written, as it comes
            target = step_of(killed) + draw.randrange(1, steps // (2 * kills))
            wait_for(functools.partial(lambda least: step_of(killed) >= least, target), process)
            time.sleep(draw.uniform(0, 0.05))
        assert process.is_alive(), f"the run ended before it could be killed: {printed(killed)}"
        process.kill()
        process.join()
        killed_at.append(step_of(killed))
    print(f"killed after steps {killed_at} of {steps}")
    assert len(set(killed_at)) > kills // 2
    assert whole(killed, *overrides, EVERY_STEP) == expected


@pytest.mark.slow
def test_told_to_stop(tmp_path: Path) -> None:
    expected = whole(tmp_path / "undisturbed", *DIET)
    for number in (signal.SIGTERM, signal.SIGUSR2, signal.SIGINT):
        told = tmp_path / number.name
        process = start(told, *DIET)
        wait_for(functools.partial(lambda folder: step_of(folder) >= 4, told), process)
        assert process.pid is not None
        os.kill(process.pid, number)
        assert finish(process) == 75, printed(told)
        assert "Traceback" not in printed(told)
        assert f"stopped by {number.name} at step" in printed(told)
        (status,) = told.glob("*/*/status.json")
        assert json.loads(status.read_text())["state"] == "preempted"
        assert whole(told, *DIET) == expected
        assert "continuing from step" in printed(told)


@pytest.mark.slow
def test_told_to_stop_before_the_first_step(tmp_path: Path) -> None:
    process = start(tmp_path, *DIET, "dataset.limit=null", "eval=[knn,linear]")
    wait_for(lambda: any("initial" in path.read_text() for path in tmp_path.glob("*/*/status.json")), process)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGTERM)
    assert finish(process) == 75, printed(tmp_path)
    (status,) = tmp_path.glob("*/*/status.json")
    assert json.loads(status.read_text())["reason"] == "told to stop by SIGTERM"


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    short = (*DIET, "schedule.epochs=3")
    expected = whole(tmp_path / "alone", *short)
    done = launch(tmp_path / "helped", *short, "num_workers=2")
    assert done.returncode == 0, done.stderr
    assert scores(results_in(tmp_path / "helped")) == expected
