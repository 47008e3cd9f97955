from pathlib import Path

import pandas as pd
import pytest

from dinodiet.models.__main__ import main
from dinodiet.models.catalogue import CONF
from dinodiet.report import count


@pytest.fixture(autouse=True)
def few_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Composing all takes seconds."""
    folder = tmp_path / "conf" / "model"
    folder.mkdir(parents=True)
    for name in ("mambavision", "resnet", "resnet18"):
        (folder / f"{name}.yaml").write_text((CONF / "model" / f"{name}.yaml").read_text())
    monkeypatch.setattr("dinodiet.models.catalogue.CONF", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)


def test_a_line_a_size_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["resnet18", "resnet", "--out", str(tmp_path / "models.csv")]) == 0
    header, _, *lines, wrote = capsys.readouterr().out.splitlines()
    assert header.split() == ["model", "size", "parameters", "features", "blocks", "px", "weights", "licence"]
    assert lines[0].split() == ["resnet18", "18", "11.2", "M", "512", "4", "224", "hub", "bsd-3-clause"]
    assert [line.split()[1] for line in lines[1:]] == ["18", "50", "simclr_1x", "simclr_2x", "simclr_4x", "clip"]
    assert lines[3].split() == ["resnet", "simclr_1x", "23.5", "M", "2048", "4", "224", "file", "-"]
    assert wrote == f"wrote {tmp_path}/models.csv"
    table = pd.read_csv(tmp_path / "models.csv", dtype=str)
    assert list(table["parameters"][:2]) == ["11176512", "11176512"]


def test_a_line_a_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--families", "--out", str(tmp_path / "models.md")]) == 0
    mambavision, resnet = (tmp_path / "models.md").read_text().splitlines()[2:]  # the preset is no family
    cells = [cell.strip() for cell in mambavision.strip("|").split("|")]
    assert cells[0] == "mambavision"
    assert cells[1].startswith(f"T ({count(31_153_248)}), T2 (")
    assert cells[2:] == ["640, 768, 1024, 1568, 2048", "16, 19, 18, 21, 23, 36", "224, 512, 256", "cc-by-nc-sa-4.0"]
    assert "simclr_4x (375.4 M), clip (23.5 M)" in resnet
    assert "mambavision" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (["resnet81"], "error: model: no choice 'resnet81'; choose from: mambavision, resnet, resnet18"),
        (["--out", "models.xls"], "error: models.xls: ends in '.xls'; choose from: .csv, .parquet, .md, .tex, .txt"),
        (["--colour"], "error: unrecognized arguments: --colour; see --help"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    assert capsys.readouterr().err == line + "\n"
