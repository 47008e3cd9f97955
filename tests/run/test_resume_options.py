"""k steps, a kill, and k more are 2k steps, bit for bit: with every option that trains differently or keeps state."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.choices import SMALL_TEACHER
from tests.kinds import rest_nightly
from tests.running import CHOICES, composed, killed_after, run, scores

HALF = 4  # of 8 steps
COMMON = ("schedule.epochs=2", "checkpoint_minutes=0", "eval.every_epochs=1", "model.drop_path=0.2")
DIET = {
    "mixed, projected, clipped, in parts": (
        *("method.mix.mixup_alpha=0.5", "method.mix.cutmix_alpha=0.5", "method.head.projection_dim=8"),
        *("schedule.clip_grad=0.1", "schedule.accumulate=2", "grad_checkpointing=true"),
    ),
    "random classes, all blocks, bf16, an optimiser with momentum": (
        *("method.targets.num_classes=8", "method.trainable=all", "precision=bf16"),
        *("schedule.optimizer._target_=torch.optim.SGD", "+schedule.optimizer.momentum=0.9"),
    ),
    "a probe with a schedule": ("method=diet_dual",),
    "trunk cache with noise, head first": (
        *("method.trunk.views=2", "method.trainable=last_1_blocks", "method.head.warmup_fraction=0.75"),
        *("method.trunk.dtype=fp32", "method.trunk.noise=0.3"),
    ),
    "schedules that follow one another": (
        *('schedule.lr="cat(linear(0,1e-3,2st),exp(1e-3,1e-4,50%),multistep(1e-4,0.5,1st))"',),
        *('schedule.weight_decay="cosine(0.04,0.4)"', "schedule.lr_reference_batch=null"),
    ),
    "adapters and the last block, head first, computed again": (
        *("method.trainable=lora_2+last_1_block", "method.head.warmup_fraction=0.25", "grad_checkpointing=true"),
    ),
}
SMALL_HEAD = ("method=dino", "method.head.hidden_dims=[32,32]", "method.head.out_dim=64", "schedule.batch_size=16")
DINO = {
    "clipped, in parts": ("schedule.accumulate=2", "schedule.clip_grad=0.1", "method.student.drop_path=0.2"),
    "batch norm, free norms, frozen last layer, bf16": (
        *("method.head.use_bn=true", "method.head.norm_last_layer=false", "method.head.freeze_steps=6"),
        *("precision=bf16", "grad_checkpointing=true"),
    ),
    "a random teacher, a student near it": (
        *("method.teacher.start.init=random", "method.student.init=neighbourhood", "method.student.epsilon=0.1"),
    ),
    "adapters, bf16": ("method.trainable=lora_2", "method.student.drop_path=0.2", "precision=bf16"),
    "patches with a head of their own": ("method=dino_ibot", "method.patches.ibot.own_head=true"),
    "patches with an anchor that moves": ("method=dino_gram", "method.patches.gram.refresh_steps=3"),
    "a teacher by epoch that evaluates, both centred, KL of all pairs": (
        *("method.teacher.update=epoch", "method.teacher.mode=eval", "method.loss.kind=kl", "method.loss.pairs=all"),
        "method.loss.student_center_momentum=0.8",
    ),
    "a still teacher, squared distances of a view and itself, no centre": (
        *("method.teacher.update=none", "method.loss.kind=mse", "method.loss.pairs=same"),
        *("method.loss.center_momentum=null", "method.loss.teacher_temp=1.0", "eval.towers=both"),
    ),
    "labels, some drawn once": ("method=dino_labels", "method.head.out_dim=labels", "method.loss.targets.noise=0.3"),
    "labels drawn anew, in parts": (
        *("method=dino_labels", "method.head.out_dim=labels", "method.loss.targets.noise=0.3"),
        *("method.loss.targets.resample=true", "schedule.accumulate=2"),
    ),
    "random targets": ("method=dino_random_targets",),
    "pictures and crops augmented by name": (
        *("method.views.crops=2x32", "method.views.augs=padcrop_dino", "method.views.per_crop_augs=[dino,hflip]"),
    ),
    "the whole picture as its only view": (
        *("method.views.crops=1x32", "method.views.augs=hflip_padcrop", "method.loss.pairs=same"),
    ),
    "the last block, head first": ("method.trainable=last_1_blocks", "method.head.warmup_fraction=0.75"),
}
TEACHER = ("method=distill", *SMALL_TEACHER)
DISTILL = {
    "a teacher, labels, a map, mixed": (
        *TEACHER,
        *("method.label_weight=0.5", "method.match.kind=linear", "method.mix.mixup_alpha=0.5"),
    ),
    "a teacher whose features are known, in parts": (
        *TEACHER,
        *("method.views.strength=0", "method.views.crop_scale=null", "schedule.accumulate=2"),
    ),
}
QUICK = ("mixed, projected, clipped, in parts", "trunk cache with noise, head first", "adapters, bf16")
OPTIONS = DIET | DISTILL | {name: (*SMALL_HEAD, *words) for name, words in DINO.items()}


@pytest.mark.slow
@pytest.mark.parametrize("name", rest_nightly(OPTIONS, QUICK))
def test_a_killed_run_goes_on_to_the_same_numbers(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    words = (*COMMON, *OPTIONS[name])
    choices = {**CHOICES, "method": next((w.removeprefix("method=") for w in words if w.startswith("method=")), "diet")}
    undisturbed = run(composed(tmp_path / "whole", *words), choices)
    assert undisturbed["initial"] != undisturbed["final"]
    cfg = composed(tmp_path / "killed", *words)
    with killed_after(HALF, monkeypatch):
        run(cfg, choices)
    capsys.readouterr()
    assert scores(run(cfg, choices)) == scores(undisturbed)
    assert f"continuing from step {HALF} of {2 * HALF}" in capsys.readouterr().out
