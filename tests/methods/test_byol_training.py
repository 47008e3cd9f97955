"""Three whole training steps of the published code, with both views as one batch and one after the other."""

import json
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from dinodiet.methods.byol import BYOL
from dinodiet.methods.parts.projector import Projector
from dinodiet.methods.parts.teacher import Teacher
from dinodiet.types import Batch, Clock
from tests.backbones.toy import Toy
from tests.places import REFERENCES
from tests.small import SPEC, FixedViews

REFERENCE = np.load(REFERENCES / "byol_train.npz")
STATES = load_file(REFERENCES / "byol_train.safetensors")
SETTINGS = json.loads(str(REFERENCE["settings_json"]))
PLACES = {
    "online.encoder.": "backbone.",
    "online.projector.": "head.",
    "online.predictor.": "predictor.",
    "target.encoder.": "teacher.backbone.",
    "target.projector.": "teacher.head.",
}


class Encoder(Toy):
    """The encoder of the reference training: conv, BatchNorm, ReLU, mean over positions, linear."""

    def __init__(self) -> None:
        super().__init__(12, side=SETTINGS["image"])
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.linear = nn.Linear(8, 12)

    def forward(self, images: Tensor) -> Tensor:
        features: Tensor = self.linear(F.relu(self.norm(self.conv(images))).mean((2, 3)))
        return features


def own(name: str) -> str:
    """Return this package's name of what the published code calls so."""
    return next(place + name.removeprefix(prefix) for prefix, place in PLACES.items() if name.startswith(prefix))


def published(prefix: str) -> dict[str, Tensor]:
    names = (name.removeprefix(prefix) for name in STATES if name.startswith(prefix))
    return {own(name): STATES[prefix + name] for name in names}


def build(views: FixedViews, joint: bool) -> BYOL:
    mlp = partial(Projector, hidden_dims=[SETTINGS["projection_hidden_size"]], bias=True)
    momenta = SETTINGS["momentum_by_step"]
    method = BYOL(
        Encoder(),
        SPEC,
        views=lambda input: views,
        head=partial(mlp, out_dim=SETTINGS["projection_size"]),
        predictor=mlp,
        teacher=partial(Teacher, momentum=lambda clock: momenta[clock.step]),
        joint=joint,
    )
    method.load_state_dict(published("step0."), strict=True)
    return method.train()  # type: ignore[return-value]


@pytest.mark.parametrize("mode", ["joint", "separate"])
def test_three_training_steps_are_the_published_ones(mode: str) -> None:
    views = FixedViews(Encoder().input, local=0)
    method = build(views, joint=mode == "joint")
    sgd = partial(torch.optim.SGD, momentum=SETTINGS["sgd_momentum"], weight_decay=SETTINGS["weight_decay"])
    optimizer = sgd([p for p in method.parameters() if p.requires_grad], lr=SETTINGS["lr"])
    index = torch.arange(SETTINGS["batch"])
    for step in range(SETTINGS["steps"]):
        clock = Clock(step, SETTINGS["steps"], 1)
        views.crops = [torch.from_numpy(REFERENCE[key][step]) for key in ("view1", "view2")]
        loss = method(Batch(torch.empty(len(index), 0), None, index), clock)["loss"]
        torch.autograd.backward(loss)
        assert loss.item() == pytest.approx(REFERENCE[f"{mode}.losses"][step], abs=1e-5)
        prefix = f"{mode}.step{step}.grad."
        grads = {own(key.removeprefix(prefix)): REFERENCE[key] for key in REFERENCE if key.startswith(prefix)}
        trained = dict(method.named_parameters())
        assert grads.keys() == {name for name, parameter in trained.items() if parameter.requires_grad}
        for name, value in grads.items():
            torch.testing.assert_close(trained[name].grad, torch.from_numpy(value), rtol=0, atol=1e-4, msg=name)
        optimizer.step()
        method.after_step(clock)
        optimizer.zero_grad(set_to_none=True)
        state = method.state_dict()
        expected = published(f"{mode}.step{step + 1}.")
        assert state.keys() == expected.keys()
        for name, value in expected.items():
            np.testing.assert_allclose(state[name], value, rtol=0, atol=1e-4, err_msg=name)
