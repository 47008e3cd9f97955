"""The teacher in the configuration: named as a choice, part of what names a run, and refused in one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from dinodiet.config.identity import run_id
from dinodiet.config.parent import ENCODER
from dinodiet.config.settings import settings_of
from dinodiet.config.teacher import teacher_of, with_teacher
from dinodiet.config.words import as_choice
from dinodiet.errors import UserError
from tests.contracts.choices import configuration
from tests.running import CHOICES, launch

DINOV2 = "model@method.teacher.model=dinov2"


def named(*words: str) -> str:
    return run_id(settings_of(configuration("method=distill", *words), {**CHOICES, "method": "distill"}))


def test_a_word_that_names_a_teacher_chooses_a_file() -> None:
    assert as_choice("method.teacher.model=dinov2,dino") == f"{DINOV2},dino"
    assert as_choice("method.teacher.model=null") == "model@method.teacher.model=null"
    for word in ("method.teacher.model.size=base", "method.teacher.model={a: 1}", "~method.teacher.model", DINOV2):
        assert as_choice(word) == word


def test_the_node_of_a_teacher() -> None:
    node: dict[str, Any] = configuration("method=distill", DINOV2).method
    assert teacher_of({"teacher": {"model": {"_partial_": True}}}) is None
    assert teacher_of({"teacher": {"momentum": 0.9}}) is None and teacher_of({}) is None
    changed = with_teacher({"teacher": {"model": dict(node), "normalization": "dataset"}}, {"_target_": "x"})
    assert changed == {"teacher": {"model": {"_target_": "x"}, "normalization": "dataset"}}
    assert with_teacher({"a": 1}, None) == {"a": 1}


def test_a_run_is_named_by_its_teacher(tmp_path: Path) -> None:
    names = [named(DINOV2), named(DINOV2, "method.teacher.model.size=base"), named("model@method.teacher.model=dino")]
    assert len(set(names)) == 3
    for folder, content in (("a", b"1"), ("b", b"1"), ("c", b"2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ENCODER).write_bytes(content)
    by_run = [named(DINOV2, f"method.teacher.model.weights={tmp_path / folder}") for folder in "abc"]
    assert by_run[0] == by_run[1] != by_run[2]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ((DINOV2, "method.teacher.model.size=x"), r"^method\.teacher\.model\.size: 'x'; choose from: small, base"),
        ((DINOV2, "method.teacher.model.weights=none"), r"^method\.teacher\.model\.weights: none; .*file, folder, run"),
        (("model@method.teacher.model=resnet5m",), r"^method\.teacher\.model\.weights: none; "),
        ((DINOV2, "method.teacher.normalization=x"), r"^method\.teacher\.normalization: 'x'; must be one of: check"),
        ((DINOV2, "method.loss.kind=logits"), r"^method\.loss\.kind: 'logits'; must be one of: kl, cosine, mse"),
        ((DINOV2, "method.loss.temperature=0"), r"^method\.loss\.temperature: 0; must be .* from 0\.001 to 1000"),
        ((DINOV2, "method.label_weight=-1"), r"^method\.label_weight: -1; must be a finite number of at least 0"),
        ((DINOV2, "+method.teacher.model.typo=1"), r"^method\.teacher\.model\.typo: no such key; choose from: "),
    ],
)
def test_what_is_refused(words: tuple[str, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        named(*words)


@pytest.mark.parametrize("words", [(), ("-m", "seed=0,1"), ("method.teacher.model=null",)])
def test_a_command_without_a_teacher_is_refused_with_all_models(words: tuple[str, ...], tmp_path: Path) -> None:
    done = launch(tmp_path, "method=distill", *words)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert "method.teacher.model: " in line and "choose from: aim, " in line and line.endswith("webssl_dino")
