"""How transformers spells its vision models around their blocks, and which module of a model object is one."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import nn

IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
HALVES = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}
OPENAI = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}


@dataclass(frozen=True)
class Family:
    """How one of transformers' models spells what stands around its blocks.

    `layers` and `norm` are paths below the model; `tokens` the parameters in front of the patches that get
    positions, and `published` what its pictures are made with where no processor says otherwise. `classifier` is
    the class that holds a linear head, and where it has the model and the heads.
    """

    layers: str
    norm: str
    published: Mapping[str, Any]
    patches: str = "embeddings.patch_embeddings"
    tokens: tuple[str, ...] = ("embeddings.cls_token",)
    registers: str | None = None
    norm_pre: str | None = None
    pool: str | None = None
    classifier: tuple[str, str, tuple[str, ...]] | None = None
    both: bool = False
    """The classifier reads the class token and the mean of the patches, side by side."""

    resizes: bool = False
    """It fits its positions to every size without being asked."""


VIT = Family("layers", "layernorm", HALVES, classifier=("ViTForImageClassification", "vit", ("classifier",)))
DINOV2 = Family(
    "encoder.layer",
    "layernorm",
    IMAGENET | {"interpolation": "bicubic", "crop_pct": 224 / 256},
    classifier=("Dinov2ForImageClassification", "dinov2", ("classifier",)),
    both=True,
    resizes=True,
)
CLIP = Family(
    "encoder.layers",
    "post_layernorm",
    OPENAI | {"interpolation": "bicubic"},
    patches="embeddings.patch_embedding",
    tokens=("embeddings.class_embedding",),
    norm_pre="pre_layrnorm",
)
FAMILIES = {
    "ViTModel": VIT,
    "ViTMAEModel": Family("layers", "layernorm", IMAGENET | {"interpolation": "bicubic"}),
    "DeiTModel": Family(
        "layers",
        "layernorm",
        IMAGENET | {"interpolation": "bicubic", "crop_pct": 224 / 256},
        tokens=("embeddings.cls_token", "embeddings.distillation_token"),
        classifier=(
            "DeiTForImageClassificationWithTeacher",
            "deit",
            ("cls_classifier", "distillation_classifier"),
        ),
    ),
    "Dinov2Model": DINOV2,
    "Dinov2WithRegistersModel": Family(
        DINOV2.layers,
        DINOV2.norm,
        DINOV2.published,
        registers="embeddings.register_tokens",
        classifier=("Dinov2WithRegistersForImageClassification", "dinov2_with_registers", ("classifier",)),
        both=True,
        resizes=True,
    ),
    "DINOv3ViTModel": Family(
        "model.layer", "norm", IMAGENET, registers="embeddings.register_tokens", resizes=True
    ),
    "CLIPVisionModel": CLIP,
    "SiglipVisionModel": Family(
        "encoder.layers",
        "post_layernorm",
        HALVES | {"interpolation": "bicubic"},
        patches="embeddings.patch_embedding",
        tokens=(),
        pool="head",
    ),
}
"""By the name of the class that is walked through."""

INSIDE = ("vit", "deit", "dinov2", "dinov2_with_registers", "vision_model")
"""Under which names other models hold one of these."""


def inner(model: nn.Module) -> tuple[str, Any] | None:
    """Path and module of the model in FAMILIES that a model of transformers is, or holds."""
    if type(model).__module__.partition(".")[0] != "transformers":
        return None
    for path, module in (("", model), *((name, getattr(model, name, None)) for name in INSIDE)):
        if type(module).__name__ in FAMILIES:
            return path, module
    return None
