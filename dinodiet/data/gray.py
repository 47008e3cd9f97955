"""Gray values of more than 8 bits as 8."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def to_8_bits(values: NDArray[np.integer], bits: int) -> NDArray[np.uint8]:
    """Return gray values of so many bits as 8, rounded.

    Raises:
        ValueError: a value has more bits.
    """
    if values.min() < 0 or values.max() > 2**bits - 1:
        raise ValueError(f"values {values.min()} to {values.max()}, not 0 to {2**bits - 1} ({bits} bits)")
    scaled = (values.astype(np.uint32) + 128) // 257 if bits == 16 else np.rint(values * (255 / (2**bits - 1)))
    return np.asarray(scaled, dtype=np.uint8)
