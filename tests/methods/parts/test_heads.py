import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dinodiet.methods.parts.heads import DINOHead, WeightNormLinear
from tests.places import REFERENCES
from tests.small import SPEC

REFERENCE = np.load(REFERENCES / "dino_head.npz")
WEIGHTS = load_file(REFERENCES / "dino_head.safetensors")
SETTINGS = json.loads(str(REFERENCE["settings_json"]))
KINDS = ["plain_fixed", "plain_free", "bn_fixed", "bn_free"]


def published(kind: str) -> DINOHead:
    head = DINOHead(
        SETTINGS["in_dim"],
        SPEC,
        out_dim=SETTINGS["out_dim"],
        hidden_dims=[SETTINGS["hidden_dim"]] * (SETTINGS["nlayers"] - 1),
        bottleneck_dim=SETTINGS["bottleneck_dim"],
        use_bn=kind.startswith("bn"),
        norm_last_layer=kind.endswith("fixed"),
    )
    prefix = f"{kind}."
    head.load_state_dict({key.removeprefix(prefix): value for key, value in WEIGHTS.items() if key.startswith(prefix)})
    return head


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_and_statistics_are_the_published_ones(kind: str) -> None:
    head, images = published(kind), torch.from_numpy(REFERENCE["input"])
    for mode in ("eval", "train"):
        outputs = head.train(mode == "train")(images).detach()
        torch.testing.assert_close(outputs, torch.from_numpy(REFERENCE[f"{kind}.{mode}"]), rtol=1e-5, atol=1e-5)
    after = f"{kind}.train_after."
    for key in (key for key in REFERENCE.files if key.startswith(after)):
        torch.testing.assert_close(head.state_dict()[key.removeprefix(after)], torch.from_numpy(REFERENCE[key]))


@pytest.mark.parametrize("norm_last_layer", [True, False])
def test_gains_start_at_one_and_are_trained_only_when_free(norm_last_layer: bool) -> None:
    last = DINOHead(
        12, SPEC, out_dim=20, hidden_dims=[24], bottleneck_dim=8, norm_last_layer=norm_last_layer
    ).last_layer
    assert (last.weight_g == 1).all()
    assert last.weight_g.requires_grad is not norm_last_layer
    assert last.weight_v.requires_grad


def test_initialisation_is_the_published_one() -> None:
    torch.manual_seed(0)
    head = DINOHead(64, SPEC, out_dim=400, hidden_dims=[256, 256], bottleneck_dim=100)
    for position in (0, 2, 4):
        layer = head.mlp[position]
        assert isinstance(layer, torch.nn.Linear)
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
        assert not layer.bias.any()
    bound = 1 / 100**0.5  # the default of a linear layer: uniform
    assert bound * 0.99 < head.last_layer.weight_v.max().item() <= bound


def test_the_copy_of_a_weight_normalised_layer_is_its_own() -> None:
    layer = WeightNormLinear(4, 6, train_gain=False)
    twin = copy.deepcopy(layer)
    features = torch.randn(3, 4)
    before = layer(features)
    assert torch.equal(twin(features), before)
    with torch.no_grad():
        twin.weight_v.zero_().add_(1)
    assert torch.equal(layer(features), before)
    assert not torch.equal(twin(features), before)
