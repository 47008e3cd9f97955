from pathlib import Path

import pytest

from dinodiet.config.gate import gate
from dinodiet.config.several import check_several
from dinodiet.errors import UserError
from tests.running import CHOICES, TINY, composed, launch

REFUSED = {
    ("record=losses",): r"^record: losses: records look at one process, and there are 2",
    ("schedule.batch_size=15",): r"^schedule\.batch_size: 2 processes cannot share 15 .* choose 14 or 16$",
    ("strategy=fsdp", "precision=fp16"): r"^precision: fp16 scales the loss, which strategy=fsdp cannot",
    ("strategy=fsdp", "compile=true"): r"^compile: true compiles whole backbones",
    ("precision=fp16", "method.head.sharded=true"): r"^precision: fp16 .*method\.head\.sharded",
}


@pytest.mark.parametrize("words", REFUSED)
@pytest.mark.parametrize("mode", ["train", "plan"])
def test_what_several_processes_cannot_do_is_told_by_the_configuration(
    words: tuple[str, ...], mode: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=REFUSED[words]):
        gate(composed(tmp_path, *words, "processes=2", f"mode={mode}"), CHOICES)
    gate(composed(tmp_path, *words, f"mode={mode}"), CHOICES)


@pytest.mark.parametrize("words", [("record=losses", "mode=sanity"), ("record=losses", "mode=measure")])
def test_modes_of_one_process_have_it_whatever_the_number(words: tuple[str, ...], tmp_path: Path) -> None:
    gate(composed(tmp_path, *words, "processes=2"), CHOICES)


def test_a_method_without_steps_splits_nothing(tmp_path: Path) -> None:
    frozen = composed(tmp_path, "method=frozen", "strategy=fsdp", "compile=true", "processes=2")
    gate(frozen, {**CHOICES, "method": "frozen"})


def test_a_batch_of_a_whole_small_set_is_left_to_the_loader(tmp_path: Path) -> None:
    gate(composed(tmp_path, "processes=2", "schedule.batch_size=65", "dataset.limit=64"), CHOICES)


def test_the_number_may_be_that_of_a_job(tmp_path: Path) -> None:
    plain = gate(composed(tmp_path, "record=losses"), CHOICES).plain
    check_several(plain, 1)
    with pytest.raises(UserError, match=r"^record: .* there are 4"):
        check_several(plain, 4)


def test_nothing_is_started_of_a_run_or_grid_that_is_refused(tmp_path: Path) -> None:
    for words in ((), ("-m", "seed=0,1")):
        made = launch(tmp_path, *TINY, "record=losses", "processes=2", *words)
        assert made.returncode == 1
        (line,) = made.stderr.splitlines()
        assert "record: losses: records look at one process" in line
        assert not list(tmp_path.iterdir())
