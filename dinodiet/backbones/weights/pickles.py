"""Checkpoints of torch that hold more than tensors: parsed arguments, configurations, numpy values, whole modules.

What they name is neither imported nor called: an object of a class that is not known here becomes an `Inert` one, which
keeps the state that was stored for it. A file that calls a function, which weights have no need of, is refused.
"""

from __future__ import annotations

import pickle
import sys
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor

# Modules of Python whose objects training code keeps beside weights; nothing of any other is a value.
_VALUES: tuple[str, ...] = (
    "argparse",
    "collections",
    "dataclasses",
    "datetime",
    "decimal",
    "enum",
    "fractions",
    "pathlib",
    "types",
)
_VALUES += ("typing", "uuid", "functools", "_collections", "pathlib._local")
_BUILTINS = (set, frozenset, complex, bytearray, slice, range, int, float, bool, str, bytes, list, dict, tuple, object)


class RefusedError(pickle.UnpicklingError):
    """The file calls something when it is opened."""


class _Kind(type):
    """The class of stand-ins for classes: building an object of one without calling it does not come through here."""

    def __call__(cls, *_: Any, **__: Any) -> Any:
        name = cls.__qualname__.rpartition(".")[2]
        if (
            name[:1].islower() and cls.__module__ not in _VALUES and not cls.__module__.startswith("numpy.")
        ):  # a function
            raise RefusedError(f"it calls {cls.__module__}.{cls.__qualname__}")
        made: Any = type.__call__(cls)
        return made


class Inert(metaclass=_Kind):
    """Stands for an object of an unknown class; `state` is what was stored for it, `items` what was put into it."""

    state: Any = None

    def __new__(cls, *_: Any, **__: Any) -> Inert:
        """Return an object, whatever it is built with."""
        made = object.__new__(cls)
        object.__setattr__(made, "items", {})
        return made

    def __setstate__(self, state: Any) -> None:
        """Keep the state; of one with slots, the part by name."""
        parts = [part for part in (state if isinstance(state, tuple) else (state,)) if isinstance(part, dict)]
        object.__setattr__(self, "state", {key: value for part in parts for key, value in part.items()})

    def __setitem__(self, key: Any, value: Any) -> None:
        """Keep an item."""
        self.__dict__["items"][key] = value

    def append(self, value: Any) -> None:
        """Keep a value."""
        self[len(self.__dict__["items"])] = value

    def extend(self, values: Any) -> None:
        """Keep values."""
        for value in values:
            self.append(value)

    add = append


def load(path: Path) -> Any:
    """Return what a file of torch or pickle holds, its tensors on the CPU, without importing or calling what it names.

    Raises:
        RefusedError: it calls something.
    """
    module: Any = SimpleNamespace(Unpickler=_Unpickler, load=_load, __name__="dinodiet.pickles")
    mapped = zipfile.is_zipfile(path)
    try:
        return torch.load(path, map_location="cpu", mmap=mapped, weights_only=False, pickle_module=module)
    except RuntimeError as error:
        if "magic number" not in str(error):
            raise
    with path.open("rb") as file:  # pickled without torch
        return _load(file)


def _load(file: Any, **_: Any) -> Any:
    return _Unpickler(file, encoding="latin1").load()


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        # Files of protocol 2 use the names of Python 2.
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        known = _known(module, name)
        if known is not None:
            return known
        root = module.partition(".")[0]
        if root in sys.stdlib_module_names and module not in _VALUES:
            raise RefusedError(f"it calls {module}.{name}")
        return _Kind(name.rpartition(".")[2], (Inert,), {"__module__": module, "__qualname__": name})


def _known(module: str, name: str) -> Any:
    """Return what a name stands for; each time anew where it is a function, since a file may set attributes of it."""
    if module == "builtins":
        return next((found for found in _BUILTINS if found.__name__ == name), None)
    if module == "torch" and isinstance(getattr(torch, name, None), torch.dtype):
        return getattr(torch, name)
    if module.split(".")[0] == "numpy" and (found := _of_numpy(name)) is not None:
        return found
    function = _FUNCTIONS.get((module, name))
    return OrderedDict if (module, name) == ("collections", "OrderedDict") else function and _anew(function)


def _of_numpy(name: str) -> Any:
    if name in ("ndarray", "dtype"):
        return getattr(np, name)
    made: dict[str, Any] = {
        "_reconstruct": np.empty(0).__reduce__()[0],
        "scalar": np.float64(0).__reduce__()[0],
        "_frombuffer": getattr(np._core.numeric if hasattr(np, "_core") else np.core.numeric, "_frombuffer"),  # type: ignore[attr-defined]  # noqa: B009
    }
    found = made.get(name)
    if found is None and name.endswith("DType") and hasattr(np, "dtypes"):
        return getattr(np.dtypes, name, None)
    return found and _anew(found)


def _anew(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *arguments: function(*arguments)


def _typed(function: Callable[..., Any], _: Any, arguments: Any, __: Any) -> Any:
    """Return a tensor of a subclass as a plain one."""
    return function(*arguments)


def _object(kind: Any, *_: Any) -> Any:
    return kind.__new__(kind)


def _parameter(data: Tensor, *_: Any) -> Tensor:
    return data


def _encoded(text: str, encoding: str = "latin1") -> bytes:
    return text.encode(encoding)


_FUNCTIONS: dict[tuple[str, str], Callable[..., Any]] = {
    ("torch._utils", "_rebuild_tensor"): torch._utils._rebuild_tensor,
    ("torch._utils", "_rebuild_tensor_v2"): torch._utils._rebuild_tensor_v2,
    ("torch._utils", "_rebuild_parameter"): _parameter,
    ("torch._utils", "_rebuild_parameter_with_state"): _parameter,
    ("torch._tensor", "_rebuild_from_type_v2"): _typed,
    ("torch", "Size"): tuple,
    ("torch", "device"): lambda *words: ":".join(map(str, words)),
    ("torch.serialization", "_get_layout"): str,
    ("collections", "defaultdict"): lambda *_: {},
    ("copyreg", "_reconstructor"): _object,
    ("_codecs", "encode"): _encoded,
}
