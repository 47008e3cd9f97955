"""DINOv3's vision transformers: rotary positions, registers, layer scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from timm.layers.pos_embed_sincos import RotaryEmbeddingDinoV3

from dinodiet.backbones.to_transformers.conversion import (
    Conversion,
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
    """Return an `Eva` of timm in transformers, where it is a DINOv3; see `conversion.Convert`."""
    _demand_positions(model)
    block, tokens = model.blocks[0], pooled_as(model, feature)
    scaled = block.gamma_1 is not None and model.cls_token is not None
    if not scaled or any(map(is_there, (model.norm_pre, model.fc_norm, model.attn_pool, block.attn.norm))):
        raise Unlike("it is not DINOv3, the one network with rotary positions that is converted")
    gated = hasattr(block.mlp, "fc1_g")
    first = block.mlp.fc1_g if gated else block.mlp.fc1
    biased = block.attn.q_bias is not None
    config = {
        **{"model_type": "dinov3_vit", "hidden_size": model.embed_dim, "num_hidden_layers": len(model.blocks)},
        **{"intermediate_size": first.out_features, "num_attention_heads": block.attn.num_heads},
        **{"image_size": side, "patch_size": patch_side(model), "num_register_tokens": model.num_prefix_tokens - 1},
        **{"query_bias": biased, "key_bias": False, "value_bias": biased, "mlp_bias": first.bias is not None},
        **{"use_gated_mlp": gated, "hidden_act": activation(block.mlp.act), "layer_norm_eps": epsilon(model)},
        **{"rope_theta": model.rope.temperature},
    }
    return Conversion("DINOv3ViTModel", config, tokens, model.num_prefix_tokens)


def _demand_positions(model: Any) -> None:
    """Refuse other positions than rotary ones as DINOv3 has them.

    Raises:
        Unlike: they are others.
    """
    rope = model.rope
    known = isinstance(rope, RotaryEmbeddingDinoV3) and model.pos_embed is None
    if not known or rope.temperature is None or rope.normalize_coords != "separate" or rope.grid_offset:
        raise Unlike("its positions are not those of DINOv3, the one network of this kind that is converted")
