"""One thread a process: the suite's tensors are small, and timings and sums do not depend on the machine's cores."""

import torch

torch.set_num_threads(1)
