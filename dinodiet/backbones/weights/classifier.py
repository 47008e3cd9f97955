"""The classifier that weights were trained with: of a run of this package, or in a file of timm's models."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from torch import Tensor, nn

from dinodiet.backbones.meta import on_meta
from dinodiet.backbones.weights.files import read_file, run_file
from dinodiet.backbones.weights.timm import whole_state
from dinodiet.config.build import build
from dinodiet.config.saved import read_settings
from dinodiet.config.trust import check_trusted
from dinodiet.errors import UserError
from dinodiet.store.rundir import RunDir
from dinodiet.types import DataSpec

HEAD = "head."  # of methods that train a classifier
CLOSE = 1e-4  # of the largest logit


def classifier_of(weights: str, backbone: Any, name: str, args: Mapping[str, Any]) -> nn.Module:
    """Return the classifier of the weights of a backbone of timm, which was made by `name` and `args`.

    Raises:
        UserError: they came without one, or it takes another embedding than the backbone gives.
    """
    if weights == "none":
        raise UserError("weights: none came without a classifier; give a run of method=supervised, or hub")
    if run_file(weights) is not None:
        return _of_run(Path(weights).expanduser(), backbone.embed_dim)
    return _published(weights, backbone, name, args)


def _of_run(place: Path, width: int) -> nn.Module:
    """Return the classifier that a run has trained."""
    run = RunDir(place if place.is_dir() else place.parent)
    plain, choices = read_settings(run.config) or ({}, {})
    node = (plain.get("method") or {}).get("head")
    state = _below(HEAD, read_file(run.weights)) if run.weights.is_file() else {}
    labels = [tensor for key, tensor in state.items() if key.startswith("layers.") and tensor.ndim == 2]
    if not isinstance(node, dict) or not labels:
        raise UserError(
            f"weights: {run.path} is a run of method={choices.get('method')}, which trained no classifier of labels; "
            "give one of method=supervised"
        )
    check_trusted({"head": node}, str(run.config), {})
    spec = DataSpec(run.path.name, num_images=1, num_labels=len(labels[-1]))
    head: nn.Module = build(node, "head")(in_dim=width, spec=spec)
    head.load_state_dict(state)
    return head


def _published(weights: str, backbone: Any, name: str, args: Mapping[str, Any]) -> nn.Module:
    """Return the last layer of a model of timm, by the name that timm knows it by."""
    cfg = backbone.model.pretrained_cfg
    number, layer = cfg.get("num_classes", 0), cfg.get("classifier")
    if not number or not isinstance(layer, str):
        raise UserError(f"weights: those of {name} came without a classifier; choose a model that has one, or a run")
    if on_meta():
        return nn.Linear(backbone.embed_dim, number)
    whole = timm.create_model(name.partition(".")[0], num_classes=number, **args)
    found = _below(f"{layer}.", whole_state(whole, weights, cfg))
    classifier = whole.get_submodule(layer)
    if not isinstance(classifier, nn.Linear) or found.keys() != classifier.state_dict().keys():
        raise UserError(f"weights: {weights} has no classifier of {name} ({layer}); give a run of method=supervised")
    classifier.load_state_dict(found)
    _check(backbone, whole, classifier, name)
    return classifier


@torch.no_grad()
def _check(backbone: Any, whole: nn.Module, classifier: nn.Module, name: str) -> None:
    """See that a classifier of the backbone's embeddings says what the whole model says of an image."""
    told = whole.load_state_dict(backbone.model.state_dict(), strict=False)
    side = backbone.input.size
    image = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    backbone.eval()
    logits: Tensor = whole.eval()(backbone.normalize(image))
    found = classifier(backbone(image)) if classifier.in_features == backbone.embed_dim else None
    close = CLOSE * float(logits.abs().max())
    if told.unexpected_keys or found is None or not torch.allclose(found, logits, rtol=0, atol=close):
        raise UserError(f"feature: {backbone.feature}, but the classifier of {name} takes another one; choose pooled")


def _below(prefix: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix(prefix): tensor for key, tensor in state.items() if key.startswith(prefix)}
