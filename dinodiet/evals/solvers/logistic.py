"""L2-regularised logistic regression, solved to convergence for a path of regularisation strengths.

The objective is scikit-learn's: C times the sum of the losses plus half the squared norm of the weights; intercepts are
not penalised. It is solved by scipy's L-BFGS-B with loss and gradient from torch, in float64: the line search compares
losses that differ by less than float32 can tell.

What makes it fast is a change of variables. Centring the features only moves the intercept, and rotating them does not
change the penalty; so both leave the problem as it is. In the features' principal axes the Hessian is nearly diagonal:
penalty + C * h * (sum of squares along the axis), where h is the mean of p (1 - p) over images and outputs. Variables
divided by the root of that diagonal are nearly spherical, and tens of iterations do what takes hundreds without.
Axes without variance are dropped when there are fewer images than features: the penalty keeps their weights at 0.

Along a path of strengths the solution is a smooth curve of log C: a fit starts where a parabola through the last three
solutions leads, which spares a third of the iterations and more.
"""

from __future__ import annotations

import contextlib
import logging
import math
from collections.abc import Iterator, Mapping
from functools import cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController
from torch import Tensor

log = logging.getLogger(__name__)

LOGITS_AT_ONCE = 2**23  # 64 MiB in float64
SMALL = 2**24  # multiplications in the logits, about a millisecond
FOLLOWED = 3  # solutions that say where the next one lies


