"""The decoder of a masked autoencoder: from the tokens of visible patches to the pixels of hidden ones."""

from __future__ import annotations

from typing import Annotated

import torch
from timm.layers.pos_embed_sincos import build_sincos2d_pos_embed
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from dinodiet.config.ranges import Fraction, Range, Width
from dinodiet.errors import UserError


class Decoder(nn.Module):
    """Tokens (B, prefix + V, in_dim) of visible patches -> pixels (B, M, pixels) of hidden ones (He et al. 2021).

    A transformer (arXiv:2111.06377, section 3) sees the visible tokens and, in the place of each hidden one, a learned
    mask token, all with fixed sine and cosine positions; tokens in front of the patches have none.

    Args:
        in_dim: width of the tokens.
        prefix: number of tokens in front of the patches.
        grid: patches of a side of the image.
        pixels: values of a patch.
        width: of the decoder, a multiple of 4 and of `heads`.
        depth: number of its blocks.
        heads: attention heads of a block.
        warmup_fraction: first part of the training in which the decoder is trained alone.

    Raises:
        UserError: the width is no such multiple.
    """

    positions: Tensor

    def __init__(
        self,
        in_dim: int,
        prefix: int,
        grid: int,
        pixels: int,
        *,
        width: Width[int] = 512,
        depth: Annotated[int, Range(1, 64)] = 8,
        heads: Annotated[int, Range(1, 256)] = 16,
        warmup_fraction: Fraction[float] = 0.0,
    ) -> None:
        super().__init__()
        if width % heads or width % 4:
            raise UserError(f"method.head.width: {width}; must be a multiple of 4 and of heads ({heads})")
        self.prefix, self.warmup_fraction = prefix, warmup_fraction
        self.embed = nn.Linear(in_dim, width)
        self.mask_token = nn.Parameter(torch.empty(width).normal_(std=0.02))
        table = build_sincos2d_pos_embed([grid, grid], width)
        self.register_buffer("positions", table.to(torch.float32), persistent=False)
        self.blocks = nn.Sequential(*(Block(width, heads, qkv_bias=True) for _ in range(depth)))
        self.norm = nn.LayerNorm(width, eps=1e-6)
        self.predict = nn.Linear(width, pixels)
        for layer in self.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                nn.init.zeros_(layer.bias)

    def forward(self, tokens: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        """Return the predictions; `visible` (B, V) and `hidden` (B, M) are numbers of patches, row by row."""
        embedded = self.embed(tokens)
        prefix, seen = embedded[:, : self.prefix], embedded[:, self.prefix :]
        positions = self.positions.to(embedded.dtype)
        masked = self.mask_token + positions[hidden]
        # Attention sees a set: hidden patches stand last, and are read off there.
        states = torch.cat([prefix, seen + positions[visible], masked.to(embedded.dtype)], dim=1)
        predicted: Tensor = self.predict(self.norm(self.blocks(states)[:, -hidden.shape[1] :]))
        return predicted
