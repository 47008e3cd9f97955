"""Scores beside published ones: what is joined, what is kept apart, and what is refused."""

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import yaml
from omegaconf import OmegaConf

from dinodiet.errors import UserError
from dinodiet.results.__main__ import main
from dinodiet.results.against import beside, beside_table, written
from dinodiet.results.published import FOLDER, read_published
from dinodiet.results.record import science
from dinodiet.results.runs import Run, read
from tests.places import ROOT
from tests.results import studies
from tests.running import CHOICES, composed

TABLE = """# Source: a table
model,published_as,dataset,eval.knn.k,metric,value
mae,MAE,pathmnist,11,knn/accuracy,0.70
mae,MAE,pathmnist,,linear/accuracy,0.75
dinov2-base,DINOv2,pathmnist,11,knn/accuracy,0.90
"""
KNN = ["knn/accuracy"]


def table(tmp_path: Path, content: str = TABLE) -> str:
    (tmp_path / "table.csv").write_text(content)
    return str(tmp_path / "table.csv")


def run_of(study: Path, seed: int, final: float, k: int = 11, **overrides: Any) -> None:
    given = {"eval.knn.k": k, **overrides}
    studies.write(study, studies.results(model="mae", seed=seed, final=final, overrides=given))


def runs_of(study: Path) -> list[Run]:
    return read([study]).runs


def test_the_mean_over_seeds_stands_beside_what_is_published(tmp_path: Path) -> None:
    run_of(tmp_path / "s", 0, 0.70)
    run_of(tmp_path / "s", 1, 0.74)
    rows = beside(read_published(table(tmp_path)), runs_of(tmp_path / "s"), KNN, ["final"])
    (row,) = rows.to_dict("records")
    assert (row["model"], row["n"], row["published"]) == ("mae", 2, 0.70)
    assert (row["mean"], row["difference"]) == pytest.approx((0.72, 0.02))
    assert row["sd"] == pytest.approx(0.02 * 2**0.5)


def test_what_was_measured_otherwise_is_not_held_against_it(tmp_path: Path) -> None:
    run_of(tmp_path / "s", 0, 0.70)
    run_of(tmp_path / "s", 1, 0.74, k=20)
    published = read_published(table(tmp_path))
    rows = beside(published, runs_of(tmp_path / "s"), [], ["final"])
    by_metric = dict(iter(rows.groupby("metric")))
    assert by_metric["knn/accuracy"]["n"].tolist() == [1]
    assert by_metric["knn/accuracy"]["mean"].tolist() == [0.70]
    assert sorted(by_metric["linear/accuracy"]["mean"]) == [0.70, 0.74]  # another k is another row, not a mean
    assert "eval.knn.k" in beside_table(rows, published)


VARIES = """# Source: a table
# a: other votes
# b: confounded
model,dataset,dataset.limit,phase,metric,value,sd,seeds,notes
mae,pathmnist,100,initial,knn/accuracy,0.50,0.01,3,a
mae,pathmnist,100,final,knn/accuracy,0.70,0.02,3,ab
mae,pathmnist,500,final,knn/accuracy,0.75,0.02,3,a
mae,dermamnist,null,final,linear/accuracy,0.60,,,
"""


