"""One run in several real processes of this machine: its end, a killed process, signals, another number of them."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.kinds import after_nightly
from tests.places import ROOT
from tests.processes.training import same_scores
from tests.running import TINY

LONG = (*TINY, "schedule.epochs=15", "checkpoint_minutes=0")
WORDS = (*LONG, "method=diet", "method.head.sharded=true")
SECONDS = 600.0  # machines are busy


def start(folder: Path, *words: str, torchrun: int | None = None, base: Sequence[str] = WORDS) -> subprocess.Popen[str]:
    """Start a run that writes below a folder."""
    launcher = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={torchrun}"] if torchrun else []
    return subprocess.Popen(
        [sys.executable, *launcher, str(ROOT / "launch.py"), *base, f"outputs_dir={folder}", *words],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def ended(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, errors = process.communicate(timeout=SECONDS)
    return process.returncode, out, errors


def run_of(folder: Path) -> Path:
    (found,) = (folder / "default").iterdir()
    return found


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(run_of(folder) / "weights.safetensors")


def scores(folder: Path) -> dict[str, float]:
    found: dict[str, float] = json.loads((run_of(folder) / "results.json").read_text())["final"]
    return found


def ranks(process: subprocess.Popen[str]) -> list[int]:
    """Return the process ids of the processes of a run."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if "spawn_main" in Path(f"/proc/{child}/cmdline").read_text()]


def until_step(folder: Path, process: subprocess.Popen[str], step: int) -> None:
    """Wait until a run wrote the checkpoint of a step, or a later one."""
    limit = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < limit:
        for path in folder.glob("default/*/metrics.jsonl"):
            lines = path.read_text().splitlines()
            if lines and json.loads(lines[-1])["step"] >= step:
                return
        time.sleep(0.05)


def kill(process: subprocess.Popen[str], victim: int) -> None:
    """Kill a process of a run, and hold its one line against that."""
    os.kill(ranks(process)[victim], signal.SIGKILL)
    code, _, errors = ended(process)
    told = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert code == 1
    assert len(told) == 1, errors
    assert f"process {victim} on" in told[0]
    assert "SIGKILL" in told[0]
    assert "Traceback" not in errors, errors[-6000:]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a run that one process did undisturbed."""
    folder = tmp_path_factory.mktemp("alone")
    code, _, errors = ended(start(folder))
    assert code == 0, errors
    return folder


def same(one: Path, other: Path) -> None:
    assert run_of(one).name == run_of(other).name
    same_scores(scores(other), scores(one))
    ours = weights(one)
    for key, value in weights(other).items():
        torch.testing.assert_close(value, ours[key], rtol=1e-4, atol=1e-5)


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize(("first", "last"), after_nightly(1, [("ddp", "fsdp"), ("fsdp", "ddp")]))
def test_a_killed_process_costs_nothing_and_any_number_goes_on(
    first: str, last: str, alone: Path, tmp_path: Path
) -> None:
    draw = random.Random(int(os.environ.get("DINODIET_SEEDS", "0")))
    process = start(tmp_path, "processes=2", f"strategy={first}")
    until_step(tmp_path, process, draw.randrange(4, 12))
    victim = draw.randrange(2)
    kill(process, victim)
    status = json.loads((run_of(tmp_path) / "status.json").read_text())
    assert status["state"] == "killed"
    assert f"process {victim} on" in status["reason"]
    process = start(tmp_path, "processes=1")
    until_step(tmp_path, process, draw.randrange(20, 30))
    process.terminate()
    assert ended(process)[0] == 75
    code, out, errors = ended(start(tmp_path, "processes=4", f"strategy={last}"))
    assert code == 0, errors
    assert "continuing from step" in out
    same(alone, tmp_path)
    assert (run_of(tmp_path) / "log.rank1.txt").exists()


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_on_as_many_processes_a_signal_and_a_kill_change_no_bit(tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    draw = random.Random(os.environ.get("DINODIET_SEEDS", "0"))
    assert ended(start(whole, "processes=2"))[0] == 0
    process = start(parts, "processes=2")
    until_step(parts, process, draw.randrange(4, 12))  # and the others do it after the same step
    process.send_signal(signal.SIGUSR2)
    code, _, errors = ended(process)
    assert code == 75, errors
    assert "stopped by SIGUSR2 at step" in errors
    process = start(parts, "processes=2")
    until_step(parts, process, draw.randrange(20, 40))
    kill(process, draw.randrange(2))
    assert ended(start(parts, "processes=2"))[0] == 0
    ours = weights(whole)
    assert all(torch.equal(value, ours[key]) for key, value in weights(parts).items())
    assert scores(whole) == scores(parts)


def until_scoring(folder: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the first process computes initial scores, which takes seconds with `LONG_SCORING`."""
    limit = time.monotonic() + SECONDS
    while process.poll() is None and time.monotonic() < limit:
        for path in folder.glob("default/*/status.json"):
            if json.loads(path.read_text()).get("phase") == "initial evaluation":
                return
        time.sleep(0.05)


