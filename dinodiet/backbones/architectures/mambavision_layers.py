"""The parts of MambaVision: convolution blocks, and blocks of a Mamba mixer or attention with an MLP.

Hatamizadeh & Kautz 2024 (arXiv:2407.08083), sections 3.1 and 3.2. Modules carry the names of the published weights.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from timm.layers.mlp import Mlp
from torch import Tensor, nn

from dinodiet.backbones.architectures.selective_scan import selective_scan

STATES = 8  # of each channel of a mixer (`d_state`)


class PatchEmbed(nn.Module):
    """Images (B, 3, H, W) -> maps (B, dim, H/4, W/4), rounded up: two 3x3 convolutions of stride 2."""

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.conv_down = nn.Sequential(
            nn.Conv2d(3, in_dim, 3, 2, 1, bias=False),
            nn.BatchNorm2d(in_dim, eps=1e-4),
            nn.ReLU(),
            nn.Conv2d(in_dim, dim, 3, 2, 1, bias=False),
            nn.BatchNorm2d(dim, eps=1e-4),
            nn.ReLU(),
        )

    def forward(self, images: Tensor) -> Tensor:
        """Return the maps."""
        maps: Tensor = self.conv_down(images)
        return maps


class Downsample(nn.Module):
    """Maps (B, dim, H, W) -> (B, 2 dim, H/2, W/2), rounded up."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.reduction = nn.Sequential(nn.Conv2d(dim, 2 * dim, 3, 2, 1, bias=False))

    def forward(self, maps: Tensor) -> Tensor:
        """Return the smaller maps."""
        smaller: Tensor = self.reduction(maps)
        return smaller


class ConvBlock(nn.Module):
    """A residual block of two 3x3 convolutions on maps (B, dim, H, W)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(dim, dim, 3, 1, 1)
        self.norm1 = nn.BatchNorm2d(dim)
        self.conv2 = nn.Conv2d(dim, dim, 3, 1, 1)
        self.norm2 = nn.BatchNorm2d(dim)
        self.drop_path: nn.Module = nn.Identity()

    def forward(self, maps: Tensor) -> Tensor:
        """Return the maps after the block."""
        hidden = F.gelu(self.norm1(self.conv1(maps)), approximate="tanh")
        output: Tensor = maps + self.drop_path(self.norm2(self.conv2(hidden)))
        return output


class MambaMixer(nn.Module):
    """The paper's mixer on tokens (windows, tokens, dim): half the channels are scanned, the others only convolved.

    Against Mamba's, the convolutions look both ways, and the second branch is concatenated instead of being a gate.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        inner, self.dt_rank = dim // 2, math.ceil(dim / 16)
        self.in_proj = nn.Linear(dim, dim, bias=False)
        self.conv1d_x = nn.Conv1d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.conv1d_z = nn.Conv1d(inner, inner, 3, padding=1, groups=inner, bias=False)
        self.x_proj = nn.Linear(inner, self.dt_rank + 2 * STATES, bias=False)
        self.dt_proj = nn.Linear(self.dt_rank, inner)
        self.A_log = nn.Parameter(torch.arange(1.0, STATES + 1).log().repeat(inner, 1))
        self.D = nn.Parameter(torch.ones(inner))
        self.out_proj = nn.Linear(dim, dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the mixed tokens."""
        x, z = self.in_proj(tokens).mT.chunk(2, dim=1)  # (windows, channels, tokens)
        x, z = F.silu(self.conv1d_x(x)), F.silu(self.conv1d_z(z))
        dt, B, C = self.x_proj(x.mT).split([self.dt_rank, STATES, STATES], dim=-1)
        y = selective_scan(
            x,
            self.dt_proj(dt).mT,
            -torch.exp(self.A_log.float()),
            B.mT,
            C.mT,
            self.D,
            delta_bias=self.dt_proj.bias,  # a second time: the published weights are trained with that
            delta_softplus=True,
        )
        mixed: Tensor = self.out_proj(torch.cat([y, z], dim=1).mT)
        return mixed


class Attention(nn.Module):
    """Multi-head self-attention on tokens (windows, tokens, dim), without position embeddings."""

    def __init__(self, dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the attended tokens."""
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(q, k, v)
        projected: Tensor = self.proj(attended.transpose(1, 2).flatten(2))
        return projected


class Block(nn.Module):
    """A mixer (Mamba or attention) and an MLP, each with a norm before and a residual path beside it."""

    def __init__(self, dim: int, mixer: nn.Module, layer_scale: float | None) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.mixer = mixer
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = Mlp(dim, 4 * dim)
        self.drop_path: nn.Module = nn.Identity()
        self.gamma_1 = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))
        self.gamma_2 = None if layer_scale is None else nn.Parameter(torch.full((dim,), layer_scale))

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the tokens (windows, tokens, dim) after the block."""
        tokens = tokens + self.drop_path(_scaled(self.mixer(self.norm1(tokens)), self.gamma_1))
        output: Tensor = tokens + self.drop_path(_scaled(self.mlp(self.norm2(tokens)), self.gamma_2))
        return output


def _scaled(branch: Tensor, gamma: Tensor | None) -> Tensor:
    return branch if gamma is None else gamma * branch


def to_windows(maps: Tensor, side: int) -> Tensor:
    """Cut maps (B, D, H, W), zero-padded at the right and bottom, into windows (B * count, side * side, D)."""
    height, width = maps.shape[2:]
    maps = F.pad(maps, (0, -width % side, 0, -height % side))
    batch, dim, height, width = maps.shape
    windows = maps.reshape(batch, dim, height // side, side, width // side, side)
    return windows.permute(0, 2, 4, 3, 5, 1).reshape(-1, side * side, dim)


def from_windows(windows: Tensor, side: int, height: int, width: int) -> Tensor:
    """Undo `to_windows`: put windows together to maps (B, D, height, width), the padding cut off."""
    rows, columns = math.ceil(height / side), math.ceil(width / side)
    maps = windows.reshape(-1, rows, columns, side, side, windows.shape[-1]).permute(0, 5, 1, 3, 2, 4)
    return maps.reshape(maps.shape[0], -1, rows * side, columns * side)[:, :, :height, :width]
