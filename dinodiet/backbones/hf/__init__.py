"""Vision encoders of Hugging Face's transformers as backbones. Only who builds one imports the library."""

from dinodiet.backbones.hf.backbone import HFBackbone
from dinodiet.backbones.hf.factory import hf_backbone, hf_family

__all__ = ["HFBackbone", "hf_backbone", "hf_family"]
