import inspect
from pathlib import Path
from typing import Any

import pytest
from hydra.utils import get_object
from omegaconf import OmegaConf

from dinodiet.config import precheck
from dinodiet.config.describe import describe
from dinodiet.config.precheck import check_nodes, signature_of
from dinodiet.config.signature import check_arguments, hints_of_callable
from dinodiet.errors import UserError
from tests.places import CONF


def targets(node: Any) -> set[str]:
    if isinstance(node, list):
        return set().union(*map(targets, node))
    if not isinstance(node, dict):
        return set()
    own = {node["_target_"]} if "_target_" in node else set()
    return own.union(*map(targets, node.values()))


EVERY = targets([OmegaConf.to_container(OmegaConf.load(path), resolve=False) for path in CONF.rglob("*.yaml")])
READ = sorted(name for name in EVERY if signature_of(name) is not None)


def test_most_targets_are_read() -> None:
    own = [name for name in EVERY if name.startswith("dinodiet.") and not name.startswith("dinodiet.sweep.")]
    assert len(READ) > 20
    assert set(own) - set(READ) <= {"dinodiet.run.trackers.NoTracker"}  # which takes nothing


@pytest.mark.parametrize("name", READ)
def test_the_source_says_what_the_object_says(name: str) -> None:
    found = signature_of(name)
    assert found is not None
    parameters, hints = found
    target = get_object(name)
    assert list(parameters) == list(inspect.signature(target).parameters)
    real = hints_of_callable(target)
    told = {key: describe(hint) for key, hint in hints.items() if hint is not Any}  # Any: of another package
    assert told == {key: describe(real[key]) for key in told}


@pytest.mark.parametrize(
    ("target", "arguments"),
    [
        ("diet.DIET", {"targets": "all"}),
        ("diet.DIET", {"typo": 1}),
        ("diet.DIET", {"views": 3}),
        ("diet.DIET", {"loss": 0.2}),
        ("parts.targets.IndexTargets", {"num_classes": 1.5}),
        ("parts.losses.CrossEntropy", {"label_smoothing": "much"}),
        ("parts.probe.label_probe", {"weight": "half"}),
    ],
)
def test_a_refusal_reads_the_same_as_after_the_import(target: str, arguments: dict[str, Any]) -> None:
    with pytest.raises(UserError) as before:
        check_nodes({"_target_": f"dinodiet.methods.{target}", **arguments}, "method")
    with pytest.raises(UserError) as after:
        check_arguments(get_object(f"dinodiet.methods.{target}"), arguments, "method")
    assert str(before.value) == str(after.value)


def test_nested_nodes_are_checked_under_their_full_key() -> None:
    node = {"lr": [{"_target_": "dinodiet.schedules.Cosine", "value": "high"}]}
    with pytest.raises(UserError, match=r"^schedule.lr\[0\].value: 'high'; must be a finite"):
        check_nodes(node, "schedule")


@pytest.mark.parametrize(
    "name", ["torch.optim.AdamW", "my_parts.Pixels", "dinodiet.nothing.Here", "dinodiet.run.run.absent"]
)
def test_what_cannot_be_read_is_left_to_build(name: str) -> None:
    assert signature_of(name) is None
    check_nodes({"_target_": name, "anything": object()}, "model")


def test_a_name_is_followed_through_imports_and_not_mistaken_for_what_is_imported_under_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "toy").mkdir()
    (tmp_path / "toy" / "__init__.py").write_text("from toy.parts import Part as Whole")
    (tmp_path / "toy" / "parts.py").write_text(
        "from elsewhere import Part as Theirs\nclass Part:\n    def __init__(self, *, rate: float) -> None: ..."
    )
    monkeypatch.setattr(precheck, "PACKAGE", tmp_path / "toy")
    for name in ("toy.Whole", "toy.parts.Part"):
        found = signature_of(name)
        assert found is not None
        assert found[1] == {"rate": float}
    assert signature_of("toy.parts.Theirs") is None
