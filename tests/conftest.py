"""One thread a process: the suite's tensors are small, and timings and sums do not depend on the machine's cores."""

import pytest
import torch

from tests.bench.rows import Recorder

torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-rows", action="store_true", help="write the benchmarks' rows into tests/bench/README.md")
    parser.addoption("--update-golden", action="store_true", help="write the golden files of tests/contracts anew")


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("write_rows") and not hasattr(config, "workerinput"):  # reports of xdist's workers come here
        config.pluginmanager.register(Recorder(), "rows")
