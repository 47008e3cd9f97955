from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from dinodiet.evals.finetuning.layer_decay import layer_groups
from tests.backbones.toy import Toy
from tests.evals.finetuning.tiny import backbone


class Twelve(Toy):
    """Patches, twelve blocks and a norm."""

    def __init__(self) -> None:
        super().__init__(2, side=4)
        self.patches, self.norm = nn.Linear(3, 2), nn.LayerNorm(2)
        self.blocks = nn.ModuleList([nn.Linear(2, 2) for _ in range(12)])

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.norm(nn.Sequential(*self.blocks)(self.patches(images.mean((2, 3)))))
        return features

    def freezable_blocks(self) -> list[list[nn.Module]]:
        return [[block] for block in self.blocks]

    def tail(self) -> list[nn.Module]:
        return [self.norm]


# Of twelve blocks: what lies before them, the first, the last (0.65 is MAE's).
@pytest.mark.parametrize(("decay", "expected"), [(0.75, (0.0238, 0.0317, 0.75)), (0.65, (0.0037, 0.0057, 0.65))])
def test_learning_rates_fall_from_the_head_to_the_input(decay: float, expected: tuple[float, ...]) -> None:
    model, head = Twelve(), nn.Linear(2, 3)
    scale = {id(p): group.lr_scale for group in layer_groups(model, head, decay, exempt=True) for p in group.params}
    parts = (model.patches, model.blocks[0], model.blocks[-1])
    assert [round(scale[id(part.weight)], 4) for part in parts] == list(expected)
    assert [scale[id(p)] for p in (*model.norm.parameters(), *head.parameters())] == [1.0] * 4
    assert len(set(scale.values())) == 14 and len(scale) == len([*model.parameters(), *head.parameters()])


def test_matrices_of_layers_decay_and_tokens_positions_biases_and_norms_do_not() -> None:
    model, head = backbone(), nn.Linear(24, 4)
    names = {id(p): name for part in (model, head) for name, p in part.named_parameters()}
    groups = layer_groups(model, head, 0.75, exempt=True)
    kept = {names[id(p)] for group in groups if group.weight_decay_scale for p in group.params}
    left = {names[id(p)] for group in groups if not group.weight_decay_scale for p in group.params}
    assert all(name.endswith("weight") and "norm" not in name for name in kept)
    assert {name.rpartition(".")[2] for name in left} == {"cls_token", "pos_embed", "bias", "weight"}
    assert all("norm" in name for name in left if name.endswith("weight"))
    assert {group.weight_decay_scale for group in layer_groups(model, head, 0.75, exempt=False)} == {1.0}


def test_an_embedding_table_does_not_decay() -> None:
    head = nn.Sequential(nn.Embedding(3, 2), nn.Linear(2, 2, bias=False))
    (kept, left) = sorted(
        (group for group in layer_groups(Twelve(), head, 1.0, exempt=True)), key=lambda group: -group.weight_decay_scale
    )
    assert any(p is head[1].weight for p in kept.params) and any(p is head[0].weight for p in left.params)
    assert torch.is_tensor(kept.params[0])
