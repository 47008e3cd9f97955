"""A backbone of timm as transformers loads it, where that has the same network: ViT, I-JEPA, DINOv2, ResNet.

Whether it is the same is seen when it is written: what transformers reads must give the backbone's own embeddings.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors.torch import save_file
from timm.models.resnet import BasicBlock, Bottleneck, ResNet
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from dinodiet.backbones.weights.huggingface import to_huggingface
from dinodiet.io.files import write_json
from dinodiet.types import Embed, ExportTarget

if TYPE_CHECKING:
    from dinodiet.backbones.timm import TimmBackbone

CLASSES = {
    "vit": "ViTModel",
    "ijepa": "IJepaModel",
    "dinov2": "Dinov2Model",
    "dinov2_with_registers": "Dinov2WithRegistersModel",
    "resnet": "ResNetModel",
}
_LAYERS = {BasicBlock: "basic", Bottleneck: "bottleneck"}


def transformers_targets(backbone: TimmBackbone) -> dict[str, ExportTarget]:
    """Return the target `transformers`; none of a network or feature that the library does not have."""
    config = _config(backbone)
    if config is None:
        return {}
    from dinodiet.backbones.hf.export import takes, usage  # noqa: PLC0415 - imports transformers

    feature, prefix = _feature(backbone)
    return {
        "transformers": ExportTarget(
            write=lambda folder: _write(backbone, config, folder),
            read=lambda folder: _read(backbone, folder),
            usage=usage(feature, prefix, {}),
            library="transformers",
            takes=takes(backbone.input),
        )
    }


def _feature(backbone: TimmBackbone) -> tuple[Any, int]:
    """Return what the embedding is in transformers' words, and the tokens in front of the patches."""
    feature = "pooler" if backbone.feature == "pooled" else backbone.feature
    return feature, int(getattr(backbone.model, "num_prefix_tokens", 0))


def _config(backbone: TimmBackbone) -> dict[str, Any] | None:
    """Return the config.json of the same network; None: there is none."""
    model = backbone.model
    if type(model) is VisionTransformer and backbone.feature in ("cls", "mean_patch"):
        return _vit(model, backbone.input.size)
    if type(model) is ResNet and backbone.feature == "pooled":
        return _resnet(model)
    return None


def _vit(model: Any, side: int) -> dict[str, Any] | None:
    block = model.blocks[0]
    scaled = not isinstance(block.ls1, nn.Identity)
    other_norms = [part for part in (model.norm_pre, model.fc_norm) if not isinstance(part, nn.Identity)]
    if other_norms or model.pos_embed is None or not isinstance(getattr(block.mlp, "fc1", None), nn.Linear):
        return None
    wide = block.mlp.fc1.out_features
    common = {
        **{"hidden_size": model.embed_dim, "num_hidden_layers": len(model.blocks), "image_size": side},
        **{"num_attention_heads": block.attn.num_heads, "patch_size": model.patch_embed.patch_size[0]},
        **{"layer_norm_eps": model.norm.eps, "qkv_bias": block.attn.qkv.bias is not None, "hidden_act": "gelu"},
    }
    if not scaled:
        return {"model_type": "vit" if model.has_class_token else "ijepa", "intermediate_size": wide, **common}
    gated = block.mlp.fc2.in_features != wide
    kind = "dinov2_with_registers" if model.num_reg_tokens else "dinov2"
    registers = {"num_register_tokens": model.num_reg_tokens} if model.num_reg_tokens else {}
    ratio, rest = (4, 0) if gated else divmod(wide, model.embed_dim)  # the library takes whole ratios
    return None if rest else {"model_type": kind, "mlp_ratio": ratio, "use_swiglu_ffn": gated, **registers, **common}


def _resnet(model: Any) -> dict[str, Any] | None:
    stages = [model.layer1, model.layer2, model.layer3, model.layer4]
    kind = _LAYERS.get(type(stages[0][0]))
    if kind is None or not isinstance(model.conv1, nn.Conv2d):
        return None
    last = "conv3" if kind == "bottleneck" else "conv2"
    return {
        **{"model_type": "resnet", "layer_type": kind, "depths": [len(stage) for stage in stages]},
        **{"hidden_sizes": [getattr(stage[0], last).out_channels for stage in stages]},
        **{"embedding_size": model.conv1.out_channels, "hidden_act": "relu"},
    }


def _write(backbone: TimmBackbone, config: dict[str, Any], folder: Path) -> None:
    from dinodiet.backbones.hf.export import PROCESSOR, processor_config  # noqa: PLC0415 - imports transformers

    kind = config["model_type"]
    state = to_huggingface(kind, {key: value.detach().cpu() for key, value in backbone.model.state_dict().items()})
    save_file({key: value.contiguous() for key, value in state.items()}, folder / "model.safetensors", {"format": "pt"})
    write_json(folder / "config.json", {"architectures": [CLASSES[kind]], "dtype": "float32", **config})
    write_json(folder / PROCESSOR, processor_config(backbone.input, flipped=False))


def _read(backbone: TimmBackbone, folder: Path) -> Embed:
    from dinodiet.backbones.hf.export import read  # noqa: PLC0415 - imports transformers

    return read(folder, *_feature(backbone), backbone.input, flipped=False)
