"""One training step of a method on a backbone: which of the backbone's parameters and statistics it moves."""

import functools
import itertools
from typing import Literal

import torch
from torch import nn

from dinodiet.data.views.views import MultiCrop, SingleView
from dinodiet.methods.diet import DIET
from dinodiet.methods.dino import DINO
from dinodiet.types import Backbone, Batch, Clock, DataSpec

SPEC = DataSpec("test", num_images=4, num_labels=2)


def moved(backbone: Backbone, method: Literal["diet", "dino"], trainable: str, local: int | None = None) -> set[str]:
    """Return the names in the backbone's state dict of what one step changes; DINO's teacher must change alike.

    `local` is the side of DINO's local crops.
    """
    assert isinstance(backbone, nn.Module)
    names = list(backbone.state_dict())
    side = backbone.input.size
    trained: DIET | DINO
    if method == "diet":
        views = functools.partial(SingleView, strength=1)
        trained = DIET(backbone, SPEC, views=views, trainable=trainable, head_only_fraction=0.0)
    else:
        crops = functools.partial(MultiCrop, crops=f"2x{side}+1x{local or side}")
        trained = DINO(
            backbone, SPEC, views=crops, trainable=trainable, out_dim=8, hidden_dim=16, bottleneck_dim=8, momentum=0.5
        )
    trained.train()
    with torch.no_grad():
        for parameter in trained.parameters():  # some start at zero, which stops the gradient of those before them
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())), alpha=0.01
            )
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    _step(trained, side)
    after = trained.state_dict()

    def changed(prefix: str) -> set[str]:
        return {name for name in names if not torch.equal(before[prefix + name], after[prefix + name])}

    if method == "dino":
        assert changed("teacher.backbone.") == changed("backbone.")
    assert not torch.equal(before["head.weight"], after["head.weight"]) if method == "diet" else True
    return changed("backbone.")


def _step(method: DIET | DINO, side: int) -> None:
    torch.manual_seed(0)
    images = torch.randint(256, (4, 3, side, side), dtype=torch.uint8)
    clock = Clock(50, 100, 10)
    groups = [group.as_dict() for group in method.param_groups()]
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    torch.autograd.backward(method.loss(Batch(images, None, torch.arange(4)), clock)["loss"])
    assert all(p.grad is not None for p in itertools.chain.from_iterable(group["params"] for group in groups))
    method.before_step(clock)
    optimizer.step()
    method.after_step(clock)
