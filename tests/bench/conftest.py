"""The fixture by which a benchmark notes what it found."""

from collections.abc import Sequence

import pytest

from tests.bench.rows import Note, command_of, properties, row_of
from tests.places import ROOT


@pytest.fixture
def note(request: pytest.FixtureRequest) -> Note:
    """Note a figure; `--write-rows` puts it into tests/bench/README.md."""
    command = command_of(str(request.path.relative_to(ROOT)))

    def take(what: str, values: Sequence[float] | str, form: str = ".2f") -> None:
        request.node.user_properties.append(properties(row_of(what, values, form, command)))

    return take
