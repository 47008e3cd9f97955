"""Backbones: timm's models behind one interface, their weights from a hub, a file or a package, and block freezing."""

from dinodiet.backbones.drop_path import set_drop_path
from dinodiet.backbones.freeze import set_trainable
from dinodiet.backbones.timm import TimmBackbone, timm_backbone

__all__ = ["TimmBackbone", "set_drop_path", "set_trainable", "timm_backbone"]
