from pathlib import Path

import pandas as pd
import pytest

from dinodiet.catalogue.__main__ import main
from dinodiet.config.places import CONF


@pytest.fixture(autouse=True)
def few_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Composing all takes seconds."""
    folder = tmp_path / "conf" / "model"
    folder.mkdir(parents=True)
    for name in ("aim", "resnet5m", "vit", "vit_tiny"):
        (folder / f"{name}.yaml").write_text((CONF / "model" / f"{name}.yaml").read_text())
    monkeypatch.setattr("dinodiet.catalogue.choices.CONF", tmp_path / "conf")
    monkeypatch.chdir(tmp_path)


def test_a_line_a_size_and_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["vit_tiny", "aim", "resnet5m", "--out", str(tmp_path / "models.csv")]) == 0
    header, _, *lines, wrote = capsys.readouterr().out.splitlines()
    assert header.split() == ["model", "size", "parameters", "features", "blocks", "px", "weights", "licence"]
    assert lines[0].split() == ["vit_tiny", "tiny", "5.5", "M", "192", "12", "224", "hub", "apache-2.0"]
    assert [line.split()[1] for line in lines[1:]] == ["600M", "1B", "3B", "7B", "resnet5m"]
    assert lines[5].split() == ["resnet5m", "resnet5m", "5.0", "M", "512", "3", "224", "file", "-"]
    assert wrote == f"wrote {tmp_path}/models.csv"
    table = pd.read_csv(tmp_path / "models.csv", dtype=str)
    assert list(table["parameters"][[0, 5]]) == ["5524416", "4956480"]


def test_a_line_a_family(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--families", "--out", str(tmp_path / "models.md")]) == 0
    lines = (tmp_path / "models.md").read_text().splitlines()[2:]  # the preset is no family
    aim, resnet5m, vit = ([cell.strip() for cell in line.strip("|").split("|")] for line in lines)
    assert aim[:2] == ["aim", "600M (567.3 M), 1B (907.3 M), 3B (2.0 B), 7B (4.0 B)"]
    assert aim[2:] == ["1536, 2048, 3072, 4096", "20, 18", "224", "Apple's, restrictive"]
    assert resnet5m == ["resnet5m", "resnet5m (5.0 M)", "512", "3", "224", "-"]
    assert vit[1] == "tiny (5.5 M), small (21.7 M), base (85.8 M)"
    assert "aim" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["resnet81"], "error: model: no choice 'resnet81'; choose from"),
        (["--out", "models.xls"], "error: models.xls: ends in '.xls'; choose from"),
        (["--colour"], "error: unrecognized arguments: --colour"),
    ],
)
def test_mistakes_are_told_in_one_line(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 1
    told = capsys.readouterr().err
    assert told.startswith(words)
    assert told.endswith("\n")
    assert told.count("\n") == 1
