"""Adapters of LoRA as peft loads them: `peft.PeftModel.from_pretrained(model, FOLDER)` on timm's own model."""

from __future__ import annotations

import copy
import importlib.util
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from dinodiet.backbones.adapters import NAME, factors, without_adapters
from dinodiet.backbones.normalize import Normalize
from dinodiet.backbones.timm import TimmBackbone
from dinodiet.backbones.timm_export import is_timms, pooling
from dinodiet.errors import UserError
from dinodiet.io.files import read_json, write_json
from dinodiet.types import Embed, ExportTarget, InputSpec, Unexportable

CONFIG, POSITIONS = "adapter_config.json", "positions.safetensors"
BELOW = "model."  # where a backbone has timm's model
Factors = Mapping[str, tuple[Tensor, Tensor]]  # A (r, in) and B (out, r), by timm's name of the layer


@dataclass(frozen=True)
class Begun:
    """What a run with adapters began with.

    Attributes:
        weights: `hub`: those of timm's name; else those of a file or run of this name.
        repository: where they are on the hub; None: they are not.
        blocks: so many of the last ones were trained whole, with what follows them.
    """

    weights: str
    repository: str | None
    blocks: int = 0


def peft_target(
    backbone: nn.Module, begun: Begun, state: Callable[[], Mapping[str, Tensor]]
) -> ExportTarget | Unexportable:
    """Return the target `peft` of a backbone, whose state dict with the adapters apart `state` returns.

    Its `write` raises a UserError where timm's attention multiplies by weights without calling their layers.
    """
    if not isinstance(backbone, TimmBackbone) or backbone.made is None or not is_timms(backbone.made[0]):
        return Unexportable("its network is not one that timm makes, which adapters are written for")
    if importlib.util.find_spec("peft") is None:
        return Unexportable("peft is not installed: pip install 'dinodiet[lora]'")
    name, args = backbone.made[0], {**backbone.made[1], **pooling(backbone.model, backbone.feature)}
    side = backbone.input.size
    return ExportTarget(
        write=lambda folder: _write(backbone, begun, state(), folder),
        read=lambda folder: _read(folder, _base(name, args, state(), _whole(backbone, begun)), backbone.input),
        usage=_usage(name, args, begun, backbone),
        library="peft",
        takes=f"images (batch, 3, {side}, {side}), RGB, normalised by the transform above",
    )


def _base(name: str, args: Mapping[str, Any], state: Mapping[str, Tensor], whole: Sequence[str]) -> nn.Module:
    """Return timm's model with the weights below the adapters; modules trained whole keep random ones."""
    with torch.random.fork_rng(devices=[]):
        model: nn.Module = timm.create_model(name, num_classes=0, **args)
    below = _of_model(without_adapters(state))
    trained = tuple(f"{module}." for module in whole)
    model.load_state_dict(model.state_dict() | {k: value for k, value in below.items() if not k.startswith(trained)})
    return model.eval()


def _whole(backbone: TimmBackbone, begun: Begun) -> list[str]:
    """Return timm's names of the modules that were trained whole."""
    if not begun.blocks:
        return []
    modules = {part for block in backbone.freezable_blocks()[-begun.blocks :] for part in block} | {*backbone.tail()}
    return [name for name, module in backbone.model.named_modules() if module in modules]


def _of_model(found: Mapping[str, Any]) -> dict[str, Any]:
    """Return what lies in timm's model, by timm's names."""
    return {key.removeprefix(BELOW): value for key, value in found.items() if key.startswith(BELOW)}


