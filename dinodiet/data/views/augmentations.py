"""Augmentations by name, of whole pictures or of crops: drawn for a batch at once, then done, as in `recipes`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.data.views import augment
from dinodiet.data.views.recipes import Draw, Recipe, apply, draw_operations, in_parts, numbers, sizes
from dinodiet.data.views.sending import send
from dinodiet.processes.rows import draw_rows

Name = Literal["hflip", "padcrop", "dino"]

PADDING = 4  # pixels on each side
LEAST_BLURRED = 64  # pixels: smaller pictures have nothing to lose
KERNEL = 9  # pixels, of the blur
_COMMON = Recipe(flip=0.5, jitter=(0.4, 0.4, 0.2, 0.1), jitter_probability=0.8, gray=0.2, blur_sigma=(0.1, 2.0))
PIPELINES = (replace(_COMMON, blur=1.0), replace(_COMMON, blur=0.1, solarize=0.2), replace(_COMMON, blur=0.5))
SHARES = (0.4, 0.4, 0.2)  # of the pipelines


class _Step(Protocol):
    """An augmentation: what is drawn for N images, with N rows on the CPU, and the doing of it."""

    def draw(self, blurs: Tensor, generator: torch.Generator, views: int = 1) -> Any:
        """Draw for each row, over views, then images; `blurs`, bool (N,), says whether a blur may happen to it."""
        ...

    def do(self, pixels: Tensor, drawn: Any) -> Tensor:
        """Return what was drawn done to float (N, 3, H, W) in 0..1."""
        ...


class _Flip:
    """Left-right, with probability 0.5."""

    def draw(self, blurs: Tensor, generator: torch.Generator, views: int = 1) -> Tensor:
        return _uniform(len(blurs), generator, views) < 0.5

    def do(self, pixels: Tensor, drawn: Tensor) -> Tensor:
        return torch.where(send(drawn, pixels.device)[:, None, None, None], pixels.flip(-1), pixels)


class _PadCrop:
    """A window of the picture's own size out of the picture with `PADDING` pixels of zeros around it."""

    def draw(self, blurs: Tensor, generator: torch.Generator, views: int = 1) -> Tensor:
        def shifts(rows: int) -> Tensor:
            return torch.randint(2 * PADDING + 1, (rows, 2), generator=generator)

        return draw_rows(shifts, len(blurs), generator, blocks=views)

    def do(self, pixels: Tensor, drawn: Tensor) -> Tensor:
        N, _, H, W = pixels.shape
        device = pixels.device
        top, left = send(drawn, device).unbind(1)
        rows = (top[:, None] + torch.arange(H, device=device))[:, :, None]
        columns = (left[:, None] + torch.arange(W, device=device))[:, None]
        padded = F.pad(pixels, [PADDING] * 4).permute(0, 2, 3, 1)
        return padded[torch.arange(N, device=device)[:, None, None], rows, columns].permute(0, 3, 1, 2)


class _Dino:
    """One of the `PIPELINES` for each image, drawn by their `SHARES`, of whatever kind a view is."""

    def draw(self, blurs: Tensor, generator: torch.Generator, views: int = 1) -> Draw:
        chosen = torch.bucketize(_uniform(len(blurs), generator, views), torch.tensor(SHARES[:-1]).cumsum(0))
        drawn = draw_operations(numbers(PIPELINES)[chosen], generator, views=views)
        return replace(drawn, blur=drawn.blur & blurs)

    def do(self, pixels: Tensor, drawn: Draw) -> Tensor:
        order = augment.jitter_order(drawn.jitter, drawn.order)
        there, back = send(order, pixels.device), send(order.argsort(), pixels.device)
        made, drawn = pixels.transpose(0, 1).index_select(1, there).transpose(0, 1), drawn[order]
        augment.where(made, drawn.flip, augment.flip)
        apply(made, drawn, min(KERNEL, 2 * min(pixels.shape[-2:]) - 1))
        return made.index_select(0, back)


_STEPS: dict[str, _Step] = {"hflip": _Flip(), "padcrop": _PadCrop(), "dino": _Dino()}


class Augmentations:
    """Augmentations in the order of their names, as in the DINO experiment bed (github.com/safelix/dinopl).

    `hflip` mirrors left and right with probability 0.5. `padcrop` shifts by up to 4 pixels in each direction and fills
    with zeros. `dino` is one of three pipelines with probabilities 0.4, 0.4 and 0.2: in all of them a flip (0.5),
    jitter of colours (0.8) and gray (0.2), then a blur; a blur (0.1) and solarisation (0.2); a blur (0.5). The Gaussian
    has 9 pixels and a sigma of 0.1 to 2; pictures that are stored with a side below 64 pixels are not blurred.
    """

    def __init__(self, names: Sequence[Name]) -> None:
        self.names = tuple(names)
        self._steps = [_STEPS[name] for name in names]

    @torch.no_grad()
    def pictures(self, images: Tensor | list[Tensor], generator: torch.Generator) -> Tensor | list[Tensor]:
        """Return whole pictures, uint8 (B, 3, H, W) or a list of (3, H, W), augmented in their own size and 8 bits."""
        if not self._steps:
            return images
        blurs = _blurred(images)
        drawn = [step.draw(blurs, generator) for step in self._steps]
        if isinstance(images, Tensor):
            return self._in_8_bits(images, drawn)
        return [self._in_8_bits(image[None], [d[n : n + 1] for d in drawn])[0] for n, image in enumerate(images)]

    @torch.no_grad()
    def crops(self, views: list[Tensor], images: Tensor | list[Tensor], generator: torch.Generator) -> list[Tensor]:
        """Return views, each float32 (B, 3, s, s) in 0..1, of the pictures `images`: each is augmented by itself."""
        if not self._steps:
            return views
        blurs = _blurred(images).repeat(len(views))
        drawn = [step.draw(blurs, generator, len(views)) for step in self._steps]
        rows = [slice(n * len(images), (n + 1) * len(images)) for n in range(len(views))]
        return [self._done(view, [d[part] for d in drawn]) for view, part in zip(views, rows, strict=True)]

    def _in_8_bits(self, images: Tensor, drawn: Sequence[Any]) -> Tensor:
        made = self._done(images.float() / 255, drawn)
        return (made * 255).round_().to(torch.uint8)

    def _done(self, pixels: Tensor, drawn: Sequence[Any]) -> Tensor:
        """Do what was drawn, in parts that suit the device; float (N, 3, H, W)."""
        made = []
        with torch.autocast(pixels.device.type, enabled=False):
            for part in in_parts(pixels):
                done = pixels[part]
                for step, one in zip(self._steps, drawn, strict=True):
                    done = step.do(done, one[part])
                made.append(done)
        return torch.cat(made)


def _uniform(rows: int, generator: torch.Generator, views: int = 1) -> Tensor:
    return draw_rows(lambda number: torch.rand(number, generator=generator), rows, generator, blocks=views)


def _blurred(images: Tensor | list[Tensor]) -> Tensor:
    """Return which pictures are large enough to be blurred, bool (B,)."""
    heights, widths = sizes(images)
    return torch.minimum(heights, widths) >= LEAST_BLURRED
