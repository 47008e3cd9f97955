"""AIM v1 as a backbone: autoregressive image models (El-Nouby et al. 2024, arXiv:2401.08541), 600M to 7B.

The features are raw outputs of blocks in the middle: the last ones are specialised in predicting pixels.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Literal

import torch
from timm.models import PretrainedCfg
from torch import Tensor, nn

from dinodiet.backbones.architectures.aim_layers import AIM, PATCH
from dinodiet.backbones.drop_path import set_drop_path
from dinodiet.backbones.normalize import Normalize
from dinodiet.backbones.timm import expected_input, input_side
from dinodiet.backbones.weights.files import run_file
from dinodiet.backbones.weights.own import file_to_load, fill
from dinodiet.backbones.weights.released import HubFile, weights_assets
from dinodiet.config.ranges import AtLeastOne, BelowOne, NonNegative, Side
from dinodiet.config.signature import Neutral
from dinodiet.errors import UserError
from dinodiet.io.assets import Asset
from dinodiet.io.declare import declares
from dinodiet.types import DataSpec, Description, InputSpec

Feature = Literal["probe", "last"]
Precision = Literal["fp32", "bf16"]

INPUT = PretrainedCfg(input_size=(3, 224, 224), crop_pct=0.875, interpolation="bicubic")  # ImageNet's mean and sd
_DTYPES: dict[str, torch.dtype] = {"fp32": torch.float32, "bf16": torch.bfloat16}
# The classifier on top of the released models, which a feature extractor has no place for.
_HEAD = tuple(
    f"head.{name}"
    for name in (
        *("cls_token", "k.weight", "v.weight", "linear.weight"),
        *("bn.running_mean", "bn.running_var", "bn.num_batches_tracked"),
    )
)


@dataclass(frozen=True)
class Size:
    """A released model; `best_layers` are the first and the last block that its published classifier averages."""

    embed_dim: int
    depth: int
    num_heads: int
    best_layers: tuple[int, int]
    file: str
    sha256: str

    @property
    def release(self) -> HubFile:
        """Return where the backbone's weights are published."""
        return HubFile("apple/AIM", f"aim_{self.file}_attnprobe_backbone.pth", self.sha256)


LICENCE = "Apple's, restrictive"  # of the released weights
SIZES = {
    "600M": Size(1536, 24, 12, (14, 19), "600m_2bimgs", "0d6f6b8f"),
    "1B": Size(2048, 24, 16, (12, 17), "1b_5bimgs", "d254ecd3"),
    "3B": Size(3072, 24, 24, (12, 17), "3b_5bimgs", "8475ce4e"),
    "7B": Size(4096, 32, 32, (14, 19), "7b_5bimgs", "184ed94c"),
}


class AIMBackbone(nn.Module):
    """AIM as a backbone: images (B, 3, h, w) in 0..1 -> embeddings (B, embed_dim).

    The embedding is the mean over the tokens, and over `layers`, of raw block outputs (numbered from 0). What comes
    after the last of these layers plays no part in it and is taken off the network: it costs neither memory nor time,
    and `last_<n>_blocks` counts what is left.
    """

    def __init__(
        self,
        model: AIM,
        *,
        layers: list[int],
        input: InputSpec,
        description: Description,
    ) -> None:
        super().__init__()
        self.normalize = Normalize(input)
        self.model = model
        self.layers = layers
        self.input = input
        self.description = description
        self.embed_dim = model.embed_dim
        model.end_after(max(layers))

    def forward(self, images: Tensor) -> Tensor:
        """Return the embeddings (B, embed_dim), float32, of images (B, 3, h, w) in 0..1."""
        return self.rest(self.trunk(images, 0), 0, images.shape[-1])

    def trunk(self, images: Tensor, first: int) -> tuple[Tensor, Tensor]:
        """Return what block `first` sees, and the means (B, n, embed_dim) over tokens of the `layers` before it."""
        tokens = self.model.embed(self.normalize(images))
        means = torch.empty(tokens.shape[0], 0, self.embed_dim, device=tokens.device)
        return self._run(tokens, means, range(first))

    def rest(self, hidden: tuple[Tensor, Tensor], first: int, side: int) -> Tensor:
        """Return the embeddings from what `trunk` returned."""
        tokens, means = hidden
        _, means = self._run(tokens, means.float(), range(first, len(self.model.blocks)))
        return torch.stack(means.unbind(dim=1)).mean(dim=0)

    def _run(self, tokens: Tensor, means: Tensor, numbers: range) -> tuple[Tensor, Tensor]:
        for number in numbers:
            tokens = self.model.blocks[number](tokens)
            if number in self.layers:
                means = torch.cat([means, tokens.mean(dim=1, dtype=torch.float32)[:, None]], dim=1)
        return tokens, means

    def freezable_blocks(self) -> list[list[nn.Module]]:
        """Return the transformer blocks that the embedding depends on, from input to output."""
        return [[block] for block in self.model.blocks]

    def tail(self) -> list[nn.Module]:
        """Return nothing: block outputs are used raw."""
        return []

    def requires_grad_(self, requires_grad: bool = True) -> AIMBackbone:
        """Switch training on or off; what is trained is held in fp32."""
        if requires_grad:
            self.float()
        super().requires_grad_(requires_grad)
        return self


