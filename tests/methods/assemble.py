"""Methods assembled from their parts: `head__lr_scale=10` is the setting `lr_scale` of the head."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from dinodiet.features.trunk_cache import trunk_cache
from dinodiet.methods.diet import DIET
from dinodiet.methods.dino import DINO
from dinodiet.methods.parts.heads import ClassHead, DINOHead
from dinodiet.methods.parts.losses import CrossEntropy, Distillation
from dinodiet.methods.parts.mix import Mix
from dinodiet.methods.parts.probe import label_probe
from dinodiet.methods.parts.student import Student
from dinodiet.methods.parts.targets import IndexTargets
from dinodiet.methods.parts.teacher import Teacher
from dinodiet.types import Backbone, DataSpec

BUILT: dict[str, Any] = {"loss": CrossEntropy, "mix": Mix}  # parts that wait for nothing
WAITING: dict[str, Any] = {"targets": IndexTargets, "head": ClassHead, "probe": label_probe, "trunk": trunk_cache}
DINO_PARTS: dict[str, Any] = {"head": DINOHead, "loss": Distillation, "teacher": Teacher, "student": Student}


def diet(backbone: Backbone, spec: DataSpec, **settings: Any) -> DIET:
    """Return DIET with settings of its own and of its parts."""
    whole, parts = _sorted(settings)
    built = {name: BUILT[name](**parts.pop(name)) for name in BUILT if name in parts}
    waiting: dict[str, Any] = {name: partial(WAITING[name], **given) for name, given in parts.items()}
    return DIET(backbone, spec, **whole, **built, **waiting)


def dino(backbone: Backbone, spec: DataSpec, **settings: Any) -> DINO:
    """Return DINO with settings of its own and of its parts."""
    whole, parts = _sorted(settings)
    waiting: dict[str, Any] = {name: partial(DINO_PARTS[name], **given) for name, given in parts.items()}
    return DINO(backbone, spec, **whole, **waiting)


def _sorted(settings: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    whole: dict[str, Any] = {}
    parts: dict[str, dict[str, Any]] = {}
    for key, value in settings.items():
        part, _, name = key.partition("__")
        if name:
            parts.setdefault(part, {})[name] = value
        else:
            whole[key] = value
    return whole, parts
