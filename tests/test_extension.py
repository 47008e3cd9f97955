"""A backbone, a dataset, a method, an evaluator and a schedule from outside the repository: one YAML each, no edit."""

from pathlib import Path
from typing import Any

import yaml

from tests.running import launch, results_in

CODE = """
import torch
from torch import nn
from dinodiet.data.dataset import RawSplits
from dinodiet.data.images import TensorImages
from dinodiet.methods.base import MethodBase
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


def halving(*, start: float):
    return lambda clock: start * 0.5**clock.epoch
"""
SCHEDULE = "override /schedule@_global_.schedule"  # how a method names the schedule that it brings with it
YAML = {
    "model/pixels": "_target_: parts_of_mine.Pixels\nwidth: 5\n",
    "dataset/stripes": "defaults: [_base, _self_]\nsource: {_target_: parts_of_mine.stripes, number: 80}\n",
    "method/shrink": f"defaults: [{SCHEDULE}: shrink]\n_target_: parts_of_mine.Shrink\npower: 2.0\n",
    "schedule/shrink": "epochs: 2\nbatch_size: 8\nlr: {_target_: parts_of_mine.halving, start: 1e-3}\n",
    "eval/spread": "# @package eval.spread\n_target_: parts_of_mine.Spread\nscale: 2.0\n",
}


def test_parts_of_ones_own_are_used_by_name(tmp_path: Path) -> None:
    work = tmp_path / "work"
    work.mkdir()
    (work / "parts_of_mine.py").write_text(CODE)
    for name, text in YAML.items():
        path = tmp_path / "mine" / f"{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    done = launch(
        work,
        *("--config-dir", str(tmp_path / "mine")),
        *("model=pixels", "dataset=stripes", "method=shrink", "eval=[knn,spread]", "eval.knn.k=5", "log_every=1"),
    )
    assert done.returncode == 0, done.stderr
    results = results_in(work)
    assert results["run_id"].startswith("pixels_stripes_shrink_seed0_")
    assert results["steps"] == 2 * (36 // 8)
    assert results["final"]["spread/std"] < results["initial"]["spread/std"]
    assert results["embed_dim"] == 5


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
