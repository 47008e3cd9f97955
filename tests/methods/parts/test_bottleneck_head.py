import json
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from dinodiet.methods.parts.bottleneck import Bottleneck
from dinodiet.methods.parts.bottleneck_head import BottleneckHead, HiddenLayers
from dinodiet.methods.parts.heads import DINOHead
from dinodiet.run.parts import build_parts
from dinodiet.types import Clock
from tests.contracts.choices import settings
from tests.places import REFERENCES
from tests.small import SPEC

REFERENCE = np.load(REFERENCES / "dinopl" / "head.npz")
WEIGHTS = load_file(REFERENCES / "dinopl" / "head.safetensors")
HEADS = json.loads(str(REFERENCE["settings_json"]))["heads"]


def head(
    in_dim: int, out_dim: int | None, mlp: dict[str, Any], bottleneck: dict[str, Any], **more: Any
) -> BottleneckHead:
    parts: dict[str, Any] = {"mlp": partial(HiddenLayers, **mlp), "bottleneck": partial(Bottleneck, **bottleneck)}
    return BottleneckHead(in_dim, SPEC, out_dim=out_dim, **parts, **more)


def own_name(key: str, *, use_bn: bool) -> str:
    """Return the name here of a parameter or buffer of the reference."""
    if layer := re.fullmatch(r"mlp\.layer(\d+)\.(lin|bn)\.(\w+)", key):
        return f"mlp.{int(layer[1]) * (3 if use_bn else 2) + (layer[2] == 'bn')}.{layer[3]}"
    return re.sub(r"^last_layer\.(lin1\.|lin2\.|)", lambda m: f"bottleneck.{'first' if '1' in m[1] else 'last'}.", key)


def published(name: str) -> BottleneckHead:
    given = HEADS[name]
    width = given["l2bot_dim"]
    mlp = {"hidden_dims": given["hid_dims"], "activation": given["mlp_act"].lower(), "use_bn": given["mlp_bn"]}
    bottleneck = {"width": width} | ({"layers": given["l2bot_cfg"]} if width else {})
    made = head(12, given["out_dim"], mlp, bottleneck)
    kept = {key.removeprefix(f"{name}."): value for key, value in WEIGHTS.items() if key.startswith(f"{name}.")}
    made.load_state_dict({own_name(k, use_bn=given["mlp_bn"]): v for k, v in kept.items() if k != "cent"})
    return made


@pytest.mark.parametrize("name", HEADS)
def test_outputs_gradients_and_statistics_are_the_published_ones(name: str) -> None:
    made, use_bn = published(name), HEADS[name]["mlp_bn"]
    expected = {key: torch.from_numpy(REFERENCE[f"{name}.{key}"]) for key in ("eval.projections", "eval.logits")}
    images = torch.from_numpy(REFERENCE["input"]).requires_grad_()
    close = partial(torch.testing.assert_close, rtol=1e-5, atol=1e-5)
    outputs = made.eval()(images)
    close(outputs, expected["eval.projections"])
    centre, temperature = WEIGHTS[f"{name}.cent"], float(REFERENCE[f"{name}.temperature"])
    close((outputs - centre) / temperature, expected["eval.logits"], atol=1e-5 / temperature)
    trained = made.train()(images)
    close(trained, torch.from_numpy(REFERENCE[f"{name}.train.projections"]))
    torch.autograd.backward((trained * torch.from_numpy(REFERENCE[f"{name}.cotangent"])).sum())
    found: dict[str, Tensor | None] = {key: parameter.grad for key, parameter in made.named_parameters()}
    found |= {"input": images.grad, **dict(made.named_buffers())}
    rest = [key.removeprefix(f"{name}.") for key in REFERENCE.files if key.startswith(f"{name}.train")]
    for key in rest:
        if (match := re.fullmatch(r"train(?:\.grad|_after)[._](.+)", key)) is not None:
            whole = torch.from_numpy(REFERENCE[f"{name}.{key}"])
            given = found[own_name(match[1], use_bn=use_bn)]
            close(given, whole, atol=1e-5 * max(float(whole.abs().max()), 1))
    assert sum(parameter.numel() for parameter in made.parameters()) == int(REFERENCE[f"{name}.parameters"])


