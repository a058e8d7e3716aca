"""transformers' names of vision transformers in timm's: ViT, DeiT, MAE, DINOv2, CLIP's and SigLIP's image towers.

One table serves all of them, and both spellings that transformers has had (`layers.0.attention.q_proj` was
`encoder.layer.0.attention.attention.query`): no two models use one name for two things.
"""

import re
from collections.abc import Mapping

from torch import Tensor

PATCHES = ("embeddings.patch_embeddings.projection", "embeddings.patch_embedding")
"""The patch embedding, by which transformers' names are told."""

PARTS = {
    "embeddings.cls_token": "cls_token",
    "embeddings.class_embedding": "cls_token",  # CLIP: (D,)
    "embeddings.distillation_token": "dist_token",
    "embeddings.register_tokens": "register_tokens",  # as DINOv2's authors call them
    "embeddings.mask_token": "mask_token",
    "embeddings.position_ids": "position_ids",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.position_embedding.weight": "pos_embed",  # CLIP, SigLIP: (N, D)
    **{f"{patches}.{leaf}": f"patch_embed.proj.{leaf}" for patches in PATCHES for leaf in ("weight", "bias")},
    "head.probe": "attn_pool.latent",
    "head.attention.in_proj_weight": "attn_pool.in_proj_weight",  # query, key, value in one
    "head.attention.in_proj_bias": "attn_pool.in_proj_bias",
}
"""Single tensors."""

MODULES = {
    "pre_layrnorm": "norm_pre",
    "layernorm": "norm",
    "post_layernorm": "norm",
    "head.attention.out_proj": "attn_pool.proj",
    "head.layernorm": "attn_pool.norm",
    "head.mlp.fc1": "attn_pool.mlp.fc1",
    "head.mlp.fc2": "attn_pool.mlp.fc2",
}

BLOCK_MODULES = {
    **dict.fromkeys(("layernorm_before", "norm1", "layer_norm1"), "norm1"),
    **dict.fromkeys(("layernorm_after", "norm2", "layer_norm2"), "norm2"),
    **dict.fromkeys(("attention.attention.query", "attention.q_proj", "self_attn.q_proj"), "attn.q"),
    **dict.fromkeys(("attention.attention.key", "attention.k_proj", "self_attn.k_proj"), "attn.k"),
    **dict.fromkeys(("attention.attention.value", "attention.v_proj", "self_attn.v_proj"), "attn.v"),
    **dict.fromkeys(("attention.output.dense", "attention.o_proj", "self_attn.out_proj"), "attn.proj"),
    **dict.fromkeys(("intermediate.dense", "mlp.fc1", "mlp.weights_in"), "mlp.fc1"),
    **dict.fromkeys(("output.dense", "mlp.fc2", "mlp.weights_out", "mlp.down_proj"), "mlp.fc2"),
    "mlp.gate_proj": "mlp.gate",  # the two halves of mlp.weights_in
    "mlp.up_proj": "mlp.up",
    "layer_scale1": "ls1",
    "layer_scale2": "ls2",
}

LEAVES = {"lambda1": "gamma"}

POOLED = frozenset({"pooler", "mask_token", "position_ids"})
"""First parts of renamed names that are no part of a backbone."""

_BLOCK = re.compile(r"(?:encoder\.)?layers?\.(\d+)\.(.+)\.(\w+)")
_MODULE = re.compile(r"(?:.+\.)?layers?\.(\d+)\.(.+)")
_TOKENS = ("cls_token", "dist_token", "pos_embed")


def is_transformers(names: Mapping[str, Tensor]) -> bool:
    """Whether the names, without a prefix, are transformers'."""
    return any(f"{patches}.weight" in names for patches in PATCHES)


def place_of(module: str) -> tuple[int, str] | None:
    """(block, place) of a linear map by its name in a model, such as (3, "q"); None if it is none of a block's."""
    found = _MODULE.fullmatch(module)
    own = None if found is None else BLOCK_MODULES.get(found[2])
    branch, _, place = (own or "").partition(".")
    return (int(found[1]), place) if found is not None and branch in ("attn", "mlp") else None


def family(names: Mapping[str, Tensor]) -> str:
    """Whose model it is, by what only that has."""
    if "embeddings.class_embedding" in names:
        return "CLIP"
    if f"{PATCHES[1]}.weight" in names:
        return "SigLIP"
    if "embeddings.distillation_token" in names:
        return "DeiT"
    return "DINOv2" if any(name.endswith(".lambda1") for name in names) else "ViT"


def translate(names: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Tensors by timm's names, with q, k, v still apart; unknown ones keep their own."""
    found: dict[str, Tensor] = {}
    for name, value in names.items():
        own = _own(name)
        flat = own in _TOKENS and 0 < value.ndim < 3
        found[own] = value.reshape(1, -1, value.shape[-1]) if flat else value
    return _with_split_pool(found)


def _own(name: str) -> str:
    if name in PARTS:
        return PARTS[name]
    if block := _BLOCK.fullmatch(name):
        index, module, leaf = block.groups()
        known = BLOCK_MODULES.get(module)
        return name if known is None else f"blocks.{index}.{known}.{LEAVES.get(leaf, leaf)}"
    module, _, leaf = name.rpartition(".")
    return f"{MODULES[module]}.{leaf}" if module in MODULES else name


def _with_split_pool(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """SigLIP's pooling: torch keeps query, key and value in one, timm the query apart from key and value."""
    found = {}
    for name, value in tensors.items():
        leaf = name.removeprefix("attn_pool.in_proj_")
        if leaf == name:
            found[name] = value
        else:
            width = value.shape[0] // 3
            found[f"attn_pool.q.{leaf}"], found[f"attn_pool.kv.{leaf}"] = value[:width], value[width:]
    return found
