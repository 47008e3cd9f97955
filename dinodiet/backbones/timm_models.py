"""Models of timm by their names: found, built, and seen to take images of a size before weights are fetched."""

from __future__ import annotations

import difflib
import functools
import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import timm
import torch
from timm.models import PretrainedCfg, get_pretrained_cfg, is_model, model_entrypoint
from torch import Tensor

from dinodiet.backbones.meta import on_meta
from dinodiet.backbones.weights.files import first_line
from dinodiet.backbones.weights.released import released_name
from dinodiet.backbones.without_values import refusing_empty
from dinodiet.config.describe import describe, shown
from dinodiet.config.fits import fits, is_plain
from dinodiet.config.signature import hints_of_callable
from dinodiet.errors import UserError

Feature = Literal["cls", "mean_patch", "pooled", "map"]
# Arguments of timm.create_model that are no network's.
OWN = ("num_classes", "pretrained", "pretrained_cfg", "pretrained_cfg_overlay", "checkpoint_path", "cache_dir")
LARGEST = 2**14  # of any width, depth or size

# Their transformers can take several input sizes.
_ANY_SIZE = ("timm.models.vision_transformer", "timm.models.deit", "timm.models.eva")


def find_model(size: str, names: Mapping[str, str | None]) -> tuple[str, PretrainedCfg]:
    """Return timm's name of a size, and the configuration of its weights.

    Raises:
        NotReleased: there are no weights of this size.
        UserError: there is no such size, or no such model in the installed timm.
    """
    name = released_name(size, names)
    try:
        cfg = get_pretrained_cfg(name) if is_model(name) else None
    except RuntimeError:  # the model exists, but not with this tag of weights
        cfg = None
    if cfg is None:
        raise UserError(f"names.{size}: timm {timm.__version__} has no {name!r}{_closest(name)}")
    return name, cfg


def _closest(name: str) -> str:
    """Return the names that were perhaps meant: tags of weights where the model exists, else models."""
    model = name.partition(".")[0]
    if is_model(model):
        known = timm.list_pretrained(f"{model}.*") or [model]
    else:
        known = difflib.get_close_matches(model, timm.list_models(), n=5)
    return f"; choose from: {', '.join(known)}" if known else "; timm.list_models() names those that it has"


def takes_any_size(name: str) -> bool:
    """Return whether a model can be built to take images of several sizes."""
    return model_entrypoint(name).__module__ in _ANY_SIZE


def create(name: str, args: Mapping[str, Any]) -> Any:
    """Return a model without its classifier, and without weights.

    Raises:
        UserError: it refuses the arguments, or needs a package that is not installed.
    """
    if args.get("in_chans", 3) != 3:
        raise UserError(f"model_args.in_chans: {args['in_chans']}; images have 3 channels, gray ones too")
    if own := [key for key in args if key in OWN]:
        raise UserError(
            f"model_args.{own[0]}: leave it out; weights are chosen by model.weights, and have no classifier"
        )
    for key, value in args.items():
        if isinstance(value, int) and value > LARGEST:  # building so much takes hours
            raise UserError(f"model_args.{key}: {value}; must be at most {LARGEST}")
    try:
        model = _made(name, args)
    except ImportError as error:
        raise UserError(f"names: {name} needs a package that is not installed ({first_line(error)})") from error
    except Exception as error:  # a wrong name is a TypeError, a wrong value anything
        given = f"{name} refuses {', '.join(args)}" if args else f"timm cannot build {name}"
        raise UserError(f"{_refused(args, error)}: {given}: {first_line(error) or type(error).__name__}") from error
    _check_types(model, args)
    return model


def _made(name: str, args: Mapping[str, Any]) -> Any:
    """Return a model; RegNets compute their widths by what the meta device of torch 2.6 cannot do, and the CPU can."""
    try:
        return timm.create_model(name, num_classes=0, **args)
    except NotImplementedError:
        if not on_meta():
            raise
    with torch.device("cpu"):
        return timm.create_model(name, num_classes=0, **args).to("meta")


def _check_types(model: Any, args: Mapping[str, Any]) -> None:
    """Refuse values of another type than the network's class says, which timm itself does not: true is not 1."""
    hints = hints_of_callable(type(model))
    for name, value in args.items():
        if is_plain(hint := hints.get(name, Any)) and not fits(value, hint):
            raise UserError(f"model_args.{name}: {shown(value)}; must be {describe(hint)}")


def _refused(args: Mapping[str, Any], error: Exception) -> str:
    """Return the key of the argument that an error names."""
    own = {"img_size": "image_size", "patch_size": "patch_size"}
    return next((key for arg, key in own.items() if arg in args and f"'{arg}'" in str(error)), "model_args")


