"""What stands out to a network of convolutions: the first principal component of its last maps, as a picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

import torch
from torch import Tensor

from dinodiet.backbones.modes import eval_mode
from dinodiet.config.ranges import Fraction, Range
from dinodiet.errors import NotApplicable
from dinodiet.evals.pictures.attention import coloured, masked, spread
from dinodiet.evals.pictures.looked_at import LookedAt, looked_at
from dinodiet.evals.pictures.sheet import Row, pixels, rows_of_pictures, write_picture
from dinodiet.features.attention_maps import largest_mass
from dinodiet.features.eigen_maps import first_component, last_maps
from dinodiet.io.files import write_csv
from dinodiet.types import DataSpec, EncoderSplits, Score

PICTURE, TABLE = "eigencam.png", "eigencam.csv"


@dataclass(frozen=True, kw_only=True)
class EigenCAM:
    """Of `images` images, spread evenly over the reported split: their last maps along the first principal component.

    Of sets without labels, of which nothing is reported on, they are train images.

    EigenCAM (Muhammad and Yeasin 2020), see `dinodiet.features.eigen_maps`: no gradients, no classes. Enlarged place by
    place, each map from 0 up to its largest value; the mask keeps the places that together hold `threshold` of what is
    positive. `explained` is the mean share of the first component in the sum of squares, 1: the maps have no other.
    `spread` is the entropy of what is positive over places by that of equal values, 0: one place, 1: all alike.
    """

    needs: ClassVar[Literal["encoder"]] = "encoder"
    fits_labels: ClassVar[bool] = False
    images: Annotated[int, Range(1, 256)] = 8
    threshold: Fraction[float] = 0.6

    def applies(self, spec: DataSpec, num_train: int) -> None:
        """Accept any data; labels play no part."""

    def __call__(self, splits: EncoderSplits) -> dict[str, Score]:
        """Return how the component is spread, and write picture and table.

        Raises:
            NotApplicable: the network has no maps of features; names it.
        """
        shown = looked_at(splits, self.images)
        along, share = self._components(shown, splits)
        if splits.folder is not None:
            write_picture(splits.folder / PICTURE, rows_of_pictures(self.rows(shown.pixels, along)))
            write_csv(splits.folder / TABLE, ("image", "file", "row", "column", "value"), cells(shown, along))
        return {
            "explained": Score(float(share.mean()), better="none"),
            "spread": Score(spread(along.clamp(min=0)[:, None]), better="none"),
            "images": Score(len(along), kind="setting"),
            "threshold": Score(self.threshold, kind="setting"),
        }

    def _components(self, shown: LookedAt, splits: EncoderSplits) -> tuple[Tensor, Tensor]:
        """Return the components (n, rows, columns) and their shares (n,)."""
        runtime, found = splits.runtime, list[Tensor]()
        with eval_mode(splits.encoder):
            for part in shown.pixels.split(runtime.batch_size):
                found.append(last_maps(splits.encoder, part.to(runtime.device)).cpu())
        maps = torch.cat(found)
        if not bool(maps.isfinite().all()):
            raise NotApplicable("needs finite maps; those of this encoder are not")
        return first_component(maps)

    def rows(self, shown: Tensor, along: Tensor) -> list[Row]:
        """Return a row of pictures for each image: itself, its component, and the places that hold most of it."""
        names = ["image", "first component", f"{self.threshold:.0%} of it"]
        positive = along.clamp(min=0)
        masks = largest_mass(positive.flatten(1), self.threshold).view_as(positive)
        return [
            Row(names, [pixels(image), coloured(one), masked(image, mask)])
            for image, one, mask in zip(shown, positive, masks, strict=True)
        ]


def cells(shown: LookedAt, along: Tensor) -> Iterator[list[Any]]:
    """Yield image, file, row, column and value of every place."""
    for place, name, one in zip(shown.places.tolist(), shown.names, along, strict=True):
        for row, values in enumerate(one.tolist()):
            for column, value in enumerate(values):
                yield [place, name, row, column, f"{value:.6g}"]
