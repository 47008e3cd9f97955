"""Backbones: timm's models behind one interface, their weights from a hub, a file or a package, and block freezing."""

import sys

# timm imports wandb wherever it is installed, half a second that only tracker=wandb has a use for: it comes later.
_hidden = "wandb" not in sys.modules
if _hidden:
    sys.modules["wandb"] = None  # type: ignore[assignment]
import timm  # noqa: E402, F401

if _hidden:
    del sys.modules["wandb"]

from dinodiet.backbones.drop_path import set_drop_path  # noqa: E402
from dinodiet.backbones.freeze import set_trainable  # noqa: E402
from dinodiet.backbones.timm import TimmBackbone, timm_backbone  # noqa: E402

__all__ = ["TimmBackbone", "set_drop_path", "set_trainable", "timm_backbone"]
