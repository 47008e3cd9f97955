"""What a process does once, done where this is imported: `forking.py` forks runs from a process that did it."""

import gc
import importlib
import os
import pkgutil
from pathlib import Path

import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import dinodiet
from tests.composing import compose_quickly
from tests.running import composed

LATE = ("sklearn.linear_model", "sklearn.metrics", "sklearn.cluster", "sklearn.datasets", "scipy.io", "torch._dynamo")


def preload() -> None:
    """Import what runs need, let Hydra find its plugins and learn its grammar, and share it with the children."""
    own = [module.name for module in pkgutil.walk_packages(dinodiet.__path__, "dinodiet.")]
    for name in (*own, *LATE):
        if not name.endswith(("__main__", "sweep.command")):  # which looks at the environment
            importlib.import_module(name)
    torch.set_num_threads(1)
    compose_quickly()
    composed(Path())
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # else whoever is forked from here has no GPU
    with FakeTensorMode():
        torch.zeros(1) + torch.zeros(1)
    gc.collect()
    gc.freeze()  # else the first collection of every child copies all pages of the libraries


preload()
