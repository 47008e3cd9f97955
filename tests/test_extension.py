"""Each kind of part from outside the repository is one YAML and at most one class, and as good as the ones inside."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from dinodiet.catalogue.__main__ import main as catalogue_main
from dinodiet.results.__main__ import main as results_main
from tests.running import launch

CODE = """
from dataclasses import replace

import torch
from torch import nn
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import TensorImages
from dinodiet.methods.base import MethodBase
from dinodiet.run.records.base import RecordBase
from dinodiet.sweep.task import execute
from dinodiet.types import Description, InputSpec, Score


class Pixels(nn.Module):
    def __init__(self, spec, *, width: int):
        super().__init__()
        self.embed_dim = width
        self.input = InputSpec(size=spec.native_size, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
        self.description = Description(licence="mine")
        self.linear = nn.Linear(3 * spec.native_size**2, width)

    def forward(self, images):
        return self.linear(images.flatten(1))

    def freezable_blocks(self):
        return [[self.linear]]

    def tail(self):
        return []


class Pixels32(Pixels):
    def __init__(self, spec, *, width: int):
        super().__init__(replace(spec, native_size=32), width=width)


def stripes(*, number: int) -> RawSplits:
    labels = torch.arange(number) % 2
    images = torch.randint(0, 60, (number, 3, 6, 6), generator=torch.Generator().manual_seed(0))
    images[labels == 1, :, ::2] += 150
    half = number // 2
    images = images.to(torch.uint8)
    train, test = (TensorImages(images[part], labels[part]) for part in (slice(half), slice(half, None)))
    return RawSplits("stripes", train, test, num_labels=2)


class Shrink(MethodBase):
    def __init__(self, backbone, spec, *, power: float):
        super().__init__(backbone)
        self.power = power

    def forward(self, batch, clock):
        return {"loss": self.backbone(batch.images.float() / 255).abs().pow(self.power).mean()}


class Spread:
    def __init__(self, *, scale: float):
        self.scale = scale

    needs = "embeddings"

    def applies(self, spec, num_train):
        pass

    def __call__(self, splits):
        return {"std": Score(self.scale * splits.test.features.std().item(), better="lower")}


class Norms(RecordBase):
    def __init__(self, *, power: float, every_steps: int = 2):
        super().__init__(every_steps=every_steps)
        self.power = power

    def on_step(self, clock, logs):
        parameters = self.run.method.networks()["student"]["encoder"].parameters()
        return [{"norm": sum(own.detach().norm(self.power).item() for own in parameters)}]


def halving(*, start: float):
    return lambda clock: start * 0.5**clock.epoch


class Diary:
    def __init__(self, *, file: str):
        self.file = file

    def note(self, text):
        with open(self.file, "a") as stream:
            print(text, file=stream)

    def start(self, run_id, config, folder):
        self.note(f"start {run_id}")

    def log(self, metrics, step):
        self.note(f"step {step}")

    def figure(self, name, path):
        self.note(f"figure {name}")

    def table(self, name, path):
        self.note(f"table {name}")

    def finish(self, summary, exit_code=0):
        self.note(f"finish {summary['final/spread/std'] == summary['final/spread/std']}")


class Backwards:
    in_process = True

    def __init__(self, *, greeting: str):
        self.greeting = greeting

    def run(self, tasks, progress):
        for task in reversed(tasks):
            print(self.greeting, task.run_dir.path.name)
            execute(task)
"""
SCHEDULE = "override /schedule@_global_.schedule"  # how a method names the schedule that it brings with it
YAML = {
    "model/own_pixels": "_target_: parts_of_mine.Pixels\nwidth: 5\n",
    "dataset/stripes": "defaults: [_base, _self_]\nsource: {_target_: parts_of_mine.stripes, number: 80}\n",
    "method/shrink": f"defaults: [{SCHEDULE}: shrink]\n_target_: parts_of_mine.Shrink\npower: 2.0\n",
    "schedule/shrink": "epochs: 2\nbatch_size: 8\nlr: {_target_: parts_of_mine.halving, start: 1e-3}\n",
    "eval/spread": "# @package eval.spread\n_target_: parts_of_mine.Spread\nscale: 2.0\n",
    "record/norms": "# @package record.norms\n# Norms of mine.\n_target_: parts_of_mine.Norms\npower: 2.0\n",
    "tracker/diary": "_target_: parts_of_mine.Diary\nfile: diary.txt\n",
    "hydra/launcher/backwards": "_target_: parts_of_mine.Backwards\ngreeting: hello\n",
}
CHOSEN = (
    *("model=own_pixels", "dataset=stripes", "method=shrink", "eval=[knn,spread]", "eval.knn.k=5", "log_every=1"),
    "record=norms",
)


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder where somebody works: a module of their own, and a configuration folder."""
    work = tmp_path_factory.mktemp("work")
    (work / "parts_of_mine.py").write_text(CODE)
    for name, text in YAML.items():
        path = work / "mine" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return work


@pytest.fixture(scope="module")
def study(work: Path) -> Path:
    """Return the folder of a study of two runs whose every part is somebody's own."""
    grid = ("-m", "hydra/launcher=backwards", "method.power=1.0,2.0", "tracker=diary", "device=cpu")
    done = launch(work, "--config-dir", "mine", *CHOSEN, *grid)
    assert done.returncode == 0, done.stderr
    greeted = [line for line in done.stdout.splitlines() if line.startswith("hello own_pixels_stripes_shrink_seed0_")]
    assert len(greeted) == 2
    return work / "default"


def test_parts_of_ones_own_are_used_by_name(study: Path) -> None:
    found = [json.loads(path.read_text()) for path in study.glob("*/results.json")]
    assert len(found) == 2
    for results in found:
        assert results["run_id"].startswith("own_pixels_stripes_shrink_seed0_")
        assert results["steps"] == 2 * (36 // 8)  # the schedule that the method brings with it
        assert results["final"]["spread/std"] != results["initial"]["spread/std"]
        assert (results["better"]["knn/accuracy"], results["better"]["spread/std"]) == ("higher", "lower")
        assert results["embed_dim"] == 5


def test_a_tracker_of_ones_own_hears_of_the_runs(study: Path) -> None:
    lines = (study.parent / "diary.txt").read_text().splitlines()
    run = (["step"] * 3) * (36 // 8)  # each step's metrics, and each second one's record
    shown = ["table initial_vs_final", "figure progress", "table validation", "figure validation_curves"]
    heard = [line if line in shown else line.split()[0] for line in lines]
    assert heard == 2 * ["start", *run, *shown, "finish"]
    assert lines[-1] == "finish True"


def test_a_record_of_ones_own_is_written_and_read_back(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert results_main([str(study), "--record", "norms"]) == 0
    (line,) = [line.split() for line in capsys.readouterr().out.splitlines() if line.startswith("norm")]
    assert line[:2] == ["norm", "2"] and 0 < float(line[3]) < float(line[2])  # which shrinks


def test_the_smaller_score_of_ones_own_evaluator_is_the_best_of_its_column(
    study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert results_main([str(study), "--rows", "power", "--metric", "spread/std", "--phase", "final"]) == 0
    rows = [line for line in capsys.readouterr().out.splitlines() if line.strip().startswith(("1", "2"))]
    values = {float(re.findall(r"\d\.\d+", line)[-1]): line for line in rows}
    assert len(values) == 2
    assert "*" in values[min(values)] and "*" not in values[max(values)]


def test_a_backbone_of_ones_own_is_planned_like_any_other(work: Path) -> None:
    done = launch(work, "--config-dir", "mine", *CHOSEN, "mode=plan", "plan=full", "name=planned")
    assert done.returncode == 0, done.stderr
    assert "545" in done.stdout, done.stdout  # 3 x 6 x 6 pixels to 5 features, and their biases
    assert "cannot" not in done.stdout


def test_a_backbone_of_ones_own_is_in_the_catalogue(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(work)
    monkeypatch.setattr("sys.path", [*sys.path])
    (work / "mine" / "model" / "pixels32.yaml").write_text("_target_: parts_of_mine.Pixels32\nwidth: 5\n")
    assert catalogue_main(["pixels32", "--config-dir", "mine"]) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("pixels32")]
    assert line.split() == ["pixels32", "-", "15.4", "k", "5", "1", "32", "-", "mine"]


def schedule_of(folder: Path, *words: str) -> dict[str, Any]:
    """Return the schedule of a run's configuration."""
    shown = launch(folder, "--config-dir", str(folder / "mine"), "--cfg", "job", "--package", "schedule", *words)
    assert shown.returncode == 0, shown.stderr
    found: dict[str, Any] = yaml.safe_load(shown.stdout)
    return found


def test_a_method_brings_its_schedule_with_it_and_another_may_be_chosen(tmp_path: Path) -> None:
    (tmp_path / "mine" / "method").mkdir(parents=True)
    for name, defaults in {
        "gentle": "[dino]",
        "long": f"[gentle, {SCHEDULE}: diet_scratch]",
    }.items():
        (tmp_path / "mine" / "method" / f"{name}.yaml").write_text(f"defaults: {defaults}\n")
    (tmp_path / "mine" / "method" / "bare.yaml").write_text("_target_: parts_of_mine.Shrink\n")
    epochs = {"gentle": 100, "long": 1000, "bare": 150}
    assert {name: schedule_of(tmp_path, f"method={name}")["epochs"] for name in epochs} == epochs
    assert schedule_of(tmp_path, "method=long", "schedule=lowdino")["epochs"] == 50