def test_differences_are_told_in_standard_errors_of_both(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, final in ((0, 0.70), (1, 0.74)):
        run_of(tmp_path / "s", seed, final, **{"dataset.limit": 100})
    rows = beside(read_published(table(tmp_path, VARIES)), runs_of(tmp_path / "s"), [], [])
    assert rows["phase"].tolist() == ["initial", "final"] and rows["place"].tolist() == [0, 1]
    # ours 0.80 and 0.80 before; 0.72, variance 0.0008, after: 0.02 / sqrt(0.0008 / 2 + 0.0004 / 3)
    assert rows["errors"].tolist() == pytest.approx([0.30 / (0.0001 / 3) ** 0.5, 0.02 / (0.0016 / 3) ** 0.5])
    assert main([str(tmp_path / "s"), "--against", table(tmp_path, VARIES), "--phase", "final"]) == 0
    printed = capsys.readouterr().out
    assert "0.720 ± 0.028 (2)  0.700 ± 0.020 (3) [a,b]  +0.020        +0.9" in printed
    assert "note: [a] other votes\nnote: [b] confounded\n" in printed
    assert "measured by no finished run: mae pathmnist limit=500; mae dermamnist limit=null\n" in printed


KNOWN = """# Source: a table
# a unless eval.knn.k=11: other votes
# c: confounded 5 %
model,dataset,dataset.limit,phase,metric,value,sd,seeds,notes
mae,pathmnist,100,final,knn/accuracy,0.70,0,3,a
mae,pathmnist,100,final,linear/accuracy,0.69,0.03,4,ac
mae,pathmnist,100,initial,kmeans/ari,0.8,0,3,c
"""


def test_known_answers_are_right_to_the_digit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, final in enumerate((0.70, 0.72, 0.74, 0.80)):
        run_of(tmp_path / "s", seed, final, **{"dataset.limit": 100})
    assert main([str(tmp_path / "s"), "--against", table(tmp_path, KNOWN), "--out", str(tmp_path / "out.csv")]) == 0
    printed = capsys.readouterr().out
    rows = pd.read_csv(tmp_path / "out.csv").to_dict("records")
    # ours: mean 0.74, variance (0.0016 + 0.0004 + 0 + 0.0036) / 3; theirs: no variance, and 0.0009 of four
    assert [row["difference"] for row in rows] == pytest.approx([0.04, 0.05, 0.0], abs=1e-12)
    ours = 0.0056 / 3 / 4
    assert [row["errors"] for row in rows[:2]] == pytest.approx([0.04 / ours**0.5, 0.05 / (ours + 0.0009 / 4) ** 0.5])
    assert math.isnan(rows[2]["errors"])  # neither varies
    assert "0.740 ± 0.043 (4)  0.690 ± 0.030 (4) [c]  +0.050        +1.9" in printed
    assert "0.740 ± 0.043 (4)  0.700 ± 0.000 (3)      +0.040        +1.9" in printed


def test_a_remark_is_left_out_where_runs_were_measured_alike(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of(tmp_path / "s", 0, 0.70, k=11, **{"dataset.limit": 100})
    words = [str(tmp_path / "s"), "--against", table(tmp_path, KNOWN), "--metric", "knn/accuracy"]
    assert main(words) == 0
    assert "other votes" not in capsys.readouterr().out
    run_of(tmp_path / "s", 1, 0.70, k=20, **{"dataset.limit": 100})
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert printed.count("[a]") == 2 and "note: [a] other votes" in printed  # a row of its own, and the remark


@pytest.mark.parametrize(
    ("ending", "told"),
    [("txt", "note: [c] confounded 5 %"), ("md", "* [c] confounded 5 %"), ("tex", r"[c] confounded 5 \%")],
)
def test_files_have_the_remarks_too(ending: str, told: str, tmp_path: Path) -> None:
    run_of(tmp_path / "s", 0, 0.70, **{"dataset.limit": 100})
    file = tmp_path / f"out.{ending}"
    assert main([str(tmp_path / "s"), "--against", table(tmp_path, KNOWN), "--out", str(file)]) == 0
    assert file.read_text().count(told) == 1
    assert main([str(tmp_path / "s"), "--against", table(tmp_path, KNOWN), "--out", str(tmp_path / "out.csv")]) == 0
    remarks = pd.read_csv(tmp_path / "out.csv", keep_default_na=False)["remarks"].tolist()
    assert remarks == ["", "confounded 5 %", "confounded 5 %"]


def test_one_run_has_no_standard_error(tmp_path: Path) -> None:
    run_of(tmp_path / "s", 0, 0.70, **{"dataset.limit": 100})
    rows = beside(read_published(table(tmp_path, VARIES)), runs_of(tmp_path / "s"), [], ["final"])
    assert rows["errors"].isna().all() and "standard errors" not in beside_table(rows, read_published(table(tmp_path)))


def test_the_phase_can_be_chosen(tmp_path: Path) -> None:
    run_of(tmp_path / "s", 0, 0.85)
    rows = beside(read_published(table(tmp_path)), runs_of(tmp_path / "s"), KNN, ["initial", "final"])
    assert dict(zip(rows["phase"], rows["mean"], strict=True)) == {"initial": 0.8, "final": 0.85}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("model,dataset,metric\nmae,x,knn/accuracy\n", "no column value"),
        (TABLE.replace("0.75", "high"), "value 'high' of mae on pathmnist is no number"),
        (TABLE.replace("0.75", "nan"), "value 'nan' of mae on pathmnist is no number"),
        (TABLE.replace(",0.75", ""), "of mae on pathmnist is no number"),
        (VARIES.replace("0.02,3,ab", "wide,3,ab"), "sd 'wide' of mae on pathmnist is no number"),
        (VARIES.replace(",ab", ",ax"), "no line '# x: ...' for the note of mae on pathmnist; there are: a, b"),
        (VARIES.replace("500,final", "500,after"), "phase 'after' of mae on pathmnist; choose from: initial, final"),
        (TABLE.replace("0.75", "0.75,0.8"), "more fields than columns in the line of mae on pathmnist"),
    ],
)
def test_a_broken_table_is_refused(tmp_path: Path, content: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        read_published(table(tmp_path, content))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "own.csv").write_bytes(b"model\xff\xfe")
    with pytest.raises(UserError, match=r"own\.csv: cannot be read \(.*\); give a CSV file in UTF-8"):
        read_published(str(tmp_path / "own.csv"))


def test_an_unknown_table_names_those_that_there_are() -> None:
    with pytest.raises(UserError, match=r"--against nope: no such table; choose from: .*medmnist_plus"):
        read_published("nope")


