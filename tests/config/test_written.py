"""Short text in a configuration: the run that its nodes are, held against the same ranges."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from dinodiet.config.identity import run_id
from dinodiet.config.settings import settings_of
from dinodiet.errors import UserError
from tests.contracts.choices import configuration, settings
from tests.running import CHOICES

S = "dinodiet.schedules"
NODE = {
    "_target_": f"{S}.Concatenation",
    "parts": [
        {
            "_target_": f"{S}.Part",
            "epochs": 1.0,
            "value": {"_target_": f"{S}.Linear", "start": 0.0, "final": 0.01, "fraction": 1},
        },
        {"_target_": f"{S}.HalfCosine", "start": 1e-2, "final": 1e-6},
    ],
}
TEXT = "cat(linear(0,1e-2,1ep),cosine(1e-2,1e-6))"
KEYS = {
    "schedule.lr": "diet",
    "schedule.weight_decay": "diet",
    "schedule.head_lr": "diet",
    "method.probe.weight": "diet_dual",
    "method.teacher.momentum": "dino",
    "method.patches.ibot.weight": "dino_ibot",
}


@pytest.mark.parametrize("key", KEYS)
def test_a_text_and_its_nodes_are_one_run(key: str) -> None:
    choices = {**CHOICES, "method": KEYS[key]}
    as_it_is = configuration(f"method={KEYS[key]}")
    names = []
    for value in (TEXT, NODE):
        cfg = as_it_is.copy()
        OmegaConf.update(cfg, key, value, merge=False, force_add=True)
        names.append(run_id(settings_of(cfg, choices)))
    assert names[0] == names[1] != run_id(settings_of(as_it_is, choices))


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("schedule.lr", "cosne(1,0)", r"schedule.lr: 'cosne\(1,0\)': 'cosne' at position 1; must be one of: cat"),
        ("schedule.lr", "linear(0,200)", r"schedule.lr.final: 200; must be a finite number from 0 to 100"),
        (
            "method.teacher.momentum",
            "cat(constant(0.9,1ep),linear(0.9,1.5))",
            r"method.teacher.momentum.parts\[1\].final: 1.5; must be a finite number from 0 to 1",
        ),
        ("method.loss.student_temp", "cat(0,1ep)", r"method.loss.student_temp.parts\[0\].value.parts: \[0\]; must be"),
        ("method.loss.student_temp", "exp(0,1)", r"method.loss.student_temp.start: 0; must be a finite number above 0"),
        ("method.views.flip", "linear(0,1)", r"method.views.flip: 'linear\(0,1\)'; must be a finite number"),
    ],
)
def test_a_text_is_held_against_what_it_is_for(key: str, text: Any, said: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"^{said}"):
        settings(tmp_path, "method=dino", f'{key}="{text}"')


def test_names_joined_by_an_underscore_are_a_list(tmp_path: Path) -> None:
    text, listed = (
        settings(tmp_path, "method=dino", f"method.views.augs={augs}") for augs in ("padcrop_hflip", "[padcrop,hflip]")
    )
    assert text.method["views"]["augs"] == ["padcrop", "hflip"]
    assert run_id(text) == run_id(listed)
    with pytest.raises(UserError, match=r"^method.views.augs: \['flip'\]; must be a list of one of: hflip, pad"):
        settings(tmp_path, "method=dino", "method.views.augs=flip")