class LogisticRegression:
    """Features (N, D) and targets, ready to be fitted; each `fit` starts from where those before it lead.

    Targets are classes, int64 (N,), each of 0 ... K-1 present: softmax over K outputs. Or they are 0 and 1, float64
    (N, K): K independent sigmoids. All tensors stay on the features' device.
    """

    def __init__(self, features: Tensor, targets: Tensor) -> None:
        features = features.double()
        self._targets = targets
        self._mean = features.mean(dim=0)
        coordinates, self._axes, variances = _principal_axes(features - self._mean)
        self._inputs = F.pad(coordinates, (0, 1), value=1.0)  # the last column carries the intercept
        self._squares = F.pad(variances, (0, 1), value=float(len(features)))
        self._penalty = F.pad(torch.ones_like(variances), (0, 1))
        num_outputs = targets.shape[1] if targets.ndim == 2 else int(targets.max()) + 1
        self._zero = self._inputs.new_zeros(num_outputs, self._inputs.shape[1])
        self._path: dict[float, Tensor] = {}  # the last solutions by log C

    def fit(self, C: float, *, tolerance: float = 1e-9, max_iter: int = 1000) -> tuple[Tensor, Tensor]:  # noqa: N803
        """Return weight (K, D) and intercept (K,) that minimise the objective.

        It stops when an iteration lowers the objective by less than `tolerance` of its value.
        """
        from scipy.optimize import minimize  # noqa: PLC0415 - only who fits pays for it

        start, gradient, spread = self._start(C)
        scale = (self._penalty + C * spread * self._squares).rsqrt()
        scale = scale * (gradient * scale).norm().clamp(min=1e-12)  # L-BFGS-B's first step has norm 1: make it Newton's

        def objective(variables: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
            weight = torch.from_numpy(variables).to(start.device).view_as(start) * scale
            loss, gradient, _ = self._loss(weight, C)
            return loss, (gradient * scale).flatten().numpy(force=True)

        options = {"ftol": tolerance, "gtol": 0.0, "maxiter": max_iter, "maxfun": 10 * max_iter}
        first = (start / scale).flatten().numpy(force=True)
        with _threads_for(self._inputs.numel() * len(start)):
            found = minimize(objective, first, jac=True, method="L-BFGS-B", options=options)
        if found.nit >= max_iter:
            log.warning("logistic regression with C=%g has not converged in %d iterations", C, max_iter)
        solution = torch.from_numpy(found.x).to(start.device).view_as(start) * scale
        self._remember(C, solution)
        weight = solution[:, :-1] @ self._axes.T
        return weight, solution[:, -1] - weight @ self._mean

    def _start(self, C: float) -> tuple[Tensor, Tensor, float]:  # noqa: N803
        """Return the better of the last solution and of where the path leads, with its gradient and mean p (1 - p)."""
        starts = [next(reversed(self._path.values()), self._zero)]
        if len(self._path) > 1:
            starts.append(_extrapolated(self._path, math.log(C)))
        found = [(start, *self._loss(start, C, curvature=True)) for start in starts]
        start, _, gradient, spread = min(found, key=lambda one: one[1])
        return start, gradient, spread

    def _remember(self, C: float, solution: Tensor) -> None:  # noqa: N803
        self._path.pop(math.log(C), None)  # solved again, it is the last one
        self._path[math.log(C)] = solution
        if len(self._path) > FOLLOWED:
            del self._path[next(iter(self._path))]

    def _loss(self, weight: Tensor, C: float, *, curvature: bool = False) -> tuple[float, Tensor, float]:  # noqa: N803
        """Return the objective, its gradient, and, where the `curvature` is asked for, the mean of p (1 - p)."""
        penalized = weight * self._penalty
        loss, gradient, spread = (penalized * weight).sum() / 2, penalized, 0.0
        rows = max(1, LOGITS_AT_ONCE // len(weight))
        for inputs, targets in zip(*(torch.split(part, rows) for part in (self._inputs, self._targets)), strict=True):
            losses, residual, variance = _pointwise(inputs @ weight.T, targets, curvature)
            loss = loss + C * losses
            gradient = gradient + C * (residual.T @ inputs)
            spread += variance
        return float(loss), gradient, spread / (len(self._inputs) * len(weight))


@contextlib.contextmanager
def _threads_for(multiplications: int) -> Iterator[None]:
    """Keep small problems and scipy's vectors on one thread: waiting for others costs more, on busy machines much."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if multiplications < SMALL else threads)
    try:
        with _pools().limit(limits=1, user_api="blas"):  # scipy's; torch's own is not touched
            yield
    finally:
        torch.set_num_threads(threads)


@cache
def _pools() -> ThreadpoolController:
    """Return the pools of threads of the libraries that are loaded: to find them takes as long as a small fit."""
    return ThreadpoolController()


def _extrapolated(path: Mapping[float, Tensor], at: float) -> Tensor:
    """Return the value at a place of the polynomial through values by place (Lagrange's)."""
    shares = {one: math.prod((at - other) / (one - other) for other in path if other != one) for one in path}
    parts = [share * path[one] for one, share in shares.items()]
    return torch.stack(parts).sum(dim=0)


def _pointwise(logits: Tensor, targets: Tensor, curvature: bool) -> tuple[Tensor, Tensor, float]:
    """Return the sum of the losses, their gradient by logits (N, K), and the sum of p (1 - p); 0 if not asked for."""
    if targets.ndim == 2:
        losses = F.binary_cross_entropy_with_logits(logits, targets, reduction="sum")
        probabilities = logits.sigmoid()
        residual = probabilities - targets
        variance = _variance(probabilities) if curvature else 0.0
    else:
        log_probabilities = logits.log_softmax(dim=1)
        losses = F.nll_loss(log_probabilities, targets, reduction="sum")
        residual = log_probabilities.exp_()  # one tensor for all of it: a step of a small problem is its allocations
        variance = _variance(residual) if curvature else 0.0
        residual.scatter_add_(1, targets[:, None], residual.new_full((1, 1), -1.0).expand(len(targets), 1))
    return losses, residual, variance


def _variance(probabilities: Tensor) -> float:
    return float((probabilities * (1 - probabilities)).sum())


def _principal_axes(centred: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return coordinates (N, R) along orthonormal axes (D, R), R = min(N, D), and their sums of squares (R,)."""
    if centred.shape[0] < centred.shape[1]:
        span, triangular = torch.linalg.qr(centred.T)
        coordinates, axes, squares = _principal_axes(triangular.T)
        return coordinates, span @ axes, squares
    squares, axes = torch.linalg.eigh(centred.T @ centred)
    return centred @ axes, axes, squares.clamp(min=0.0)
