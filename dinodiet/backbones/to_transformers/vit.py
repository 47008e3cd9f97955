"""Vision transformers with learned positions: ViT, MAE, I-JEPA, DINOv2, DeiT III, and the towers of CLIP and SigLIP."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

from dinodiet.backbones.to_transformers.conversion import (
    Conversion,
    OfTokens,
    Unlike,
    activation,
    epsilon,
    is_there,
    patch_side,
    pooled_as,
)

if TYPE_CHECKING:
    from dinodiet.backbones.timm_models import Feature


def convert(model: Any, feature: Feature, side: int) -> Conversion:
    """Return a `VisionTransformer` of timm in transformers; see `conversion.Convert`."""
    _demand_plain(model)
    chosen, block = pooled_as(model, feature), model.blocks[0]
    common = {
        **{"hidden_size": model.embed_dim, "num_hidden_layers": len(model.blocks), "image_size": side},
        **{"num_attention_heads": block.attn.num_heads, "patch_size": patch_side(model)},
        **{"layer_norm_eps": epsilon(model), "hidden_act": activation(block.mlp.act)},
    }
    if is_there(block.ls1):
        return _dinov2(model, chosen, common)
    common["intermediate_size"] = block.mlp.fc1.out_features
    if is_there(model.norm_pre):
        return _clip(model, chosen, common)
    if chosen == "map" or (not model.has_class_token and common["hidden_act"] != "gelu"):
        return _siglip(model, chosen, common)
    return _vit(model, chosen, common)


def _demand_plain(model: Any) -> None:
    """Refuse what no vision transformer of the library has.

    Raises:
        Unlike: something is there.
    """
    block = model.blocks[0]
    if is_there(model.fc_norm):
        raise Unlike("it normalises after the tokens are pooled, and transformers before")
    if model.pos_embed is None:
        raise Unlike("it has no learned positions")
    if not isinstance(getattr(getattr(block, "mlp", None), "fc1", None), nn.Linear) or not hasattr(block, "norm1"):
        raise Unlike("its blocks are not those of ViT")
    if extra := [name for name in ("q_norm", "k_norm", "norm") if is_there(getattr(block.attn, name, None))]:
        raise Unlike(f"its attention normalises too ({', '.join(extra)}), and transformers' does not")


def _vit(model: Any, feature: OfTokens, common: dict[str, Any]) -> Conversion:
    """Return ViT; without a class token it is called I-JEPA."""
    kind = "vit" if model.has_class_token else "ijepa"
    if model.num_reg_tokens:
        raise Unlike("it has registers and no layer scale, and transformers has none such")
    config = {"model_type": kind, "qkv_bias": model.blocks[0].attn.qkv.bias is not None, **common}
    return Conversion("ViTModel" if kind == "vit" else "IJepaModel", config, feature, model.num_prefix_tokens)


def _dinov2(model: Any, feature: OfTokens, common: dict[str, Any]) -> Conversion:
    """Return DINOv2, whose blocks have a layer scale, as have those of DeiT III."""
    block, registers = model.blocks[0], model.num_reg_tokens
    if not model.has_class_token or feature == "map" or is_there(model.norm_pre):
        raise Unlike("it has a layer scale, and what transformers has with one differs otherwise")
    wide = block.mlp.fc1.out_features
    gated = block.mlp.fc2.in_features != wide
    if gated != (common["hidden_act"] == "silu"):
        raise Unlike("its gated layers have another activation than SiLU, and transformers' have that")
    ratio, rest = (4, 0) if gated else divmod(wide, model.embed_dim)
    if rest:
        raise Unlike(f"its layers are {wide / model.embed_dim:.3g} times as wide inside, which transformers rounds")
    config = {
        **{"model_type": "dinov2_with_registers" if registers else "dinov2", "mlp_ratio": ratio, **common},
        **{"qkv_bias": block.attn.qkv.bias is not None, "use_swiglu_ffn": gated},
        **({"hidden_act": "gelu"} if gated else {}),
        **({"num_register_tokens": registers} if registers else {}),
    }
    name = "Dinov2WithRegistersModel" if registers else "Dinov2Model"
    return Conversion(name, config, feature, model.num_prefix_tokens)


def _clip(model: Any, feature: OfTokens, common: dict[str, Any]) -> Conversion:
    """Return CLIP's tower: a norm before the blocks, and one of the class token alone behind them."""
    if feature != "cls" or model.num_reg_tokens:
        raise Unlike("CLIPVisionModel normalises the class token alone, and the embedding is not that")
    return Conversion("CLIPVisionModel", {"model_type": "clip_vision_model", **common}, "pooler", 1)


def _siglip(model: Any, feature: OfTokens, common: dict[str, Any]) -> Conversion:
    """Return SigLIP's tower, with its attention pooling where the embedding is that."""
    pool = model.attn_pool
    if model.num_prefix_tokens:
        raise Unlike("it pools by attention and has a class token, and SiglipVisionModel has none")
    if pool is not None and activation(pool.mlp.act) != common["hidden_act"]:
        raise Unlike("its attention pooling has another activation than its blocks, and transformers has one")
    config = {"model_type": "siglip_vision_model", "vision_use_head": pool is not None, **common}
    return Conversion("SiglipVisionModel", config, "map" if feature == "map" else "mean_patch")
