"""Well-known backbones, as a table that needs no torch. Any other timm VisionTransformer works as well."""

import json
from dataclasses import dataclass
from importlib.resources import files

BUILT_IN = "figures"
"""The name of the backbone that comes with vitgraft; its files stand in the folder of the same name."""

HUB_FILE = "model.safetensors"


@dataclass(frozen=True)
class Listed:
    """A backbone: its name for `--backbone`, and what is worth knowing before choosing it.

    `parameters` counts values without a classifier, `image_size` is in pixels, `pooling` is timm's word, and
    `file` is what to fetch where no hub can be reached, to be passed as `--checkpoint`.
    """

    name: str
    parameters: int
    image_size: int
    pooling: str
    pretraining: str
    file: str


def _hub(name: str, parameters: int, size: int, pretraining: str, pooling: str = "token") -> Listed:
    return Listed(name, parameters, size, pooling, pretraining, f"timm/{name} {HUB_FILE}")


TIMM = (
    _hub("vit_tiny_patch16_224.augreg_in21k", 5_524_416, 224, "supervised, ImageNet-21k (augreg)"),
    _hub("vit_small_patch16_224.augreg_in21k", 21_665_664, 224, "supervised, ImageNet-21k (augreg)"),
    _hub("vit_base_patch16_224.augreg_in21k", 85_798_656, 224, "supervised, ImageNet-21k (augreg)"),
    _hub("vit_large_patch16_224.augreg_in21k", 303_301_632, 224, "supervised, ImageNet-21k (augreg)"),
    _hub("vit_base_patch16_224.orig_in21k", 85_798_656, 224, "supervised, ImageNet-21k (first ViT release)"),
    _hub("vit_base_patch16_224.mae", 85_798_656, 224, "MAE, ImageNet-1k without labels"),
    Listed(
        "deit_base_patch16_224",
        85_798_656,
        224,
        "token",
        "MoCo-v3, ImageNet-1k without labels: only with its file as --checkpoint (else DeiT's weights)",
        "linear-vit-b-300ep.pth.tar of facebookresearch/moco-v3",
    ),
    _hub("vit_small_patch16_224.dino", 21_665_664, 224, "DINO, ImageNet-1k without labels"),
    _hub("vit_base_patch16_224.dino", 85_798_656, 224, "DINO, ImageNet-1k without labels"),
    _hub("vit_small_patch14_dinov2.lvd142m", 22_056_192, 518, "DINOv2, 142 M curated images"),
    _hub("vit_base_patch14_dinov2.lvd142m", 86_579_712, 518, "DINOv2, 142 M curated images"),
    _hub("vit_base_patch14_reg4_dinov2.lvd142m", 86_582_016, 518, "DINOv2 with four registers, 142 M images"),
    _hub("vit_large_patch14_reg4_dinov2.lvd142m", 304_370_688, 518, "DINOv2 with four registers, 142 M images"),
    _hub("vit_base_patch16_clip_224.laion2b", 85_799_424, 224, "CLIP, LAION-2B image-text pairs"),
    _hub("vit_base_patch16_clip_224.openai", 85_799_424, 224, "CLIP, OpenAI's 400 M image-text pairs"),
    _hub("vit_base_patch16_siglip_224.webli", 92_884_224, 224, "SigLIP, WebLI image-text pairs", "map"),
    _hub("vit_base_patch16_siglip_224.v2_webli", 92_884_224, 224, "SigLIP 2, WebLI image-text pairs", "map"),
    _hub("deit_base_patch16_224.fb_in1k", 85_798_656, 224, "supervised, ImageNet-1k (DeiT)"),
    _hub("deit_base_distilled_patch16_224.fb_in1k", 85_800_192, 224, "distilled, ImageNet-1k (DeiT)"),
    _hub("deit3_base_patch16_224.fb_in22k_ft_in1k", 85_816_320, 224, "supervised, ImageNet-22k and 1k (DeiT III)"),
)
"""timm's models, checked against the installed timm by a test."""


def available() -> list[Listed]:
    """The built-in backbone, where this installation has it, and well-known models of timm."""
    return [*_built_in(), *TIMM]


def _built_in() -> list[Listed]:
    card = files("vitgraft.backbones").joinpath(BUILT_IN, f"{BUILT_IN}.json")
    if not card.is_file():
        return []
    values = json.loads(card.read_text())
    pooling = values["architecture"].get("global_pool", "token")
    told = values.get("pretraining", "drawn figures: masks, pixels, identities")
    return [Listed(BUILT_IN, values.get("parameters", 0), values["size"], pooling, told, "comes with vitgraft")]