def test_where_nothing_was_measured_it_is_said(tmp_path: Path) -> None:
    run_of(tmp_path / "s", 0, 0.7, k=20)
    with pytest.raises(UserError, match=r"no finished run has measured any of it \(knn/accuracy\); its models: mae"):
        beside(read_published(table(tmp_path)), runs_of(tmp_path / "s"), KNN, ["final"])


def test_the_command_prints_and_writes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_of(tmp_path / "s", 0, 0.70)
    words = [str(tmp_path / "s"), "--against", table(tmp_path), "--out", str(tmp_path / "out.md")]
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert "note: Source: a table" in printed and "note: 3 scores are published there" in printed
    assert "-0.050" in (tmp_path / "out.md").read_text()
    assert main([*words, "--compare", "seed"]) == 1
    assert "two tables" in capsys.readouterr().err


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.csv")), ids=lambda path: path.stem)
def test_shipped_tables_say_their_source_and_hold_scores(path: Path) -> None:
    published = read_published(path.stem)
    assert published.told[0].startswith("Source: ") and published.told[1].startswith("Protocol there: ")
    assert published.rows and all(0 < row["value"] < 1 for row in published.rows)
    fine_tuned = [row for row in published.rows if row["metric"].startswith("finetune") and "cpr" in path.stem]
    assert all(any("confounded" in published.notes[one] for one in row["notes"]) for row in fine_tuned)
    names = [tuple(field for key, field in row.items() if key != "value") for row in published.rows]
    assert len(set(names)) == len(names)


def test_choices_that_remarks_name_are_keys_of_runs(tmp_path: Path) -> None:
    config = OmegaConf.to_container(composed(tmp_path), resolve=False)
    assert isinstance(config, dict)
    keys = science({str(key): value for key, value in config.items()})
    for path in FOLDER.glob("*.csv"):
        assert {key for key, _ in read_published(path.stem).unless.values()} <= keys.keys() | CHOICES.keys()


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.csv")), ids=lambda path: path.stem)
def test_models_of_shipped_tables_are_called_as_runs_call_them(path: Path) -> None:
    golden = json.loads((ROOT / "tests" / "contracts" / "run_ids.json").read_text())
    labels = {name.partition("_digits_")[0] for choice, name in golden.items() if choice.startswith("model=")}
    for file in (ROOT / "conf" / "model").glob("*.yaml"):
        labels |= {f"{file.stem}-{size}" for size in yaml.safe_load(file.read_text()).get("names") or {}}
    assert {row["model"] for row in read_published(path.stem).rows} <= labels


MEDMNIST_PLUS = read_published("medmnist_plus")


def test_what_is_confounded_on_medmnist_plus_has_its_remark() -> None:
    for row in MEDMNIST_PLUS.rows:
        evaluator, notes = row["metric"].partition("/")[0], set(row["notes"])
        assert ("a" in notes) == (row["dataset.source.size"] != "224"), row  # padded there, resized here
        assert notes & set("bcdf") == set({"knn": "bc", "linear": "d", "finetune": "f"}[evaluator]), row
        assert ("e" in notes) == (evaluator == "linear" and row["model"] == "resnet-18"), row
        weights = {"clip-base16": {"g"}, "vit-base": {"h"}, "resnet-18": {"i"}, "dino-base16": set()}
        assert notes & set("ghi") == weights[row["model"]], row
        assert {"j", "k"} <= notes, row
    assert {letter for row in MEDMNIST_PLUS.rows for letter in row["notes"]} == MEDMNIST_PLUS.notes.keys()


AS_THERE: dict[str, Any] = {
    "eval.knn.votes": "uniform",
    "eval.knn.metric": "euclidean",
    "method": "frozen",
    "dataset.limit": None,
}


@pytest.mark.parametrize(
    ("otherwise", "notes"),
    [({}, "a"), ({"eval.knn.votes": "similarity"}, "ab"), ({"dataset.limit": 1000}, "aj"), ({"method": "diet"}, "ak")],
)
def test_remarks_on_medmnist_plus_are_those_of_how_a_run_was_measured(
    tmp_path: Path, otherwise: dict[str, Any], notes: str, capsys: pytest.CaptureFixture[str]
) -> None:
    run_of(tmp_path / "s", 0, 0.5)
    (run,) = runs_of(tmp_path / "s")
    there: dict[str, Any] = {
        "model": "dino-base16",
        "dataset": "retinamnist",
        "dataset.source.size": 28,
        "eval.knn.k": 11,
    }
    own = Run(run.study, run.name, {**run.record, **there, **AS_THERE, **otherwise})
    rows = beside(MEDMNIST_PLUS, [own], KNN, ["final"])
    assert [*rows["notes"]] == [notes]
    told = written(rows, MEDMNIST_PLUS, "markdown")
    assert "* [a] confounded: " in told and ("* [j] whole training sets there" in told) == ("j" in notes)
