"""The selective scan of Mamba (Gu & Dao 2023, arXiv:2312.00752), exact, with a backward pass that keeps no states.

    h_t = exp(delta_t A) h_(t-1) + delta_t B_t u_t,   y_t = C_t h_t + D u_t        per channel; h, A, B_t, C_t per state

The recurrence runs in segments. Between forward and backward only the state at each segment's start is kept; backward
recomputes the others, segment by segment. Within a segment, chunks of it advance side by side, from zero; each is then
given the state that the one before it ends in. All factors are decays, at most 1: nothing overflows or is divided by.
"""
# ruff: noqa: N803 (matrices keep their letters)

from __future__ import annotations

import contextlib
import functools
import importlib
import importlib.util
import itertools
import math
import warnings
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

SEGMENT = 64  # steps; a compromise between kept states and the transient ones of a segment


def selective_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,
    B: Tensor,
    C: Tensor,
    D: Tensor | None = None,
    *,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    """Return y (batch, channels, steps), in u's dtype; computed in float32, or float64 where u has it.

    On CUDA the kernel of the package `mamba_ssm` does it where that is installed.

    Args:
        u: the input (batch, channels, steps).
        delta: step sizes (batch, channels, steps).
        A: decay rates (channels, states), negative.
        B: input weights (batch, states, steps).
        C: output weights (batch, states, steps).
        D: weights of the direct path (channels,).
        delta_bias: (channels,), added to delta.
        delta_softplus: put delta + delta_bias through softplus.
    """
    dtype = torch.float64 if u.dtype == torch.float64 else torch.float32
    with _without_autocast(u):
        x, delta, A, B, C = (tensor.to(dtype) for tensor in (u, delta, A, B, C))
        D, delta_bias = (None if tensor is None else tensor.to(dtype) for tensor in (D, delta_bias))
        kernel = _cuda_kernel() if u.is_cuda and dtype == torch.float32 else None
        if kernel is not None:
            y: Tensor = kernel(x, delta, A, B, C, D, delta_bias=delta_bias, delta_softplus=delta_softplus)
            return y.to(u.dtype)
        if delta_bias is not None:
            delta = delta + delta_bias[:, None]
        if delta_softplus:
            delta = F.softplus(delta)
        y = _scan(x, delta, A, B, C)
        return (y if D is None else y + D[:, None] * x).to(u.dtype)


@functools.cache
def _cuda_kernel() -> Any:
    """Return the function of `mamba_ssm`, or None where it is not installed."""
    if importlib.util.find_spec("mamba_ssm") is None:
        return None
    try:
        return importlib.import_module("mamba_ssm.ops.selective_scan_interface").selective_scan_fn
    except (ImportError, OSError) as error:  # built for another version of torch or CUDA
        warnings.warn(f"mamba_ssm is installed but broken, PyTorch does its work: {error}", stacklevel=2)
        return None


def _without_autocast(tensor: Tensor) -> contextlib.AbstractContextManager[Any]:
    device = tensor.device.type
    return (
        torch.autocast(device, enabled=False) if torch.amp.is_autocast_available(device) else contextlib.nullcontext()
    )


