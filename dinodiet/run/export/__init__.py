"""mode=export: weights to take away, as another program loads them."""

from dinodiet.run.export.export import export

__all__ = ["export"]
