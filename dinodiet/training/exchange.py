"""What the processes of a training send each other besides losses."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from dinodiet.config.settings import Settings


@dataclass(frozen=True)
class Exchange:
    """What is exchanged in every step.

    Args:
        sync_batchnorm: BatchNorm normalises by the statistics of all processes; False: each by those of its own rows.
        reduce_dtype: what gradients are rounded to on their way; bfloat16 takes half the bytes of float32.
    """

    sync_batchnorm: bool = True
    reduce_dtype: torch.dtype = torch.float32

    @property
    def rounds(self) -> bool:
        """Return whether gradients are rounded on their way."""
        return self.reduce_dtype != torch.float32


def exchange_of(settings: Settings) -> Exchange:
    """Return what the settings say."""
    dtype = torch.bfloat16 if settings.reduce_dtype == "bf16" else torch.float32
    return Exchange(settings.sync_batchnorm, dtype)
