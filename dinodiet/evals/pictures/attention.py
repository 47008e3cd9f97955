"""Where an encoder looks: the last attention of its class token over a few images, as a picture."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, ClassVar, Literal

import matplotlib
import numpy as np
import torch
from PIL import Image
from torch import Tensor

from dinodiet.backbones.modes import eval_mode
from dinodiet.config.ranges import Fraction, Range
from dinodiet.errors import NotApplicable
from dinodiet.evals.pictures.looked_at import looked_at
from dinodiet.evals.pictures.sheet import Row, pixels, rows_of_pictures, write_picture
from dinodiet.features.attention_maps import class_attention, largest_mass
from dinodiet.types import DataSpec, EncoderSplits, Score

PICTURE = "attention.png"


@dataclass(frozen=True, kw_only=True)
class AttentionMaps:
    """Of `images` images, spread evenly over the reported split: the attention of every head, their mean and its mask.

    Of sets without labels, of which nothing is reported on, they are train images.

    As DINO's own pictures (Caron et al. 2021, figure 1): the last block's attention of the class token over patches,
    registers left out, enlarged patch by patch, each map up to its largest weight. The mask keeps the patches that
    together hold `threshold` of the mean map. `spread` is the entropy over patches by that of equal weights, 0: one
    patch, 1: all alike; `patches` is the share of attention that patches get, and not the class token and registers.
    """

    needs: ClassVar[Literal["encoder"]] = "encoder"
    fits_labels: ClassVar[bool] = False
    images: Annotated[int, Range(1, 256)] = 8
    threshold: Fraction[float] = 0.6

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Accept any data; labels play no part."""

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        """Return how attention is spread, and write the picture.

        Raises:
            NotApplicable: the network has no class token, or shows no attention; names it.
        """
        shown, maps = self._looked_at(splits)
        if splits.folder is not None:
            write_picture(splits.folder / PICTURE, rows_of_pictures(self.rows(shown, maps)))
        return {
            "spread": Score(spread(maps), better="none"),
            "patches": Score(float(maps.double().sum((2, 3)).mean()), better="none"),
            "images": Score(len(shown), kind="setting"),
            "threshold": Score(self.threshold, kind="setting"),
        }

    def _looked_at(self, splits: EncoderSplits) -> tuple[Tensor, Tensor]:
        """Return images (n, 3, side, side) in 0..1 as the encoder sees them, and its maps (n, heads, rows, columns)."""
        shown, runtime, found = looked_at(splits, self.images).pixels, splits.runtime, list[Tensor]()
        with eval_mode(splits.encoder):
            for part in shown.split(runtime.batch_size):
                found.append(class_attention(splits.encoder, part.to(runtime.device)).cpu())
        maps = torch.cat(found)
        if not bool(maps.isfinite().all()):
            raise NotApplicable("needs finite attention; that of this encoder is not")
        return shown, maps

    def rows(self, shown: Tensor, maps: Tensor) -> list[Row]:
        """Return a row of pictures for each image: itself, the mean map, its mask, and each head."""
        mean = maps.mean(1)
        masks = largest_mass(mean.flatten(1), self.threshold).view_as(mean)
        heads = [f"head {number}" for number in range(maps.shape[1])]
        names = ["image", "mean", f"{self.threshold:.0%} of it", *heads]
        return [
            Row(names, [pixels(image), coloured(one), masked(image, mask), *map(coloured, each)])
            for image, one, mask, each in zip(shown, mean, masks, maps, strict=True)
        ]


def spread(maps: Tensor) -> float:
    """Return the mean entropy of maps (n, heads, rows, columns) over their patches, by that of equal weights."""
    weights = maps.flatten(2).double()
    shares = weights / weights.sum(-1, keepdim=True)
    entropy = -torch.special.xlogy(shares, shares).sum(-1)
    return float(entropy.mean()) / math.log(weights.shape[-1]) if weights.shape[-1] > 1 else 0.0


def coloured(weights: Tensor) -> Image.Image:
    """Return a map (rows, columns) as a picture of as many pixels, in colours from 0 to its largest weight."""
    shares = (weights / weights.max().clamp(min=1e-12)).numpy()
    colours = matplotlib.colormaps["viridis"](shares)[..., :3]
    return Image.fromarray(np.round(colours * 255).astype(np.uint8))


def masked(image: Tensor, mask: Tensor) -> Image.Image:
    """Return an image of which patches that are not in a mask (rows, columns) are dimmed."""
    side = image.shape[-1]
    whole = torch.nn.functional.interpolate(mask[None, None].float(), size=(side, side), mode="nearest")[0]
    return pixels(image * (0.2 + 0.8 * whole))
