"""dinodiet's DINO against lightly's and stable-pretraining's: the same work, in one run, in turn.

`pip install -e ".[dev,peers]"` brings the peers. Each side is written as its documentation has it, in the modules
beside this one; "lightly, grouped" is its example with one forward pass per size of crop in place of one per crop. All
have the same model, images, crops, head, batch, optimiser, precision, threads and cores.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.bench.peers import digits
from tests.bench.peers.our_side import overrides
from tests.bench.peers.setting import SETTINGS, Setting
from tests.bench.rows import Note
from tests.places import ROOT

pytestmark = [
    pytest.mark.bench,
    pytest.mark.timeout(3600),
    pytest.mark.skipif(
        any(importlib.util.find_spec(name) is None for name in ("lightly", "stable_pretraining")),
        reason='pip install -e ".[dev,peers]" brings the peers',
    ),
]

OURS, PEERS = "dinodiet", ("lightly", "lightly, grouped", "stable-pretraining")
WALL, CPU = 0, 1
STEPS, ROUNDS, JOBS = 3, 4, 3


def environment(folder: Path, threads: int) -> dict[str, str]:
    """Return an environment in which all sides have the same threads, none downloads, and all write below `folder`."""
    own = {"PYTHONPATH": str(ROOT), "SPT_CACHE_DIR": str(folder), "HF_HUB_OFFLINE": "1", "WANDB_MODE": "offline"}
    return {**os.environ, **own, "OMP_NUM_THREADS": str(threads), "OMP_WAIT_POLICY": "PASSIVE"}


def loops(folder: Path, name: str, threads: int, workers: int) -> dict[str, Any]:
    """Return what `loops` measures, on as many cores as threads."""
    words = [sys.executable, "-m", "tests.bench.peers.loops", name, *map(str, (workers, STEPS, ROUNDS))]
    done = subprocess.run(
        words,
        cwd=folder,
        env=environment(folder, threads),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def spread(values: list[float]) -> tuple[float, float, float]:
    """Return the median and both quartiles."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return median, low, high


def told(values: list[float], form: str = ".2f") -> str:
    """Return median and quartiles in words."""
    median, low, high = (format(value, form) for value in spread(values))
    return f"{median} ({low} to {high})"


def compare(found: dict[str, Any], chosen: Setting, clock: int) -> dict[str, list[float]]:
    """Print images/s by side, and return by peer how many times its seconds a step are ours, step by step."""
    ratios = {}
    for side, steps in found["spent"].items():
        seconds = [step[clock] for step in steps]
        ratios[side] = [theirs / ours[clock] for theirs, ours in zip(seconds, found["spent"][OURS], strict=True)]
        speed = told([chosen.batch / value for value in seconds], ".1f")
        print(f"  {side:<20} {speed} images per {'CPU second' if clock == CPU else 'second'}", end="")
        print("" if side == OURS else f", dinodiet is {told(ratios[side])} times as fast")
    return ratios


@pytest.mark.parametrize("name", SETTINGS)
def test_the_loop_on_one_core(name: str, tmp_path: Path, note: Note) -> None:
    chosen = SETTINGS[name]
    found = loops(tmp_path, name, threads=1, workers=0)
    operations = {side: f"{flops / 1e9:.2f}" for side, flops in found["flops"].items()}
    print(f"\n{chosen}, fp32, 1 thread\n  GFLOP of matrix products a step: {operations}")
    assert max(found["flops"].values()) == pytest.approx(found["flops"][OURS], rel=1e-3), "the same work"
    for peer, ratios in compare(found, chosen, CPU).items():
        note(f"DINO's loop, {chosen}, 1 thread, CPU time of {peer} over ours", ratios)
        assert spread(ratios)[2] >= 1, peer  # fails where the measurement contradicts the claim, not where it is noise


