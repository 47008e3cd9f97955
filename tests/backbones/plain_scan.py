"""The selective scan as it is defined: one step after the other, every state kept."""

import torch
import torch.nn.functional as F
from torch import Tensor


def plain_scan(
    u: Tensor,
    delta: Tensor,
    A: Tensor,  # noqa: N803
    B: Tensor,  # noqa: N803
    C: Tensor,  # noqa: N803
    D: Tensor | None = None,  # noqa: N803
    *,
    delta_bias: Tensor | None = None,
    delta_softplus: bool = False,
) -> Tensor:
    if delta_bias is not None:
        delta = delta + delta_bias[:, None]
    if delta_softplus:
        delta = F.softplus(delta)
    decay = torch.exp(delta[:, :, None] * A[:, :, None]).unbind(-1)  # unbound at once: indexing costs the square
    drive = ((delta * u)[:, :, None] * B[:, None]).unbind(-1)
    state = torch.zeros_like(drive[0])
    outputs = []
    for step, weights in enumerate(C.unbind(-1)):
        state = decay[step] * state + drive[step]
        outputs.append((state * weights[:, None]).sum(-1))
    y = torch.stack(outputs, dim=-1)
    return y if D is None else y + D[:, None] * u
