"""Which parts the configuration that comes with a run may name: it may be from elsewhere, and parts are code."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping
from typing import Any

from dinodiet.config.places import CONF
from dinodiet.config.precheck import defined
from dinodiet.config.signature import targets
from dinodiet.errors import UserError

FOLDERS = r"dinodiet\.(backbones|data|evals|features|methods|run|schedules)\."
CLASS = r"(\w+\.)*[A-Z]\w*"


def check_trusted(plain: Mapping[str, Any], where: str, named: Mapping[str, Any]) -> None:
    """Refuse nodes of plain values that are no parts of dinodiet, of its configuration files or of `named`.

    Raises:
        UserError: a part is from elsewhere, and building it would run code that nobody here chose; or a value is to
            be looked up on this machine.
    """
    trusted = {node["_target_"] for node, _ in targets(dict(named), "")}
    for node, key in targets(dict(plain), ""):
        name = node["_target_"]
        if not isinstance(name, str) or not (name in trusted or is_own(name)):
            raise UserError(
                f"{where}: {key.lstrip('.')}._target_: {name!r} is none of dinodiet's own parts and is not built; "
                "trust_targets=true builds it: it runs code, so only where you know where the run is from"
            )
    if found := re.search(r"\$\{[^}]*\}?", repr(plain)):
        raise UserError(f"{where}: {found[0]}: no run writes an interpolation into its configuration")


def is_own(name: str) -> bool:
    """Return whether a dotted name is a part that comes with dinodiet, or stands in its configuration folder.

    What a module imports is no part of it (`dinodiet.data.x.shutil.rmtree`).
    """
    if re.fullmatch(rf"(torch|timm)\.optim\.{CLASS}", name):
        return name.count(".") == 2
    return name in _configured() or (re.fullmatch(FOLDERS + CLASS, name) is not None and defined(name))


@functools.cache
def _configured() -> frozenset[str]:
    """Return every `_target_` in the configuration folder."""
    texts = (path.read_text(encoding="utf-8") for path in CONF.rglob("*.yaml"))
    return frozenset(name for text in texts for name in re.findall(r"_target_: *['\"]?([\w.]+)", text))
