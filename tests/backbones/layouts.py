"""Checkpoints in the layouts that publishers use, made from a timm model's own weights.

Each function undoes, key by key, what loading has to do; the key names are those of the published files.
"""

import argparse
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

State = dict[str, Tensor]


def renamed(state: State, *rules: tuple[str, str]) -> State:
    """Return the state dict with every key put through the regular expressions in turn."""
    result = {}
    for key, value in state.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)  # noqa: PLW2901
        result[key] = value
    return result


def dino(state: State) -> State:
    """dino_deitsmall16_pretrain.pth: the teacher's bare backbone."""
    return dict(state)


def dino_full(state: State) -> dict[str, Any]:
    """dino_deitsmall16_pretrain_full_checkpoint.pth: both networks under a wrapper, with projection heads."""
    teacher = {f"backbone.{key}": value for key, value in state.items()}
    teacher |= {"head.mlp.0.weight": torch.zeros(4, 48), "head.last_layer.weight_v": torch.zeros(8, 4)}
    student = {f"module.{key}": torch.zeros_like(value) for key, value in teacher.items()}
    return {"student": student, "teacher": teacher, "epoch": 100, "args": argparse.Namespace(arch="vit_small")}


def dinov2(state: State) -> State:
    """dinov2_vits14_pretrain.pth; with registers the class token's position embedding is stored beside it."""
    state = {**state, "mask_token": torch.zeros(1, 48)}
    if "reg_token" in state:
        class_position = torch.full((1, 1, state["cls_token"].shape[-1]), 0.25)
        state["register_tokens"] = state.pop("reg_token")
        state["cls_token"] = state["cls_token"] - class_position
        state["pos_embed"] = torch.cat([class_position, state["pos_embed"]], dim=1)
    if "blocks.0.mlp.fc1.weight" in state and state["blocks.0.mlp.fc1.weight"].shape[0] != 4 * 48:  # SwiGLU: giant
        state = renamed(state, (r"mlp\.fc1\.", "mlp.w12."), (r"mlp\.fc2\.", "mlp.w3."))
    return state


def dinov3(state: State) -> State:
    """dinov3_vits16_pretrain_lvd1689m: one bias for queries, keys and values, the keys' masked out."""
    result = {"mask_token": torch.zeros(1, 48), "rope_embed.periods": torch.ones(4)}
    for key, value in state.items():
        block = key.rsplit(".", 1)[0]
        if key.endswith("q_bias"):
            parts = (value, torch.zeros_like(value), state[f"{block}.v_bias"])
            result[f"{block}.qkv.bias"] = torch.cat(parts)
            result[f"{block}.qkv.bias_mask"] = torch.ones(3 * len(value))
        elif not key.endswith("v_bias"):
            result[key] = value
    return renamed(result, (r"gamma_(\d)", r"ls\1.gamma"), ("^reg_token", "storage_tokens"))


def dinov3_convnext(state: State) -> State:
    """dinov3_convnext_tiny_pretrain_lvd1689m, in the key names of the original ConvNeXt."""
    return renamed(
        state,
        (r"^stem\.", "downsample_layers.0."),
        (r"^stages\.(\d)\.downsample\.", r"downsample_layers.\1."),
        (r"\.blocks\.", "."),
        ("conv_dw", "dwconv"),
        (r"mlp\.fc", "pwconv"),
        (r"^head\.norm\.", "norm."),
    )


def mae(state: State) -> dict[str, Any]:
    """mae_pretrain_vit_base.pth."""
    return {"model": dict(state)}


def mae_full(state: State) -> dict[str, Any]:
    """mae_pretrain_vit_base_full.pth, with the decoder."""
    decoder = {"mask_token": torch.zeros(1, 1, 8), "decoder_embed.weight": torch.zeros(8, 48)}
    decoder |= {"decoder_pos_embed": torch.zeros(1, 5, 8), "decoder_blocks.0.norm1.weight": torch.ones(8)}
    return {"model": {**state, **decoder}}


def ijepa(state: State) -> dict[str, Any]:
    """IN1K-vit.h.14-300e.pth.tar: the context encoder, and the target encoder that the paper evaluates."""
    target = {f"module.{key}": value for key, value in state.items()}
    context = {key: torch.zeros_like(value) for key, value in target.items()}
    predictor = {"module.predictor_embed.weight": torch.zeros(4, 48)}
    return {"encoder": context, "predictor": predictor, "opt": {}, "target_encoder": target, "epoch": 300, "lr": 1e-3}


def aimv2(state: State) -> State:
    """apple/aimv2-large-patch14-224."""
    return renamed(
        state,
        (r"^patch_embed\.", "preprocessor.patchifier."),
        (r"^pos_embed", "preprocessor.pos_embed"),
        (r"^norm\.", "trunk.post_trunk_norm."),
        (r"^blocks\.", "trunk.blocks."),
        (r"norm(\d)", r"norm_\1"),
        ("fc1_g", "fc1"),
        ("fc1_x", "fc3"),
    )


def classifier(key: str) -> Callable[[State], State]:
    """timm's and torchvision's own layout: the same names and a classifier on top."""
    return lambda state: {**state, f"{key}.weight": torch.zeros(1000, 8), f"{key}.bias": torch.zeros(1000)}
