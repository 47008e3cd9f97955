"""LeJEPA's loss: views of an image agree, and projections of all images are normally distributed."""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.config.ranges import Fraction, Range
from dinodiet.processes.gathering import gathered
from dinodiet.types import Clock

KNOTS, LAST = 17, 3.0  # of the integral over the characteristic function, from 0


class SIGReg:
    """Sketched isotropic Gaussian regularisation (Balestriero and LeCun 2025, arXiv:2511.08544, section 4).

    In each of `directions` random directions the samples are compared with a standard normal distribution by the test
    of Epps and Pulley: the squared distance of their characteristic functions, weighted by a Gaussian, over [0, 3] by
    the trapezoid rule of 17 knots, times the number of samples. A standard normal sample of any size gives 1.05 on
    average, a sample of N equal points at 0 gives 0.402 N.
    """

    def __init__(self, *, directions: Annotated[int, Range(1, 2**16)] = 1024) -> None:
        self.directions = directions

    def __call__(self, samples: Tensor, clock: Clock) -> Tensor:
        """Return the mean statistic over the step's directions of samples (N, D), a float32 scalar.

        The directions are new in every step, and depend on the step alone: the same in every process and run.
        """
        directions = self._directions(samples.shape[1], clock).to(samples.device, non_blocking=True)
        with torch.autocast(samples.device.type, enabled=False):
            return statistic(samples.float() @ directions).mean()

    def _directions(self, width: int, clock: Clock) -> Tensor:
        generator = torch.Generator().manual_seed(clock.step)
        return F.normalize(torch.randn(width, self.directions, generator=generator), dim=0)


def statistic(projected: Tensor) -> Tensor:
    """Return the statistic (K,) of N samples (N, K) in K directions; it is 0 for a normal distribution itself.

    N sum_k w_k ((mean cos(t_k x) - exp(-t_k^2 / 2))^2 + (mean sin(t_k x))^2), in the samples' precision.
    """
    knots = torch.linspace(0, LAST, KNOTS, dtype=projected.dtype, device=projected.device)
    gauss = (-(knots**2) / 2).exp()
    weights = 2 * LAST / (KNOTS - 1) * gauss
    weights[[0, -1]] /= 2
    total = torch.zeros_like(projected[0])
    for knot, goal, weight in zip(knots.unbind(), gauss.unbind(), weights.unbind(), strict=True):
        angles = knot * projected
        total = total + weight * ((angles.cos().mean(0) - goal) ** 2 + angles.sin().mean(0) ** 2)
    return len(projected) * total


class LeJEPALoss:
    """The distance of views from their centre, and SIGReg (Balestriero and LeCun 2025, arXiv:2511.08544, section 5).

    Published versions differ in three ways, which give one `weight` three scales.

    Args:
        weight: of SIGReg.
        centre: the mean of `all` views of an image, or of its `global` views.
        samples: SIGReg of the images of each view, averaged (`view`), or of all views as one sample (`pooled`).
        sum: `mixed` is (1 - weight) distance + weight SIGReg, `added` is distance + weight SIGReg.
        sigreg: the regularisation; None: with 1,024 directions.
    """

    def __init__(
        self,
        *,
        weight: Fraction[float] = 0.02,
        centre: Literal["all", "global"] = "all",
        samples: Literal["view", "pooled"] = "view",
        sum: Literal["mixed", "added"] = "mixed",
        sigreg: SIGReg | None = None,
    ) -> None:
        self.weight, self.centre, self.samples, self.sum = weight, centre, samples, sum
        self.sigreg = sigreg or SIGReg()

    def __call__(self, projections: Tensor, num_global: int, clock: Clock) -> dict[str, Tensor]:
        """Return `loss`, its parts `distance` and `sigreg`, and the mean `variance` of a dimension, in float32.

        A variance that falls below 1 means that the weight is too small.

        Args:
            projections: (views, B, D), global views first; those of all processes count.
            num_global: the number of global views.
            clock: when it is.
        """
        projections = gathered(projections.float(), dim=1)
        centre = projections[: num_global if self.centre == "global" else None].mean(0)
        distance = (centre - projections).square().mean()
        sets = [projections.flatten(0, 1)] if self.samples == "pooled" else list(projections)
        sigreg = torch.stack([self.sigreg(samples, clock) for samples in sets]).mean()
        part = 1 - self.weight if self.sum == "mixed" else 1.0
        return {
            "loss": part * distance + self.weight * sigreg,
            "distance": distance.detach(),
            "sigreg": sigreg.detach(),
            "variance": projections.detach().flatten(0, 1).var(0, correction=0).mean(),
        }
