"""Small MambaVisions for tests."""

import functools
import json
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from dinodiet.backbones.architectures.mambavision import MambaVision, MambaVisionBackbone, mambavision
from dinodiet.backbones.architectures.mambavision_sizes import Architecture
from dinodiet.types import DataSpec
from tests.backbones.small import read
from tests.places import REFERENCES

SHAPES: dict[str, Any] = json.loads((REFERENCES / "mambavision_shapes.json").read_text())
TINY = ("mambavision_tiny", "mambavision_tiny_layer_scale")
PHOTOS = DataSpec("photos", num_images=10, num_labels=2)
ARCHITECTURE = {"depths": [1, 1, 3, 2], "num_heads": [1, 2, 4, 8], "window_size": [8, 8, 4, 2], "dim": 8, "in_dim": 4}


def build(*, spec: DataSpec = PHOTOS, **changes: Any) -> MambaVisionBackbone:
    """Build what the model file describes, without weights, with some settings changed."""
    return mambavision(spec, **{**read("mambavision"), "weights": "none", **changes})


def small(**changes: Any) -> MambaVisionBackbone:
    torch.manual_seed(0)
    return build(**{"image_size": 64, "model_args": ARCHITECTURE, **changes})


def images(side: int = 64, count: int = 2) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(0))


# --- the published computation ----------------------------------------------------------------------------------------


@functools.cache
def tiny(name: str) -> tuple[MambaVision, Any]:
    """Return a published small network with its weights, and its published inputs and outputs."""
    settings = json.loads((REFERENCES / f"{name}.json").read_text())
    architecture = {key: settings[key] for key in Architecture.__dataclass_fields__ if key in settings}
    model = MambaVision(Architecture(**architecture), settings["num_classes"]).eval()
    model.load_state_dict(load_file(REFERENCES / f"{name}.safetensors"), strict=True)
    return model, np.load(REFERENCES / f"{name}.npz")


TINY_ARGS = {"depths": [1, 1, 3, 2], "num_heads": [1, 2, 4, 8], "window_size": [8, 8, 4, 2], "dim": 16, "in_dim": 8}
