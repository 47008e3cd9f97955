from typing import Any

import pytest

from dinodiet.errors import UserError
from dinodiet.sweep.sweeper import GridSweeper

BACKBONES = [{"model": "dinov3", "model.size": "base,large"}, {"model": "clip,mae"}]
PARTS: dict[str, Any] = {
    "few": [{"dataset": "digits", "dataset.limit": 10}, {"dataset": "cifar10", "dataset.limit": 20}],
    "whole": {"dataset": "digits", "dataset.limit": None},
}


def cells(*given: str, part: Any = "few") -> list[str]:
    found = GridSweeper({"seed": "0"}, {"backbone": BACKBONES}, PARTS, part).expand(given)
    return [" ".join(word for word in cell if word != "seed=0") for cell in found]


def test_what_belongs_together_is_never_mixed() -> None:
    models = ["model=dinov3 model.size=base", "model=dinov3 model.size=large", "model=clip", "model=mae"]
    few = ["dataset=digits dataset.limit=10", "dataset=cifar10 dataset.limit=20"]
    assert cells() == [f"{data} {model}" for data in few for model in models]
    whole = [f"dataset=digits dataset.limit=null {model}" for model in models]
    assert cells(part="whole") == whole
    assert cells(part="all") == cells(part=["whole", "few"]) == [*cells(), *whole]


def test_the_command_line_narrows_what_belongs_together_and_replaces_its_other_keys() -> None:
    assert cells("model=mae,dinov3", "dataset=digits") == [
        f"dataset=digits dataset.limit=10 {model}"
        for model in ("model=mae", "model=dinov3 model.size=base", "model=dinov3 model.size=large")
    ]
    assert cells("model=vit_tiny", "dataset=digits") == ["dataset=digits dataset.limit=10 model=vit_tiny"]
    assert cells("dataset.limit=5", "model=clip") == [
        f"dataset={name} model=clip dataset.limit=5" for name in ("digits", "cifar10")
    ]


@pytest.mark.parametrize(
    ("part", "says"),
    [
        ("fwe", "'fwe'; choose from: few, whole"),
        ([], r"\[\]; choose from"),
        (None, "None; choose from"),
        (3, "3; choose"),
    ],
)
def test_no_such_part_is_one_line(part: Any, says: str) -> None:
    with pytest.raises(UserError, match=r"^hydra.sweeper.part: " + says):
        cells(part=part)


def test_broken_files_are_told_by_their_key() -> None:
    with pytest.raises(UserError, match=r"^hydra.sweeper.together.backbone: 'model'; must be keys"):
        GridSweeper({}, {"backbone": ["model"]}).expand(["seed=0"])
    with pytest.raises(UserError, match=r"^hydra.sweeper.part: 'few', but the sweep has no parts"):
        GridSweeper({}, part="few").expand(["seed=0"])
    with pytest.raises(UserError, match=r"^hydra.sweeper.parts: \['few'\]; must be keys"):
        GridSweeper({}, parts=["few"], part="few").expand(["seed=0"])  # type: ignore[arg-type]
