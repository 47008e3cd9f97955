"""A model of transformers as transformers itself loads it: `AutoModel.from_pretrained(FOLDER)`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from transformers import AutoModel

from dinodiet.backbones.hf.readout import Arguments, Feature, read_out
from dinodiet.backbones.hf.weights import quiet
from dinodiet.backbones.normalize import Normalize
from dinodiet.errors import UserError
from dinodiet.io.files import write_json
from dinodiet.types import Embed, ExportTarget, InputSpec

if TYPE_CHECKING:
    from dinodiet.backbones.hf.backbone import HFBackbone

PROCESSOR = "preprocessor_config.json"
RESAMPLE = {"bilinear": 2, "bicubic": 3}  # Pillow's numbers


def transformers_target(backbone: HFBackbone, prefix: int, flipped: bool) -> ExportTarget:
    """Return how a backbone is written for transformers.

    `prefix` of its tokens are no patches; `flipped`: it takes BGR.
    """
    return ExportTarget(
        write=lambda folder: _write(backbone, flipped, folder),
        read=lambda folder: read(folder, backbone.feature, prefix, backbone.input, flipped),
        usage=usage(backbone.feature, prefix, _arguments(backbone.model, backbone.input.size)),
        library="transformers",
        takes=takes(backbone.input),
        gives=output(backbone.feature, prefix)[1],
    )


def takes(input: InputSpec) -> str:
    """Return what a model of transformers expects, in words."""
    return f"pixel_values (batch, 3, {input.size}, {input.size}), normalised by the image processor of this folder"


def output(feature: Feature, prefix: int) -> tuple[str, str]:
    """Return the embedding as an expression of a model's `output`, and in words; `prefix` tokens are no patches."""
    if feature in ("pooler", "map"):
        return "output.pooler_output.flatten(1)", "`pooler_output`"
    if feature == "cls":
        return "output.last_hidden_state[:, 0]", "`last_hidden_state[:, 0]`, the class token"
    tokens = f"last_hidden_state[:, {prefix}:]" if prefix else "last_hidden_state"
    return f"output.{tokens}.mean(dim=1)", f"the mean of the patches, `{tokens}`"


def usage(feature: Feature, prefix: int, arguments: Mapping[str, Any]) -> str:
    """Return lines of Python that load a model and embed an image; `prefix` of its tokens are no patches."""
    given = "".join(f", {name}={value}" for name, value in arguments.items())
    return (
        "from PIL import Image\n"
        "from transformers import AutoImageProcessor, AutoModel\n\n"
        'model, processor = AutoModel.from_pretrained(".").eval(), AutoImageProcessor.from_pretrained(".")\n'
        'inputs = processor(Image.open("image.jpg").convert("RGB"), return_tensors="pt")\n'
        f"output = model(**inputs{given})\n"
        f"embedding = {output(feature, prefix)[0]}\n"
    )


def _arguments(model: Any, side: int) -> dict[str, Any]:
    """Return what a model is to be told besides the pixels, of what can be written down."""
    given = Arguments(model)(torch.empty(1, 3, side, side))
    return {name: value for name, value in given.items() if isinstance(value, bool)}


def _write(backbone: HFBackbone, flipped: bool, folder: Path) -> None:
    with quiet():
        backbone.model.save_pretrained(folder)
    write_json(folder / PROCESSOR, processor_config(backbone.input, flipped))


def processor_config(input: InputSpec, flipped: bool) -> dict[str, Any]:
    """Return the configuration of the image processor of transformers that does the same."""
    kind = "MobileViTImageProcessor" if flipped else "CLIPImageProcessor"
    return {
        "image_processor_type": kind,
        **({"do_flip_channel_order": True} if flipped else {"do_convert_rgb": True}),
        **{"do_resize": True, "size": {"shortest_edge": round(input.size / input.crop_fraction)}},
        **{"do_center_crop": True, "crop_size": {"height": input.size, "width": input.size}},
        **{"resample": RESAMPLE[input.interpolation], "do_rescale": True, "rescale_factor": 1 / 255},
        **{"do_normalize": True, "image_mean": input.mean, "image_std": input.std},
    }


def read(folder: Path, feature: Feature, prefix: int, input: InputSpec, flipped: bool, *, pruned: bool = True) -> Embed:
    """Return how a folder embeds images in 0..1, loaded by transformers alone.

    Of `pruned` networks any weights may be missing, which are not used; of others those of the pooler.

    Raises:
        UserError: the network that its configuration describes has other weights.
    """
    with quiet(), torch.random.fork_rng(devices=[]):
        model, told = AutoModel.from_pretrained(folder, output_loading_info=True, ignore_mismatched_sizes=True)
    # Positions and the like, which are no floating-point numbers, are computed: some versions keep them as weights.
    computed = {name for name, buffer in model.named_buffers() if not buffer.is_floating_point()}
    left_out = [key for key in told["missing_keys"] if key not in computed]
    missing = [] if pruned else [key for key in left_out if not key.startswith("pooler.")]
    _refuse_misfit(told, missing, type(model).__name__)
    normalize, given = Normalize(input), _arguments(model.eval(), input.size)

    def embed(images: torch.Tensor) -> torch.Tensor:
        pixels = normalize(images)
        more = given if images.shape[-2:] == (input.size, input.size) else Arguments(model)(images)
        return read_out(feature, prefix, model(pixel_values=pixels.flip(1) if flipped else pixels, **more))

    return embed


def _refuse_misfit(told: Any, missing: Collection[str], name: str) -> None:
    """Refuse weights that are not those of a network, by what the library told when it read them."""
    faults = {
        "has no place for": told["unexpected_keys"],
        "has another shape of": [key[0] for key in told["mismatched_keys"]],
        "needs": missing,
    }
    for fault, keys in faults.items():
        if keys:
            raise UserError(f"export: this network is not transformers' {name}, which {fault} {min(keys)}")
