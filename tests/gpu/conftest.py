"""The device of a test: a GPU under `-m gpu`; in the slow suite the CPU, so that the code of tests runs everywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import pytest
import torch

from tests.bench.rows import Note, Row, properties, row_of
from tests.places import ROOT

NONE = "no CUDA device: torch.cuda.is_available() is false"


@pytest.fixture(params=[pytest.param("cuda", marks=pytest.mark.gpu), pytest.param("cpu", marks=pytest.mark.slow)])
def device(request: pytest.FixtureRequest) -> torch.device:
    """Return what is compared with the CPU."""
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip(NONE)
    return torch.device(request.param)


@pytest.fixture(autouse=True)
def exact_products() -> Iterator[None]:
    """Multiply float32 as float32, and not as TF32."""
    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    torch.set_float32_matmul_precision("highest")
    torch.backends.cudnn.allow_tf32 = False
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.fixture
def note(request: pytest.FixtureRequest, device: torch.device) -> Note:
    """Note a figure of a GPU, with its name; those of a CPU are no figures of this suite."""
    command = f"`pytest -m gpu -s {request.path.relative_to(ROOT)}`"

    def take(what: str, values: Sequence[float] | str, form: str = ".2f") -> None:
        row = row_of(what, values, form, command)
        if device.type == "cuda":
            named = Row(row.what, row.figure, row.spread, command, torch.cuda.get_device_name(device))
            request.node.user_properties.append(properties(named))

    return take


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let CUDA's libraries warn: what they warn of differs from card to card."""
    for item in items:
        if item.path.is_relative_to(ROOT / "tests" / "gpu"):
            item.add_marker(pytest.mark.filterwarnings("default"))
