"""A backbone, a dataset, a method, an evaluator and a schedule from outside the repository: one YAML each, no edit."""

from pathlib import Path

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
YAML = {
    "model/pixels": "_target_: parts_of_mine.Pixels\nwidth: 5\n",
    "dataset/stripes": "defaults: [_base, _self_]\nsource: {_target_: parts_of_mine.stripes, number: 80}\n",
    "method/shrink": "_target_: parts_of_mine.Shrink\npower: 2.0\n",
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


def test_a_method_without_a_schedule_of_its_own_takes_a_named_one(tmp_path: Path) -> None:
    """One YAML is enough: the schedule is then chosen on the command line."""
    (tmp_path / "mine" / "method").mkdir(parents=True)
    (tmp_path / "mine" / "method" / "gentle.yaml").write_text(
        "defaults: [diet, _self_]\nloss: {label_smoothing: 0.5}\n"
    )
    options = ("--config-dir", str(tmp_path / "mine"), "--cfg", "job", "method=gentle")
    refused = launch(tmp_path, *options)
    assert refused.returncode == 1
    assert "schedule: no choice 'gentle'; choose from: diet" in refused.stderr
    assert launch(tmp_path, *options, "schedule=diet").returncode == 0
