"""Programs that any backbone can become: torch's, and ONNX. Both normalise their images themselves."""

from __future__ import annotations

import importlib.util
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dinodiet.errors import UserError, one_line
from dinodiet.types import Embed, ExportTarget, InputSpec

WEIGHTS, PROGRAM, ONNX = "model.safetensors", "model.pt2", "model.onnx"
ONE_FILE = 2**31 - 2**24  # bytes that a message of protobuf holds, with room for the graph
OPSET = 18  # what torch writes from 2.6 on without a conversion, which onnxscript cannot always do
PACKAGES = ("onnx", "onnxscript", "onnxruntime")


def programs(backbone: nn.Module, input: InputSpec) -> Mapping[str, ExportTarget]:
    """Return the targets that any backbone has; it lies on the CPU."""
    takes = f"images (batch, 3, {input.size}, {input.size}), float32 in 0..1, RGB; they are normalised inside"
    pixels = _pixels(input)
    return {
        "torch": ExportTarget(
            write=lambda folder: _write_torch(backbone, input, folder),
            read=_read_torch,
            usage=f'{pixels}embedding = torch.export.load("{PROGRAM}").module()(images)',
            library="pytorch",
            takes=takes,
        ),
        "onnx": ExportTarget(
            write=lambda folder: _write_onnx(backbone, input, folder),
            read=_read_onnx,
            usage=f"import onnxruntime\n{pixels}"
            f'session = onnxruntime.InferenceSession("{ONNX}")\n'
            'embedding = session.run(None, {"images": images.numpy()})[0]',
            library="onnx",
            takes=takes,
            tolerance=1e-4,
        ),
    }


def _pixels(input: InputSpec) -> str:
    """Return lines of Python that make `images` of a file as evaluation does."""
    shorter, mode = round(input.size / input.crop_fraction), input.interpolation.upper()
    return (
        "import torch\n"
        "from PIL import Image\n"
        "from torchvision.transforms.v2 import InterpolationMode, functional as F\n\n"
        'pixels = F.to_dtype(F.pil_to_tensor(Image.open("image.jpg").convert("RGB")), torch.float32, scale=True)\n'
        f"resized = F.resize(pixels, [{shorter}], InterpolationMode.{mode}, antialias=True)\n"
        f"images = F.center_crop(resized, [{input.size}]).clamp(0, 1)[None]\n"
    )


def _write_torch(backbone: nn.Module, input: InputSpec, folder: Path) -> None:
    state = {name: tensor.detach().contiguous() for name, tensor in backbone.state_dict().items()}
    save_file(state, folder / WEIGHTS, {"format": "pt"})
    with _tracing("torch"):
        torch.export.save(_program(backbone, input), folder / PROGRAM)


def _program(backbone: nn.Module, input: InputSpec) -> Any:
    """Return a backbone as a program for any number of images."""
    # Not strict, the default from torch 2.7 on: 2.6 would read the Python of transformers, and fails.
    return torch.export.export(backbone, (_example(input),), dynamic_shapes=[_batches()], strict=False)


def _example(input: InputSpec) -> Tensor:
    return torch.zeros(2, 3, input.size, input.size)  # of one image, torch would take the one for a constant


def _batches() -> dict[int, Any]:
    return {0: torch.export.Dim("batch", max=2**31 - 1)}  # torch 2.6 asks for an end


def _read_torch(folder: Path) -> Embed:
    embed: Embed = torch.export.load(folder / PROGRAM).module()
    return embed


def _write_onnx(backbone: nn.Module, input: InputSpec, folder: Path) -> None:
    if missing := [name for name in PACKAGES if importlib.util.find_spec(name) is None]:
        raise UserError(f"export: onnx needs {', '.join(missing)}; pip install 'dinodiet[onnx]'")
    size = sum(tensor.numel() * tensor.element_size() for tensor in backbone.state_dict().values())
    with _tracing("onnx"):
        torch.onnx.export(
            backbone,
            (_example(input),),
            folder / ONNX,
            dynamo=True,
            opset_version=OPSET,
            dynamic_shapes=[_batches()],
            input_names=["images"],
            output_names=["embeddings"],
            external_data=size > ONE_FILE,
            verbose=False,
        )


def _read_onnx(folder: Path) -> Embed:
    import onnxruntime  # noqa: PLC0415 - of an extra

    session = onnxruntime.InferenceSession(str(folder / ONNX), providers=["CPUExecutionProvider"])
    run: Callable[..., Any] = session.run
    return lambda images: torch.from_numpy(run(None, {"images": images.numpy()})[0])


@contextmanager
def quiet() -> Iterator[None]:
    """Keep torch and onnxscript from saying how they trace and load; what goes wrong, they raise."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


@contextmanager
def _tracing(target: str) -> Iterator[None]:
    """Tell in one line what of a backbone cannot be made into a program.

    Raises:
        UserError: something cannot.
    """
    try:
        with quiet(), torch.no_grad():
            yield
    except (UserError, OSError, MemoryError):
        raise
    except Exception as error:  # torch has many kinds for this, and its operators any
        told = f"torch {torch.__version__} cannot make this model into a program ({target}); a newer one may"
        raise UserError(f"export: {told}: {one_line(_first(error))}") from error


def _first(error: BaseException) -> BaseException:
    """Return the error that caused an error: what torch wraps around it is advice for its own developers."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error
