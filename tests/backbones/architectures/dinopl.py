"""Encoders of the DINO experiment bed (github.com/safelix/dinopl): their weights, and what they made of images."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from tests.places import REFERENCES

FOLDER = REFERENCES / "dinopl"


def arrays() -> dict[str, Tensor]:
    """Return the images, and by encoder their features and what is told beside them."""
    with np.load(FOLDER / "encoders.npz") as found:
        return {key: torch.from_numpy(found[key]) for key in found.files if found[key].dtype.kind != "U"}


def loaded(network: nn.Module, name: str) -> Any:
    """Return a network with an encoder's weights, whose names it has, in evaluation mode."""
    network.load_state_dict(load_file(FOLDER / f"encoder_{name}.safetensors"), strict=True)
    return network.eval()


def check(network: nn.Module, name: str) -> None:
    """See that a network with an encoder's weights does what the encoder did, in training too."""
    known, network = arrays(), loaded(network, name)
    assert sum(parameter.numel() for parameter in network.parameters()) == int(known[f"{name}.parameters"])
    for side in ("28", "32", "48"):
        if f"{name}.eval_{side}" in known:
            torch.testing.assert_close(network(known[f"image_{side}"]), known[f"{name}.eval_{side}"])
    network.train()
    torch.testing.assert_close(network(known["image_32"]), known[f"{name}.train_32"])
    for key, expected in known.items():
        if key.startswith(f"{name}.train_after."):
            torch.testing.assert_close(network.state_dict()[key.removeprefix(f"{name}.train_after.")], expected)
