"""How much the gradients of single images differ."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Annotated

import torch
from torch import Tensor, nn

from dinodiet.config.ranges import AtLeastOne, Range
from dinodiet.errors import UserError
from dinodiet.run.needs import size_of
from dinodiet.run.records.base import RecordBase
from dinodiet.run.records.parameters import Named, named
from dinodiet.run.records.restoring import restoring
from dinodiet.run.records.vectors import Sums, product, square
from dinodiet.types import Batch, Clock, Method, Recorded, RecordMemory, Row

COPIES = 6  # of a gradient, at most: the mean, the one before and that at hand, and layers that normalise weights


class GradientVariance(RecordBase):
    """The sum over images of the squared distance between an image's gradient and their mean, over images - 1.

    Columns `<part>/variance` and `<part>/norm`, that of the mean gradient, for the whole model, encoder and head. Each
    of the first images of a batch is seen alone, in views of its own, in evaluation mode and float32: BatchNorm, by the
    statistics that it has collected, then treats an image without the others. The training step itself is left alone.

    Args:
        every_steps: steps from one row to the next.
        images: of a batch; each takes a forward and a backward pass. Beside those of one image, memory holds two
            gradients.

    Raises:
        UserError: the loss of the method compares images, or the training reads none.
    """

    def __init__(self, *, every_steps: AtLeastOne[int] = 500, images: Annotated[int, Range(2, 2**20)] = 8) -> None:
        super().__init__(every_steps=every_steps)
        self.images = images
        self._row: dict[str, float] = {}

    def memory(self, method: Method) -> RecordMemory:
        """Return gradients, as many as there are at a time, and the buffers to put back."""
        assert isinstance(method, nn.Module)
        student = named(method.networks()["student"]).values()
        gradients = size_of(parameter for _, parameter in student if parameter.requires_grad)
        return RecordMemory(0, COPIES * gradients + size_of(method.buffers()))

    def prepare(self, run: Recorded) -> None:
        """Refuse methods of which an image has no gradient of its own."""
        super().prepare(run)
        name = type(run.method).__name__
        if run.method.compares_images:
            raise UserError(f"the loss of {name} compares images, so that one alone has no gradient; leave it out")
        if not run.method.reads_images:
            raise UserError("the training reads no images (method.trunk), and takes no gradient of one; leave it out")

    def on_gradients(self, clock: Clock, batch: Batch) -> None:
        """Compute the gradients of single images."""
        method = self.run.method
        assert isinstance(method, nn.Module)
        parameters = {name: own for name, own in named(method.networks()["student"]).items() if own[1].requires_grad}
        images = list(batch.split(len(batch)))[: self.images]
        with restoring(method):
            method.eval()
            losses = (method(image, replace(clock, part=part))["loss"] for part, image in enumerate(images))
            self._row = variance(losses, parameters)

    def on_step(self, clock: Clock, logs: Mapping[str, Tensor]) -> Sequence[Row]:
        """Return the row of a step."""
        return [self._row]


def variance(losses: Iterable[Tensor], parameters: Named) -> dict[str, float]:
    """Return the variance of the losses' gradients and the norm of their mean, by part of the parameters.

    One gradient after the other changes the mean (Welford 1962): two are held at a time.
    """
    mean: list[Tensor] = []
    sums, number = Sums(), 0
    for number, loss in enumerate(losses, start=1):
        own = gradients(loss, parameters)
        mean = mean or [torch.zeros_like(gradient) for gradient in own]
        for (part, _), gradient, average in zip(parameters.values(), own, mean, strict=True):
            before = gradient - average
            average.add_(before, alpha=1 / number)
            sums.add("squares", part, product(before, gradient - average))
    for (part, parameter), average in zip(parameters.values(), mean, strict=True):
        sums.count(part, parameter.numel())
        sums.add("mean", part, square(average))
    sums.read()
    found = {f"{part}/variance": sums.total("squares", part) / (number - 1) for part in sums.parts()}
    return found | {f"{part}/norm": sums.norm("mean", part) for part in sums.parts()}


def gradients(loss: Tensor, parameters: Named) -> list[Tensor]:
    """Return the gradient of each parameter, zeros where the loss does not depend on it; none is left in them."""
    own = [parameter for _, parameter in parameters.values()]
    found = torch.autograd.grad(loss, own, allow_unused=True)
    return [torch.zeros_like(one) if gradient is None else gradient for one, gradient in zip(own, found, strict=True)]