LONG_SCORING = ("eval.batch_size=1", "+model.model_args={depth: 96, embed_dim: 24, num_heads: 2}")


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("victim", after_nightly(1, [0, 1]))
def test_a_process_that_is_killed_while_all_embed_ends_all(victim: int, tmp_path: Path) -> None:
    process = start(tmp_path, *LONG_SCORING, "processes=2")
    until_scoring(tmp_path, process)
    time.sleep(random.Random(os.environ.get("DINODIET_SEEDS", "0")).random())
    kill(process, victim)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_signal_while_all_embed_stops_all_and_the_same_command_goes_on(tmp_path: Path) -> None:
    process = start(tmp_path, *LONG_SCORING, "processes=2", "schedule.epochs=1")
    until_scoring(tmp_path, process)
    time.sleep(1)
    process.terminate()
    code, _, errors = ended(process)
    assert code == 75, errors
    assert "stopped by SIGTERM" in errors
    assert "Traceback" not in errors, errors[-6000:]
    assert json.loads((run_of(tmp_path) / "status.json").read_text())["state"] == "preempted"


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_what_all_embed_has_the_scores_of_one_process(tmp_path: Path) -> None:
    words = ("method=dino", "method.head.out_dim=64", "method.views.crops=2x32", "eval=[knn,linear]")
    towers = ("eval.towers=both", "eval.every_epochs=1", "schedule.epochs=2", "eval.batch_size=30")
    found = []
    for number in (1, 2):
        folder = tmp_path / str(number)
        code, _, errors = ended(start(folder, *words, *towers, f"processes={number}", base=LONG))
        assert code == 0, errors
        found.append(json.loads((run_of(folder) / "results.json").read_text()))
    one, two = found
    assert any(name.startswith("student/") for name in one["initial"])
    assert two["initial"] == one["initial"]  # of equal weights
    assert two["final"] == pytest.approx(one["final"], abs=0.01)
    assert [row["step"] for row in two["epochs"]] == [row["step"] for row in one["epochs"]] == [4]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_torchrun_starts_the_same_run(alone: Path, tmp_path: Path) -> None:
    process = start(tmp_path, torchrun=2)
    code, out, errors = ended(process)
    assert code == 0, errors
    assert out.count("on digits with diet") == 1  # one block: the first process alone prints
    same(alone, tmp_path)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_grid_is_not_for_torchrun_but_its_runs_may_start_processes(alone: Path, tmp_path: Path) -> None:
    code, _, errors = ended(start(tmp_path, "-m", torchrun=2))
    assert code == 1
    assert "error: -m: torchrun started 2 processes" in errors
    code, _, errors = ended(start(tmp_path, "-m", "seed=0", "processes=2"))
    assert code == 0, errors
    runs = [path for path in (tmp_path / "default").iterdir() if (path / "results.json").exists()]
    assert [path.name for path in runs] == [run_of(alone).name]
    found = json.loads((runs[0] / "results.json").read_text())["final"]
    same_scores(found, scores(alone))


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_first_process_scores_alone_also_where_that_is_a_training(tmp_path: Path) -> None:
    tuned = ("eval=[knn,finetune]", "eval.finetune.steps=6", "eval.finetune.seeds=1", "eval.finetune.lr=1e-3")
    mixed = ("eval.finetune.regularisation.mixup_alpha=0.8", "eval.every_epochs=1", "schedule.epochs=2")
    found = []
    for number in (1, 2):
        code, _, errors = ended(start(tmp_path / str(number), *tuned, *mixed, f"processes={number}"))
        assert code == 0, errors
        found.append(scores(tmp_path / str(number)))
    assert any(name.startswith("finetune/") for name in found[0])
    assert found[1] == pytest.approx(found[0], abs=0.02)
