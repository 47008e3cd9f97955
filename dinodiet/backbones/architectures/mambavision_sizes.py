"""The published sizes of MambaVision (Hatamizadeh & Kautz 2024, arXiv:2407.08083)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from dinodiet.backbones.weights.released import HubFile


@dataclass(frozen=True)
class Architecture:
    """The shape of a MambaVision: `depths`, `num_heads` and `window_size` by stage (the first two use no windows).

    Stage i is `dim` x 2^i wide, the stem `in_dim`; `layer_scale` is the start of the residual branches' factors.
    """

    depths: Sequence[int]
    num_heads: Sequence[int]
    window_size: Sequence[int]
    dim: int
    in_dim: int = 64
    layer_scale: float | None = None


@dataclass(frozen=True)
class Release:
    """A published size: its architecture, where its weights are, and what they were trained to see."""

    architecture: Architecture
    repository: str
    file: str
    crop_fraction: float = 1.0
    resolution: int = 224

    @property
    def hub_file(self) -> HubFile:
        """Where the weights are published."""
        return HubFile(f"nvidia/{self.repository}", f"{self.file}.pth.tar")


_HEADS, _WIDE_HEADS = (2, 4, 8, 16), (4, 8, 16, 32)
_T = Architecture((1, 3, 8, 4), _HEADS, (8, 8, 14, 7), 80, in_dim=32)
_B = Architecture((3, 3, 10, 5), _HEADS, (8, 8, 14, 7), 128, layer_scale=1e-5)
_L = replace(_B, num_heads=_WIDE_HEADS, dim=196)
_L2 = replace(_L, depths=(3, 3, 12, 5))
_L3 = replace(_L, depths=(3, 3, 20, 10), dim=256, window_size=(8, 8, 16, 8))
_AT_512 = (8, 8, 32, 16)
SIZES = {
    "T": Release(_T, "MambaVision-T-1K", "mambavision_tiny_1k"),
    "T2": Release(replace(_T, depths=(1, 3, 11, 4)), "MambaVision-T2-1K", "mambavision_tiny2_1k", 0.98),
    "S": Release(replace(_T, depths=(3, 3, 7, 5), dim=96, in_dim=64), "MambaVision-S-1K", "mambavision_small_1k", 0.93),
    "B": Release(_B, "MambaVision-B-1K", "mambavision_base_1k"),
    "B_21k": Release(_B, "MambaVision-B-21K", "mambavision_base_21k"),
    "L": Release(_L, "MambaVision-L-1K", "mambavision_large_1k"),
    "L_21k": Release(_L, "MambaVision-L-21K", "mambavision_large_21k"),
    "L2": Release(_L2, "MambaVision-L2-1K", "mambavision_large2_1k"),
    "L2_512_21k": Release(
        replace(_L2, window_size=_AT_512), "MambaVision-L2-512-21K", "mambavision_L2_21k_240m_512", 0.93, 512
    ),
    "L3_256_21k": Release(_L3, "MambaVision-L3-256-21K", "mambavision_L3_21k_740m_256", 1.0, 256),
    "L3_512_21k": Release(
        replace(_L3, window_size=_AT_512), "MambaVision-L3-512-21K", "mambavision_L3_21k_740m_512", 0.93, 512
    ),
}
