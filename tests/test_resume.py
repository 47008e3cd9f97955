"""Real processes, really killed: the numbers of an interrupted run are those of an undisturbed one, bit for bit."""

import functools
import json
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.running import TINY, command, launch, results_in, scores

# Everything that draws random numbers or keeps state: drop path, MixUp, the head-only phase, validation scores.
DIET = (*TINY, "model.drop_path=0.1", "method.mixup_alpha=0.5", "eval.every_epochs=2", "schedule.epochs=10")
# A teacher, a centre, a frozen last layer, two resolutions.
DINO = (
    *TINY,
    "method=dino",
    "method.hidden_dim=32",
    "method.out_dim=64",
    "schedule.batch_size=16",
    "schedule.epochs=6",
)
EVERY_STEP = "checkpoint_minutes=0"
LONG = ("schedule.epochs=200", "eval.every_epochs=40", "log_every=1")


def undisturbed(tmp_path: Path, *overrides: str) -> dict[str, Any]:
    done = launch(tmp_path / "undisturbed", *overrides)
    assert done.returncode == 0, done.stderr
    return scores(results_in(tmp_path / "undisturbed"))


def start(tmp_path: Path, *overrides: str) -> subprocess.Popen[str]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command(tmp_path, *overrides), env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    while process.poll() is None and not condition():
        time.sleep(0.01)


def step_of(tmp_path: Path) -> int:
    """Return the last step written to metrics.jsonl, 0 before the first."""
    for path in tmp_path.glob("*/*/metrics.jsonl"):
        lines = path.read_text().splitlines()
        if lines and lines[-1].endswith("}"):
            return int(json.loads(lines[-1])["step"])
    return 0


@pytest.mark.slow
@pytest.mark.parametrize(("overrides", "kills"), [(DIET, 20), (DINO, 5)], ids=["diet", "dino"])
def test_killed_at_random_moments(tmp_path: Path, overrides: tuple[str, ...], kills: int) -> None:
    whole, killed = tmp_path / "undisturbed", tmp_path / "killed"
    begun = time.monotonic()
    process = start(whole, *overrides, *LONG)
    wait_for(lambda: step_of(whole) > 0, process)
    starting = time.monotonic() - begun
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    steps = results_in(whole)["steps"]
    draw, killed_at = random.Random(0), []
    for attempt in range(kills):
        process = start(killed, *overrides, *LONG, EVERY_STEP)
        if attempt % 4 == 0:  # while Python starts and parts are built
            time.sleep(draw.uniform(0.1, 0.6) * starting)
        else:  # between two steps, in one, or while a checkpoint is written, as it comes
            target = step_of(killed) + draw.randrange(1, steps // (2 * kills))
            wait_for(functools.partial(lambda least: step_of(killed) >= least, target), process)
            time.sleep(draw.uniform(0, 0.05))
        assert process.poll() is None, "the run ended before it could be killed"
        process.kill()
        process.communicate()
        killed_at.append(step_of(killed))
    assert launch(killed, *overrides, *LONG, EVERY_STEP).returncode == 0
    print(f"killed after steps {killed_at} of {steps}")
    assert len(set(killed_at)) > kills // 2
    assert scores(results_in(killed)) == scores(results_in(whole))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR2, signal.SIGINT])
def test_told_to_stop(tmp_path: Path, number: signal.Signals) -> None:
    expected = undisturbed(tmp_path, *DIET)
    process = start(tmp_path / "told", *DIET)
    wait_for(lambda: step_of(tmp_path / "told") >= 4, process)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75, errors
    assert "Traceback" not in errors
    (status,) = (tmp_path / "told").glob("*/*/status.json")
    assert json.loads(status.read_text())["state"] == "preempted"
    done = launch(tmp_path / "told", *DIET)
    assert "continuing from step" in done.stdout
    assert scores(results_in(tmp_path / "told")) == expected


@pytest.mark.slow
def test_the_number_of_workers_changes_nothing(tmp_path: Path) -> None:
    expected = undisturbed(tmp_path, *DIET)
    assert launch(tmp_path / "helped", *DIET, "num_workers=2").returncode == 0
    assert scores(results_in(tmp_path / "helped")) == expected
