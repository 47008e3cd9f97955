"""Swin transformers, both versions: windows of one width in all stages, position biases of a window."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dinodiet.backbones.to_transformers.conversion import (
    Conversion,
    Unlike,
    activation,
    demand_epsilon,
    patch_side,
)

if TYPE_CHECKING:
    from dinodiet.backbones.timm_models import Feature


def convert(model: Any, feature: Feature, side: int) -> Conversion:
    """Return a `SwinTransformer` of timm in transformers; see `conversion.Convert`."""
    window = _window(model, shrinks=False)
    return Conversion("SwinModel", {"model_type": "swin", "window_size": window, **_config(model, side)}, "pooler")


def convert_v2(model: Any, feature: Feature, side: int) -> Conversion:
    """Return a `SwinTransformerV2` of timm in transformers; see `conversion.Convert`."""
    trained = [stage.blocks[0].attn.pretrained_window_size[0] for stage in model.layers]
    config = {"model_type": "swinv2", "window_size": _window(model, shrinks=True), "pretrained_window_sizes": trained}
    return Conversion("Swinv2Model", {**config, **_config(model, side)}, "pooler")


def _config(model: Any, side: int) -> dict[str, Any]:
    demand_epsilon(model, 1e-5)
    blocks = [stage.blocks[0] for stage in model.layers]
    first = blocks[0]
    return {
        **{"image_size": side, "patch_size": patch_side(model), "embed_dim": model.embed_dim},
        **{"depths": [len(stage.blocks) for stage in model.layers]},
        **{"num_heads": [block.attn.num_heads for block in blocks], "layer_norm_eps": 1e-5},
        **{"mlp_ratio": first.mlp.fc1.out_features / model.embed_dim, "hidden_act": activation(first.mlp.act)},
    }


def _window(model: Any, *, shrinks: bool) -> int:
    """Return the width of all windows; `shrinks`: the library's are smaller too where a stage's grid is.

    Raises:
        Unlike: they differ, are not square, or are shifted and padded.
    """
    found: list[tuple[int, int]] = []
    for stage in model.layers:
        for block in stage.blocks:
            _demand_whole(block)
            whole = shrinks and block.input_resolution == block.window_size
            found += [] if whole else [block.window_size]
    found = found or [model.layers[0].blocks[0].window_size]
    widths = sorted({width for window in found for width in window})
    if len(widths) > 1:
        raise Unlike(f"its windows are {' and '.join(map(str, widths))} patches wide, and transformers has one width")
    return int(widths[0])


def _demand_whole(block: Any) -> None:
    """Refuse windows that are shifted and filled up: transformers does it in the other order.

    Raises:
        Unlike: some are.
    """
    padded = any(side % width for side, width in zip(block.input_resolution, block.window_size, strict=True))
    if padded and any(block.shift_size):
        rows, _ = block.input_resolution
        raise Unlike(
            f"its grid of {rows} x {rows} patches does not fill shifted windows of {block.window_size[0]}, "
            "and transformers fills them up in another order"
        )