def choose(feature: Feature, model: Any, name: str) -> None:
    """See that a model has a feature, and leave out the attention pooling that it may not depend on.

    Raises:
        UserError: it has not.
    """
    choices = ["pooled"]
    if hasattr(model, "num_prefix_tokens"):
        tokens = ["cls"] if getattr(model, "cls_token", None) is not None else []
        learned = ["map"] if getattr(model, "attn_pool", None) is not None else []
        choices = [*tokens, "mean_patch", *learned, "pooled"]
    if feature not in choices:
        raise UserError(f"feature: {feature!r} does not exist for {name}; choose from: {', '.join(choices)}")
    if feature in ("cls", "mean_patch") and getattr(model, "attn_pool", None) is not None:
        model.attn_pool = None  # else it would be trained without gradients


def embed_dim(model: Any, feature: Feature) -> int:
    """Return the width of the embeddings."""
    return int(model.head_hidden_size if feature in ("pooled", "map") else model.num_features)


def embed(model: Any, feature: Feature, images: Tensor) -> Tensor:
    """Return the embeddings (B, embed_dim) of normalised images; `feature` is as in `TimmBackbone`."""
    if feature in ("pooled", "map"):
        embeddings: Tensor = model(images)
        return embeddings
    return read_out(model, feature, model.forward_features(images))


def read_out(model: Any, feature: Feature, tokens: Tensor) -> Tensor:
    """Return the embeddings (B, embed_dim) from what `forward_features` gives, (B, T, D) of a transformer."""
    embeddings: Tensor
    if feature in ("pooled", "map"):
        embeddings = model.forward_head(tokens, pre_logits=True)
        return embeddings
    chosen = tokens[:, 0] if feature == "cls" else tokens[:, model.num_prefix_tokens :].mean(dim=1)
    final_norm = getattr(model, "fc_norm", None)  # of models that timm pools before it, else identity
    embeddings = chosen if final_norm is None else final_norm(chosen)
    return embeddings


def check_takes(name: str, args: Mapping[str, Any], feature: Feature, side: int, own: int, whose: str = "") -> None:
    """See that a model makes one embedding of an image of `side` pixels; `own` is what it was made for.

    Raises:
        UserError: it takes no images of this size, with the nearest that it does take; or it makes something else.
    """
    fault = _fault(name, json.dumps(args), feature, side)
    if fault is None:
        return
    near = _near(name, args, feature, side, own)
    if near:
        raise UserError(f"image_size: {side}{whose}, which {name} does not take; nearest: {', '.join(map(str, near))}")
    key = "names" if feature == "pooled" else f"feature: {feature!r}"
    raise UserError(f"{key}: {name} gives no embedding of an image of {side} pixels: {fault}")


def _near(name: str, args: Mapping[str, Any], feature: Feature, side: int, own: int) -> list[int]:
    """Return the nearest sizes on both sides that a model takes."""

    def takes(other: int) -> bool:
        changed = {**args, "img_size": other} if "img_size" in args else args
        return _fault(name, json.dumps(changed), feature, other) is None

    sides = {own, *_multiples(side)} - {side}
    below = next(filter(takes, sorted((other for other in sides if 0 < other < side), reverse=True)), None)
    above = next(filter(takes, sorted(other for other in sides if other > side)), None)
    return [other for other in (below, above) if other is not None]


def _multiples(side: int) -> Iterator[int]:
    for step, reach in ((8, 1), (16, 1), (32, 3)):
        first = side // step
        yield from (step * number for number in range(first - reach, first + reach + 1))


def divisor_of_crops(name: str, args: Mapping[str, Any], feature: Feature, side: int, least: int) -> int:
    """Return what the sides of smaller crops are multiples of: `least`, or `side` where the model takes no other."""
    smaller = {max(1, round(side * part / step)) * step for part in (96 / 224, 0.5) for step in (least, 32)}
    given = json.dumps(args)
    takes = any(_fault(name, given, feature, crop) is None for crop in sorted(smaller) if crop < side)
    return least if takes else side


@functools.cache
def _fault(name: str, args: str, feature: Feature, side: int) -> str | None:
    """Return why a model makes no embedding of an image of `side` pixels, in one line; None: it does.

    It is built without values. What only real values tell is not seen.
    """
    with torch.device("meta"), torch.no_grad(), refusing_empty():
        try:
            model = _without_values(name, args)
            found: Any = embed(model, feature, torch.empty(1, 3, side, side))
        except NotImplementedError:  # a value was asked for
            return None
        except Exception as error:
            return first_line(error) or type(error).__name__
    if not isinstance(found, Tensor):
        return f"it returns a {type(found).__name__}"
    dim = embed_dim(model, feature)
    return None if found.shape == (1, dim) else f"it returns {tuple(found.shape)} and not (1, {dim})"


@functools.lru_cache(maxsize=2)
def _without_values(name: str, args: str) -> Any:
    with torch.random.fork_rng(devices=[]):
        return create(name, json.loads(args)).eval()
