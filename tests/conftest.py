"""One thread a process, since the suite's tensors are small, and signals that are heard however it was started."""

import signal

import pytest
import torch

from tests.bench.rows import Recorder

torch.set_num_threads(1)
for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:  # under nohup, or in the background of a script
        signal.signal(number, default)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-rows", action="store_true", help="write the benchmarks' rows into tests/bench/README.md")
    parser.addoption("--update-golden", action="store_true", help="write the golden files of tests/contracts anew")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start what takes longest first, so that in the end no core waits for it."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("write_rows") and not hasattr(config, "workerinput"):  # reports of xdist's workers come here
        config.pluginmanager.register(Recorder(), "rows")
