"""What every file of conf/method shows of its views: bit for bit what its networks get in a training's first step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dinodiet.run.parts import build_parts
from dinodiet.run.views import first_views, method_of
from dinodiet.types import ShownView
from tests.contracts.test_methods import METHODS, prepare, settings_for, trained
from tests.kinds import kinds_nightly

Seen = set[tuple[bytes, bytes]]  # pixels of an image, and which of its patches are hidden


def record(tower: nn.Module) -> Seen:
    """Return what will hold all images that a backbone is called with."""
    seen: Seen = set()

    def forward(images: Tensor, *more: Any) -> Any:
        seen.update(rows(images, None))
        return own["forward"](images, *more)

    def visible_tokens(images: Tensor, visible: Tensor) -> Any:
        patches = (images.shape[-1] // tower.token_layout().patch) ** 2  # type: ignore[operator]
        hidden = torch.ones(len(images), patches, dtype=torch.bool).scatter(1, visible, value=False)
        seen.update(rows(images, hidden))
        return own["visible_tokens"](images, visible)

    def embedding_and_patches(images: Tensor, covered: Tensor | None = None, token: Tensor | None = None) -> Any:
        seen.update(rows(images, covered))
        return own["embedding_and_patches"](images, covered, token)

    calls = {call.__name__: call for call in (forward, visible_tokens, embedding_and_patches)}
    own = {name: getattr(tower, name) for name in calls}
    for name, call in calls.items():
        setattr(tower, name, call)
    return seen


def rows(images: Tensor, hidden: Tensor | None) -> Seen:
    """Return images with what is hidden of each; nothing hidden is the same as no mask."""
    masks = [b""] * len(images) if hidden is None else [bytes(row.flatten().tolist()) for row in hidden]
    pixels = (image.numpy().tobytes() for image in images)
    return {(image, mask if any(mask) else b"") for image, mask in zip(pixels, masks, strict=True)}


def told(views: list[ShownView]) -> Seen:
    return {row for view in views for row in rows(view.images, view.hidden)}


MORE = (
    "diet method.mix.cutmix_alpha=1",
    "diet method.trunk.views=2 method.trunk.dtype=fp32 method.trainable=last_1_blocks",
)


@pytest.mark.parametrize("words", [*kinds_nightly("method", METHODS), *MORE])
def test_a_method_shows_what_the_first_step_of_its_training_sees(words: str, tmp_path: Path) -> None:
    chosen = settings_for(tmp_path, *words.split(), "views.images=16", "schedule.accumulate=2")
    parts = build_parts(chosen)
    with torch.no_grad():
        steps = list(first_views(chosen, parts.data, method_of(chosen, parts.data.spec), torch.device("cpu")))
    assert [len(batch) for batch, _ in steps] == [8, 8]
    shown = [view for _, views in steps for view in views]
    assert all(0 < len(view.name) <= 18 for view in shown)
    assert all(view.images.min() >= -1e-5 and view.images.max() <= 1 + 1e-5 for view in shown)
    if not parts.method.reads_images:
        assert_kept(parts, steps)
        return
    seen = record(parts.method.towers()[0])
    trained(parts, 1)
    assert seen <= told(shown)
    mixed = any(view.name.startswith("mixed") for view in shown)
    networks = [view for view in shown if view.name != "view" or not (mixed or view.hidden is not None)]
    assert {pixels for pixels, _ in told(networks)} >= {pixels for pixels, _ in seen}


def assert_kept(parts: Any, steps: Any) -> None:
    """Hold what was computed of views before the training against what it computes of those that are shown."""
    prepare(parts)
    for part, (batch, (view,)) in enumerate(steps):
        with torch.no_grad():
            (made,) = parts.method.trunk.split.trunk(view.images)
        (drawn,) = parts.method.trunk.draw(batch.index, parts.state.clock)
        torch.testing.assert_close(drawn, made, msg=f"part {part}")
