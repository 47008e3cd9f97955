"""Four whole training steps of the published code: losses, gradients, weights, statistics and centre after each."""

import json
from functools import partial

import numpy as np
import torch
from safetensors.torch import load_file
from torch import Tensor

from dinodiet.methods.dino import DINO
from dinodiet.methods.parts.heads import DINOHead
from dinodiet.methods.parts.losses import Distillation
from dinodiet.methods.parts.teacher import Teacher
from dinodiet.schedules import Cosine, Linear, at
from dinodiet.training.optim import clip_per_tensor_
from dinodiet.types import Clock
from tests.places import REFERENCES
from tests.small import SPEC, Encoder, FixedViews, batch

REFERENCE = np.load(REFERENCES / "dino_train.npz")
STATES = load_file(REFERENCES / "dino_train.safetensors")
SETTINGS = json.loads(str(REFERENCE["settings_json"]))


def published(step: int) -> dict[str, Tensor]:
    """Return the state before a step under this package's names."""
    prefix = f"step{step}."
    state = {key.removeprefix(prefix): value for key, value in STATES.items() if key.startswith(prefix)}
    state["loss.center"] = state.pop("center")
    return {key.removeprefix("student."): value for key, value in state.items()}


def build(views: FixedViews) -> DINO:
    epochs = SETTINGS["warmup_teacher_temp_epochs"]
    temp = Linear(SETTINGS["warmup_teacher_temp"], SETTINGS["teacher_temp"], epochs=epochs, per="epoch")
    method = DINO(
        Encoder(),
        SPEC,
        views=lambda input: views,
        head=partial(
            DINOHead,
            out_dim=SETTINGS["head_out"],
            hidden_dims=[SETTINGS["head_hidden"]] * 2,
            bottleneck_dim=SETTINGS["head_bottleneck"],
            freeze_epochs=SETTINGS["freeze_last_layer"],
        ),
        loss=partial(Distillation, teacher_temp=temp),
        teacher=partial(Teacher, momentum=Cosine(value=SETTINGS["momentum_teacher"], final=1.0)),
    )
    method.load_state_dict(published(0))
    method.train()
    return method


def crops(step: int) -> list[Tensor]:
    return [torch.from_numpy(view) for key in ("global_crops", "local_crops") for view in REFERENCE[key][step]]


def test_four_training_steps_are_the_published_ones() -> None:
    views = FixedViews(Encoder().input)
    method = build(views)
    optimizer = torch.optim.AdamW([group.as_dict() for group in method.param_groups()])
    lr = Cosine(value=SETTINGS["lr"], final=SETTINGS["min_lr"], warmup_epochs=SETTINGS["warmup_epochs"])
    weight_decay = Cosine(value=SETTINGS["weight_decay"], final=SETTINGS["weight_decay_end"])
    names = json.loads(str(REFERENCE["grad_norm_names_json"]))
    steps = SETTINGS["steps_per_epoch"]
    for step in range(SETTINGS["epochs"] * steps):
        clock = Clock(step, SETTINGS["epochs"] * steps, steps)
        views.crops = crops(step)
        for group in optimizer.param_groups:
            group["lr"], group["weight_decay"] = lr(clock), weight_decay(clock) * group["weight_decay_scale"]
        loss = method(batch(), clock)["loss"]
        torch.autograd.backward(loss)
        trained = {name: parameter.grad for name, parameter in method.named_parameters() if parameter.grad is not None}
        norms = [trained[name].norm().item() for name in names]
        clip_per_tensor_(
            (parameter for group in method.param_groups() for parameter in group.params), SETTINGS["clip_grad"]
        )
        method.before_step(clock)
        optimizer.step()
        method.after_step(clock)
        optimizer.zero_grad(set_to_none=True)

        assert abs(loss.item() - REFERENCE["losses"][step]) < 1e-4
        assert lr(clock) == REFERENCE["lr"][step]
        np.testing.assert_allclose(at(method.teacher.momentum, clock), REFERENCE["momentum"][step], rtol=1e-12)
        np.testing.assert_allclose(norms, REFERENCE["grad_norms_before_clip"][step], rtol=1e-4, atol=1e-5)
        state = method.state_dict()
        assert state.keys() == published(step + 1).keys()
        for name, value in published(step + 1).items():
            np.testing.assert_allclose(state[name], value, rtol=0, atol=1e-4, err_msg=name)
