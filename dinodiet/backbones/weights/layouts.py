"""Layouts of weights that timm's own filters do not know: Hugging Face's, MMPretrain's, and DINOv2's while it trains.

Each is turned into the publisher's layout of the family, or timm's; timm's filter does the rest.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import torch
from torch import Tensor

State = dict[str, Tensor]
Rules = tuple[tuple[str, str], ...]

_ATTENTION: Rules = (
    (r"\.(?:attention\.attention|attention\.self|attention|self_attn)\.(?:q_proj|query)\.", ".attn.q."),
    (r"\.(?:attention\.attention|attention\.self|attention|self_attn)\.(?:k_proj|key)\.", ".attn.k."),
    (r"\.(?:attention\.attention|attention\.self|attention|self_attn)\.(?:v_proj|value)\.", ".attn.v."),
    (r"\.(?:attention\.output\.dense|attention\.o_proj|self_attn\.out_proj|attention\.out_proj)\.", ".attn.proj."),
    (r"\.attention\.attention\.relative_position_bias\.", ".attn."),
    (r"^encoder\.relative_position_bias\.", "rel_pos_bias."),
    (r"\.attention\.self\.continuous_position_bias_mlp\.", ".attn.cpb_mlp."),
    (r"\.attention\.self\.", ".attn."),
)
_BLOCK: Rules = (
    (r"\.(?:intermediate\.dense|mlp\.up_proj)\.", ".mlp.fc1."),
    (r"\.(?:output\.dense|mlp\.down_proj)\.", ".mlp.fc2."),
    (r"\.mlp\.weights_in\.", ".mlp.w12."),
    (r"\.mlp\.weights_out\.", ".mlp.w3."),
    (r"\.(?:layernorm_before|layer_norm1)\.", ".norm1."),
    (r"\.(?:layernorm_after|layer_norm2)\.", ".norm2."),
    (r"\.layer_scale(\d)\.lambda1$", r".ls\1.gamma"),
    (r"\.lambda_(\d)$", r".gamma_\1"),
)
SHARED_BIASES = "rel_pos_bias.relative_position_bias_table"  # of BEiT while it pretrains
_GATED: Rules = ((r"\.gate_proj\.", ".w1."), (r"\.mlp\.up_proj\.", ".mlp.w2."), (r"\.mlp\.down_proj\.", ".mlp.w3."))
_TRANSFORMER: Rules = (
    *_ATTENTION,
    *_BLOCK,
    (r"^(?:encoder\.)?(?:layer|layers)\.(\d+)\.(?!blocks\.|downsample\.)", r"blocks.\1."),
    (r"^encoder\.layers\.(\d+)\.(blocks|downsample)\.", r"layers.\1.\2."),
    (r"^embeddings\.patch_embeddings\.projection\.", "patch_embed.proj."),
    (r"^embeddings\.(?:patch_embeddings|patch_embedding)\.", "patch_embed.proj."),
    (r"^embeddings\.position_embeddings$", "pos_embed"),
    (r"^embeddings\.position_embedding\.weight$", "pos_embed"),
    (r"^embeddings\.(?:class_embedding|cls_token)$", "cls_token"),
    (r"^embeddings\.distillation_token$", "dist_token"),
    (r"^embeddings\.norm\.", "patch_embed.norm."),
    (r"^embeddings\.(register_tokens|mask_token)$", r"\1"),
    (r"^(?:layernorm|post_layernorm|layer_norm)\.", "norm."),
    (r"^pre_layrnorm\.", "norm_pre."),
    (r"^pooler\.layernorm\.", "fc_norm."),
    (r"^head\.probe$", "attn_pool.latent"),
    (r"^head\.attn\.proj\.", "attn_pool.proj."),
    (r"^head\.layernorm\.", "attn_pool.norm."),
    (r"^head\.mlp\.", "attn_pool.mlp."),
)
_CONVNEXT: Rules = (
    (r"^embeddings\.patch_embeddings\.", "stem.0."),
    (r"^embeddings\.layernorm\.", "stem.1."),
    (r"^(?:encoder\.)?stages\.0\.downsample_layers\.", "stem."),
    (r"^(?:encoder\.)?stages\.(\d+)\.(?:downsampling_layer|downsample_layers)\.", r"stages.\1.downsample."),
    (r"^(?:encoder\.)?stages\.(\d+)\.layers\.(\d+)\.", r"stages.\1.blocks.\2."),
    (r"\.(?:dwconv|depthwise_conv)\.", ".conv_dw."),
    (r"\.(?:pwconv|pointwise_conv)(\d)\.", r".mlp.fc\1."),
    (r"\.blocks\.(\d+)\.(?:layernorm|layer_norm)\.", r".blocks.\1.norm."),
    (r"\.layer_scale_parameter$", ".gamma"),
    (r"\.grn\.", ".mlp.grn."),
    (r"^(?:layernorm|layer_norm)\.", "head.norm."),
)


def to_known(state: State) -> State:
    """Return a state dict in a layout that timm knows, where it is one of those above; else as it is."""
    for names_it, convert in _LAYOUTS:
        if any(re.match(names_it, key) for key in state):
            return convert(state)
    return state


def renamed(state: State, rules: Rules) -> State:
    """Return the state dict with every key put through the regular expressions in turn."""
    result: State = {}
    for key, value in state.items():
        for pattern, replacement in rules:
            key = re.sub(pattern, replacement, key)  # noqa: PLW2901
        result[key] = value
    return result


def _transformer(state: State) -> State:
    fixed = ("relative_position_index", "relative_coords_table", "position_ids", "inv_freq")
    state = {key: value for key, value in state.items() if not key.endswith(fixed)}
    rules = _TRANSFORMER
    if any(".attention.q_proj." in key for key in state):  # DINOv3, by whose name for registers timm knows it
        rules = ((r"^embeddings\.register_tokens$", "storage_tokens"), *rules)
    if any(".gate_proj." in key for key in state):
        rules = (*_GATED, *rules)
    result = _fused(renamed(state, rules))
    if "cls_token" in result:
        result["cls_token"] = result["cls_token"].reshape(1, 1, -1)
    if "pos_embed" in result and result["pos_embed"].ndim == 2:
        result["pos_embed"] = result["pos_embed"][None]
    if "patch_embed.proj.weight" in result and "norm_pre.weight" in result:
        result.pop("patch_embed.proj.bias", None)
    return _pooled(_without_position(result))


def _without_position(state: State) -> State:
    """Add the class token's position to it, where there are registers (DINOv2): timm has positions of patches alone."""
    if "register_tokens" not in state or "pos_embed" not in state:
        return state
    rest = {key: value for key, value in state.items() if key not in ("register_tokens", "mask_token")}
    token, positions = state["cls_token"], state["pos_embed"]
    merged = {"cls_token": token + positions[:, :1], "pos_embed": positions[:, 1:]}
    return rest | merged | {"reg_token": state["register_tokens"]}


