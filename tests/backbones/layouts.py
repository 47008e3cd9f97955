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


def clip(state: State) -> State:
    """open_clip_model.safetensors of OpenCLIP, its text tower beside it; OpenAI's names are the same."""
    renamed_state = renamed(
        state,
        (r"^patch_embed\.proj", "conv1"),
        ("^pos_embed", "positional_embedding"),
        ("^cls_token", "class_embedding"),
        (r"^blocks\.", "transformer.resblocks."),
        ("^norm_pre", "ln_pre"),
        (r"^norm\.", "ln_post."),
        (r"norm(\d)", r"ln_\1"),
        (r"attn\.qkv\.", "attn.in_proj_"),
        (r"attn\.proj", "attn.out_proj"),
        (r"mlp\.fc1", "mlp.c_fc"),
        (r"mlp\.fc2", "mlp.c_proj"),
    )
    renamed_state["class_embedding"] = renamed_state["class_embedding"].flatten()
    renamed_state["positional_embedding"] = renamed_state["positional_embedding"][0]
    return _with_text({**renamed_state, "proj": torch.zeros(48, 32)}, "visual.")


def _with_text(state: State, prefix: str) -> State:
    text = {"positional_embedding": torch.zeros(77, 32), "logit_scale": torch.zeros(())}
    text["transformer.resblocks.0.attn.in_proj_weight"] = torch.zeros(96, 32)
    return {**{f"{prefix}{key}": value for key, value in state.items()}, **text}


def perception_encoder(state: State) -> State:
    """PE-Core-B16-224.pt: CLIP's names, and an attention pooling."""
    fused = {kind: torch.cat([state[f"attn_pool.q.{kind}"], state[f"attn_pool.kv.{kind}"]]) for kind in BOTH}
    pooling = {f"visual.attn_pool.attn.in_proj_{kind}": value for kind, value in fused.items()}
    rest = {key: value for key, value in state.items() if not re.match(r"attn_pool\.(q|kv)\.", key)}
    found = renamed(
        clip(rest),
        (r"attn_pool\.latent", "attn_pool.probe"),
        (r"attn_pool\.norm", "attn_pool.layernorm"),
        (r"attn_pool\.proj", "attn_pool.attn.out_proj"),
    )
    return {**found, **pooling}


BOTH = ("weight", "bias")


def open_clip(state: State) -> State:
    """open_clip_model.safetensors where the image tower is timm's, as of SigLIP."""
    return _with_text(state, "visual.trunk.")


def swin(state: State) -> dict[str, Any]:
    """swin_tiny_patch4_window7_224_22k.pth: each stage ends with the step to the next; fixed tensors beside."""
    found = {re.sub(r"layers\.(\d+)\.downsample", _stage_before, key): value for key, value in state.items()}
    fixed = {"attn.relative_position_index": torch.zeros(16, 16), "attn_mask": torch.zeros(4, 16, 16)}
    if "layers.0.blocks.0.attn.logit_scale" in state:  # V2
        fixed["attn.relative_coords_table"] = torch.zeros(1, 7, 7, 2)
    fixed = {f"layers.0.blocks.1.{key}": value for key, value in fixed.items()}
    return {"model": {**found, **fixed, "head.weight": torch.zeros(21841, 24), "head.bias": torch.zeros(21841)}}


def _stage_before(match: re.Match[str]) -> str:
    return f"layers.{int(match[1]) - 1}.downsample"


def convnext(state: State) -> dict[str, Any]:
    """convnextv2_tiny_22k_224_ema.pt and, without response normalisation, convnext_tiny_22k_224.pth."""
    found = renamed(dinov3_convnext(state), (r"\.mlp\.grn\.weight", ".grn.gamma"), (r"\.mlp\.grn\.bias", ".grn.beta"))
    found = {key: value.reshape(1, 1, 1, -1) if ".grn." in key else value for key, value in found.items()}
    return {"model": {**found, "head.weight": torch.zeros(1000, 32), "head.bias": torch.zeros(1000)}}


def convnextv2_fcmae(state: State) -> dict[str, Any]:
    """convnextv2_tiny_1k_224_fcmae.pt: no classifier, and no final norm."""
    model = convnext(state)["model"]
    return {"model": {key: value for key, value in model.items() if not key.startswith(("norm.", "head."))}}


def without_norm(state: State) -> State:
    """timm's own copy of convnextv2_tiny_1k_224_fcmae.pt."""
    return {key: value for key, value in state.items() if not key.startswith("head.")}


def beit(state: State) -> dict[str, Any]:
    """beit_base_patch16_224_pt22k_ft22k.pth."""
    fixed = {"blocks.0.attn.relative_position_index": torch.zeros(5, 5), "head.weight": torch.zeros(21841, 48)}
    return {"model": {**state, **fixed, "head.bias": torch.zeros(21841)}}


def beit_pretrained(state: State) -> dict[str, Any]:
    """beit_base_patch16_224_pt22k.pth: one table of position biases for all blocks, a norm of all tokens."""
    tables = [key for key in state if key.endswith("relative_position_bias_table")]
    found = renamed({key: value for key, value in state.items() if key not in tables}, (r"^fc_norm\.", "norm."))
    found["rel_pos_bias.relative_position_bias_table"] = state[tables[0]]
    found |= {"mask_token": torch.zeros(1, 1, 48), "lm_head.weight": torch.zeros(8192, 48)}
    return {"model": {**found, "lm_head.bias": torch.zeros(8192)}}


def deit3(state: State) -> dict[str, Any]:
    """deit_3_small_224_21k.pth."""
    found = renamed(state, (r"\.ls(\d)\.gamma$", r".gamma_\1"))
    return {"model": {**found, "head.weight": torch.zeros(1000, 48), "head.bias": torch.zeros(1000)}}


def eva02(state: State) -> dict[str, Any]:
    """eva02_B_pt_in21k_p14.pt, before any supervised training."""
    found = renamed(
        state,
        (r"mlp\.norm\.", "mlp.ffn_ln."),
        (r"attn\.norm\.", "attn.inner_attn_ln."),
        (r"mlp\.fc1_g\.", "mlp.w1."),
        (r"mlp\.fc1_x\.", "mlp.w2."),
        (r"mlp\.fc2\.", "mlp.w3."),
        (r"attn\.([qv])_proj\.bias", r"attn.\1_bias"),
        (r"^fc_norm\.", "norm."),
    )
    found |= {"mask_token": torch.zeros(1, 1, 48), "lm_head.weight": torch.zeros(1024, 48)}
    found |= {"rope.freqs_cos": torch.zeros(9, 24), "rope.freqs_sin": torch.zeros(9, 24)}
    return {"module": {**found, "lm_head.bias": torch.zeros(1024)}}