@torch.compiler.disable  # type: ignore[misc]  # unrolled, its loops would take minutes to compile
def _scan(u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
    y: Tensor = _Scan.apply(u, delta, A, B, C)
    return y


class _Scan(torch.autograd.Function):
    """y_t = C_t h_t. Within, time comes first and channels last: (steps, batch, states, channels)."""

    @staticmethod
    def forward(ctx: Any, u: Tensor, delta: Tensor, A: Tensor, B: Tensor, C: Tensor) -> Tensor:
        u, delta, B, C = (tensor.permute(2, 0, 1).contiguous() for tensor in (u, delta, B, C))
        rates = A.t().contiguous()
        state = u.new_zeros(u.shape[1], *rates.shape)
        starts, outputs = [], []
        for span in _spans(len(u)):
            starts.append(state)
            states = _advance(_decay(delta[span], rates), _drive(u[span], delta[span], B[span]), state)
            outputs.append(_over_states(C[span], states))
            state = states[-1].clone()
        ctx.save_for_backward(u, delta, rates, B, C, *starts)
        return torch.cat(outputs).permute(1, 2, 0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        u, delta, rates, B, C, *starts = ctx.saved_tensors
        grad_y = grad.permute(2, 0, 1).contiguous()
        grads = [torch.empty_like(tensor) for tensor in (u, delta, B, C)]
        grad_rates = torch.zeros_like(rates)
        carry = torch.zeros_like(starts[0])  # gradient in the state that a segment hands to the next
        with _without_autocast(grad):
            for span, start in reversed(list(zip(_spans(len(u)), starts, strict=True))):
                *found, in_rates, carry = _segment_gradients(
                    u[span], delta[span], B[span], C[span], grad_y[span], rates, start, carry
                )
                for gradient, part in zip(grads, found, strict=True):
                    gradient[span] = part
                grad_rates += in_rates
        grad_u, grad_delta, grad_B, grad_C = (gradient.permute(1, 2, 0) for gradient in grads)
        return grad_u, grad_delta, grad_rates.t(), grad_B, grad_C


def _segment_gradients(
    u: Tensor, delta: Tensor, B: Tensor, C: Tensor, grad_y: Tensor, rates: Tensor, start: Tensor, carry: Tensor
) -> tuple[Tensor, ...]:
    """Return the gradients in u, delta, B, C, the rates and the state before the segment."""
    decay = _decay(delta, rates)
    states = _advance(decay.clone(), _drive(u, delta, B), start)
    grad_C = _over_channels(states, grad_y)
    # The gradient in the states obeys the same recurrence, backwards in time: g_t = C_t grad_y_t + decay_(t+1) g_(t+1).
    later = torch.cat([decay[1:], torch.ones_like(decay[:1])])  # `carry` has its decay already
    grad_states = _advance(later, C[..., None] * grad_y[..., None, :], carry, backwards=True)
    carry = decay[0] * grad_states[0]
    grad_drive = _over_states(B, grad_states)
    grad_exponent = decay.mul_(grad_states)
    grad_exponent[0] *= start
    grad_exponent[1:] *= states[:-1]
    grad_delta = u * grad_drive + (grad_exponent * rates).sum(dim=2)
    grad_rates = (grad_exponent * delta[..., None, :]).sum(dim=(0, 1))
    return delta * grad_drive, grad_delta, _over_channels(grad_states, delta * u), grad_C, grad_rates, carry


def _spans(steps: int) -> list[slice]:
    return [slice(start, min(start + SEGMENT, steps)) for start in range(0, steps, SEGMENT)]


def _decay(delta: Tensor, rates: Tensor) -> Tensor:
    return (delta[..., None, :] * rates).exp_()


def _drive(u: Tensor, delta: Tensor, B: Tensor) -> Tensor:
    return B[..., None] * (delta * u)[..., None, :]


def _over_states(weights: Tensor, states: Tensor) -> Tensor:
    """Return the sum over states (steps, batch, channels) of weights (steps, batch, states) times the states."""
    return torch.einsum("tbn,tbnc->tbc", weights, states)


def _over_channels(states: Tensor, weights: Tensor) -> Tensor:
    return torch.einsum("tbnc,tbc->tbn", states, weights)


def _advance(decay: Tensor, drive: Tensor, start: Tensor, *, backwards: bool = False) -> Tensor:
    """Return the states h_t = decay_t h_(t-1) + drive_t (backwards: h_(t+1)), in place of `drive`; spoils `decay`.

    `start` is the state before the first step (backwards: after the last).
    """
    order = -1 if backwards else 1
    length = math.isqrt(len(drive))  # of a chunk
    rest = len(drive) % length
    body, remainder = slice(0, len(drive) - rest), slice(len(drive) - rest, None)
    if backwards:
        body, remainder = slice(rest, None), slice(0, rest)
    decays, drives = (tensor[body].unflatten(0, (-1, length)) for tensor in (decay, drive))
    columns = list(zip(decays.unbind(1)[::order], drives.unbind(1)[::order], strict=True))
    for (reach, state), (next_reach, next_state) in itertools.pairwise(columns):
        next_state.addcmul_(next_reach, state)
        next_reach.mul_(reach)
    state, last = start, columns[-1][1].unbind(0)[::order]
    for reach, chunk, end in zip(decays.unbind(0)[::order], drives.unbind(0)[::order], last, strict=True):
        chunk.addcmul_(reach, state)  # reach: what each step of the chunk keeps of the state before it
        state = end
    if not rest:  # torch cannot read a program that takes nothing apart
        return drive
    for factor, step in zip(decay[remainder].unbind(0)[::order], drive[remainder].unbind(0)[::order], strict=True):
        state = step.addcmul_(factor, state)
    return drive
