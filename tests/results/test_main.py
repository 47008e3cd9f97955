"""The command: what it prints and writes, how it refuses, and that it starts fast."""

import json
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from dinodiet.results.__main__ import main
from dinodiet.results.colours import in_colour
from dinodiet.results.options import names
from tests.results import studies


@pytest.fixture
def study(tmp_path: Path) -> Path:
    studies.grid(tmp_path / "study")
    return tmp_path / "study"


def test_a_study_alone_gives_the_states_and_the_table(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(study)]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f"{study}: 36 runs: 36 done\n\nknn/accuracy, initial: mean ± sd over seed (n)")
    assert main([str(study), "--status"]) == 0
    assert capsys.readouterr().out == f"{study}: 36 runs: 36 done\n"


def test_tables_are_written(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for suffix in ("csv", "parquet", "md", "tex", "txt"):
        assert main([str(study), "--phase", "change", "--out", str(tmp_path / f"table.{suffix}")]) == 0
    printed = capsys.readouterr().out
    assert (tmp_path / "table.txt").read_text().strip() in printed
    table = pd.read_csv(tmp_path / "table.csv")
    assert len(table) == 12 and table["n"].tolist() == [3] * 12
    parquet = pd.read_parquet(tmp_path / "table.parquet")
    assert parquet["mean"].tolist() == pytest.approx(table["mean"].tolist())
    best = table[(table["dataset"] == "pathmnist") & (table["mark"] == "best")].iloc[0]
    number = f"{best['mean']:+.3f}"
    assert f"**{number} ± " in (tmp_path / "table.md").read_text()
    latex = (tmp_path / "table.tex").read_text()
    assert rf"\textbf{{{number} $\pm$ " in latex and r"\toprule" in latex and "dinov2-base &" in latex
    assert "±" not in latex.splitlines()[6]


def test_latex_names_are_escaped(tmp_path: Path) -> None:
    studies.write(tmp_path / "s", studies.results(model="vit_tiny"))
    assert main([str(tmp_path / "s"), "--out", str(tmp_path / "t.tex")]) == 0
    assert r"vit\_tiny" in (tmp_path / "t.tex").read_text()


@pytest.mark.slow
def test_compare_curves_heat_map_and_tidy(study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "compare.csv"
    assert main([str(study), "--compare", "method=diet,dino", "--where", "dataset=pathmnist", "--out", str(out)]) == 0
    assert "paired by model and seed" in capsys.readouterr().out
    pairs = pd.read_csv(out)
    assert pairs["model"].tolist() == ["dinov2-base", "mae", "resnet50", "all cells"]
    files = [tmp_path / name for name in ("knn.svg", "changes.png", "scores.csv")]
    options = zip(("--curves", "--heatmap", "--tidy"), map(str, files), strict=True)
    assert main([str(study), *(word for option in options for word in option)]) == 0
    assert all(file.stat().st_size > 1000 for file in files)
    assert set(pd.read_csv(files[2])["phase"]) == {"initial", "final", "change"}
    assert main([str(study), "--curves", str(tmp_path / "knn.csv"), "--metric", "knn/f1"]) == 0
    assert len(pd.read_csv(tmp_path / "knn.csv")) == 12 * 4


def test_broken_results_are_warned_of(study: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = min(study.glob("*/results.json"))
    file.write_text(file.read_text()[:100])
    assert main([str(study)]) == 0
    printed = capsys.readouterr()
    assert f"warning: left out: {file}: broken" in printed.err
    assert "35 done, 1 unreadable" in printed.out
    assert "(2 of 3)" in printed.out


def test_a_study_without_finished_runs_has_curves(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = studies.results()
    directory = studies.write_status(tmp_path / "study", content["run_id"], state="running", heartbeat=2e9)
    assert main([str(tmp_path / "study"), "--curves", str(tmp_path / "loss.svg")]) == 0
    assert capsys.readouterr().out == "no run has begun yet: no curves\n"
    (directory / "config.yaml").write_text(json.dumps(content["config"]))
    (directory / "metrics.jsonl").write_text('{"step": 5, "epoch": 0.5, "loss": 1.0}')
    assert main([str(tmp_path / "study"), "--curves", str(tmp_path / "loss.csv")]) == 0
    assert capsys.readouterr().out == f"wrote {tmp_path / 'loss.csv'}\n"
    assert pd.read_csv(tmp_path / "loss.csv")["mean"].tolist() == [1.0]


def test_commas_in_brackets_part_nothing() -> None:
    assert names("knn(k=5, temperature=1)/f1,knn/f1") == ["knn(k=5, temperature=1)/f1", "knn/f1"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{study}x"], "studyx: no such folder"),
        ([], "arguments are required: PATH"),
        (["{study}", "--rows", "colour"], "colour: no such column; choose from"),
        (["{study}", "--metric", "speed"], "speed: no such metric; choose from"),
        (["{study}", "--phase", "middle"], "middle: no such phase; choose from"),
        (["{study}", "--where", "=diet"], "--where =diet: give COLUMN=VALUE"),
        (["{study}", "--compare", ""], "--compare : give COLUMN"),
        (["{study}", "--compare", "method="], "--compare method=: give COLUMN"),
        (["{study}", "--compare", "seed"], "seed: cannot be compared and averaged over"),
        (["{study}", "--where", "method"], "--where method: give COLUMN=VALUE"),
        (["{study}", "--where", "method=byol"], "method: no run has byol"),
        (["{study}", "--compare", "method=diet,byol"], "method: compare needs two"),
        (["{study}", "--out", "table.doc"], "table.doc: ends in '.doc'; choose from"),
        (["{study}", "--curves", "x.gif"], "x.gif: ends in '.gif'; choose from"),
        (["{study}", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str], message: str, study: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([one.format(study=study) for one in arguments]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and message in told and told.count("\n") == 1


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as left:
        main(["--help"])
    assert left.value.code == 0
    assert "--compare method=diet,dino" in capsys.readouterr().out


@pytest.mark.slow
def test_a_table_needs_no_heavy_library(study: Path) -> None:
    code = (
        "import json, sys; from dinodiet.results.__main__ import main; "
        f"main([{str(study)!r}]); print(json.dumps(sorted(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout.splitlines()[-1]))
    heavy = {"torch", "timm", "hydra", "omegaconf", "yaml", "scipy", "statsmodels", "matplotlib", "sklearn"}
    assert not heavy & loaded


def test_states_and_the_best_are_coloured_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    text = "outputs/s: 2 runs: 1 done, 1 failed\n  failed     run\n\nmae  0.697 ± 0.010 (3) *  0.5 (1)"
    assert in_colour(text) == text
    monkeypatch.setattr("dinodiet.io.colours.shows_colours", lambda stream: True)
    painted = in_colour(text)
    for words in (
        "\x1b[32m1 done\x1b[0m, 1 failed",
        "  \x1b[31mfailed\x1b[0m ",
        "\x1b[1m0.697 ± 0.010 (3) *\x1b[0m  0.5",
    ):
        assert words in painted
