import json
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.layers.drop import DropPath
from torch import nn

from dinodiet.errors import UserError
from dinodiet.methods.parts.student import Student, choose_drop_path
from tests.places import REFERENCES

REFERENCE = np.load(REFERENCES / "dinopl" / "init.npz")
CASES = {case["name"]: case for case in json.loads(str(REFERENCE["settings_json"]))}


def student(init: Any, value: float, preserving: Any = "none") -> Student:
    amount = {"alpha": value} if init == "interpolated" else {"epsilon": value}
    return Student(nn.Linear(2, 2), init=init, variance_preserving=preserving, **amount)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", CASES)
def test_every_parameter_begins_as_published(name: str) -> None:
    case = CASES[name]
    init = "interpolated" if case["s_init"] == "interpolated" else "neighbourhood"
    made, plain, some = (student(init, case["value"], word) for word in ("all", "none", "matrices"))
    whole = made if case["variance_preserving"] else plain
    for pair in ("default_init", "all_random"):
        start = f"{pair}.{name}."
        keys = [key.removeprefix(start) for key in REFERENCE.files if key.startswith(start)]
        assert len(keys) == 11
        for key in keys:
            teacher, fresh = (torch.from_numpy(REFERENCE[f"{pair}.{net}.{key}"]) for net in ("teacher", "fresh"))
            expected = torch.from_numpy(REFERENCE[start + key])
            torch.testing.assert_close(whole.mixed(teacher, fresh), expected, rtol=1e-6, atol=1e-6)
            of_its_kind = made if teacher.ndim > 1 else plain
            assert torch.equal(some.mixed(teacher, fresh), of_its_kind.mixed(teacher, fresh))


@pytest.mark.parametrize(
    ("init", "value", "plain", "preserving"),
    [
        ("interpolated", 0.25, 1.75, 2.213594),
        ("neighbourhood", 0.5, 2.5, 2.236068),
        ("interpolated", 0.0, 2.0, 2.0),
        ("neighbourhood", 0.0, 2.0, 2.0),
        ("interpolated", 1.0, 1.0, 1.0),
    ],
)
def test_hand_values(init: str, value: float, plain: float, preserving: float) -> None:
    teacher, fresh = torch.full((2, 2), 2.0, dtype=torch.float64), torch.ones(2, 2, dtype=torch.float64)
    for word, expected in (("none", plain), ("all", preserving)):
        found = student(init, value, word).mixed(teacher, fresh)
        assert found.flatten().tolist() == pytest.approx([expected] * 4, abs=1e-6 if value % 1 else 0)


def test_corrected_forms_keep_the_deviation() -> None:
    one, other = torch.randn(2, 200_000, generator=torch.Generator().manual_seed(0)).unbind()
    for init, value in (("interpolated", 0.5), ("neighbourhood", 0.7)):
        assert student(init, value, "all").mixed(one, other).std().item() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0.5}, "^alpha: given, but init=teacher does not use it; .* init=interpolated$"),
        ({"alpha": 0.5, "init": "neighbourhood"}, "^alpha: given, but init=neighbourhood"),
        ({"epsilon": 0.5, "init": "interpolated"}, "^epsilon: given"),
        ({"seed": 0}, "^seed: given, but init=teacher"),
        ({"variance_preserving": "all", "init": "random"}, "^variance_preserving: given"),
        ({"checkpoint": "RUN"}, "^checkpoint: given"),
        ({"init": "checkpoint"}, "^checkpoint: null, but init=checkpoint"),
        ({"tower": "teacher"}, "^tower: given"),
    ],
)
def test_what_is_not_used_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Student(nn.Linear(2, 2), **settings)


def test_drop_path_is_the_students_and_grows_over_the_blocks() -> None:
    vit = timm.create_model("vit_tiny_patch16_224", depth=3, embed_dim=24, num_heads=3, num_classes=0)
    assert choose_drop_path(vit, None) == pytest.approx(0.1)
    rates = [module.drop_prob for module in vit.modules() if isinstance(module, DropPath)]
    assert rates == pytest.approx([0.05, 0.05, 0.1, 0.1])
    assert choose_drop_path(vit, 0.3) == pytest.approx(0.3)
    assert choose_drop_path(vit, None) == pytest.approx(0.3)  # what the backbone has is kept
    assert choose_drop_path(vit, 0.0) == 0
