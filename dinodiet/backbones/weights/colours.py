"""The order of colours that weights expect: of transformers' MobileViT it is blue first, unless its processor says no.

Backbones of timm take red first, so the first convolution is turned round.
"""

from __future__ import annotations

from pathlib import Path

from dinodiet.backbones.weights.network import State
from dinodiet.errors import UserError
from dinodiet.io.files import read_json

STEM = "conv_stem.convolution.weight"  # of transformers' MobileViT alone
PROCESSOR, FLIPPED = "preprocessor_config.json", "do_flip_channel_order"


def red_first(state: State, path: Path | None) -> State:
    """Return the weights of a file for images whose first channel is red.

    Raises:
        UserError: nothing beside the file says which order they expect.
    """
    if STEM not in state or path is None:
        return state
    told = read_json(path.parent / PROCESSOR)
    if told is None:
        raise UserError(
            f"weights: {path} is a MobileViT of transformers, and no {PROCESSOR} beside it says the order of its "
            f'colours; copy it there, or write {{"{FLIPPED}": true}} (blue first, as published) or false'
        )
    return {**state, STEM: state[STEM].flip(1)} if told.get(FLIPPED, "MobileViT" in _kind(told)) else state


def _kind(told: dict[str, object]) -> str:
    """Return the class of a processor; in configurations of older versions it has another name."""
    return str(told.get("image_processor_type", told.get("feature_extractor_type")))
