"""How a benchmark notes what it found, and computes on one thread."""

from collections.abc import Iterator, Sequence

import pytest
import torch
from threadpoolctl import threadpool_limits

from tests.bench.rows import Note, command_of, properties, row_of
from tests.places import ROOT


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """Note a figure; `--write-rows` puts it into tests/bench/README.md."""
    command = command_of(str(request.path.relative_to(ROOT)))

    def take(what: str, values: Sequence[float] | str, form: str = ".2f") -> None:
        request.node.user_properties.append(properties(row_of(what, values, form, command)))

    return take


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let torch, and the libraries of numpy and scikit-learn, compute on one thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        yield
    torch.set_num_threads(threads)
