"""Tiny members of transformers' vision models, with random weights; transformers is imported when one is built."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

SIZES: dict[str, Any] = {
    "hidden_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 3,
    "image_size": 16,
    "patch_size": 4,
}
WIDE: dict[str, Any] = {"intermediate_size": 96}


def hf(kind: str, config: str, seed: int = 0, **arguments: Any) -> nn.Module:
    """A tiny model in which no weight is at an initial value that hides something, such as 0 or 1."""
    import transformers

    torch.manual_seed(seed)
    model: nn.Module = getattr(transformers, kind)(getattr(transformers, config)(**{**SIZES, **arguments}))
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    return model.eval()


VARIANTS: dict[str, Callable[..., nn.Module]] = {
    "hf_vit": partial(hf, "ViTModel", "ViTConfig", **WIDE),
    "hf_vit_classifier": partial(hf, "ViTForImageClassification", "ViTConfig", num_labels=5, **WIDE),
    "hf_deit": partial(hf, "DeiTModel", "DeiTConfig", **WIDE),
    "hf_mae": partial(hf, "ViTMAEModel", "ViTMAEConfig", **WIDE),
    "hf_dinov2": partial(hf, "Dinov2Model", "Dinov2Config"),
    "hf_dinov2_classifier": partial(hf, "Dinov2ForImageClassification", "Dinov2Config", num_labels=5),
    "hf_dinov2_swiglu": partial(hf, "Dinov2Model", "Dinov2Config", use_swiglu_ffn=True),
    "hf_registers": partial(hf, "Dinov2WithRegistersModel", "Dinov2WithRegistersConfig", num_register_tokens=2),
    "hf_dinov3": partial(
        hf, "DINOv3ViTModel", "DINOv3ViTConfig", num_register_tokens=2, use_gated_mlp=True, key_bias=False, **WIDE
    ),
    "hf_clip": partial(hf, "CLIPVisionModel", "CLIPVisionConfig", **WIDE),
    "hf_siglip": partial(hf, "SiglipVisionModel", "SiglipVisionConfig", **WIDE),
}
"""Every variant by name; each call builds a fresh model."""
