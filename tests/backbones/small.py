"""The model files of the repository, built small: their own architecture, a few narrow blocks."""

from typing import Any

import torch
from omegaconf import OmegaConf
from torch import Tensor

from dinodiet.backbones import TimmBackbone, timm_backbone
from dinodiet.types import DataSpec, InputSpec
from tests.contracts import choices
from tests.places import CONF

MODELS = CONF / "model"
DATA = DataSpec("photos", num_images=10, num_labels=2)

# A small member of each family: file, changes of its settings.
SMALL: dict[str, dict[str, Any]] = {
    **{name: choices.SMALL[name] for name in ("resnet5m", "dino", "dinov2", "dinov3", "dinov3_convnext", "mae")},
    **{name: choices.SMALL[name] for name in ("ijepa", "aimv2", "efficientnet_lite0")},
    **{name: choices.SMALL[name] for name in ("clip", "siglip2", "deit3", "beit", "eva02", "pe")},
    **{name: choices.SMALL[name] for name in ("swin", "swinv2", "convnext", "convnextv2")},
    "resnet18": choices.SMALL["resnet"],
    "vit_tiny": choices.SMALL["vit"],
    "mobilevit_xxs": choices.SMALL["mobilevit"],
    "mobilenetv2_035": choices.SMALL["mobilenetv2"],
}


def read(model: str) -> dict[str, Any]:
    """Return a model file's settings, its defaults included, without what builds it."""
    return {key: value for key, value in _merged(model).items() if key != "_target_"}


def target(model: str) -> str:
    """Return what a model file builds: the last part of its `_target_`."""
    return str(_merged(model)["_target_"]).rpartition(".")[2]


def _merged(model: str) -> dict[str, Any]:
    settings: Any = OmegaConf.to_container(OmegaConf.load(MODELS / f"{model}.yaml"))
    for parent in (name for name in settings.pop("defaults", []) if name != "_self_"):
        settings = {**_merged(parent), **settings}
    return dict(settings)


def build(model: str, *, spec: DataSpec = DATA, **changes: Any) -> TimmBackbone:
    """Build what a model file describes, without weights, with some settings changed."""
    return timm_backbone(spec, **{**read(model), "weights": "none", **changes})


def pixels(normalised: Tensor, input: InputSpec) -> Tensor:
    """Return the images that a backbone with this input normalises to what a reference was given."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (input.mean, input.std))
    return normalised * std + mean


def build_small(model: str, **changes: Any) -> TimmBackbone:
    """Build the small member of a family."""
    return build(model, **{**SMALL[model], **changes})


def randomised(model: str, **changes: Any) -> TimmBackbone:
    """Return a small model whose every number is its own: a key at the wrong place shows."""
    backbone = build_small(model, **changes).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for value in backbone.state_dict().values():
            if value.is_floating_point():
                value.copy_(torch.rand(value.shape, generator=generator) * 0.1 + 0.01)
    return backbone


def images_of(backbone: TimmBackbone) -> Tensor:
    """Return two images of the side that a backbone expects."""
    side = backbone.input.size
    return torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(0))


def own_state(backbone: TimmBackbone) -> dict[str, Tensor]:
    """Return a copy of the state of the network itself, under timm's names."""
    return {key: value.clone() for key, value in backbone.model.state_dict().items()}
