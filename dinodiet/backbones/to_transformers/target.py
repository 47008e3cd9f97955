"""How a backbone of timm is written for transformers: the page of its class, its weights renamed, a configuration."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors.torch import save_file
from timm.models.beit import Beit
from timm.models.byobnet import ByobNet
from timm.models.convnext import ConvNeXt
from timm.models.eva import Eva
from timm.models.resnet import ResNet
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2
from timm.models.vision_transformer import VisionTransformer

from dinodiet.backbones.to_transformers import beit, convnext, dinov3, mobilevit, resnet, swin, vit
from dinodiet.backbones.to_transformers.conversion import Conversion, Convert, Unlike
from dinodiet.backbones.weights.huggingface import to_huggingface
from dinodiet.backbones.weights.layouts import renamed
from dinodiet.io.files import write_json
from dinodiet.types import Embed, ExportTarget, Unexportable

if TYPE_CHECKING:
    from dinodiet.backbones.timm import TimmBackbone

PAGES: Mapping[type, Convert] = {
    Beit: beit.convert,
    ByobNet: mobilevit.convert,
    ConvNeXt: convnext.convert,
    Eva: dinov3.convert,
    ResNet: resnet.convert,
    SwinTransformer: swin.convert,
    SwinTransformerV2: swin.convert_v2,
    VisionTransformer: vit.convert,
}


def transformers_target(backbone: TimmBackbone) -> ExportTarget | Unexportable:
    """Return how a backbone is written for transformers, or why it cannot be."""
    convert = PAGES.get(type(backbone.model))
    if convert is None:
        return Unexportable(f"timm's {type(backbone.model).__name__} is not among what is converted")
    try:
        found = convert(backbone.model, backbone.feature, backbone.input.size)
    except Unlike as unlike:
        return Unexportable(str(unlike))
    return _target(backbone, found)


def _target(backbone: TimmBackbone, found: Conversion) -> ExportTarget:
    from dinodiet.backbones.hf.export import output, takes, usage  # noqa: PLC0415 - imports transformers

    return ExportTarget(
        write=lambda folder: _write(backbone, found, folder),
        read=lambda folder: _read(backbone, found, folder),
        usage=usage(found.feature, found.prefix, {}),
        library="transformers",
        takes=takes(backbone.input),
        gives=output(found.feature, found.prefix)[1],
    )


def _write(backbone: TimmBackbone, found: Conversion, folder: Path) -> None:
    from dinodiet.backbones.hf.export import PROCESSOR, processor_config  # noqa: PLC0415 - imports transformers

    own = {key: value.detach().cpu() for key, value in backbone.model.state_dict().items()}
    state = to_huggingface(found.config["model_type"], renamed(own, found.renamed))
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors", {"format": "pt"})
    write_json(folder / "config.json", {"architectures": [found.architecture], "dtype": "float32", **found.config})
    write_json(folder / PROCESSOR, processor_config(backbone.input, flipped=False))


def _read(backbone: TimmBackbone, found: Conversion, folder: Path) -> Embed:
    from dinodiet.backbones.hf.export import read  # noqa: PLC0415 - imports transformers

    return read(folder, found.feature, found.prefix, backbone.input, flipped=False, pruned=False)
