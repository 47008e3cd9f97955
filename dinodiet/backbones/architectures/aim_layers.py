"""The network of AIM v1 (El-Nouby et al. 2024, arXiv:2401.08541) under the key names of the released files.

A pre-norm transformer on patches, without class token, mask, or biases in its linear layers.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

PATCH = 14
_EPS = 1e-6


class AIM(nn.Module):
    """The network under the key names of the released files: a preprocessor and a trunk of blocks.

    Sides may be any multiples of 14: the position embedding is computed for the grid at hand.
    """

    def __init__(self, embed_dim: int, depth: int, num_heads: int) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.preprocessor = nn.ModuleDict({"patchifier": _Patchifier(embed_dim)})
        blocks = nn.ModuleList(_Block(embed_dim, num_heads) for _ in range(depth))
        norm = nn.LayerNorm(embed_dim, eps=_EPS)
        self.trunk = nn.ModuleDict({"blocks": blocks, "post_trunk_norm": norm})

    @property
    def blocks(self) -> nn.ModuleList:
        """Return the transformer blocks."""
        blocks = self.trunk["blocks"]
        assert isinstance(blocks, nn.ModuleList)
        return blocks

    def end_after(self, block: int) -> None:
        """Take off what comes after this block, counted from 0: also the norm, which then is not the last part."""
        del self.blocks[block + 1 :]
        if "post_trunk_norm" in self.trunk:
            del self.trunk["post_trunk_norm"]

    def embed(self, images: Tensor) -> Tensor:
        """Return what the first block sees of normalised images (B, 3, h, w): tokens (B, rows x columns, embed_dim)."""
        grid: Tensor = self.preprocessor["patchifier"](images)
        return grid.flatten(1, 2) + position_embedding(grid).to(grid.dtype)


class _Patchifier(nn.Module):
    """Images (B, 3, h, w) -> normalised patch embeddings (B, h / 14, w / 14, embed_dim)."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, embed_dim, PATCH, stride=PATCH)
        self.norm = nn.LayerNorm(embed_dim, eps=_EPS)

    def forward(self, images: Tensor) -> Tensor:
        assert not any(side % PATCH for side in images.shape[-2:]), (
            f"{tuple(images.shape)}: sides are not whole patches"
        )
        grid: Tensor = self.norm(self.proj(images.to(self.proj.weight.dtype)).permute(0, 2, 3, 1))
        return grid


class _Block(nn.Module):
    """Attention and MLP, each on the normalised tokens and added to them, in the precision of the block's weights."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.norm_1 = nn.LayerNorm(embed_dim, eps=_EPS)
        self.attn = _Attention(embed_dim, num_heads)
        self.drop_path1 = nn.Identity()  # no weights; places for `set_drop_path`
        self.norm_2 = nn.LayerNorm(embed_dim, eps=_EPS)
        self.mlp = _MLP(embed_dim)
        self.drop_path2 = nn.Identity()

    def forward(self, tokens: Tensor) -> Tensor:
        tokens = tokens.to(self.norm_1.weight.dtype)
        tokens = tokens + self.drop_path1(self.attn(self.norm_1(tokens)))
        tokens = tokens + self.drop_path2(self.mlp(self.norm_2(tokens)))
        return tokens  # noqa: RET504 - two equal steps

    def requires_grad_(self, requires_grad: bool = True) -> _Block:
        """Switch training on or off; what is trained is held in fp32, since steps and averages get lost in bf16."""
        if requires_grad:
            self.float()
        super().requires_grad_(requires_grad)
        return self


class _Attention(nn.Module):
    """Multi-head attention over all tokens, without biases."""

    def __init__(self, embed_dim: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim, bias=False)
        self.proj = nn.Linear(embed_dim, embed_dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        heads = F.scaled_dot_product_attention(q, k, v)
        mixed: Tensor = self.proj(heads.transpose(1, 2).flatten(2))
        return mixed


class _MLP(nn.Module):
    """Two linear layers without biases around an exact GELU."""

    def __init__(self, embed_dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(embed_dim, 4 * embed_dim, bias=False)
        self.fc2 = nn.Linear(4 * embed_dim, embed_dim, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden: Tensor = self.fc2(F.gelu(self.fc1(tokens)))
        return hidden


def position_embedding(grid: Tensor) -> Tensor:
    """Return the fixed sine-cosine code (rows x columns, embed_dim) of a grid (B, rows, columns, embed_dim), row-major.

    A coordinate p becomes [sin(p f), cos(p f)] with embed_dim / 4 frequencies f from 1 towards 1 / 10000; a patch's
    code is its column's, then its row's.
    """
    _, rows, columns, embed_dim = grid.shape
    steps = torch.arange(embed_dim // 4, dtype=torch.float32, device=grid.device)
    frequencies = 10000.0 ** (-steps / (embed_dim // 4))

    def code(count: int) -> Tensor:
        angles = torch.arange(count, dtype=torch.float32, device=grid.device)[:, None] * frequencies
        return torch.cat([angles.sin(), angles.cos()], dim=1)

    column, row = code(columns)[None].expand(rows, -1, -1), code(rows)[:, None].expand(-1, columns, -1)
    return torch.cat([column, row], dim=-1).flatten(0, 1)
