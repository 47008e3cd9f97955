from pathlib import Path

import pytest

from dinodiet.catalogue.__main__ import main
from dinodiet.catalogue.choices import Choice, choices
from dinodiet.errors import UserError
from tests.places import CONF


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "group"), [("datasets", "dataset"), ("methods", "method"), ("evaluators", "eval"), ("records", "record")]
)
def test_every_file_of_a_group_is_listed_with_what_its_header_says(kind: str, group: str) -> None:
    found = choices(kind)
    names = [path.stem for path in (CONF / group).glob("[!_]*.yaml")]
    assert [choice.name for choice in found] == sorted(names)
    assert all(choice.what and not choice.what.startswith("@") for choice in found)


def test_a_dataset_counts_the_images_that_were_published() -> None:
    (found,) = choices("datasets", ["bloodmnist"])
    assert (found.images, found.built_by) == (11_959 + 1_712 + 3_421, "medmnist_set")
    assert found.what.startswith("BloodMNIST: blood cells under the microscope")


def test_a_choice_of_ones_own_is_listed_with_the_others(tmp_path: Path) -> None:
    (tmp_path / "eval").mkdir()
    text = "# @package eval.mine\n# Counts to ten. Not published.\n_target_: nowhere.Count\n"
    (tmp_path / "eval" / "mine.yaml").write_text(text)
    found = choices("evaluators", config_dir=tmp_path)
    assert Choice("mine", None, "Counts to ten", "Count") in found
    with pytest.raises(UserError, match=r"^eval: no choice 'yours'; choose from: .*mine"):
        choices("evaluators", ["yours"], tmp_path)


def test_the_table_is_written(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["methods", "diet", "dino", "--out", str(tmp_path / "methods.md")]) == 0
    lines = (tmp_path / "methods.md").read_text().splitlines()
    assert [cell.strip() for cell in lines[0].strip("|").split("|")] == ["name", "what", "built by"]
    assert [line.split("|")[1].strip() for line in lines[2:]] == ["diet", "dino"]
    assert "DIET-CP" in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["methods", "evaluators"])
def test_a_folder_that_is_not_there_is_named(kind: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^--config-dir: .*nope is no folder"):
        choices(kind, config_dir=tmp_path / "nope")
