"""One training step of a method on a backbone: which of the backbone's parameters and statistics it moves."""

import functools
import itertools
from typing import Literal

import torch
from torch import nn

from dinodiet.data.views.views import MultiCrop, SingleView
from dinodiet.methods.base import MethodBase
from dinodiet.types import Backbone, Batch, Clock, DataSpec

from . import assemble

SPEC = DataSpec("test", num_images=4, num_labels=2)


def moved(backbone: Backbone, method: Literal["diet", "dino"], trainable: str, local: int | None = None) -> set[str]:
    """Return the names in the backbone's state dict of what one step changes.

    The head must change, and DINO's teacher like the student. `local` is the side of DINO's local crops.
    """
    assert isinstance(backbone, nn.Module)
    names = list(backbone.state_dict())
    trained = _diet(backbone, trainable) if method == "diet" else _dino(backbone, trainable, local)
    trained.train()
    with torch.no_grad():
        for parameter in trained.parameters():  # some start at zero, which stops the gradient of those before them
            parameter.add_(
                torch.randn(parameter.shape, generator=torch.Generator().manual_seed(parameter.numel())), alpha=0.01
            )
    before = {key: value.clone() for key, value in trained.state_dict().items()}
    _step(trained, backbone.input.size)
    after = trained.state_dict()

    def changed(prefix: str, names: list[str]) -> set[str]:
        return {name for name in names if not torch.equal(before[prefix + name], after[prefix + name])}

    head = [name for name, parameter in trained.get_submodule("head").named_parameters() if parameter.requires_grad]
    assert changed("head.", head) == set(head)
    if method == "dino":
        assert changed("teacher.head.", head) == set(head)
        assert changed("teacher.backbone.", names) == changed("backbone.", names)
    return changed("backbone.", names)


def _diet(backbone: Backbone, trainable: str) -> MethodBase:
    views = functools.partial(SingleView, strength=1)
    return assemble.diet(backbone, SPEC, views=views, trainable=trainable, head__warmup_fraction=0.0)


def _dino(backbone: Backbone, trainable: str, local: int | None) -> MethodBase:
    side = backbone.input.size
    small = {"head__out_dim": 8, "head__hidden_dims": [16, 16], "head__bottleneck_dim": 8, "teacher__momentum": 0.5}
    views = functools.partial(MultiCrop, crops=f"2x{side}+1x{local or side}")
    return assemble.dino(backbone, SPEC, views=views, trainable=trainable, **small)


def _step(method: MethodBase, side: int) -> None:
    torch.manual_seed(0)
    images = torch.randint(256, (4, 3, side, side), dtype=torch.uint8)
    clock = Clock(50, 100, 10)
    groups = [group.as_dict() for group in method.param_groups()]
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    torch.autograd.backward(method(Batch(images, None, torch.arange(4)), clock)["loss"])
    assert all(p.grad is not None for p in itertools.chain.from_iterable(group["params"] for group in groups))
    method.before_step(clock)
    optimizer.step()
    method.after_step(clock)
