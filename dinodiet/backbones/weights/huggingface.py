"""Weights of timm's models under the names of Hugging Face's library: the inverse of `layouts`.

The names are those of released checkpoints, which every version of the library reads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from dinodiet.backbones.weights.layouts import Rules, State, renamed
from dinodiet.errors import UserError

_QKV = (("q", "query"), ("k", "key"), ("v", "value"))
_EMBEDDINGS: Rules = (
    (r"^cls_token$", "embeddings.cls_token"),
    (r"^pos_embed$", "embeddings.position_embeddings"),
    (r"^reg_token$", "embeddings.register_tokens"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings.projection."),
    (r"^patch_embed\.norm\.", "embeddings.norm."),
    (r"^norm\.", "layernorm."),
)
_BERT: Rules = (
    (r"\.attn\.proj\.", ".attention.output.dense."),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
    (r"\.mlp\.fc1\.", ".intermediate.dense."),
    (r"\.mlp\.fc2\.", ".output.dense."),
)
_NUMBERED: Rules = ((r"^blocks\.", "encoder.layer."),)
_SCALES: Rules = ((r"\.ls(\d)\.gamma$", r".layer_scale\1.lambda1"), (r"\.gamma_(\d)$", r".layer_scale\1.lambda1"))


def _attention(place: str) -> Rules:
    return tuple((rf"\.attn\.{short}\.", f".attention.{place}.{name}.") for short, name in _QKV)


_VIT: Rules = (*_EMBEDDINGS, *_NUMBERED, *_attention("attention"), *_BERT)
_DINOV2: Rules = (
    *_EMBEDDINGS,
    *_NUMBERED,
    *_attention("attention"),
    *_SCALES,
    (r"\.attn\.proj\.", ".attention.output.dense."),
)
_OFFICIAL_DINOV2: Rules = (
    (r"^register_tokens$", "reg_token"),
    (r"^mask_token$", "embeddings.mask_token"),
    (r"\.mlp\.w12\.", ".mlp.weights_in."),
    (r"\.mlp\.w3\.", ".mlp.weights_out."),
)
_DINOV3: Rules = (
    (r"^patch_embed\.proj\.", "embeddings.patch_embeddings."),
    *_EMBEDDINGS[:3],
    (r"^blocks\.", "layer."),
    (r"\.attn\.([qkv])\.", r".attention.\1_proj."),
    (r"\.attn\.proj\.", ".attention.o_proj."),
    *_SCALES,
    (r"\.mlp\.fc1_g\.", ".mlp.gate_proj."),
    (r"\.mlp\.fc1(_x)?\.", ".mlp.up_proj."),
    (r"\.mlp\.fc2\.", ".mlp.down_proj."),
)
_BEIT: Rules = (
    (r"\.attn\.relative_position_bias_table$", ".attn.bias.relative_position_bias_table"),
    *_VIT,
    (r"\.attn\.bias\.", ".attention.attention.relative_position_bias."),
    (r"^rel_pos_bias\.", "encoder.relative_position_bias."),
    (r"^fc_norm\.", "pooler.layernorm."),
    (r"\.gamma_(\d)$", r".lambda_\1"),
)
_SWIN: Rules = (
    *_EMBEDDINGS,
    (r"^layers\.", "encoder.layers."),
    *_attention("self"),
    *_BERT,
    (r"\.attn\.cpb_mlp\.", ".attention.self.continuous_position_bias_mlp."),
    (r"\.attn\.(relative_position_bias_table|logit_scale)$", r".attention.self.\1"),
)
_TOWER: Rules = (
    (r"^pos_embed$", "embeddings.position_embedding.weight"),
    (r"^cls_token$", "embeddings.class_embedding"),
    (r"^patch_embed\.proj\.", "embeddings.patch_embedding."),
    (r"^norm_pre\.", "pre_layrnorm."),
    (r"^norm\.", "post_layernorm."),
    (r"^blocks\.", "encoder.layers."),
    (r"\.attn\.([qkv])\.", r".self_attn.\1_proj."),
    (r"\.attn\.proj\.", ".self_attn.out_proj."),
    (r"\.norm(\d)\.", r".layer_norm\1."),
    (r"^attn_pool\.latent$", "head.probe"),
    (r"^attn_pool\.proj\.", "head.attention.out_proj."),
    (r"^attn_pool\.norm\.", "head.layernorm."),
    (r"^attn_pool\.mlp\.", "head.mlp."),
)
_CONVNEXT: Rules = (
    (r"^stem\.0\.", "embeddings.patch_embeddings."),
    (r"^stem\.1\.", "embeddings.layernorm."),
    (r"^stages\.(\d+)\.downsample\.", r"encoder.stages.\1.downsampling_layer."),
    (r"^stages\.(\d+)\.blocks\.(\d+)\.", r"encoder.stages.\1.layers.\2."),
    (r"\.conv_dw\.", ".dwconv."),
    (r"\.norm\.", ".layernorm."),
    (r"^head\.layernorm\.", "layernorm."),
    (r"\.mlp\.fc(\d)\.", r".pwconv\1."),
    (r"\.mlp\.grn\.", ".grn."),
    (r"\.gamma$", ".layer_scale_parameter"),
)
_DINOV3_CONVNEXT: Rules = (
    (r"^stem\.", "stages.0.downsample_layers."),
    (r"^stages\.(\d+)\.downsample\.", r"stages.\1.downsample_layers."),
    (r"^stages\.(\d+)\.blocks\.(\d+)\.", r"stages.\1.layers.\2."),
    (r"\.conv_dw\.", ".depthwise_conv."),
    (r"\.norm\.", ".layer_norm."),
    (r"^head\.layer_norm\.", "layer_norm."),
    (r"\.mlp\.fc(\d)\.", r".pointwise_conv\1."),
)


def _split(state: State) -> State:
    """Return queries, keys and values apart; timm's BEiT and DINOv3 have no bias of keys."""
    result: State = {}
    for key, value in state.items():
        if match := re.fullmatch(r"(.*\.attn\.)qkv\.(weight|bias)", key):
            result |= {
                f"{match[1]}{name}.{match[2]}": part for (name, _), part in zip(_QKV, value.chunk(3), strict=True)
            }
        else:
            result[re.sub(r"\.attn\.([qv])_bias$", r".attn.\1.bias", key)] = value
    return result


