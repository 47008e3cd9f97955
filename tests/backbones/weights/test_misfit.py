"""Weights that are none, no numbers, or of another network: one line says what was found."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dinodiet.errors import UserError
from tests.backbones.small import SMALL, build_small, own_state
from tests.backbones.weights.test_timm import save

State = dict[str, Any]
MOMENTS = {"exp_avg": torch.ones(4), "exp_avg_sq": torch.ones(4), "step": torch.tensor(1.0)}


def deeper(depth: int) -> State:
    return own_state(build_small("mae", model_args={**SMALL["mae"]["model_args"], "depth": depth}))


def with_values(change: Callable[[State], Any]) -> Callable[[], State]:
    def make() -> State:
        state: State = own_state(build_small("mae"))
        change(state)
        return state

    return make


def infinite(state: State) -> None:
    state["norm.bias"][3] = float("inf")
    state["cls_token"][:] = float("nan")


CASES: dict[str, tuple[Callable[[], State], str]] = {
    "nan": (with_values(infinite), r": 2 with numbers that are nan .*cls_token: 48 of 48, norm.bias: 1 of 48"),
    "quantised": (
        with_values(lambda s: s.update({k: v.to(torch.int8) for k, v in s.items()})),
        r"cls_token \(int8\).*bf16",
    ),
    "meta": (with_values(lambda s: s.update({"norm.bias": s["norm.bias"].to("meta")})), r"norm.bias \(no values\)"),
    "optimiser": (lambda: {"state": {0: MOMENTS, 1: MOMENTS}, "param_groups": [{"lr": 1}]}, "of an optimiser only"),
    "nothing": (lambda: {"epoch": 3, "args": {"lr": 1.0}}, "holds no tensors"),
    "head": (lambda: {"head.weight": torch.ones(3, 4), "head.bias": torch.ones(3)}, r"the file is a head only"),
    "depth": (lambda: deeper(5), r"vision transformer with depth 5 instead of \d"),
    "registers": (lambda: own_state(build_small("dinov2", patch_size=16, image_size=48)), r"registers 4 instead of 0"),
    "classless": (
        lambda: own_state(build_small("ijepa", patch_size=16, image_size=48)),
        r"class tokens 0 instead of 1",
    ),
    "resnet": (lambda: own_state(build_small("resnet18")), r"the file is a ResNet, the model a vision transformer"),
    "patches": (lambda: own_state(build_small("dino", size="small8")), r"its patch size is 8, the model's 16"),
    "text": (lambda: {"bert.embeddings.word_embeddings.weight": torch.ones(9, 4)}, r"a text model"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", CASES)
def test_what_is_wrong_with_weights_is_one_line(name: str, tmp_path: Path) -> None:
    make, message = CASES[name]
    path = save(make(), tmp_path / "a.pth")
    with pytest.raises(UserError, match=message) as caught:
        build_small("mae", weights=path)
    assert str(caught.value).startswith(f"weights: {path}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_precisions_are_read(dtype: torch.dtype, tmp_path: Path) -> None:
    state = own_state(build_small("mae"))
    path = save({key: value.to(dtype) for key, value in state.items()}, tmp_path / "a.pth")
    found = build_small("mae", weights=path).model.state_dict()
    for key, value in found.items():
        assert value.dtype == torch.float32
        torch.testing.assert_close(value, state[key], rtol=1e-2, atol=1e-2)
