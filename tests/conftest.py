"""One thread a process: the suite's tensors are small, and timings and sums do not depend on the machine's cores."""

import pytest
import torch

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--update-golden", action="store_true", help="write the golden files of tests/contracts anew")
