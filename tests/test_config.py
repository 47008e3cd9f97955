from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from dinodiet.config import build, check_tuned, identity, run_id
from dinodiet.errors import UserError
from tests.running import CHOICES, composed


def node(**values: Any) -> Any:
    return OmegaConf.create(values)


def test_build_waits_for_the_runtime_objects_and_keeps_their_identity() -> None:
    marker = object()
    made = build(node(_target_="tests.test_config.Pair", right=[1, {"a": 2}]), "method")(left=marker)
    assert made.left is marker
    assert made.right == [1, {"a": 2}]
    assert type(made.right) is list  # plain Python, no configuration object


def test_nested_nodes_are_built_from_the_inside_out() -> None:
    inner = {"_target_": "tests.test_config.Pair", "left": 1, "right": 2}
    waiting = {"_target_": "tests.test_config.Pair", "_partial_": True, "left": 3}
    made = build(node(_target_="tests.test_config.Pair", left=inner, right=[waiting]), "method")()
    assert made.left.right == 2
    assert made.right[0](right=4).right == 4


class Pair:
    def __init__(self, left: Any, right: Any) -> None:
        if right == "refused":
            raise UserError("right: 'refused'; choose another")
        if right == "plain":
            raise ValueError("a plain\nerror")
        self.left, self.right = left, right


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"_target_": "tests.nowhere.X"}, "method._target_: 'tests.nowhere.X' cannot be imported"),
        ({"_target_": "tests.test_config.CONSTANT"}, "method._target_: 'tests.test_config.CONSTANT' is a"),
        ({"_target_": "tests.test_config.Pair", "middle": 1}, "method.middle: no such key; choose from: left, right"),
        (
            {"_target_": "tests.test_config.Pair", "left": {"_target_": "tests.test_config.Pair", "x": 1}},
            "method.left.x: no such key",
        ),
        (
            {"_target_": "tests.test_config.Pair", "left": 1, "right": "refused"},
            "method.right: 'refused'; choose another",
        ),
        ({"_target_": "tests.test_config.Pair", "left": 1, "right": "plain"}, "method: a plain error"),
    ],
)
def test_mistakes_are_told_under_their_full_key(values: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError) as refusal:
        build(node(**values), "method")()
    assert str(refusal.value).startswith(words)


CONSTANT = [1]


def test_the_identity_leaves_out_what_does_not_change_the_science(tmp_path: Path) -> None:
    plain = identity(composed(tmp_path))
    unchanged = (
        "device=auto",
        "num_workers=3",
        "tracker=wandb",
        "name=x",
        "data_dir=/elsewhere",
        "checkpoint_minutes=1",
    )
    for override in unchanged:
        assert identity(composed(tmp_path, override)) == plain, override
    for override in ("seed=1", "schedule.lr=0.1", "dataset.limit=32", "precision=bf16", "eval.knn.k=3"):
        assert identity(composed(tmp_path, override)) != plain, override


def test_the_run_id_is_readable_and_depends_on_the_identity_alone(tmp_path: Path) -> None:
    one, other = identity(composed(tmp_path)), identity(composed(tmp_path, "seed=7"))
    assert run_id(one, CHOICES).rpartition("_")[0] == "vit_tiny_digits_diet_seed0"
    assert run_id(one, CHOICES) == run_id(dict(reversed(one.items())), CHOICES)
    assert run_id(one, CHOICES).split("_")[-1] != run_id(other, CHOICES).split("_")[-1]
    assert run_id(one, {**CHOICES, "model": "mae"}).startswith("mae-tiny_")


@pytest.mark.parametrize(
    ("tuned", "schedule", "words"),
    [
        ("bogus", "diet", "tuned: no choice 'bogus'; choose from: digits_diet, none"),
        ("digits_diet", "dino", "add tuned=none"),
    ],
)
def test_tuned_settings_that_do_not_fit_are_refused(tuned: str, schedule: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        check_tuned({**CHOICES, "tuned": tuned, "schedule": schedule}, ["digits_diet", "none"])


def test_tuned_settings_may_be_absent() -> None:
    check_tuned(
        {**CHOICES, "dataset": "mnist", "tuned": "mnist_diet", "schedule": "diet_scratch"}, ["digits_diet", "none"]
    )