def _gated(state: State) -> State:
    """Return DINOv2's largest feed-forward layers, two in one matrix, under their own names."""
    first, second = (state.get(f"blocks.0.mlp.fc{number}.weight") for number in (1, 2))
    if first is None or second is None or first.shape[0] == second.shape[1]:
        return state
    return renamed(state, ((r"\.mlp\.fc1\.", ".mlp.weights_in."), (r"\.mlp\.fc2\.", ".mlp.weights_out.")))


def _dinov2(state: State) -> State:
    """Return DINOv2's tensors; where timm has no position of the class token, it is zero.

    With registers timm has added it to the token, and DeiT III has none. The publisher's own names are known too: they
    are nearly timm's, and the position is there.
    """
    state = renamed(_gated(_split(state)), _OFFICIAL_DINOV2)
    masked = {"embeddings.mask_token": torch.zeros_like(state["cls_token"][0])}  # of the pretraining alone
    masked = {} if "embeddings.mask_token" in state else masked
    positions = state["pos_embed"]
    if math.isqrt(positions.shape[1]) ** 2 != positions.shape[1]:
        return state | masked
    return state | masked | {"pos_embed": torch.cat([torch.zeros_like(positions[:, :1]), positions], dim=1)}


def _dinov3(state: State) -> State:
    """Return DINOv3's tensors, with the token of masked patches, which timm leaves out."""
    return _split(state) | {"embeddings.mask_token": torch.zeros_like(state["cls_token"])}


def _stages_end_with_a_step(state: State) -> State:
    """Return Swin's step from a stage to the next as part of the first one."""

    def before(match: re.Match[str]) -> str:
        return f"layers.{int(match[1]) - 1}.downsample."

    return {re.sub(r"^layers\.(\d+)\.downsample\.", before, key): value for key, value in _split(state).items()}


def _tower(state: State) -> State:
    """Return CLIP's or SigLIP's tensors: positions without batch, the query of the pooling with its keys and values."""
    result = _split(state)
    result["pos_embed"] = result["pos_embed"][0]
    if "cls_token" in result:
        result["cls_token"] = result["cls_token"].flatten()
    for kind in ("weight", "bias"):
        if (query := result.pop(f"attn_pool.q.{kind}", None)) is not None:
            result[f"head.attention.in_proj_{kind}"] = torch.cat([query, result.pop(f"attn_pool.kv.{kind}")])
    return result


def _convnext(state: State) -> State:
    """Return ConvNeXt's tensors: layers of one pixel as matrices, the response normalisation as a map of one pixel."""
    result: State = {}
    for key, value in state.items():
        wide = value.flatten(1) if ".mlp.fc" in key and value.ndim == 4 else value
        result[key] = wide.reshape(1, 1, 1, -1) if ".grn." in key else wide
    return result


