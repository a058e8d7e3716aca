"""Tiny members of every supported variant of timm's transformers, with random weights."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from timm.layers import LayerNorm, RmsNorm, SwiGLU, SwiGLUPacked
from timm.models.beit import Beit
from timm.models.deit import VisionTransformerDistilled
from timm.models.eva import Eva
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from tests import tiny_hf
from vitgraft.backbones.families import wrap
from vitgraft.core.backbone import Backbone

SIZE = 16
SMALL: dict[str, Any] = {
    "img_size": SIZE,
    "patch_size": 4,
    "embed_dim": 24,
    "depth": 3,
    "num_heads": 3,
    "num_classes": 0,
}
SWIN: dict[str, Any] = {"img_size": 32, "depths": (2, 2), "num_heads": (2, 4), "embed_dim": 16, "window_size": 4}
TOKEN: dict[str, Any] = {"global_pool": "token"}


def vit(kind: type[nn.Module] = VisionTransformer, seed: int = 0, **arguments: Any) -> nn.Module:
    """A tiny model in which no weight is at an initial value that hides something, such as 0 or 1."""
    torch.manual_seed(seed)
    sizes = {**SMALL, **arguments}
    if kind is SwinTransformer:  # its depth is that of its stages
        sizes.pop("depth")
    model = kind(**sizes)
    with torch.no_grad():
        for value in model.parameters():
            value.add_(torch.randn_like(value) * 0.1)
    return model.eval()


VARIANTS: dict[str, Callable[[], nn.Module]] = {
    "plain": vit,
    "mae_average": partial(vit, global_pool="avg"),
    "average_norm_first": partial(vit, global_pool="avg", fc_norm=False, class_token=False),
    "max_pool": partial(vit, global_pool="max"),
    "average_max": partial(vit, global_pool="avgmax"),
    "siglip_attention_pool": partial(vit, global_pool="map", class_token=False, act_layer="gelu_tanh"),
    "patch_relation_pool": partial(vit, global_pool="prr"),
    "clip_pre_norm": partial(vit, pre_norm=True, norm_layer=partial(LayerNorm, eps=1e-5), act_layer="quick_gelu"),
    "dinov2_registers": partial(vit, reg_tokens=2, no_embed_class=True, init_values=0.3),
    "registers_embedded": partial(vit, reg_tokens=2),
    "registers_averaged": partial(vit, reg_tokens=2, class_token=False, global_pool="avg", fc_norm=False),
    "swiglu_packed": partial(vit, mlp_layer=SwiGLUPacked, act_layer=nn.SiLU, mlp_ratio=4.0, init_values=0.3),
    "aimv2_swiglu_rmsnorm": partial(
        vit,
        mlp_layer=SwiGLU,
        norm_layer=RmsNorm,
        embed_norm_layer=RmsNorm,
        act_layer="silu",
        qkv_bias=False,
        proj_bias=False,
        class_token=False,
        global_pool="avg",
    ),
    "qk_norm": partial(vit, qk_norm=True),
    "scaled_norms": partial(vit, scale_attn_norm=True, scale_mlp_norm=True),
    "distilled": partial(vit, kind=VisionTransformerDistilled),
    "dynamic_size": partial(vit, dynamic_img_size=True),
    "no_positions": partial(vit, pos_embed="none"),
    "no_final_norm": partial(vit, final_norm=False),
    "other_shape": partial(vit, img_size=(24, 16), embed_dim=32, depth=2, num_heads=4, mlp_ratio=2.5),
    "with_classifier": partial(vit, num_classes=5),
    "eva02": partial(
        vit,
        kind=Eva,
        use_rot_pos_emb=True,
        ref_feat_shape=(4, 4),
        swiglu_mlp=True,
        scale_mlp=True,
        mlp_ratio=8 / 3,
    ),
    "eva02_unfused": partial(vit, kind=Eva, use_rot_pos_emb=True, qkv_fused=False, swiglu_mlp=True, **TOKEN),
    "eva_plain": partial(vit, kind=Eva, init_values=0.3, scale_attn_inner=True, img_size=(24, 16)),
    "dinov3": partial(
        vit,
        kind=Eva,
        dynamic_img_size=True,
        qkv_bias=False,
        init_values=0.3,
        rope_type="dinov3",
        use_rot_pos_emb=True,
        use_abs_pos_emb=False,
        rope_rotate_half=True,
        num_reg_tokens=2,
        use_fc_norm=False,
    ),
    "dinov3_biased_token": partial(
        vit,
        kind=Eva,
        dynamic_img_size=True,
        img_size=(24, 16),
        rope_type="dinov3",
        use_rot_pos_emb=True,
        num_reg_tokens=1,
        no_embed_class=True,
        **TOKEN,
    ),
    "perception_encoder": partial(
        vit,
        kind=Eva,
        attn_type="rope",
        use_rot_pos_emb=True,
        use_pre_transformer_norm=True,
        use_post_transformer_norm=True,
        use_fc_norm=False,
        rope_grid_offset=1.0,
        rope_grid_indexing="xy",
        ref_feat_shape=(4, 4),
        global_pool="map",
        attn_pool_num_heads=2,
        init_values=0.1,
    ),
    "rope_mixed": partial(
        vit, kind=Eva, attn_type="rope", use_rot_pos_emb=True, rope_type="mixed", qk_norm=True, **TOKEN
    ),
    "rope_mixed_dynamic": partial(
        vit, kind=Eva, attn_type="rope", use_rot_pos_emb=True, rope_type="mixed", dynamic_img_size=True
    ),
    "mrope": partial(
        vit, kind=Eva, attn_type="rope", use_rot_pos_emb=True, rope_type="mrope", rope_mrope_section=(1, 1, 1)
    ),
    "beit": partial(vit, kind=Beit, use_rel_pos_bias=True, use_abs_pos_emb=False, init_values=0.3, **TOKEN),
    "beit_average": partial(vit, kind=Beit, use_rel_pos_bias=True, img_size=(24, 16)),
    "beit_shared": partial(
        vit, kind=Beit, use_shared_rel_pos_bias=True, swiglu_mlp=True, scale_mlp=True, qkv_bias=False
    ),
    "swin": partial(vit, kind=SwinTransformer, **SWIN),
    "swin_flexible": partial(vit, kind=SwinTransformer, **{**SWIN, "img_size": (32, 64)}, strict_img_size=False),
}
"""Every variant by name; each call builds a fresh model."""


def backbone(variant: str = "plain") -> Backbone:
    """One of `VARIANTS`, or of transformers' (`tiny_hf`), as a backbone."""
    build = tiny_hf.VARIANTS[variant] if variant in tiny_hf.VARIANTS else VARIANTS[variant]
    return wrap(build(), variant)


def images(frozen: Backbone, count: int = 4, seed: int = 1) -> Tensor:
    """Seeded noise (count, 3, H, W) of the size a backbone takes."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(count, 3, *frozen.view.image_size, generator=generator)
