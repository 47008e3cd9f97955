"""Programs of torch and ONNX give the embeddings of the network that they were made of: a small one of every family."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from dinodiet.config.build import build
from dinodiet.errors import UserError
from dinodiet.run.export.programs import programs, quiet
from dinodiet.types import Backbone, DataSpec, InputSpec
from tests.backbones.hf.tiny import NAMES, built
from tests.contracts.choices import names, node, small_model

SPEC = DataSpec("photos", num_images=10, num_labels=2)
# One file a family: others differ in size alone. `hf` is tried with the tiny models of transformers.
FAMILIES = sorted({str(node("model", name).get("family")) for name in names("model")} - {"None"})
QUICK = {("vit", "torch"), ("vit_mae of transformers", "torch"), ("vit", "onnx")}
NETWORKS = (*FAMILIES, *(f"{name} of transformers" for name in NAMES))
CASES = [(network, target) for network in NETWORKS for target in ("torch", "onnx")]
# torch 2.6 cannot write BatchNorm as ONNX, and not what MambaVision does with the number of images.
REFUSED_BY_TORCH_26 = {
    ("mambavision", "torch"),
    *((name, "onnx") for name in ("mambavision", "convnextv2", "efficientnet_lite0", "mobilenetv2", "mobilevit")),
    *((name, "onnx") for name in ("resnet", "resnet5m", "resnet of transformers")),
}


def small(name: str) -> Any:
    """Return a small backbone with random weights that no cache of positions knows."""
    torch.manual_seed(0)
    tiny = name.removesuffix(" of transformers")
    return built(tiny) if tiny != name else build(small_model(name), "model", Backbone)(spec=SPEC)


def deviations(backbone: Any, target: str, folder: Path) -> Mapping[int, float]:
    """Return by number of images how far a program is off, as a part of the largest number of the embeddings."""
    side = backbone.input.size
    told = programs(backbone, backbone.input)[target]
    told.write(folder)
    with quiet():
        embed, found = told.read(folder), {}
    for number in (1, 3):
        images = torch.rand(number, 3, side, side, generator=torch.Generator().manual_seed(number))
        own = backbone(images)  # after it was traced: what that left behind would show here
        assert type(own) is torch.Tensor and own.isfinite().all()
        found[number] = float((own - embed(images)).abs().max() / own.abs().max())
    return found


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "target"),
    [pytest.param(*case, marks=() if case in QUICK else pytest.mark.nightly, id=" to ".join(case)) for case in CASES],
)
@torch.no_grad()
def test_a_program_gives_the_embeddings_of_its_network(tmp_path: Path, name: str, target: str) -> None:
    if target == "onnx":
        pytest.importorskip("onnxruntime")
    backbone = small(name).eval()
    if torch.__version__ < "2.7" and (name, target) in REFUSED_BY_TORCH_26:
        with pytest.raises(UserError, match=r"^export: torch 2\.6\S+ cannot make this model into a program"):
            deviations(backbone, target, tmp_path)
        return
    assert max(deviations(backbone, target, tmp_path).values()) <= {"torch": 1e-5, "onnx": 1e-4}[target]


class Counts(nn.Module):
    """A network that looks at how many images there are."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean(dim=(2, 3)) * len([*images])


def test_what_is_no_program_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^export: torch \S+ cannot make this model into a program \(torch\);"
    ) as found:
        programs(Counts(), InputSpec(8, (0.0,) * 3, (1.0,) * 3))["torch"].write(tmp_path)
    assert "\n" not in str(found.value)