def _resnet(state: State) -> State:
    """Return ResNet's tensors: timm numbers the layers of a block by name, and the library in order."""

    def layer(match: re.Match[str]) -> str:
        stage, block, kind, number = match.groups()
        name = "convolution" if kind == "conv" else "normalization"
        return f"encoder.stages.{int(stage) - 1}.layers.{block}.layer.{int(number) - 1}.{name}."

    def shortcut(match: re.Match[str]) -> str:
        name = ("convolution", "normalization")[int(match[3])]
        return f"encoder.stages.{int(match[1]) - 1}.layers.{match[2]}.shortcut.{name}."

    result: State = {}
    for key, value in state.items():
        name = re.sub(r"^layer(\d+)\.(\d+)\.(conv|bn)(\d)\.", layer, key)
        result[re.sub(r"^layer(\d+)\.(\d+)\.downsample\.([01])\.", shortcut, name)] = value
    return result


def _mobilevit(state: State) -> State:
    """Return MobileViT's tensors: each of the last stages is one layer in the library, and two blocks in timm."""
    return renamed(_split(state), ((r"^stages\.([234])\.0\.", r"encoder.layer.\1.downsampling_layer."),))


_MOBILEVIT: Rules = (
    (r"^stem\.", "conv_stem."),
    (r"^final_conv\.", "conv_1x1_exp."),
    (r"^stages\.([01])\.", r"encoder.layer.\1.layer."),
    (r"^stages\.([234])\.1\.", r"encoder.layer.\1."),
    (r"\.transformer\.(\d+)\.", r".transformer.layer.\1."),
    *_attention("attention"),
    *_BERT,
    (r"\.norm\.", ".layernorm."),
    (r"\.conv1_1x1\.", ".expand_1x1."),
    (r"\.conv2_kxk\.", ".conv_3x3."),
    (r"\.conv3_1x1\.", ".reduce_1x1."),
    (r"\.conv_proj\.", ".conv_projection."),
    (r"\.conv_fusion\.", ".fusion."),
    (r"\.conv\.", ".convolution."),
    (r"\.bn\.", ".normalization."),
    (r"\.conv_1x1\.weight$", ".conv_1x1.convolution.weight"),
)
_RESNET: Rules = ((r"^conv1\.", "embedder.embedder.convolution."), (r"^bn1\.", "embedder.embedder.normalization."))


@dataclass(frozen=True)
class _Layout:
    values: Callable[[State], State]
    rules: Rules
    red_first: bool = True  # whether the published models of the library take the same order of colours as timm's


_LAYOUTS: Mapping[str, _Layout] = {
    **dict.fromkeys(("vit", "vit_mae", "ijepa"), _Layout(_split, _VIT)),
    **dict.fromkeys(("dinov2", "dinov2_with_registers"), _Layout(_dinov2, _DINOV2)),
    "dinov3_vit": _Layout(_dinov3, _DINOV3),
    "dinov3_convnext": _Layout(_convnext, _DINOV3_CONVNEXT),
    "beit": _Layout(_split, _BEIT),
    **dict.fromkeys(("swin", "swinv2"), _Layout(_stages_end_with_a_step, _SWIN)),
    **dict.fromkeys(("convnext", "convnextv2"), _Layout(_convnext, _CONVNEXT)),
    **dict.fromkeys(("siglip_vision_model", "clip_vision_model"), _Layout(_tower, _TOWER)),
    "mobilevit": _Layout(_mobilevit, _MOBILEVIT, red_first=False),
    "resnet": _Layout(_resnet, _RESNET),
}
MODEL_TYPES = tuple(_LAYOUTS)
EXCHANGED = tuple(name for name, layout in _LAYOUTS.items() if layout.red_first)  # timm's weights do as they are


def to_huggingface(model_type: str, state: Mapping[str, Tensor]) -> State:
    """Return the weights of a timm model, built without classifier, under Hugging Face's names.

    Args:
        model_type: as in the library's `config.json`; one of `MODEL_TYPES`.
        state: under timm's names.

    Raises:
        UserError: the names of this type are not known.
    """
    if model_type not in _LAYOUTS:
        raise UserError(f"model_type: {model_type!r}; choose from: {', '.join(MODEL_TYPES)}")
    layout = _LAYOUTS[model_type]
    return renamed(layout.values(dict(state)), layout.rules)
