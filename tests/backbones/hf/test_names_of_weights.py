"""Weights under the names of Hugging Face, timm and the publisher give one embedding, by timm and by transformers."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from dinodiet.backbones import TimmBackbone, timm_backbone

from .tiny import FOLDERS, SPEC, images_of, reference, tiny

SMALL = {"embed_dim": 24, "depth": 2, "num_heads": 2, "mlp_ratio": 2.0}
TIMM = {"dinov2": "vit_small_patch14_dinov2.lvd142m", "dinov2_with_registers": "vit_small_patch14_reg4_dinov2.lvd142m"}


def by_timm(kind: str, weights: Path) -> TimmBackbone:
    names: dict[str, str | None] = {"small": TIMM[kind]}
    return timm_backbone(
        SPEC,
        size="small",
        names=names,
        feature="cls",
        weights=str(weights),
        image_size=28,
        patch_size=7,
        model_args=SMALL,
    ).eval()


def written(kind: str, scheme: str, folder: Path) -> Path:
    """Return the reference's weights under the names of a scheme."""
    ours = FOLDERS / kind / "model.safetensors"
    if scheme == "Hugging Face":
        return ours
    state = {key: value.clone() for key, value in by_timm(kind, ours).model.state_dict().items()}
    if scheme == "official":
        state |= official(kind, load_file(ours), state)
    save_file(state, folder / "other.safetensors")
    return folder / "other.safetensors"


def official(kind: str, theirs: dict[str, Tensor], state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return what the publisher's file has in another form than timm's."""
    masked = {"mask_token": theirs["embeddings.mask_token"]}
    if kind == "dinov2":
        return masked
    registers = {"register_tokens": state.pop("reg_token"), "cls_token": theirs["embeddings.cls_token"]}
    return masked | registers | {"pos_embed": theirs["embeddings.position_embeddings"]}


@pytest.mark.parametrize("scheme", ["Hugging Face", "timm", "official"])
@pytest.mark.parametrize("kind", TIMM)
def test_one_dinov2_has_one_embedding(kind: str, scheme: str, tmp_path: Path) -> None:
    path, arrays = written(kind, scheme, tmp_path), reference(kind)
    for backbone in (by_timm(kind, path), tiny(kind, weights=str(path))):
        with torch.no_grad():
            found = backbone(images_of(backbone, arrays["pixel_values"]))  # type: ignore[arg-type]
        torch.testing.assert_close(found, arrays["pooler_output"], rtol=0, atol=1e-5)


@pytest.mark.slow
def test_below_a_prefix_too(tmp_path: Path) -> None:
    state = load_file(written("dinov2", "timm", tmp_path))
    torch.save({"teacher": {f"backbone.{key}": value for key, value in state.items()}}, tmp_path / "run.pth")
    found = tiny("dinov2", weights=str(tmp_path / "run.pth"))
    assert "teacher.backbone" in found.description.details["weights"]
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), tiny("dinov2").parameters(), strict=True))
