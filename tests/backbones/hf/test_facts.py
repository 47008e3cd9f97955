"""What a run has kept of a model of transformers serves where its repository is gone."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from dinodiet.backbones.hf import HFBackbone, hf_backbone
from dinodiet.backbones.hf.factory import _assets
from dinodiet.backbones.hf.facts import facts_of_run
from dinodiet.errors import UserError
from dinodiet.store.rundir import RunDir

from .tiny import SPEC, copied


def run_of(name: str, folder: Path) -> tuple[RunDir, HFBackbone, Path]:
    """Return the directory of a run of a model, its trained network, and the folder that it began with, now gone."""
    repository = copied(name, folder / "model")
    backbone = hf_backbone(SPEC, name=str(repository)).eval()
    with torch.no_grad():
        next(backbone.model.parameters()).add_(1)
    run_dir = RunDir(folder / "run")
    run_dir.path.mkdir()
    metadata = {"model": {"name": str(repository), "revision": None}, "rebuilds": backbone.description.rebuilds}
    save_file(backbone.state_dict(), run_dir.encoder, {key: json.dumps(value) for key, value in metadata.items()})
    shutil.rmtree(repository)
    return run_dir, backbone, repository


@pytest.mark.parametrize("named", [True, False])
def test_weights_of_a_run_need_no_repository(tmp_path: Path, named: bool) -> None:
    run_dir, trained, repository = run_of("dinov2", tmp_path)
    name, weights = str(repository) if named else None, str(run_dir.path)
    found = hf_backbone(SPEC, name=name, weights=weights).eval()
    images = torch.rand(1, 3, found.input.size, found.input.size)
    with torch.no_grad():
        assert torch.equal(found(images), trained(images))
    assert found.input == trained.input and found.description.signature == trained.description.signature
    (asset,) = _assets(name=name, revision=None, weights=weights)
    assert asset.find() is not None
    with torch.device("meta"):
        assert hf_backbone(SPEC, name=name, weights=weights).embed_dim == trained.embed_dim
    again: dict[str, Any] = {  # as a run that began so is rebuilt
        "name": name,
        "weights": "none",
        "image_size": found.input.size,
        **found.description.rebuilds,
    }
    assert hf_backbone(SPEC, **again).description.signature == trained.description.signature


def test_another_model_than_the_runs_is_asked_for_itself(tmp_path: Path) -> None:
    run_dir, _, repository = run_of("vit", tmp_path)
    others: list[dict[str, Any]] = [{"name": "/nowhere/model"}, {"name": str(repository), "revision": "v2"}]
    for settings in others:
        with pytest.raises(UserError, match=r"^name: '/.*' is no folder and no USER/MODEL"):
            hf_backbone(SPEC, **{"weights": str(run_dir.path), **settings})


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"model": "[", "rebuilds": "{}"},
        {"model": "3", "rebuilds": "[]"},
        {"model": "{}", "rebuilds": '{"kept": {"config": 3}}'},
    ],
)
def test_a_run_that_has_kept_nothing_leaves_the_repository(tmp_path: Path, told: dict[str, str]) -> None:
    run_dir, _, _ = run_of("vit", tmp_path)
    state = load_file(run_dir.encoder)
    save_file(state, run_dir.encoder, told)
    assert facts_of_run(str(run_dir.path), None, None) is None
    with pytest.raises(UserError, match=r"^name: null; give USER/MODEL of the hub"):
        hf_backbone(SPEC, name=None, weights=str(run_dir.path))
