"""Where the networks of a method have their first weights from: fresh ones, and those that other runs left."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from dinodiet.config.parent import WHOLE, whole_run
from dinodiet.config.settings import Settings
from dinodiet.errors import UserError
from dinodiet.methods.base import MethodBase
from dinodiet.run.backbone import rebuilt
from dinodiet.run.finished import run_dir_of
from dinodiet.run.weights import read_whole
from dinodiet.types import Backbone, DataSpec, Origins


def start(method: MethodBase, settings: Settings, backbone: Backbone, spec: DataSpec) -> dict[str, Any]:
    """Give the networks of a method the weights that they begin with; return what is not as it was built.

    Raises:
        UserError: weights of another run cannot be read or do not fit.
    """
    node, input = {**backbone.description.rebuilds, **settings.model}, backbone.input

    def fresh(seed: int) -> Backbone:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(seed)
            return rebuilt(node, input, spec, run_dir_of(settings).path)

    try:
        return method.start(Origins(settings.seed, fresh, _of_run, whole_run))
    except UserError as error:
        raise type(error)(f"method: {error}") from error


def _of_run(place: str) -> dict[str, Tensor]:
    """Return the state dict of the method of a finished run, which lies in a place or is one of its files."""
    path = Path(place).expanduser()
    return read_whole((path.parent if path.suffix == ".safetensors" else path) / WHOLE)