def _assets(*, size: str, weights: str, model_args: dict[str, int] | None) -> list[Asset]:
    _architecture(size, model_args or {})
    return weights_assets(weights, None if model_args else SIZES[size].release, f"AIM {size}")


@declares(assets=_assets, sizes=lambda: list(SIZES))
def aim(
    spec: DataSpec,
    *,
    size: str = "600M",
    feature: Feature = "probe",
    probe_layers: NonNegative[list[int] | None] = None,
    weights: str = "hub",
    weights_prefix: str | None = None,
    image_size: Side[int | None] = 224,
    dtype: Precision = "fp32",
    drop_path: BelowOne[float] = 0.0,
    model_args: dict[str, AtLeastOne[int]] | None = None,
    family: Neutral[str | None] = None,
    published: Neutral[dict[str, dict[str, float]] | None] = None,
) -> AIMBackbone:
    """Build one size of AIM for a dataset.

    Args:
        spec: the dataset; its `image_size`, where set, decides the side of the input.
        size: 600M, 1B, 3B or 7B.
        feature: `probe` averages the blocks of `probe_layers`, `last` is the last block; both raw.
        probe_layers: blocks, from 0; null: those of the published classifier, of another depth the last six.
        weights: `hub`, `none`, a run, or a local file, index of shards or folder with the published key names.
        weights_prefix: under which a file keeps the network, such as `model.encoder`; null: it is found.
        image_size: side of the input where the dataset sets none; null: 224.
        dtype: of the weights while they are frozen; the trained part is always held in fp32.
        drop_path: rate of stochastic depth in the last block while training; the published models have none.
        model_args: another architecture, from scratch or with a file of one's own: `embed_dim`, `depth`, `num_heads`.
        family: what its sizes are called together.
        published: frozen scores to check an installation against, by dataset and metric.

    Raises:
        NotReleased: there are no weights of this architecture.
        UserError: a setting that does not exist, or weights that cannot be had or do not fit.
    """
    architecture = _architecture(size, model_args or {})
    layers = _layers(size, architecture["depth"], feature, probe_layers)
    side = input_side(spec, 224 if image_size is None else image_size, INPUT, weights)
    expected = expected_input(spec, INPUT, side, PATCH, weights)
    release = None if model_args else SIZES[size].release
    model, told = _loaded(f"AIM {size}", architecture, weights, weights_prefix, release, dtype, max(layers))
    description = Description(
        signature=json.dumps([architecture, layers, side, dtype], sort_keys=True),
        family=family,
        size=size,
        licence=LICENCE,
        published=published or {},
        details={"weights": told},
    )
    backbone = AIMBackbone(model, layers=layers, input=expected, description=description)
    set_drop_path(backbone, drop_path)
    return backbone


def _architecture(size: str, model_args: dict[str, int]) -> dict[str, int]:
    if size not in SIZES:
        raise UserError(f"size: {size!r}; choose from: {', '.join(SIZES)}")
    released = SIZES[size]
    own = {"embed_dim": released.embed_dim, "depth": released.depth, "num_heads": released.num_heads}
    for name in model_args:
        if name not in own:
            raise UserError(f"model_args.{name}: no such key; choose from: {', '.join(own)}")
    architecture = own | model_args
    for divisor in (architecture["num_heads"], 4):
        if architecture["embed_dim"] % divisor:
            raise UserError(f"model_args.embed_dim: {architecture['embed_dim']} is not a multiple of {divisor}")
    return architecture


def _layers(size: str, depth: int, feature: Feature, probe_layers: list[int] | None) -> list[int]:
    """Return the numbers of the blocks that the embedding averages, in order."""
    if feature == "last":
        if probe_layers is not None:
            raise UserError("probe_layers: has no effect with feature=last; leave it null")
        return [depth - 1]
    if probe_layers is None:
        first, last = SIZES[size].best_layers if depth == SIZES[size].depth else (max(depth - 6, 0), depth - 1)
        return list(range(first, last + 1))
    layers = sorted(set(probe_layers))
    if not layers or layers[0] < 0 or layers[-1] >= depth:
        raise UserError(f"probe_layers: {probe_layers}; give numbers of blocks, from 0 to {depth - 1}")
    return layers


def _loaded(
    name: str,
    architecture: dict[str, int],
    weights: str,
    prefix: str | None,
    release: HubFile | None,
    dtype: Precision,
    last: int,
) -> tuple[AIM, str]:
    """Return the model, and what was read in words."""
    path = file_to_load(weights, release, name, prefix)
    if path is None:
        return AIM(**architecture).to(_DTYPES[dtype]), weights
    with torch.device("meta"):
        model = AIM(**architecture)
    if run_file(weights) is not None:  # a run kept no block that its embedding did not depend on
        model.end_after(last)
    return model, fill(model, path, name=name, dtype=_DTYPES[dtype], ignored=_HEAD, prefix=prefix)