def _fused(state: State) -> State:
    """Return queries, keys and values as one; a bias that one of them lacks is zero.

    BEiT and Swin V2 have none for the keys, and keep the two others by their own names.
    """
    result: State = {}
    apart = ("relative_position_bias_table", "logit_scale")
    for key, value in state.items():
        match = re.fullmatch(r"(.*\.attn\.)([qkv])\.(weight|bias)", key)
        if match is None:
            result[key] = value
        elif match[2] == "q":
            block, kind = match[1], match[3]
            parts = [state.get(f"{block}{name}.{kind}", None) for name in "qkv"]
            named = SHARED_BIASES in state or any(f"{block}{name}" in state for name in apart)
            if kind == "bias" and named and parts[1] is None:
                result |= {f"{block}q_bias": value, f"{block}v_bias": state[f"{block}v.bias"]}
            else:
                result[f"{block}qkv.{kind}"] = torch.cat(
                    [torch.zeros_like(value) if part is None else part for part in parts]
                )
    return result


def _pooled(state: State) -> State:
    """Return the attention pooling of SigLIP under timm's names: its query apart from keys and values."""
    result = dict(state)
    for kind in ("weight", "bias"):
        if (fused := result.pop(f"head.attention.in_proj_{kind}", None)) is not None:
            query, *others = fused.chunk(3)
            result |= {f"attn_pool.q.{kind}": query, f"attn_pool.kv.{kind}": torch.cat(others)}
    return result


def _convnext(state: State) -> State:
    result = renamed(state, _CONVNEXT)
    return {key: value.reshape(-1) if ".grn." in key else value for key, value in result.items()}


