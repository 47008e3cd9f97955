"""One thread a process, since the suite's tensors are small, and signals that are heard however it was started."""

import functools
import gc
import re
import signal
from collections.abc import Generator
from pathlib import Path

import pytest
import torch

from tests.bench.rows import Recorder
from tests.composing import compose_quickly
from tests.places import ROOT

APART = ("slow", "nightly", "slurm", "bench", "fuzz", "gpu")  # markers of tests that only `-m` runs

torch.set_num_threads(1)
compose_quickly()
for number, default in ((signal.SIGINT, signal.default_int_handler), (signal.SIGHUP, signal.SIG_DFL)):
    if signal.getsignal(number) is signal.SIG_IGN:  # under nohup, or in the background of a script
        signal.signal(number, default)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--write-rows", action="store_true", help="write the benchmarks' rows into tests/bench/README.md")
    parser.addoption("--update-golden", action="store_true", help="write the golden files of tests/contracts anew")


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave files unread that do not name the marker that `-m` asks for: every process would import all of them."""
    asked = re.fullmatch(f"({'|'.join(APART)})( and not \\w+)*", config.option.markexpr)
    left_out = asked and collection_path.name.startswith("test_") and not _names(collection_path, asked[1])
    return True if left_out else None


@functools.cache
def _names(path: Path, marker: str) -> bool:
    """Return whether a file or its folder names a marker."""
    return marker in str(path.relative_to(ROOT)) or marker in path.read_text()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Start what takes longest first, so that no core waits for it in the end; refuse what `-m` would not find."""
    for item in items:
        hidden = [mark.name for mark in item.iter_markers() if mark.name in APART and not _names(item.path, mark.name)]
        if hidden:
            raise pytest.UsageError(f"{item.nodeid}: is marked {hidden[0]}, which its file does not name")
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """Leave libraries and tests to themselves: each full collection of garbage would look through all of them."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.collect()
        gc.freeze()
        gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    if config.getoption("write_rows") and not hasattr(config, "workerinput"):  # reports of xdist's workers come here
        config.pluginmanager.register(Recorder(), "rows")
