"""MAE: what the encoder sees, what the loss counts, and which backbones can do it."""

import functools
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dinodiet.backbones import timm_backbone
from dinodiet.config.build import build
from dinodiet.data.views import SingleView
from dinodiet.errors import UserError
from dinodiet.methods.mae import MAE
from dinodiet.methods.parts.decoder import Decoder
from dinodiet.methods.parts.patches import drawn
from dinodiet.types import Backbone, Batch, Clock, DataSpec
from tests.contracts.choices import names, small_model
from tests.kinds import networks_nightly
from tests.small import Encoder

CLOCK = Clock(50, 100, 10)
SPEC = DataSpec("test", num_images=8, num_labels=2, image_size=32)
DATA = Batch(
    torch.randint(256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)),
    None,
    torch.arange(3),
)
TRANSFORMERS = (
    "vit_tiny_patch16_224",
    "vit_small_patch14_reg4_dinov2",
    "vit_small_patch16_dinov3",
    "eva02_tiny_patch14_224",
)


def backbone(name: str = TRANSFORMERS[0], **settings: Any) -> Any:
    torch.manual_seed(0)
    small = {"depth": 2, "embed_dim": 24, "num_heads": 2}
    feature = settings.pop("feature", "mean_patch")
    return timm_backbone(
        SPEC, size="a", names={"a": name}, feature=feature, weights="none", patch_size=8, model_args=small, **settings
    )


def mae(encoder: Any = None, **settings: Any) -> MAE:
    head = functools.partial(Decoder, width=16, depth=1, heads=2)
    views = functools.partial(SingleView, strength=0)
    return MAE(encoder or backbone(), SPEC, views=views, head=head, **settings)


@pytest.mark.parametrize("name", TRANSFORMERS)
def test_hidden_patches_have_no_influence_and_no_gradient(name: str) -> None:
    encoder = backbone(name).train()
    visible = drawn(3, 16, 12, torch.Generator().manual_seed(0))[0]
    images = torch.rand(3, 3, 32, 32, requires_grad=True)
    tokens = encoder.visible_tokens(images, visible)
    assert tokens.shape == (3, encoder.token_layout().prefix + 4, 24)
    torch.autograd.backward(tokens.square().sum())
    assert images.grad is not None
    rows = images.grad.abs().sum(1).unflatten(2, (4, 8)).unflatten(1, (4, 8)).sum((2, 4)).flatten(1)
    seen = torch.zeros(3, 16, dtype=torch.bool).scatter(1, visible, True)
    assert (rows[~seen] == 0).all()
    assert (rows[seen] > 0).all()


@pytest.mark.parametrize("name", TRANSFORMERS)
@torch.no_grad()
def test_all_patches_visible_is_the_whole_network(name: str) -> None:
    encoder, images = backbone(name).eval(), torch.rand(3, 3, 32, 32)
    everything = torch.arange(16).expand(3, -1)
    tokens = encoder.visible_tokens(images, everything)
    found = encoder.tokens(images)
    torch.testing.assert_close(tokens[:, encoder.token_layout().prefix :], found.patches, atol=1e-6, rtol=0)
    turned = encoder.visible_tokens(images, everything.flip(1))  # each patch keeps its own position
    torch.testing.assert_close(turned[:, encoder.token_layout().prefix :].flip(1), found.patches, atol=1e-5, rtol=0)


def test_it_leaves_the_network_as_it_was() -> None:
    encoder = backbone()
    keys, usual = encoder.state_dict().keys(), encoder.model.patch_drop
    mae(encoder)(DATA, CLOCK)
    assert encoder.model.patch_drop is usual
    assert encoder.state_dict().keys() == keys


class Given(nn.Module):
    """Stands for a decoder that predicts this."""

    prefix = 1

    def __init__(self, pixels: Tensor) -> None:
        super().__init__()
        self.pixels = pixels

    def forward(self, tokens: Tensor, visible: Tensor, hidden: Tensor) -> Tensor:
        return self.pixels


def test_the_loss_is_that_of_normalised_hidden_patches() -> None:
    method = mae()
    method.head = Given(torch.zeros(3, 12, 192))  # type: ignore[assignment]
    logs = method(DATA, CLOCK)
    assert logs["loss"].item() == pytest.approx(191 / 192, abs=1e-5)  # noise has no flat patch
    assert logs["unexplained"].item() == pytest.approx(1)
    assert method.guessing() == {"unexplained": 1.0}


def test_masks_are_drawn_from_the_clock_in_training_and_in_evaluation() -> None:
    method = mae().eval()
    first = method(DATA, CLOCK)["loss"].item()
    assert method.train()(DATA, CLOCK)["loss"].item() == pytest.approx(first)
    assert method(DATA, CLOCK.at(51))["loss"].item() != first


@pytest.mark.parametrize("ratio", [0.01, 0.99])
def test_something_is_hidden_and_something_seen(ratio: float) -> None:
    seen = "0 of 16" if ratio < 0.5 else "15 of 16"
    if ratio < 0.5:
        with pytest.raises(UserError, match=rf"^method.mask_ratio: {ratio}: {seen} patches are hidden"):
            mae(mask_ratio=ratio)
    else:
        assert mae(mask_ratio=ratio)(DATA, CLOCK)["loss"].isfinite()


@pytest.mark.parametrize(
    "name", ["test_resnet", "test_convnext", "swin_tiny_patch4_window7_224", "beit_base_patch16_224"]
)
def test_networks_that_cannot_leave_patches_out_are_refused(name: str) -> None:
    with torch.device("meta"):
        other = timm_backbone(
            DataSpec("test", num_images=8, num_labels=2), size="a", names={"a": name}, feature="pooled", weights="none"
        )
        with pytest.raises(UserError, match=r"^method: MAE hides patches of a transformer"):
            mae(other)


def test_a_module_without_tokens_is_refused() -> None:
    with pytest.raises(UserError, match=r"^method: MAE hides patches of a transformer"):
        mae(Encoder())


@pytest.mark.parametrize("name", networks_nightly(names("model")))
def test_every_trained_part_of_every_model_has_a_gradient_or_the_model_is_refused(name: str) -> None:
    """A learned pooling would have none: it stands between the tokens and the embedding that is evaluated."""
    torch.manual_seed(0)
    other: Any = build(small_model(name), "model", Backbone)(spec=DataSpec("test", num_images=8, num_labels=2))
    pooled = getattr(getattr(other, "model", None), "attn_pool", None) is not None
    try:
        method = mae(other, trainable="all")
    except UserError as error:
        assert str(error).startswith("model.feature: MAE" if pooled else "method: MAE hides patches"), error
        return
    assert not pooled
    side = other.input.size
    data = Batch(torch.randint(256, (2, 3, side, side), dtype=torch.uint8), None, torch.arange(2))
    torch.autograd.backward(method(data, CLOCK)["loss"])
    without = [
        key for key, parameter in method.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    assert not without


def test_pooled_models_can_have_another_feature() -> None:
    node = {**small_model("siglip"), "feature": "mean_patch"}
    other: Any = build(node, "model", Backbone)(spec=DataSpec("test", num_images=8, num_labels=2))
    assert mae(other).backbone is other