def _resnet(state: State) -> State:
    rules: Rules = (
        (r"^embedder\.embedder\.convolution\.", "conv1."),
        (r"^embedder\.embedder\.normalization\.", "bn1."),
        (r"\.shortcut\.convolution\.", ".downsample.0."),
        (r"\.shortcut\.normalization\.", ".downsample.1."),
    )

    def numbered(match: re.Match[str]) -> str:
        stage, block, layer, kind = match.groups()
        return f"layer{int(stage) + 1}.{block}.{'conv' if kind == 'convolution' else 'bn'}{int(layer) + 1}."

    result: State = {}
    for key, value in renamed(state, rules).items():
        name = re.sub(
            r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.layer\.(\d+)\.(convolution|normalization)\.", numbered, key
        )
        name = re.sub(r"^encoder\.stages\.(\d+)\.layers\.(\d+)\.", lambda m: f"layer{int(m[1]) + 1}.{m[2]}.", name)
        result[name] = value
    return result


def _mobilevit(state: State) -> State:
    """Return MobileViT's stages as timm has them: what halves the grid is a block of its own."""
    return _fused(renamed(state, (*_ATTENTION, *_BLOCK, *_MOBILEVIT)))


_MOBILEVIT: Rules = (
    (r"^conv_stem\.", "stem."),
    (r"^conv_1x1_exp\.", "final_conv."),
    (r"^encoder\.layer\.([01])\.layer\.", r"stages.\1."),
    (r"^encoder\.layer\.([234])\.downsampling_layer\.", r"stages.\1.0."),
    (r"^encoder\.layer\.([234])\.", r"stages.\1.1."),
    (r"\.transformer\.layer\.(\d+)\.", r".transformer.\1."),
    (r"\.layernorm\.", ".norm."),
    (r"\.expand_1x1\.", ".conv1_1x1."),
    (r"\.conv_3x3\.", ".conv2_kxk."),
    (r"\.reduce_1x1\.", ".conv3_1x1."),
    (r"\.conv_projection\.", ".conv_proj."),
    (r"\.fusion\.", ".conv_fusion."),
    (r"\.conv_1x1\.convolution\.", ".conv_1x1."),
    (r"\.convolution\.", ".conv."),
    (r"\.normalization\.", ".bn."),
)


def _mmpretrain(state: State) -> State:
    return renamed(
        state,
        (
            (r"^layers\.(\d+)\.ln(\d)\.", r"blocks.\1.norm\2."),
            (r"^layers\.(\d+)\.ffn\.layers\.0\.0\.", r"blocks.\1.mlp.fc1."),
            (r"^layers\.(\d+)\.ffn\.layers\.1\.", r"blocks.\1.mlp.fc2."),
            (r"^layers\.(\d+)\.attn\.gamma1\.weight$", r"blocks.\1.ls1.gamma"),
            (r"^layers\.(\d+)\.ffn\.gamma2\.weight$", r"blocks.\1.ls2.gamma"),
            (r"^layers\.(\d+)\.", r"blocks.\1."),
            (r"^patch_embed\.projection\.", "patch_embed.proj."),
            (r"^pre_norm\.", "norm_pre."),
            (r"^ln1\.", "norm."),
        ),
    )


def _chunked(state: State) -> State:
    """Return DINOv2's blocks numbered through: it trains them in chunks, each numbered on or from 0."""
    pattern = re.compile(r"^blocks\.(\d+)\.(\d+)\.")
    places = sorted({(int(m[1]), int(m[2])) for key in state if (m := pattern.match(key))})
    numbers = {place: number for number, place in enumerate(places)}

    def through(match: re.Match[str]) -> str:
        return f"blocks.{numbers[int(match[1]), int(match[2])]}."

    return {pattern.sub(through, key): value for key, value in state.items()}


# What a key of the layout looks like, and what turns it into a known one.
_LAYOUTS: tuple[tuple[str, Callable[[State], State]], ...] = (
    (r"embedder\.embedder\.", _resnet),
    (r"conv_stem\.convolution\.", _mobilevit),
    (r"(encoder\.)?stages\.\d+\.layers\.\d+\.(dwconv|depthwise_conv)\.", _convnext),
    (r"embeddings\.(patch_embedding|patch_embeddings|cls_token)", _transformer),
    (r"layers\.\d+\.ffn\.layers\.0\.0\.", _mmpretrain),
    (r"blocks\.\d+\.\d+\.(norm1|attn\.qkv)\.", _chunked),
)