@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="needs two cores")
def test_the_loop_on_two_cores(tmp_path: Path, note: Note) -> None:
    """The peers' loaders get the processes that suit them best: none, or as many as there are cores."""
    chosen = SETTINGS["64"]
    ratios: dict[str, list[float]] = {}
    for workers in (0, 2):
        found = loops(tmp_path, "64", threads=2, workers=workers)
        print(f"\n{chosen}, fp32, 2 threads on 2 cores, {workers} processes for the peers' loaders")
        compare(found, chosen, CPU)
        for peer, values in compare(found, chosen, WALL).items():
            ratios[peer] = min(ratios.get(peer, values), values, key=statistics.median)
    print("  against the better of the two: ", {peer: told(ratios[peer]) for peer in PEERS})
    for peer in PEERS:
        note(f"DINO's loop, {chosen}, 2 threads, time of {peer} over ours", ratios[peer])
        assert spread(ratios[peer])[2] >= 1, peer


def job(folder: Path, side: str) -> dict[str, float]:
    """Do the job in a process of its own; return its wall and CPU seconds, its peak memory, and k-NN's accuracies."""
    folder.mkdir(parents=True)
    words = [f"outputs_dir={folder}", f"schedule.epochs={digits.EPOCHS}", f"dataset.limit={digits.NUM_TRAIN}"]
    commands = {
        OURS: [str(ROOT / "launch.py"), *overrides(digits.SETTING), *words],
        "lightly": ["-m", "tests.bench.peers.lightly_side"],
        "stable-pretraining": ["-m", "tests.bench.peers.stable_pretraining_side"],
    }
    spent = folder / "spent.json"
    alone = [sys.executable, "-I", "-S", str(Path(__file__).with_name("alone.py")), str(spent), sys.executable]
    done = subprocess.run(
        [*alone, *commands[side]],
        cwd=folder,
        env=environment(folder, 1),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if side == OURS:
        (path,) = folder.glob("*/*/results.json")
        results = json.loads(path.read_text())
        scores = {phase: results[phase]["knn/accuracy"] for phase in ("initial", "final")}
    else:
        scores = json.loads(done.stdout.splitlines()[-1])
    return {**json.loads(spent.read_text()), **scores}


def compare_jobs(jobs: dict[str, list[dict[str, float]]]) -> dict[str, list[float]]:
    """Print what the jobs took and found, and return by peer how many times its CPU seconds are ours."""
    found = {}
    for side, runs in jobs.items():
        keys = {"cpu": "CPU s", "wall": "wall s", "peak_mib": "MiB at most"}
        shown = ", ".join(f"{statistics.median(run[key] for run in runs):.1f} {word}" for key, word in keys.items())
        print(f"  {side:<20} {shown}, k-NN {runs[-1]['initial']:.3f} -> {runs[-1]['final']:.3f}")
        ratios = {
            word: [theirs[key] / ours[key] for theirs, ours in zip(runs, jobs[OURS], strict=True)]
            for key, word in keys.items()
        }
        if side != OURS:
            print("    times dinodiet's: " + ", ".join(f"{word} {told(values)}" for word, values in ratios.items()))
            found[side] = ratios["CPU s"]
    return found


def test_one_small_job(tmp_path: Path, note: Note) -> None:
    """From the start of the process to final metrics: k-NN, an epoch of DINO on 500 digits, k-NN."""
    sides = (OURS, "lightly", "stable-pretraining")
    jobs: dict[str, list[dict[str, float]]] = {side: [] for side in sides}
    for turn in range(JOBS):
        for side in sides if turn % 2 else sides[::-1]:
            jobs[side].append(job(tmp_path / f"{side}{turn}", side))
    print(f"\none job: {digits.NUM_TRAIN} digits, {digits.EPOCHS} epoch, {digits.SETTING}, 1 thread, {JOBS} times")
    for peer, ratios in compare_jobs(jobs).items():
        note(f"a DINO job, {digits.NUM_TRAIN} digits, CPU time of {peer} over ours", ratios)
        assert spread(ratios)[2] >= 1, peer
