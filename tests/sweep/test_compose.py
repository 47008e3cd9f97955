"""What cells share is composed once: each is what it would be if it were composed alone."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig

from dinodiet.config.places import CONF, ROOT
from dinodiet.sweep.compose import Composer
from dinodiet.sweep.files import ComposedFiles
from dinodiet.sweep.main import register
from dinodiet.sweep.sweeper import GridSweeper
from dinodiet.sweep.task import Task
from tests.kinds import rest_nightly

GRIDS = {
    "files and values": ["method=diet,dino", "model=vit_tiny,mae", "dataset=digits,aid", "seed=0"],
    "a tuned file of a dataset with a method": ["method=diet,mae", "dataset=digits,fashion_mnist", "schedule.epochs=2"],
    "seeds before all else": [
        "seed=3,4",
        "method.trainable=last_1_block,all",
        "tuned=none",
        "dataset.split_seed=${seed}",
    ],
    "added, left out and several": [
        "eval=[knn],[knn,linear]",
        "model=vit_tiny",
        "+model.model_args={depth: 2}",
        "~tuned",
    ],
    "refused ones": ["seed=0,-1,x", "schedule.batch_size=8,0", "method=diet,nope", "model=mae"],
    "another key than the seed": ["model=dinov2,clip", "model.size=small,base16", "schedule.lr.value=1e-3,x"],
    "datasets in two places": ["dataset@eval.dataset=cifar10,digits", "dataset=digits,cifar10", "tuned=none"],
    "teachers": ["method=distill", "model@method.teacher.model=dino,mae", "model=vit_tiny,resnet18", "seed=0,1"],
    "a study": [
        "sweeps=continued_pretraining",
        "model=mae,dinov3",
        "dataset=aid,flavia",
        "seed=7,8",
        "method=diet,mae",
    ],
    "files of one's own": ["model=mine,vit_tiny", "dataset=digits", "method=diet,simclr", "seed=1,2"],
}
OWN = """\
# @package _global_
defaults: [/model/vit_tiny@model, _self_]
model: {patch_size: 4}
precision: bf16
schedule: {epochs: "${oc.decode:${oc.env:EPOCHS,3}}"}
dataset: {split_seed: "${seed}"}
eval: {dataset: "${dataset}"}
"""


@pytest.fixture(scope="module", autouse=True)
def hydra(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    mine = tmp_path_factory.mktemp("mine")
    (mine / "model").mkdir()
    (mine / "model" / "mine.yaml").write_text(OWN)
    register()
    with pytest.MonkeyPatch.context() as patch, initialize_config_dir(str(CONF), version_base="1.3"):
        patch.setenv("OWN", str(mine))
        yield


def sweeper(grid: list[str], own: Path | str) -> GridSweeper:
    loader = GlobalHydra.instance().config_loader()
    words = [f"hydra.searchpath=[file://{ROOT},file://{own}]", *(word for word in grid if word.startswith("sweeps="))]
    config = loader.load_configuration("config", words, RunMode.MULTIRUN, from_shell=False)
    made = GridSweeper(**{str(key): value for key, value in config.hydra.sweeper.items() if key != "_target_"})
    made.loader, made.composer = loader, Composer(loader, config)
    return made


def told(composer: Composer, cell: list[str], *, alone: bool) -> Task | str:
    try:
        return composer.task_alone(cell) if alone else composer.task(cell)
    except Exception as error:
        return composer.explain(error, cell)


@pytest.mark.parametrize("name", rest_nightly(GRIDS, ["files of one's own"]))
def test_cells_that_share_are_those_that_share_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DINODIET_ROOT", str(ROOT))
    grid = sweeper(GRIDS[name], os.environ["OWN"])
    composer = grid.composer
    assert composer is not None
    cells = grid.expand(GRIDS[name])
    shared = [told(composer, cell, alone=False) for cell in cells]
    for cell, found in zip(cells, shared, strict=True):
        expected = told(composer, cell, alone=True)
        assert found == expected
        assert isinstance(expected, str) or composer.shared_task(cell) == expected
        if isinstance(found, Task) and isinstance(expected, Task):
            assert json.dumps(found.config) == json.dumps(expected.config)  # keys in their order, and kinds of numbers
    assert len({found.cell.run_id for found in shared if isinstance(found, Task)}) >= 1


def test_a_large_grid_composes_few_of_its_cells_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    grid = sweeper(["sweeps=continued_pretraining"], os.environ["OWN"])
    composer = grid.composer
    by_hydra: list[list[str]] = []
    assert composer is not None
    whole = ComposedFiles.whole

    def counted(self: ComposedFiles, files: list[str]) -> DictConfig:
        by_hydra.append(files)
        return whole(self, files)

    monkeypatch.setattr(ComposedFiles, "whole", counted)
    cells = grid.expand(["sweeps=continued_pretraining", "dataset=aid,dtd", "seed=0"])
    assert len({composer.task(cell).cell.run_id for cell in cells}) == len(cells) == 5 * 5 * 2
    assert len(by_hydra) == 1
