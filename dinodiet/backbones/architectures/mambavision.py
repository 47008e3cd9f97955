"""MambaVision (Hatamizadeh & Kautz 2024, arXiv:2407.08083) in all published sizes, with the published weights.

Two stages of convolutions, then two of Mamba mixers followed by attention, within windows that do not overlap or shift.
"""

from __future__ import annotations

import contextlib
import json
from dataclasses import asdict, fields, replace
from typing import Any

import torch
from timm.models import PretrainedCfg
from torch import Tensor, nn

from dinodiet.backbones.architectures.mambavision_layers import (
    Attention,
    Block,
    ConvBlock,
    Downsample,
    MambaMixer,
    PatchEmbed,
    from_windows,
    to_windows,
)
from dinodiet.backbones.architectures.mambavision_sizes import SIZES, Architecture, Release
from dinodiet.backbones.drop_path import set_drop_path
from dinodiet.backbones.normalize import Normalize
from dinodiet.backbones.timm import expected_input, input_side
from dinodiet.backbones.weights.own import file_to_load, fill
from dinodiet.backbones.weights.released import weights_assets
from dinodiet.config.ranges import BelowOne, Side
from dinodiet.config.signature import Neutral
from dinodiet.errors import UserError
from dinodiet.io.assets import Asset
from dinodiet.io.declare import declares
from dinodiet.types import DataSpec, Description, InputSpec

LICENCE = "cc-by-nc-sa-4.0"  # of the released weights


class Stage(nn.Module):
    """Blocks at one resolution, and the step to the next: the second half of a windowed stage's blocks attends."""

    def __init__(self, architecture: Architecture, index: int) -> None:
        super().__init__()
        dim, depth = architecture.dim * 2**index, architecture.depths[index]
        self.window = architecture.window_size[index] if index >= 2 else None
        if self.window is None:
            self.blocks = nn.ModuleList(ConvBlock(dim) for _ in range(depth))
        else:
            scale, heads, mambas = architecture.layer_scale, architecture.num_heads[index], (depth + 1) // 2
            mixers = [MambaMixer(dim) if i < mambas else Attention(dim, heads) for i in range(depth)]
            self.blocks = nn.ModuleList(Block(dim, mixer, scale) for mixer in mixers)
        self.downsample = Downsample(dim) if index < 3 else None

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps (B, dim, H, W) after the blocks, halved where there is a next stage."""
        height, width = maps.shape[2:]
        return self.leave(self.run(self.enter(maps), 0, len(self.blocks)), height, width)

    def enter(self, maps: Tensor) -> Tensor:
        """Return what the first block sees of the maps: themselves, or windows (B * count, side * side, dim)."""
        return maps if self.window is None else to_windows(maps, self.window)

    def run(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        """Return the output of the blocks from `start` to before `stop`."""
        for number in range(start, stop):
            hidden = self.blocks[number](hidden)
        return hidden

    def leave(self, hidden: Tensor, height: int, width: int) -> Tensor:
        """Return the last block's output as maps (B, dim, height, width), halved where there is a next stage."""
        maps = hidden if self.window is None else from_windows(hidden, self.window, height, width)
        return maps if self.downsample is None else self.downsample(maps)


class MambaVision(nn.Module):
    """Normalised images (B, 3, H, W) of any size -> logits (B, num_classes), or with 0 of them embeddings (B, 8 dim).

    The embedding is the mean over the last stage's map after its BatchNorm: what the published classifier is fed.
    """

    def __init__(self, architecture: Architecture, num_classes: int = 0) -> None:
        super().__init__()
        self.embed_dim = architecture.dim * 8
        self.patch_embed = PatchEmbed(architecture.in_dim, architecture.dim)
        self.levels = nn.Sequential(*(Stage(architecture, index) for index in range(4)))
        self.norm = nn.BatchNorm2d(self.embed_dim)
        self.head = nn.Linear(self.embed_dim, num_classes) if num_classes else nn.Identity()
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=0.02)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits or embeddings."""
        return self.classify(self.levels(self.patch_embed(images)))

    def classify(self, maps: Tensor) -> Tensor:
        """Return the logits or embeddings of the last stage's maps."""
        output: Tensor = self.head(self.norm(maps).mean(dim=(2, 3)))
        return output


