"""BEiT: position biases in every block, or one table for all, and a norm of the mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

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
    """Return a `Beit` of timm in transformers; see `conversion.Convert`.

    The norm that timm applies to what it has pooled is the pooler's, or that of the tokens where one of them is taken.
    """
    block, mean = model.blocks[0], pooled_as(model, feature) == "mean_patch"
    if not isinstance(getattr(block.mlp, "fc1", None), nn.Linear) or is_there(getattr(block.mlp, "norm", None)):
        raise Unlike("its blocks are gated, and BeitModel's are not")
    after = is_there(model.fc_norm) and mean
    config = {
        **{"model_type": "beit", "hidden_size": model.embed_dim, "num_hidden_layers": len(model.blocks)},
        **{"intermediate_size": block.mlp.fc1.out_features, "num_attention_heads": block.attn.num_heads},
        **{"image_size": side, "patch_size": patch_side(model), "layer_norm_eps": epsilon(model)},
        **{"hidden_act": activation(block.mlp.act), "use_mean_pooling": after},
        **{"layer_scale_init_value": 0.0 if block.gamma_1 is None else 0.1},
        **{"use_relative_position_bias": block.attn.relative_position_bias_table is not None},
        **{"use_shared_relative_position_bias": model.rel_pos_bias is not None},
        **{"use_absolute_position_embeddings": model.pos_embed is not None},
    }
    if after:
        return Conversion("BeitModel", config, "pooler")
    return Conversion("BeitModel", config, "mean_patch" if mean else "cls", 1, ((r"^fc_norm\.", "norm."),))
