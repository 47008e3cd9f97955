"""Values that a GPU computes, on their way to the host while it goes on computing."""

from __future__ import annotations

import torch
from torch import Tensor


class HostCopy:
    """A tensor that is being copied from the device to the host; one on a CPU is there."""

    def __init__(self, value: Tensor) -> None:
        self._value = value.to("cpu", non_blocking=True)
        self._event = torch.cuda.current_stream(value.device).record_event() if value.is_cuda else None

    def wait(self) -> Tensor:
        """Return the tensor on the CPU; wait for it, and for nothing that the device was given after it."""
        if self._event is not None:
            self._event.synchronize()
        return self._value

    def item(self) -> float:
        """Return the number that it is; waits as `wait`."""
        return self.wait().item()
