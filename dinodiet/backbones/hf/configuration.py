"""The configuration of a model of transformers: read, checked, and turned into the class that it is of.

No code of a repository is ever run: only classes of the installed library are used.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import transformers
from transformers.models.auto.configuration_auto import CONFIG_MAPPING
from transformers.models.auto.modeling_auto import MODEL_MAPPING

from dinodiet.backbones.weights.files import first_line
from dinodiet.errors import UserError

_NO_ARCHITECTURE: tuple[str, ...] = ("transformers_version", "dtype", "torch_dtype", "architectures", "_name_or_path")
_NO_ARCHITECTURE += ("id2label", "label2id")
_LARGEST = 2**20  # of any number in it: what is larger describes no network that a machine could hold


@dataclass(frozen=True)
class Architecture:
    """A vision encoder of transformers: its class and its configuration."""

    cls: Any
    config: Any

    @property
    def type(self) -> str:
        """Return the name of its kind in transformers, such as `dinov2`."""
        return str(self.config.model_type)

    def on_meta(self) -> Any:
        """Return the model without values.

        Raises:
            UserError: its configuration makes no network.
        """
        try:
            with torch.device("meta"), torch.random.fork_rng(devices=[]):
                return self.cls(self.config).eval()
        except Exception as error:  # of whatever class a wrong value raises
            raise UserError(
                f"name: transformers cannot build {self.type} from its config.json ({first_line(error)})"
            ) from error


def architecture(facts: Mapping[str, Any], whose: str) -> Architecture:
    """Return the vision encoder that a `config.json` describes: of a model of images and text its vision tower.

    Raises:
        UserError: it asks for code of its own, is of no kind that the installed transformers has, or takes no images.
    """
    _refuse_code(facts, whose)
    config = _config(facts, whose)
    if (tower := getattr(config, "vision_config", None)) is not None and hasattr(tower, "model_type"):
        config = tower
    cls = MODEL_MAPPING.get(type(config), None)
    if cls is None:
        raise UserError(f"name: transformers has no encoder for {config.model_type}, which {whose} is")
    if (wanted := cls.main_input_name) != "pixel_values":
        raise UserError(f"name: {whose} is a {config.model_type}, which takes {wanted} and no images")
    return Architecture(cls, config)


def _refuse_code(facts: Mapping[str, Any], whose: str) -> None:
    if asked := facts.get("auto_map"):
        code = next(iter(asked.values())) if isinstance(asked, Mapping) and asked else asked
        raise UserError(f"name: {whose} asks for code of its own ({code}), which is never run")


def _config(facts: Mapping[str, Any], whose: str) -> Any:
    kind = facts.get("model_type")
    if not isinstance(kind, str):
        what = "no model_type" if kind is None else f"model_type {kind!r}"
        raise UserError(f"name: config.json of {whose} has {what}; it is no configuration of transformers")
    if kind not in CONFIG_MAPPING:
        raise UserError(
            f"name: {whose} is a {kind!r}, which transformers {transformers.__version__} does not have; "
            "a newer one may, or model.name is a model of another library"
        )
    if large := next((key for key, value in facts.items() if _is_too_large(value)), None):
        raise UserError(f"name: config.json of {whose} has {large} {facts[large]}; must be at most {_LARGEST}")
    try:
        return CONFIG_MAPPING[kind].from_dict({**facts, "return_dict": True})
    except Exception as error:  # as above
        raise UserError(f"name: config.json of {whose} is no {kind} ({first_line(error)})") from error


def _is_too_large(value: Any) -> bool:
    return isinstance(value, int) and abs(value) > _LARGEST


def signature_of(chosen: Architecture) -> str:
    """Return what the forward pass depends on besides the weights, as text: all that differs from the defaults."""
    differing = chosen.config.to_diff_dict()
    kept = {key: value for key, value in differing.items() if key not in _NO_ARCHITECTURE}
    return json.dumps(kept, sort_keys=True, default=str)
