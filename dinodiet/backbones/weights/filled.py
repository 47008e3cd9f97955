"""What timm's filters leave to do before publishers' files fill its models.

Each applies only where the model has a place that the file leaves empty, and the file has what belongs there.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch

from dinodiet.backbones.weights.layouts import SHARED_BIASES, State

_OWN = "attn.relative_position_bias_table"


def spread(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Give every block the table of position biases that a file keeps once for all, as BEiT does while it pretrains."""
    places = [key for key in own if key.endswith(_OWN)]
    if SHARED_BIASES not in state or SHARED_BIASES in own or not places:
        return dict(state)
    rest = {key: value for key, value in state.items() if key != SHARED_BIASES}
    return rest | {key: state[SHARED_BIASES].clone() for key in places}


def filled(state: State, model: Any) -> State:
    """Return a state dict under timm's names, with what its filters do not know.

    * Layer scale of DeiT III, `gamma_1`, is `ls1.gamma`.
    * The final norm of a masked autoencoder (BEiT, EVA-02) normalises all tokens. timm has it after the pooling: the
      same for the class token; for patches it is the norm of their mean, not the mean of their norms.
    * A convolutional masked autoencoder (ConvNeXt V2) has no final norm: timm's is without effect of its own.
    """
    own = model.state_dict()
    if "blocks.0.ls1.gamma" in own:
        state = {re.sub(r"^(blocks\.\d+)\.gamma_(\d)$", r"\1.ls\2.gamma", key): value for key, value in state.items()}
    if "fc_norm.weight" in own and "norm.weight" not in own and "fc_norm.weight" not in state:
        state = {re.sub(r"^norm\.", "fc_norm.", key): value for key, value in state.items()}
    if model.pretrained_cfg.get("tag") == "fcmae" and "head.norm.weight" not in state:
        width = own["head.norm.weight"].shape
        state = {**state, "head.norm.weight": torch.ones(width), "head.norm.bias": torch.zeros(width)}
    return state
