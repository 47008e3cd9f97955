"""The same numbers twice on one kind of GPU: kernels whose sums have an order, and resizing as matrix products.

By default some of CUDA's kernels add in the order in which threads happen to end: gradients of convolutions, of resized
position embeddings and of gathered rows then differ in their last bits from run to run.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from dinodiet.errors import UserError, one_line

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"  # cuBLAS reads it once in a process; with this value its sums have an order
REFUSED = "deterministic"  # is in the message of every operation that has no such kernel
SEPARABLE = ("bilinear", "bicubic")

_interpolate = F.interpolate


@contextlib.contextmanager
def deterministic(wanted: bool) -> Iterator[None]:
    """Have what is computed inside come out the same every time; not `wanted`, nothing changes.

    Raises:
        UserError: an operation has no form that always gives the same.
    """
    if not wanted:
        yield
        return
    os.environ.setdefault(WORKSPACE, ":4096:8")
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    F.interpolate = resized  # type: ignore[assignment]
    try:
        yield
    except RuntimeError as error:
        if REFUSED not in str(error):
            raise
        told = one_line(error).partition(", but you set")[0]
        raise UserError(f"deterministic: true, but {told}; set deterministic=false") from error
    finally:
        F.interpolate = _interpolate
        torch.use_deterministic_algorithms(before)


def resized(input: Tensor, size: Any = None, scale_factor: Any = None, mode: str = "nearest", **how: Any) -> Tensor:
    """Return what `F.interpolate` does; where a gradient flows, as products with the matrices of its two sides.

    Their gradient is a product too, whose sums have an order. Products round otherwise, in the last bits.
    """
    if not (input.requires_grad and input.ndim == 4 and mode in SEPARABLE and scale_factor is None):
        return _interpolate(input, size, scale_factor, mode, **how)
    height, width = (size, size) if isinstance(size, int) else size
    rows, columns = (
        _matrix(source, int(target), input, mode, how)
        for source, target in zip(input.shape[2:], (height, width), strict=True)
    )
    return rows.T @ input @ columns


def _matrix(source: int, target: int, like: Tensor, mode: str, how: dict[str, Any]) -> Tensor:
    """Return the matrix (source, target) that resizes a line: of an image whose rows are unit lines, they stay rows."""
    lines = torch.eye(source, device=like.device, dtype=like.dtype)[None, None]
    return _interpolate(lines, (source, target), mode=mode, **how)[0, 0]
