"""The choices that `conf/` offers, and their nodes as a run composes them: a new file is tested when it appears."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from hydra import compose, initialize_config_dir
from hydra.core.config_store import ConfigStore
from omegaconf import DictConfig, OmegaConf

from dinodiet.config.schema import RunConfig
from dinodiet.config.settings import Settings, settings_of
from tests.places import CONF, REFERENCES
from tests.running import TINY, composed

# A small member of each family of models, where the file's own is large: changes of its node.
_VIT = {"depth": 3, "embed_dim": 48, "num_heads": 3}
_DINOV2 = {"hidden_size": 48, "num_hidden_layers": 3, "num_attention_heads": 3}
_CONVNEXT = {"depths": [1, 1, 1, 1], "dims": [8, 16, 24, 32]}
_SWIN = {"embed_dim": 12, "depths": [2, 2], "num_heads": [1, 2], "window_size": 4}
SMALL: dict[str, dict[str, Any]] = {
    "aim": {"image_size": 42, "probe_layers": [0, 1, 3], "model_args": {"embed_dim": 32, "depth": 4, "num_heads": 2}},
    "aimv2": {"image_size": 42, "model_args": _VIT},
    "dino": {"image_size": 32, "model_args": _VIT},
    "dinov2": {"image_size": 42, "size": "small_reg", "model_args": _VIT},
    "dinov3": {"image_size": 32, "model_args": {**_VIT, "num_heads": 2}},
    "dinov3_convnext": {"image_size": 64, "model_args": _CONVNEXT},
    "ijepa": {"image_size": 42, "model_args": _VIT},
    "mae": {"image_size": 32, "model_args": _VIT},
    "mambavision": {
        "image_size": 40,
        "model_args": {
            **{"depths": [1, 1, 3, 2], "num_heads": [1, 2, 4, 8], "window_size": [8, 8, 4, 2], "dim": 8, "in_dim": 4}
        },
    },
    "vit": {"image_size": 32, "model_args": _VIT},
    "clip": {"image_size": 32, "model_args": _VIT},
    "siglip": {"image_size": 32, "model_args": {**_VIT, "act_layer": "gelu_tanh"}},
    "siglip2": {"image_size": 32, "model_args": {**_VIT, "act_layer": "gelu_tanh"}},
    "deit3": {"image_size": 32, "model_args": _VIT},
    "beit": {"image_size": 32, "model_args": _VIT},
    "eva02": {"image_size": 42, "model_args": {**_VIT, "num_heads": 2}},
    "pe": {"image_size": 32, "model_args": {**_VIT, "num_heads": 2}},
    "swin": {"image_size": 32, "model_args": {**_SWIN, "strict_img_size": False}},
    "swinv2": {"image_size": 32, "model_args": {**_SWIN, "strict_img_size": False}},
    "convnext": {"image_size": 64, "model_args": _CONVNEXT},
    "convnextv2": {"image_size": 64, "model_args": _CONVNEXT},
    "efficientnet_lite0": {"image_size": 64},
    "resnet5m": {"image_size": 64},
    "resnet_tiny": {"image_size": 32, "size": "20"},
    "convnet": {"image_size": 32, "size": "16_x3"},
    "vgg": {"image_size": 32},
    "mlp": {"image_size": 32, "size": "512_3"},
    "pixels": {"image_size": 32},
    "mobilenetv2": {"image_size": 64, "size": "035"},
    "mobilevit": {"image_size": 64, "size": "xxs"},
    "resnet": {"image_size": 64, "size": "18"},
    "hf": {"name": str(REFERENCES / "hf_tiny" / "vit")},
    "rad_dino": {"image_size": 42, "configs": {"base": {"model_type": "dinov2", **_DINOV2}}},
    "phikon": {"image_size": 32, "configs": {"v1": {"model_type": "vit", **_DINOV2, "intermediate_size": 96}}},
    "webssl_dino": {"image_size": 28, "configs": {"300m": {"model_type": "dinov2", **_DINOV2}}},
}
CLASSIFYING = ("model@method.teacher.model=efficientnet_lite0", "method.teacher.model.image_size=32")  # has ImageNet's
# Words that say who teaches, in runs of methods that have a teacher of their own: a small one, whose weights are here.
SMALL_TEACHER = ("model@method.teacher.model=hf", f"method.teacher.model.name={REFERENCES / 'hf_tiny' / 'vit'}")


def names(group: str) -> list[str]:
    """Return the choices of a group."""
    return sorted(path.stem for path in (CONF / group).glob("[!_]*.yaml"))


def node(group: str, name: str) -> dict[str, Any]:
    """Return the content of one file, its defaults merged, as plain values; interpolations are left as they are."""
    plain: Any = OmegaConf.to_container(_file(group, name))
    for key in group.split("/"):
        plain = plain[key]
    return dict(plain)


@functools.cache
def _file(group: str, name: str) -> DictConfig:
    ConfigStore.instance().store("schema", RunConfig)
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose(f"{group}/{name}")


def small_model(name: str) -> dict[str, Any]:
    """Return the node of a model without weights, as small as it comes."""
    found = node("model", name)
    return {**found, "weights": "none", **SMALL.get(str(found.get("family") or name), {})}


def configuration(*overrides: str, base: Sequence[str] = TINY) -> DictConfig:
    """Return the configuration of a run, a tiny one unless `base` says otherwise, to be changed freely."""
    return composed(Path("unused"), *overrides, base=base)


def taught(method: str) -> tuple[str, ...]:
    """Return the words that a run of a method needs besides its name."""
    teacher = configuration(f"method={method}").method.get("teacher", {})
    if "model" not in teacher:
        return ()
    return CLASSIFYING if teacher["_target_"].endswith("ClassifyingTeacher") else SMALL_TEACHER


def settings(folder: Path, *overrides: str, base: Sequence[str] = TINY, **choices: str) -> Settings:
    """Return the settings of a tiny run that writes below `folder`."""
    cfg = configuration(*overrides, base=base)
    cfg.outputs_dir = str(folder)
    chosen = dict(word.split("=", 1) for word in (*base, *overrides) if "." not in word.split("=")[0])
    return settings_of(cfg, {**chosen, **choices})


def nodes(value: Any, key: str) -> Iterator[tuple[dict[str, Any], str]]:
    """Yield every node with a `_target_` of this package, below and with `value`, and its key."""
    if isinstance(value, dict):
        for name, item in value.items():
            yield from nodes(item, f"{key}.{name}" if key else str(name))
        if str(value.get("_target_")).startswith("dinodiet."):
            yield value, key