@pytest.mark.parametrize(
    ("sizes", "mlp", "bottleneck", "count"),
    [
        ((512, 65_536), {}, {}, 22_548_736),
        ((512, 1_024), {}, {}, 6_033_664),
        ((512, 1_024), {"use_bn": True}, {}, 6_033_664 + 2 * (2048 + 2048)),
        ((64, 1_024), {}, {}, 5_116_160),
        ((512, 10), {"hidden_dims": []}, {"width": 0}, 5_130),
        ((512, 10), {}, {"width": 0}, 5_267_466),
        ((8, 0), {"hidden_dims": [None, -1]}, {"width": 0}, 3 * (8 * 8 + 8)),
    ],
)
def test_it_has_as_many_parameters_as_published(
    sizes: tuple[int, int], mlp: dict[str, Any], bottleneck: dict[str, Any], count: int
) -> None:
    with torch.device("meta"):
        made = head(*sizes, mlp, bottleneck)
    assert sum(parameter.numel() for parameter in made.parameters()) == count


def test_its_default_computes_what_dinos_head_does_with_fixed_norms() -> None:
    torch.manual_seed(0)
    dino = DINOHead(12, SPEC, hidden_dims=[24, 24], bottleneck_dim=8)
    general = head(12, None, {"hidden_dims": [24, 24]}, {"width": 8})
    names = {"mlp.4": "bottleneck.first", "last_layer.weight_v": "bottleneck.last.weight"}
    state = {key: value for key, value in dino.state_dict().items() if key != "last_layer.weight_g"}
    for old, new in names.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    general.load_state_dict(state)
    rows = torch.randn(5, 12)
    torch.testing.assert_close(general(rows), dino(rows), rtol=1e-6, atol=1e-6)
    assert general.out_dim == dino.out_dim == 1024


def test_both_initialisations() -> None:
    torch.manual_seed(0)
    dino, default = (
        head(100, 400, {"hidden_dims": [400]}, {"layers": "-/lb/fn/wn/lb/-"}, init=i) for i in ("dino", "default")
    )
    for layer in dino.modules():
        if isinstance(layer, nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.02)
            assert not layer.bias.any()
    for layer in default.modules():
        if isinstance(layer, nn.Linear):
            bound = layer.in_features**-0.5
            for values in (layer.weight, layer.bias):
                assert bound * 0.95 < values.abs().max().item() <= bound


def test_the_last_layer_is_left_at_first_unless_there_is_no_bottleneck() -> None:
    for width, left in ((4, {"bottleneck.last.weight"}), (0, set())):
        made = head(6, 5, {"hidden_dims": [7]}, {"width": width}, freeze_steps=2)
        for step, frozen in ((0, left), (1, left), (2, set())):
            torch.autograd.backward(made(torch.randn(3, 6)).sum())
            made.drop_frozen_gradients(Clock(step, 10, 5))
            assert {name for name, parameter in made.named_parameters() if parameter.grad is None} == frozen
            made.zero_grad(set_to_none=True)


def test_activations_are_chosen() -> None:
    kinds = {"gelu": nn.GELU, "relu": nn.ReLU, "selu": nn.SELU}
    for name, kind in kinds.items():
        assert type(HiddenLayers(4, hidden_dims=[3], activation=name)[1]) is kind  # type: ignore[arg-type]


def test_a_preset_replaces_the_head_whole(tmp_path: Path) -> None:
    words = (
        "method.head.mlp.hidden_dims=[16,0]",
        "method.head.out_dim=32",
        "method.head.bottleneck.layers=-/l/fnd/wn/l/fn",
    )
    made = build_parts(settings(tmp_path, "method=dino_general", *words)).method
    assert isinstance(made.head, BottleneckHead)
    assert [tuple(parameter.shape) for parameter in made.head.parameters()] == [
        *((16, 24), (16,), (24, 16), (24,)),
        *((256, 24), (32, 256)),
    ]
