from pathlib import Path

import pytest

from dinodiet.store.grid import Cell
from dinodiet.sweep import own_modules
from dinodiet.sweep.task import Task


def test_modules_that_runs_name_and_what_those_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("package", "huge"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("from deeper import x\n" if name == "package" else "")
    (tmp_path / "huge" / "data.bin").write_bytes(bytes(100))
    (tmp_path / "named.py").write_text("import json, torch\nfrom package.sub import a\n\ndef f():\n    import huge\n")
    (tmp_path / "deeper.py").write_text("not python (")
    (tmp_path / "unused.py").write_text("")
    monkeypatch.setattr(own_modules, "MOST_BYTES", 99)
    config = {"method": {"_target_": "dinodiet.methods.diet.DIET", "views": [{"_target_": "named.Views"}]}}
    found = own_modules.own_modules([Task(Cell("run", (), {}, 0), tmp_path / "study", config)])
    assert found == {"named": tmp_path / "named.py", "package": tmp_path / "package", "deeper": tmp_path / "deeper.py"}