class MambaVisionBackbone(nn.Module):
    """A MambaVision without classifier: images (B, 3, s, s) in 0..1 -> embeddings (B, embed_dim)."""

    def __init__(
        self,
        model: MambaVision,
        *,
        input: InputSpec,
        description: Description,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(input)
        self.model = model
        self.input = input
        self.description = description
        self.embed_dim = model.embed_dim

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings (B, embed_dim) of images (B, 3, s, s) of any size, in 0..1."""
        embeddings: Tensor = self.model(self.normalize(images))
        return embeddings

    def trunk(self, images: Tensor, first: int) -> tuple[Tensor]:
        """Return what block `first` sees of each image: maps (B, D, H, W), or windows (B, count, tokens, D)."""
        index, block = self._place(first)
        stage = self._stages[index]
        maps = self.model.levels[:index](self.model.patch_embed(self.normalize(images)))
        hidden = stage.run(stage.enter(maps), 0, block)
        return (hidden if stage.window is None else hidden.unflatten(0, (len(images), -1)),)

    def rest(self, hidden: tuple[Tensor], first: int, side: int) -> Tensor:
        """Return the embeddings of images of `side` pixels from what `trunk` returned."""
        index, block = self._place(first)
        stage = self._stages[index]
        for _ in range(2 + index):  # the stem halves twice, each stage once
            side = -(-side // 2)
        maps = hidden[0] if stage.window is None else hidden[0].flatten(0, 1)
        maps = stage.leave(stage.run(maps, block, len(stage.blocks)), side, side)
        return self.model.classify(self.model.levels[index + 1 :](maps))

    @property
    def _stages(self) -> list[Stage]:
        return [stage for stage in self.model.levels if isinstance(stage, Stage)]

    def _place(self, first: int) -> tuple[int, int]:
        """Return the stage of block number `first`, and its number there."""
        for index, stage in enumerate(self._stages):
            if first < len(stage.blocks):
                return index, first
            first -= len(stage.blocks)
        raise AssertionError("no such block")

    def freezable_blocks(self) -> list[list[nn.Module]]:
        """Return the convolution, Mamba and attention blocks; a stage's last one brings the downsampling after it."""
        blocks: list[list[nn.Module]] = []
        for stage in self.model.levels:
            assert isinstance(stage, Stage)
            blocks += [[block] for block in stage.blocks]
            if stage.downsample is not None:
                blocks[-1].append(stage.downsample)
        return blocks

    def tail(self) -> list[nn.Module]:
        """Return the final norm."""
        return [self.model.norm]


def _released(size: str) -> Release:
    if size not in SIZES:
        raise UserError(f"size: {size!r}; choose from: {', '.join(SIZES)}")
    return SIZES[size]


def _assets(*, size: str, weights: str) -> list[Asset]:
    return weights_assets(weights, _released(size).hub_file, f"mambavision_{size}")


@declares(assets=_assets, sizes=lambda: list(SIZES))
def mambavision(
    spec: DataSpec,
    *,
    size: str,
    weights: str = "hub",
    weights_prefix: str | None = None,
    image_size: Side[int | None] = None,
    drop_path: BelowOne[float] = 0.0,
    model_args: dict[str, Any] | None = None,
    family: Neutral[str | None] = None,
    published: Neutral[dict[str, dict[str, float]] | None] = None,
) -> MambaVisionBackbone:
    """Build one size of MambaVision for a dataset.

    Args:
        spec: the dataset; its `image_size`, where set, decides the side of the input.
        size: a key of `SIZES`.
        weights: `hub`, `none`, a run, or a local file in the publisher's layout or that of Hugging Face.
        weights_prefix: under which a file keeps the network, such as `teacher.backbone`; null: it is found.
        image_size: side of the input where the dataset sets none; null is the weights' own, or without weights the
            dataset's stored size between 32 and 224. Maps that windows do not tile are zero-padded.
        drop_path: rate of stochastic depth in the last block while training.
        model_args: changes of the architecture, such as `{depths: [1, 1, 2, 2]}`.
        family: what its sizes are called together.
        published: frozen scores to check an installation against, by dataset and metric.

    Raises:
        UserError: a size or weights that do not exist or do not fit.
    """
    release = _released(size)
    architecture = _changed(release.architecture, model_args or {})
    name = f"mambavision_{size}"
    cfg = PretrainedCfg(input_size=(3, release.resolution, release.resolution), crop_pct=release.crop_fraction)
    side = input_side(spec, image_size, cfg, weights)
    path = file_to_load(weights, release.hub_file, name, weights_prefix)
    with contextlib.nullcontext() if path is None else torch.device("meta"):
        model = MambaVision(architecture)
    told = weights
    if path is not None:
        # As its publisher loads it: not the averaged weights that a training checkpoint may hold besides.
        head = ("head.weight", "head.bias")
        told = fill(model, path, name=name, ignored=head, prefix=weights_prefix, preferred="state_dict")
    set_drop_path(model, drop_path)
    return MambaVisionBackbone(
        model,
        input=expected_input(spec, cfg, side, 1, weights),
        description=Description(
            signature=json.dumps([name, side, asdict(architecture)], sort_keys=True),
            family=family,
            size=size,
            licence=LICENCE,
            published=published or {},
            details={"weights": told},
        ),
    )


def _changed(architecture: Architecture, changes: dict[str, Any]) -> Architecture:
    choices = [field.name for field in fields(Architecture)]
    if unknown := [name for name in changes if name not in choices]:
        raise UserError(f"model_args: MambaVision has no {', '.join(unknown)}; choose from: {', '.join(choices)}")
    changed = replace(architecture, **changes)
    for name in ("depths", "num_heads", "window_size"):
        if len(found := getattr(changed, name)) != 4:
            raise UserError(f"model_args.{name}: {list(found)}; must be four numbers, one a stage")
    return changed
