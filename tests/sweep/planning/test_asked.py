"""What runs have in common is built once, and tells of each what building it alone would tell."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from dinodiet.config.settings import Settings
from dinodiet.errors import UserError
from dinodiet.sweep.planning.asked import BySpec
from dinodiet.sweep.planning.built import Built, build_whole
from dinodiet.sweep.planning.estimate import Estimate, Estimator
from dinodiet.types import DataSpec
from tests.kinds import rest_nightly

from .cells import cell, with_nodes

CONVOLUTIONS = "convolutions"  # in place of the model: the same tensors, whatever the side of images
MODEL = {"_target_": "dinodiet.backbones.timm_backbone", "feature": "pooled", "weights": "none", "size": "035"}
GRIDS: dict[str, list[Sequence[str]]] = {
    "objectives and sets": [
        (CONVOLUTIONS,),
        ("method=diet", "method=supervised"),
        ("dataset=bloodmnist", "dataset=digits"),
        ("dataset.image_size=32", "dataset.image_size=64"),
        ("seed=0", "seed=1"),
    ],
    "sides and seeds": [
        (CONVOLUTIONS,),
        ("dataset.image_size=32", "dataset.image_size=64"),
        ("seed=0", "seed=1"),
    ],
    "what is trained": [
        ("method=diet", "method=simclr", "method=frozen"),
        ("method.trainable=last_1_blocks", "method.trainable=all", "method.trainable=lora_4"),
        ("grad_checkpointing=true", "precision=bf16", "schedule.batch_size=8"),
    ],
    "several labels": [
        ("method=diet_dual", "method=supervised", "method=byol"),
        ("dataset=chestmnist", "dataset=cifar10"),
        ("dataset.limit=100", "dataset.limit=150"),
        ("precision=fp32", "precision=bf16"),
    ],
}


def numbers(estimator: Estimator, tmp_path: Path, words: Sequence[str]) -> Estimate | str:
    try:
        settings = cell(tmp_path, *(word for word in words if word != CONVOLUTIONS)).settings()
        model = {**MODEL, "names": {"035": "mobilenetv2_035"}} if CONVOLUTIONS in words else settings.model
        return estimator(with_nodes(settings, model=model))
    except UserError as error:
        return str(error)


@pytest.mark.parametrize("name", rest_nightly(GRIDS, ["sides and seeds"]))
def test_numbers_are_those_of_runs_that_are_built_alone(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built: list[Settings] = []

    def counted(settings: Settings, *rest: Any, **more: Any) -> Built:
        built.append(settings)
        return build_whole(settings, *rest, **more)

    monkeypatch.setattr("dinodiet.sweep.planning.estimate.build_whole", counted)
    together, cells = Estimator(), list(itertools.product(*GRIDS[name]))
    found = [numbers(together, tmp_path, words) for words in cells]
    assert 1 < len(built) < len(cells)
    assert found == [numbers(Estimator(), tmp_path, words) for words in cells]
    assert len({str(one) for one in found}) > 1


def test_what_was_looked_at_decides() -> None:
    kept, calls = BySpec(), []

    def classes(spec: DataSpec) -> int:
        calls.append(spec.name)
        if spec.num_labels > 5:
            raise UserError(f"{spec.num_labels} classes")
        return spec.num_labels if spec.labelled else spec.num_images

    specs = [DataSpec("a", 10, 2), DataSpec("b", 20, 2), DataSpec("c", 20, 0), DataSpec("d", 30, 0)]
    assert [kept.once("key", spec, lambda spec: classes(spec)) for spec in specs] == [2, 2, 20, 30]
    assert kept.once("key", DataSpec("a", 99, 2), lambda _: 7) == 2
    assert kept.once("another key", specs[0], lambda _: 7) == 7
    many = DataSpec("many", 10, 9)
    for _ in range(2):
        with pytest.raises(UserError, match="9 classes"):
            kept.once("key", many, classes)
