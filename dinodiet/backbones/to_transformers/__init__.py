"""Backbones of timm as transformers loads them, where that has the same network: a page a family.

Whether it is the same is seen when it is written: what transformers reads must give the backbone's own embeddings.
"""

from dinodiet.backbones.to_transformers.target import transformers_target

__all__ = ["transformers_target"]
