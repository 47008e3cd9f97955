import copy
import json

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from dinodiet.methods.parts.heads import DINOHead, ProjectedClassHead, SELUHead, WeightNormLinear
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


def test_the_projected_head_is_that_of_diet_tuning() -> None:
    """z / |z|, linear, BatchNorm, ReLU, dropout, linear, not normalised, over a temperature of 3."""
    torch.manual_seed(0)
    head, rows = ProjectedClassHead(6, 5, projection_dim=4, dropout=0.0), torch.randn(8, 6)
    first, norm, last = (head.projector[place] for place in (0, 1, 4))
    hidden = first(rows / rows.norm(dim=1, keepdim=True))
    hidden = torch.relu((hidden - hidden.mean(0)) / (hidden.var(0, correction=0) + 1e-5).sqrt())
    expected = last(hidden) @ head.linear.weight.T / 3
    found = head(rows).cross_entropy(torch.zeros(8, dtype=torch.int64), label_smoothing=0.0)
    torch.testing.assert_close(found, torch.nn.functional.cross_entropy(expected, torch.zeros(8, dtype=torch.int64)))
    torch.testing.assert_close(head(7 * rows).predicted(), head(rows).predicted())
    assert isinstance(norm, torch.nn.BatchNorm1d) and norm.weight.requires_grad
    assert sorted(name for name, _ in head.named_parameters() if "linear" in name) == ["linear.weight"]
    dropped = ProjectedClassHead(6, 5).train()
    assert not torch.equal(dropped.projector(rows), dropped.projector(rows))


def test_lowdinos_head_has_selu() -> None:
    kinds = {type(layer) for layer in SELUHead(4, SPEC, out_dim=5, hidden_dims=[6]).mlp}
    assert kinds == {torch.nn.Linear, torch.nn.SELU}
    assert torch.nn.GELU in {type(layer) for layer in DINOHead(4, SPEC, out_dim=5, hidden_dims=[6]).mlp}
