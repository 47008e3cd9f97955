"""A backbone of timm as timm itself loads it: `timm.create_model("local-dir:FOLDER", pretrained=True)`."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import timm
import torch
from safetensors.torch import save_file
from timm.models import model_entrypoint
from torch import nn

from dinodiet.backbones.normalize import Normalize
from dinodiet.io.files import write_json
from dinodiet.types import Embed, ExportTarget

if TYPE_CHECKING:
    from dinodiet.backbones.timm import TimmBackbone

WEIGHTS, CONFIG = "model.safetensors", "config.json"
KEPT = ("license", "first_conv", "classifier", "origin_url", "paper_ids")  # of timm's configuration of the weights
USAGE = """\
import timm
from PIL import Image

model = timm.create_model("local-dir:.", pretrained=True).eval()
transform = timm.data.create_transform(**timm.data.resolve_model_data_config(model))
embedding = model(transform(Image.open("image.jpg").convert("RGB"))[None])
"""


def timm_targets(backbone: TimmBackbone, name: str, args: Mapping[str, Any]) -> dict[str, ExportTarget]:
    """Return the target `timm` of a backbone that timm built by this name with these arguments; else none."""
    if not is_timms(name):
        return {}
    side = backbone.input.size
    return {
        "timm": ExportTarget(
            write=lambda folder: _write(backbone, name, args, folder),
            read=lambda folder: _read(folder, backbone.input),
            usage=USAGE,
            library="timm",
            takes=f"images (batch, 3, {side}, {side}), RGB, normalised by timm's transform of this folder",
        )
    }


def is_timms(name: str) -> bool:
    """Return whether timm has an architecture without this package, which adds some."""
    return model_entrypoint(name).__module__.startswith("timm.")


def _write(backbone: TimmBackbone, name: str, args: Mapping[str, Any], folder: Path) -> None:
    state = {key: tensor.detach().cpu().contiguous() for key, tensor in backbone.model.state_dict().items()}
    save_file(state, folder / WEIGHTS, {"format": "pt"})
    model_args = {**args, **pooling(backbone.model, backbone.feature)}
    config = {"architecture": name.partition(".")[0], "num_classes": 0, "num_features": backbone.embed_dim}
    config |= {"pretrained_cfg": _pretrained(backbone), "model_args": model_args}
    write_json(folder / CONFIG, config)


def _pretrained(backbone: TimmBackbone) -> dict[str, Any]:
    """Return what timm says of weights: their input, and where it is from."""
    input, known = backbone.input, backbone.model.pretrained_cfg
    return {
        **{key: known[key] for key in KEPT if known.get(key) is not None},
        **{"input_size": (3, input.size, input.size), "fixed_input_size": bool(known.get("fixed_input_size"))},
        **{"interpolation": input.interpolation, "crop_pct": input.crop_fraction, "crop_mode": "center"},
        **{"mean": input.mean, "std": input.std, "num_classes": 0, "pool_size": None},
    }


def pooling(model: nn.Module, feature: str) -> dict[str, Any]:
    """Return the arguments with which a model pools its tokens as the backbone does; none where it does so anyway.

    A norm that timm applies after pooling stays there, and one before it too: the names of the weights do not change.
    """
    if feature in ("pooled", "map"):
        return {}
    known = inspect.signature(type(model)).parameters
    after = not isinstance(getattr(model, "fc_norm", nn.Identity()), nn.Identity)
    norm = {key: after for key in ("fc_norm", "use_fc_norm") if key in known}
    return {"global_pool": "token" if feature == "cls" else "avg", **norm}


def _read(folder: Path, input: Any) -> Embed:
    with torch.random.fork_rng(devices=[]):
        model = timm.create_model(f"local-dir:{folder}", pretrained=True).eval()
    normalize = Normalize(input)
    embed: Embed = lambda images: model(normalize(images))  # noqa: E731
    return embed
