"""The twelve tiny models of transformers in `tests/reference/hf_tiny`, and what the library makes of their inputs."""

from __future__ import annotations

import copy
import functools
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dinodiet.backbones.hf import HFBackbone, hf_backbone
from dinodiet.types import DataSpec
from tests.backbones.small import pixels
from tests.places import REFERENCES

FOLDERS = REFERENCES / "hf_tiny"
NAMES = sorted(folder.name for folder in FOLDERS.iterdir())
SPEC = DataSpec("photos", num_images=10, num_labels=2)


def tiny(name: str, **settings: Any) -> HFBackbone:
    """Return one of the models, in eval mode."""
    on_meta = torch.empty(0).is_meta
    return built(name, **settings) if on_meta else copy.deepcopy(_kept(name, tuple(settings.items())))


def built(name: str, **settings: Any) -> HFBackbone:
    """Return it as it is built, and not a copy."""
    return hf_backbone(SPEC, name=str(FOLDERS / name), **settings).eval()


@functools.cache
def _kept(name: str, settings: tuple[tuple[str, Any], ...]) -> HFBackbone:
    return built(name, **dict(settings))


def reference(name: str) -> dict[str, Tensor]:
    """Return the arrays of one of the models."""
    with np.load(FOLDERS / name / "io.npz") as arrays:
        return {key: torch.from_numpy(value) for key, value in arrays.items()}


def images_of(backbone: HFBackbone, normalised: Tensor) -> Tensor:
    """Return the images in 0..1 that a backbone normalises to what a reference was given."""
    return pixels(normalised, backbone.input)


def copied(name: str, folder: Path, changes: Mapping[str, Any] | None = None, *, without: str = "") -> Path:
    """Return a copy of a model's folder with changes of its configuration, or without a file."""
    shutil.copytree(FOLDERS / name, folder)
    if changes is not None:
        config = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps({**config, **changes}))
    if without:
        (folder / without).unlink()
    return folder
