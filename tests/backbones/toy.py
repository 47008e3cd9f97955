"""A base for the small backbones of tests: what the contract asks for besides the network itself."""

from __future__ import annotations

from torch import Tensor, nn

from dinodiet.types import Description, InputSpec


class Toy(nn.Module):
    """A backbone without blocks; a test adds modules and `forward`, and says which modules its blocks are."""

    def __init__(self, embed_dim: int, side: int, mean: float = 0.5, std: float = 0.5) -> None:
        super().__init__()
        self.embed_dim = embed_dim
        self.input = InputSpec(side, (mean,) * 3, (std,) * 3)
        self.description = Description()

    def __call__(self, images: Tensor) -> Tensor:
        """Return the embeddings (B, embed_dim)."""
        embeddings: Tensor = super().__call__(images)
        return embeddings

    def freezable_blocks(self) -> list[list[nn.Module]]:
        """Return the blocks."""
        return []

    def tail(self) -> list[nn.Module]:
        """Return what comes after the blocks."""
        return []
