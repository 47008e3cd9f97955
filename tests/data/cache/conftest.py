import pytest
from torch import Tensor

from dinodiet.data import images
from dinodiet.data.decode import read_image


@pytest.fixture
def decodings(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the files that are decoded."""
    found: list[str] = []

    def counted(path: str, draft_side: int | None = None, frame: int = 0, bits: int = 16) -> Tensor:
        found.append(path)
        return read_image(path, draft_side, frame, bits)

    monkeypatch.setattr(images, "read_image", counted)
    return found
