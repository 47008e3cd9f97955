"""The notebook: kept without outputs; from top to bottom on the demo data, with the command line's table at its end."""

import contextlib
import io
import os
import sys
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

from dinodiet.results.__main__ import main
from tests.places import ROOT

NOTEBOOK = ROOT / "sweeps" / "walkthrough.ipynb"


def test_the_notebook_is_kept_without_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code and all(not cell.outputs and cell.execution_count is None for cell in code)
    assert NOTEBOOK.stat().st_size < 20_000


@pytest.mark.slow
def test_the_notebook_runs_and_ends_with_the_table_of_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "launch.py").symlink_to(ROOT / "launch.py")
    environment = {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "default"}
    for name, value in {**environment, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    NotebookClient(notebook, timeout=600, resources={"metadata": {"path": str(tmp_path)}}).execute()
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    printed = ["".join(out.get("text", "") for out in cell.outputs) for cell in code]
    assert not [text for text in printed if "error:" in text]
    shown = [sum("image/png" in out.get("data", {}) for out in cell.outputs) for cell in code]
    assert shown == [0, 0, 1, 0, 0, 2, 2, 0]  # views, two figures, neighbours and map
    (results,) = tmp_path.glob("outputs/walkthrough/*_diet_*/results.json")
    told = io.StringIO()
    with contextlib.redirect_stdout(told):
        assert main([str(results.parent)]) == 0
    table = printed[-1].strip("\n")
    assert "knn/accuracy" in table and "map/trustworthiness" in table
    assert table in told.getvalue()
