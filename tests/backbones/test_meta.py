"""Backbones without values: what is left out of a build changes nothing that can be seen of them."""

from pathlib import Path
from typing import Any

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from dinodiet.backbones.meta import Unfilled, backbone_on_meta, without_weights
from dinodiet.config.build import build
from dinodiet.types import Backbone, DataSpec
from tests.running import composed

SPEC = DataSpec("digits", 10, 100, native_size=32)


def told(backbone: Backbone) -> dict[str, Any]:
    assert isinstance(backbone, nn.Module)
    tensors = [*backbone.named_parameters(), *backbone.named_buffers()]
    return {name: (one.shape, one.dtype, one.device.type, one.requires_grad) for name, one in tensors}


@pytest.mark.parametrize("model", ["vit_tiny", "resnet18", "mobilevit_xxs"])
def test_a_backbone_is_the_same_without_what_fills_it(model: str, tmp_path: Path) -> None:
    node: Any = OmegaConf.to_container(composed(tmp_path, f"model={model}", base=()).model, resolve=True)
    with torch.device("meta"):
        filled: Backbone = build(without_weights({**node, "weights": "none"}), "model", Backbone)(spec=SPEC)
    made = backbone_on_meta({**node, "weights": "none"}, SPEC)
    assert told(made) == told(filled)
    assert (made.embed_dim, made.input) == (filled.embed_dim, filled.input)


def test_only_what_fills_tensors_without_values_is_left_out() -> None:
    called = list[str]()

    class Noting(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            called.append(func.__name__)
            return func(*args, **(kwargs or {}))

    with Noting(), torch.device("meta"), Unfilled():
        weight = nn.Linear(4, 3).weight
        here = torch.zeros(3, device="cpu").fill_(2.0)
        with pytest.raises(RuntimeError, match="broadcast"):
            weight.data.add_(torch.ones(5))
    assert weight.is_meta and weight.shape == (3, 4)
    assert here.tolist() == [2.0, 2.0, 2.0]
    assert "uniform_" not in called and {"fill_", "add_"} <= {*called}
