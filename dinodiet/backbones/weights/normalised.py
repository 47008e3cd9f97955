"""What weights were trained to see: the publisher's mean and deviation, or those of the run that trained them last."""

from __future__ import annotations

from safetensors import SafetensorError, safe_open

from dinodiet.backbones.weights.files import run_file
from dinodiet.io.files import parse_json
from dinodiet.types import Channels


def normalised_by(weights: str, mean: Channels, std: Channels) -> tuple[Channels, Channels]:
    """Return the mean and deviation that `weights` were trained with; given are the publisher's.

    The encoder of a finished run says its own: a run may have normalised by its dataset.
    """
    path = None if weights in ("hub", "none") else run_file(weights)
    if path is None or path.suffix != ".safetensors":
        return mean, std
    try:
        with safe_open(path, "pt") as file:
            input = parse_json((file.metadata() or {})["input"])
        return tuple(map(float, input["mean"])), tuple(map(float, input["std"]))  # type: ignore[return-value]
    except (OSError, SafetensorError, ValueError, LookupError, TypeError):  # told where the weights are read
        return mean, std
