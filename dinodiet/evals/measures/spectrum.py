"""How many directions embeddings use: entropies and slopes of their singular values.

Singular values are those of the matrix itself: by way of its covariance half of the digits of small ones are lost.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def singular_values(rows: Tensor, *, centered: bool = False) -> Tensor:
    """Return the singular values of a matrix (N, D) of float64, falling; what is rounding is 0.

    `centered` takes the mean row off first. What is left of embeddings that are all alike is then below rounding, and
    measured by the matrix before.
    """
    found = torch.linalg.svdvals(rows - rows.mean(dim=0) if centered else rows)
    largest = float(torch.linalg.matrix_norm(rows))
    return torch.where(found > max(rows.shape) * torch.finfo(rows.dtype).eps * largest, found, 0.0)


def effective_rank(values: Tensor, epsilon: float = 0.0) -> float:
    """Return exp(-sum p log p) of p = values / their sum + epsilon, as it stands: not normalised again.

    Roy and Vetterli 2007 (EUSIPCO) without epsilon; RankMe (Garrido et al. 2023, arXiv:2210.02885, equation 1) is the
    same with 1e-7. NaN of values that are all 0.
    """
    total = values.sum()
    return math.nan if total == 0 else float(torch.special.entr(values / total + epsilon).sum().exp())


def decay(eigenvalues: Tensor, first: int, last: int, *, weighted: bool) -> tuple[float, int]:
    """Return alpha of eigenvalues (falling) that go as rank^-alpha, and the last rank that it was fitted on.

    alpha-ReQ (Agrawal et al. 2022, NeurIPS): least squares of log eigenvalue on log rank over the ranks from `first` to
    `last`, counted from 1; with `weighted`, as in its authors' code, squares are weighted by 1 / rank. Ranks behind the
    last eigenvalue above 0 are left out; of fewer than two alpha is NaN.
    """
    last = min(last, int((eigenvalues > 0).sum()))
    if last <= first:
        return math.nan, last
    ranks = torch.arange(first, last + 1, dtype=eigenvalues.dtype, device=eigenvalues.device)
    weights = 1 / ranks if weighted else torch.ones_like(ranks)
    x, y = ranks.log(), eigenvalues[first - 1 : last].log()
    x = x - (weights * x).sum() / weights.sum()
    return float(-(weights * x * y).sum() / (weights * x * x).sum()), last


def lidar(embeddings: Tensor, delta: float = 1e-4, epsilon: float = 1e-8) -> float:
    """Return the effective rank of how views of an image differ from those of others, of (images, views, D).

    Thilak et al. 2024 (arXiv:2312.04000, section 3.2). S_b is the covariance of the images' means, S_w that within
    images plus `delta` on its diagonal. Of the eigenvalues of S_w^-1/2 S_b S_w^-1/2, each plus `epsilon`, over their
    sum: the exponential of the entropy. Float64; at least two images of two views.
    """
    images, views, dim = embeddings.shape
    means = embeddings.mean(dim=1)
    within = (embeddings - means[:, None]).flatten(0, 1)
    scatter = within.T @ within / (images * (views - 1)) + delta * torch.eye(dim).to(within)
    root = torch.linalg.cholesky(scatter)
    between = torch.linalg.solve_triangular(root, (means - means.mean(dim=0)).T / math.sqrt(images - 1), upper=False)
    eigenvalues = torch.linalg.svdvals(between).square()  # D of them: the others are 0
    eigenvalues = torch.cat([eigenvalues, eigenvalues.new_zeros(dim - len(eigenvalues))]) + epsilon
    return effective_rank(eigenvalues)