def _write(backbone: TimmBackbone, begun: Begun, state: Mapping[str, Tensor], folder: Path) -> None:
    from peft import get_peft_model  # noqa: PLC0415 - an extra, and seconds to load

    learned: Factors = _of_model(factors(state))
    with torch.random.fork_rng(devices=[]):
        model: Any = get_peft_model(copy.deepcopy(backbone.model), _config(learned, _whole(backbone, begun)))
    _fill(model.base_model.model, learned)
    _refuse_uncalled(model, learned, backbone.input)
    model.peft_config[NAME].base_model_name_or_path = begun.repository
    model.save_pretrained(folder, save_embedding_layers=False)
    config = read_json(folder / CONFIG) or {}
    # peft writes the names in any order.
    write_json(folder / CONFIG, {**config, "target_modules": sorted(config["target_modules"])})
    if hasattr(backbone.model, "resizing"):
        save_file({"pos_embed": state[f"{BELOW}pos_embed"].contiguous()}, folder / POSITIONS, {"format": "pt"})


def _config(learned: Factors, whole: Sequence[str]) -> Any:
    """Return peft's configuration: alpha is the rank everywhere, so that nothing is scaled."""
    from peft import LoraConfig  # noqa: PLC0415 - as above

    ranks = {name: first.shape[0] for name, (first, _) in learned.items()}
    ((rank, _),) = Counter(ranks.values()).most_common(1)
    others = {name: own for name, own in ranks.items() if own != rank}
    return LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=list(learned),
        rank_pattern=others,
        alpha_pattern=dict(others),
        modules_to_save=list(whole) or None,
    )


@torch.no_grad()
def _fill(model: nn.Module, learned: Factors) -> None:
    """Give peft's adapters what others have learned."""
    for name, (first, second) in learned.items():
        layer: Any = model.get_submodule(name)
        layer.lora_A[NAME].weight.copy_(first)
        layer.lora_B[NAME].weight.copy_(second)


@torch.no_grad()
def _refuse_uncalled(model: Any, learned: Factors, input: InputSpec) -> None:
    """Refuse adapters that would add nothing: timm's attention reads the weight of their layer and does not call it."""
    called: set[str] = set()
    for name in learned:
        layer = model.base_model.model.get_submodule(name)
        layer.register_forward_pre_hook(lambda *_, name=name: called.add(name))
    model.eval()(torch.zeros(1, 3, input.size, input.size))
    if left := [name for name in learned if name not in called]:
        raise UserError(
            f"export: peft adapts layers as they are called, and timm's model multiplies by the weight of {left[0]} "
            "without calling it"
        )


def _read(folder: Path, base: nn.Module, input: InputSpec) -> Embed:
    from peft import PeftModel  # noqa: PLC0415 - as above

    if (folder / POSITIONS).is_file():
        base.load_state_dict(load_file(folder / POSITIONS), strict=False)
    model, normalize = PeftModel.from_pretrained(base, str(folder)).eval(), Normalize(input)
    embed: Embed = lambda images: model(normalize(images))  # noqa: E731
    return embed


def _usage(name: str, args: Mapping[str, Any], begun: Begun, backbone: TimmBackbone) -> str:
    """Return lines that load the base from timm, and the adapters onto it."""
    input = backbone.input
    positions = hasattr(backbone.model, "resizing")
    of_hub = begun.weights == "hub"
    file = "" if of_hub else ', pretrained_cfg_overlay={"file": weights}'
    made = "".join(f", {key}={value!r}" for key, value in {"num_classes": 0, **args}.items())
    lines = [
        *("import timm", "from peft import PeftModel", "from PIL import Image"),
        *(["from safetensors.torch import load_file"] if positions else []),
        "",
        *([] if of_hub else [f"weights = {begun.weights!r}  # that the run began with, as timm reads them"]),
        f'base = timm.create_model("{name}", pretrained=True{file}{made})',
        *([f'base.load_state_dict(load_file("{POSITIONS}"), strict=False)'] if positions else []),
        'model = PeftModel.from_pretrained(base, ".").eval()',
        f"transform = timm.data.create_transform((3, {input.size}, {input.size}), crop_pct={input.crop_fraction}, "
        f'interpolation="{input.interpolation}", mean={input.mean}, std={input.std})',
        'embedding = model(transform(Image.open("image.jpg").convert("RGB"))[None])',
    ]
    return "\n".join(lines)
