"""Values that must not change unawares: kept in files, compared, and written anew on purpose."""

import json
from typing import Any

import pytest

from tests.places import ROOT

FOLDER = ROOT / "tests" / "contracts"


def compare(name: str, found: Any, request: pytest.FixtureRequest, meaning: str) -> None:
    """Hold plain values against a golden file; with `--update-golden` the file is written."""
    path = FOLDER / name
    if request.config.getoption("--update-golden"):
        path.write_text(json.dumps(found, indent=1, sort_keys=True, ensure_ascii=False) + "\n")
    recorded = json.loads(path.read_text())
    changed = [key for key in sorted({*recorded, *found}) if recorded.get(key) != found.get(key)]
    told = [f"  {key}: {recorded.get(key, 'absent')} -> {found.get(key, 'absent')}" for key in changed]
    assert not changed, "\n".join(
        [f"{meaning} If that is meant: pytest tests/contracts --update-golden, and commit {name}.", *told]
    )
